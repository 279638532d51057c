"""Chroma within the process, on disk."""
import chromadb

import peer
from peer import K


class Peer(peer.Peer):
    def __init__(self, folder, data):
        self.client = chromadb.PersistentClient(str(folder), settings=chromadb.Settings(anonymized_telemetry=False))
        self.collection = self.client.get_or_create_collection("episodes", embedding_function=None,
                                                               configuration={"hnsw": {"space": "cosine"}})

    def insert(self, episode):
        self.insert_many([episode])

    def insert_many(self, episodes):
        self.collection.add(ids=[str(each.place) for each in episodes], embeddings=[each.vector for each in episodes],
                            documents=[each.json for each in episodes], metadatas=[{"domain": each.domain} for each in episodes])

    def held(self):
        return self.collection.count()

    def _search(self, query, where):
        found = self.collection.query(query_embeddings=[query.vector], n_results=K, where=where, include=["documents"])
        return [int(place) for place in found["ids"][0]]

    def vector(self, query):
        return self._search(query, None)

    def filtered(self, query):
        return self._search(query, {"domain": query.domain})
