"""The HNSW graph of faiss: vectors alone, in memory, written as a whole."""
import faiss
import numpy

import peer
from peer import K

FILE = "index.faiss"


class Peer(peer.Peer):
    def __init__(self, folder, data):
        self.file = folder / FILE
        if self.file.exists():
            self.index = faiss.read_index(str(self.file))
        else:
            self.index = faiss.IndexHNSWFlat(peer.DIMENSIONS, 32, faiss.METRIC_INNER_PRODUCT)
            self.index.hnsw.efConstruction = 200
        self.index.hnsw.efSearch = 128

    def insert(self, episode):
        self.insert_many([episode])

    def insert_many(self, episodes):
        self.index.add(numpy.stack([each.vector for each in episodes]))

    def held(self):
        return self.index.ntotal

    def vector(self, query):
        return self.index.search(query.vector[None], K)[1][0].tolist()

    def close(self):
        faiss.write_index(self.index, str(self.file))
