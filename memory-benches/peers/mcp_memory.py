"""The memory server among the reference servers of MCP: entities in a file of JSON lines, found by a part of their text."""
import json
import os
import pathlib
import subprocess

import peer
from peer import K

TOOL = pathlib.Path(os.environ["PEER_TOOLS"])
SERVER = TOOL / "node_modules/@modelcontextprotocol/server-memory/dist/index.js"


class Peer(peer.Peer):
    def __init__(self, folder, data):
        self.file = folder / "memory.jsonl"
        environment = os.environ | {"MEMORY_FILE_PATH": str(self.file)}
        self.server = subprocess.Popen(["node", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                       env=environment)
        self.asked = 0
        self._ask("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "peers", "version": "1"}})
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def _send(self, message):
        self.server.stdin.write(json.dumps(message).encode() + b"\n")
        self.server.stdin.flush()

    def _ask(self, method, params):
        self.asked += 1
        self._send({"jsonrpc": "2.0", "id": self.asked, "method": method, "params": params})
        for line in self.server.stdout:
            answer = json.loads(line)
            if answer.get("id") != self.asked:
                continue
            if "error" in answer or answer["result"].get("isError"):
                raise RuntimeError(line.decode())
            return answer["result"]
        raise RuntimeError("the server has gone")

    def _call(self, tool, arguments):
        return self._ask("tools/call", {"name": tool, "arguments": arguments})

    def insert(self, episode):
        self.insert_many([episode])

    def insert_many(self, episodes):
        self._call("create_entities", {"entities": [
            {"name": str(each.place), "entityType": "episode", "observations": [each.json]} for each in episodes]})

    def held(self):
        return len(self.file.read_bytes().splitlines()) if self.file.exists() else 0

    def words(self, query):
        """It looks for the query as it stands: all that have the longest word, in no order."""
        found = self._call("search_nodes", {"query": max(query.text.split(), key=len)})
        return [int(entity["name"]) for entity in json.loads(found["content"][0]["text"])["entities"][:K]]

    def close(self):
        self.server.stdin.close()
        self.server.wait()
