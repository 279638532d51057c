"""The HNSW graph of usearch: vectors alone, in memory, written as a whole."""
import numpy
from usearch.index import Index

import peer
from peer import K

FILE = "index.usearch"


class Peer(peer.Peer):
    def __init__(self, folder, data):
        self.file = folder / FILE
        self.index = Index(ndim=peer.DIMENSIONS, metric="cos", dtype="f32", expansion_search=128)
        if self.file.exists():
            self.index.load(self.file)

    def insert(self, episode):
        self.index.add(episode.place, episode.vector)

    def insert_many(self, episodes):
        self.index.add(numpy.array([each.place for each in episodes]), numpy.stack([each.vector for each in episodes]))

    def held(self):
        return len(self.index)

    def vector(self, query):
        return self.index.search(query.vector, K).keys.tolist()

    def close(self):
        self.index.save(self.file)
