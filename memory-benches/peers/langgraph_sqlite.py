"""The SqliteStore of LangGraph, with its index of vectors."""
import sys

import pysqlite3

# Its own cannot load extensions in every build of Python.
sys.modules["sqlite3"] = pysqlite3

from langgraph.store.base import PutOp  # noqa: E402
from langgraph.store.sqlite import SqliteStore  # noqa: E402

import peer  # noqa: E402
from peer import K  # noqa: E402

PLACE = ("episodes",)


def value(episode):
    return {"text": episode.text, "domain": episode.domain, "json": episode.json}


class Peer(peer.Peer):
    def __init__(self, folder, data):
        self.db = pysqlite3.connect(folder / "m.db", check_same_thread=False, isolation_level=None)
        embed = data.embedder()
        index = {"dims": peer.DIMENSIONS, "text_fields": ["text"], "embed": lambda texts: [each.tolist() for each in embed(texts)]}
        self.store = SqliteStore(self.db, index=index)
        self.store.setup()

    def insert(self, episode):
        self.store.put(PLACE, str(episode.place), value(episode))

    def insert_many(self, episodes):
        self.store.batch([PutOp(PLACE, str(each.place), value(each)) for each in episodes])

    def held(self):
        return self.db.execute("SELECT count(*) FROM store").fetchone()[0]

    def _search(self, query, filter):
        return [int(item.key) for item in self.store.search(PLACE, query=query.text, filter=filter, limit=K)]

    def vector(self, query):
        return self._search(query, None)

    def filtered(self, query):
        return self._search(query, {"domain": query.domain})

    def close(self):
        self.db.close()
