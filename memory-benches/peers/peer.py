"""The workload as `load export` wrote it, and what is asked of a peer."""
import dataclasses
import json
import pathlib

import numpy

K = 10
DIMENSIONS = 384


@dataclasses.dataclass(frozen=True)
class Episode:
    place: int
    json: str
    text: str
    domain: str
    vector: numpy.ndarray


@dataclasses.dataclass(frozen=True)
class Query:
    text: str
    domain: str | None
    vector: numpy.ndarray
    nearest: list[int]
    filtered: list[int] | None


class Data:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.vectors, lines = self._read("episodes")
        self.episodes = [self._episode(place, line) for place, line in enumerate(lines)]
        vectors, lines = self._read("queries")
        self.queries = [Query(vector=vector, **json.loads(line)) for vector, line in zip(vectors, lines, strict=True)]

    def _read(self, name):
        vectors = numpy.fromfile(self.folder / f"{name}.f32", dtype="<f4").reshape(-1, DIMENSIONS)
        return vectors, (self.folder / f"{name}.jsonl").read_text().splitlines()

    def _episode(self, place, line):
        task = json.loads(line)["task"]
        return Episode(place, line, task["text"], task["domain"], self.vectors[place])

    def embedder(self):
        """A function from texts to the vectors that go with them: what a model costs is no cost of a memory."""
        known = {each.text: each.vector for each in (*self.episodes, *self.queries)}
        return lambda texts: [known[text] for text in texts]


class Peer:
    """A store in a folder: made if there is none, else opened.

    A subclass has those of `vector`, `filtered`, `hybrid` and `words` that the peer can do: each takes a query, reads the ten episodes
    it finds and returns their places. `insert` returns when the peer says that the episode is stored.
    """

    def __init__(self, folder: pathlib.Path, data: Data):
        raise NotImplementedError

    def insert(self, episode: Episode):
        raise NotImplementedError

    def insert_many(self, episodes: list[Episode]):
        for episode in episodes:
            self.insert(episode)

    def settle(self):
        """What the peer's documentation says to do after much was written."""

    def held(self) -> int:
        raise NotImplementedError

    def close(self):
        """Nothing to do for most."""
