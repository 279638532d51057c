"""Qdrant within the Python client, without a server."""
from qdrant_client import QdrantClient, models

import peer
from peer import K

NAME = "episodes"


class Peer(peer.Peer):
    def __init__(self, folder, data):
        self.client = QdrantClient(path=str(folder))
        if not self.client.collection_exists(NAME):
            space = models.VectorParams(size=peer.DIMENSIONS, distance=models.Distance.COSINE)
            self.client.create_collection(NAME, vectors_config=space)

    def insert(self, episode):
        self.insert_many([episode])

    def insert_many(self, episodes):
        points = [models.PointStruct(id=each.place, vector=each.vector.tolist(), payload={"domain": each.domain, "json": each.json})
                  for each in episodes]
        self.client.upsert(NAME, points)

    def held(self):
        return self.client.count(NAME).count

    def _search(self, query, filter):
        found = self.client.query_points(NAME, query=query.vector.tolist(), query_filter=filter, limit=K, with_payload=True)
        return [point.id for point in found.points]

    def vector(self, query):
        return self._search(query, None)

    def filtered(self, query):
        condition = models.FieldCondition(key="domain", match=models.MatchValue(value=query.domain))
        return self._search(query, models.Filter(must=[condition]))

    def close(self):
        self.client.close()
