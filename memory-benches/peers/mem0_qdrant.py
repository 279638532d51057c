"""mem0 over Qdrant within the process, told to store what it is given (`infer=False`): no language model is asked."""
import os

os.environ["MEM0_TELEMETRY"] = "False"
# Both models are made though none is asked.
os.environ["OPENAI_API_KEY"] = "none"

from mem0 import Memory  # noqa: E402

import peer  # noqa: E402
from peer import K  # noqa: E402

USER = "bench"


class Given:
    """Stands in for the model of vectors."""

    def __init__(self, embed):
        self.embed_all = embed

    def embed(self, text, memory_action=None):
        return self.embed_all([text])[0].tolist()

    def embed_batch(self, texts, memory_action=None):
        return [each.tolist() for each in self.embed_all(texts)]


class Peer(peer.Peer):
    def __init__(self, folder, data):
        store = {"path": str(folder / "qdrant"), "on_disk": True, "embedding_model_dims": peer.DIMENSIONS, "collection_name": "episodes"}
        self.memory = Memory.from_config({
            "vector_store": {"provider": "qdrant", "config": store},
            "history_db_path": str(folder / "history.db"),
        })
        self.memory.embedding_model = Given(data.embedder())

    def insert(self, episode):
        metadata = {"place": episode.place, "domain": episode.domain, "json": episode.json}
        self.memory.add(episode.text, user_id=USER, metadata=metadata, infer=False)

    def held(self):
        return self.memory.vector_store.client.count("episodes").count

    def _search(self, query, filters):
        found = self.memory.search(query.text, filters={"user_id": USER} | filters, top_k=K, threshold=0.0)
        return [each["metadata"]["place"] for each in found["results"]]

    def vector(self, query):
        return self._search(query, {})

    def filtered(self, query):
        return self._search(query, {"domain": query.domain})

    def close(self):
        self.memory.vector_store.client.close()
