"""LanceDB: a table of vectors, scanned, with a full-text index."""
import lancedb
import pyarrow

import peer
from peer import K

NAME = "episodes"
SCHEMA = pyarrow.schema([
    ("place", pyarrow.int64()), ("json", pyarrow.string()), ("text", pyarrow.string()), ("domain", pyarrow.string()),
    ("vector", pyarrow.list_(pyarrow.float32(), peer.DIMENSIONS)),
])


class Peer(peer.Peer):
    def __init__(self, folder, data):
        self.table = lancedb.connect(folder).create_table(NAME, schema=SCHEMA, exist_ok=True)

    def insert(self, episode):
        self.insert_many([episode])

    def insert_many(self, episodes):
        self.table.add([{"place": each.place, "json": each.json, "text": each.text, "domain": each.domain, "vector": each.vector}
                        for each in episodes])

    def settle(self):
        self.table.create_fts_index("text", replace=True)
        self.table.optimize()

    def held(self):
        return self.table.count_rows()

    def _read(self, found):
        return [row["place"] for row in found.limit(K).to_list()]

    def _nearest(self, query):
        return self.table.search(query.vector).distance_type("cosine")

    def vector(self, query):
        return self._read(self._nearest(query))

    def filtered(self, query):
        return self._read(self._nearest(query).where(f"domain = '{query.domain}'", prefilter=True))

    def words(self, query):
        return self._read(self.table.search(query.text, query_type="fts"))

    def hybrid(self, query):
        return self._read(self.table.search(query_type="hybrid").vector(query.vector).text(query.text))
