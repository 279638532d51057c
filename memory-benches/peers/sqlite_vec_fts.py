"""sqlite-vec for vectors and FTS5 for words in one SQLite file, written in one transaction."""
import pysqlite3

import sqlite_vec

import peer
from peer import K

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS episodes (place INTEGER PRIMARY KEY, json TEXT NOT NULL);
CREATE VIRTUAL TABLE IF NOT EXISTS vectors USING vec0(vector FLOAT[{peer.DIMENSIONS}] distance_metric=cosine, domain TEXT);
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(text, content='', columnsize=1);
"""


class Peer(peer.Peer):
    def __init__(self, folder, data):
        self.db = pysqlite3.connect(folder / "m.db", isolation_level=None)
        self.db.enable_load_extension(True)
        sqlite_vec.load(self.db)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=FULL")
        self.db.executescript(SCHEMA)

    def insert(self, episode):
        self.insert_many([episode])

    def insert_many(self, episodes):
        self.db.execute("BEGIN IMMEDIATE")
        for each in episodes:
            self.db.execute("INSERT INTO episodes VALUES (?, ?)", (each.place, each.json))
            self.db.execute("INSERT INTO vectors (rowid, vector, domain) VALUES (?, ?, ?)",
                            (each.place, each.vector.tobytes(), each.domain))
            self.db.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (each.place, each.text))
        self.db.execute("COMMIT")

    def held(self):
        return self.db.execute("SELECT count(*) FROM episodes").fetchone()[0]

    def _read(self, places):
        for place in places:
            self.db.execute("SELECT json FROM episodes WHERE place = ?", (place,)).fetchone()
        return places

    def _nearest(self, query):
        return [place for place, in self.db.execute("SELECT rowid FROM vectors WHERE vector MATCH ? AND k = ?",
                                                    (query.vector.tobytes(), K))]

    def _matching(self, query):
        words = " OR ".join(query.text.split())
        return [place for place, in self.db.execute("SELECT rowid FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?", (words, K))]

    def vector(self, query):
        return self._read(self._nearest(query))

    def filtered(self, query):
        found = self.db.execute("SELECT rowid FROM vectors WHERE vector MATCH ? AND k = ? AND domain = ?",
                                (query.vector.tobytes(), K, query.domain))
        return self._read([place for place, in found])

    def words(self, query):
        return self._read(self._matching(query))

    def hybrid(self, query):
        """Reciprocal rank fusion, as the documentation of sqlite-vec shows."""
        scores = {}
        for found in (self._nearest(query), self._matching(query)):
            for rank, place in enumerate(found):
                scores[place] = scores.get(place, 0.0) + 1.0 / (60 + rank)
        return self._read(sorted(scores, key=scores.get, reverse=True)[:K])

    def close(self):
        self.db.close()
