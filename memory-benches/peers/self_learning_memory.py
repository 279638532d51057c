"""rust-self-learning-memory over a libSQL file with a cache in redb, driven by the program in the folder beside this file."""
import json
import os
import pathlib
import subprocess

import peer
from peer import K

PROGRAM = pathlib.Path(os.environ["PEER_TOOLS"]) / "target" / "release" / "self-learning-memory-peer"


def context(domain, language=None, tags=()):
    return {"domain": domain, "language": language, "tags": tags, "complexity": "Moderate"}


def step(number, each, at):
    result = {"Success": {"output": each["observation"]}} if each["ok"] else {"Error": {"message": each["observation"]}}
    return {"step_number": number, "timestamp": at, "tool": each["tool"], "action": each["action"], "parameters_json": "{}",
            "result": result, "latency_ms": each["latency_ms"], "metadata": {}}


def outcome(verdict, summary):
    return {
        "Success": {"Success": {"verdict": summary, "artifacts": []}},
        "Partial": {"PartialSuccess": {"verdict": summary, "completed": [], "failed": []}},
        "Failure": {"Failure": {"reason": summary}},
    }[verdict]


class Peer(peer.Peer):
    def __init__(self, folder, data):
        self.data = data
        self.program = subprocess.Popen([PROGRAM, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def _ask(self, request):
        self.program.stdin.write(json.dumps(request).encode() + b"\n")
        self.program.stdin.flush()
        line = self.program.stdout.readline()
        if not line:
            raise RuntimeError("the program has gone")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["answer"]

    def insert(self, episode):
        whole = json.loads(episode.json)
        task = whole["task"]
        self._ask({"insert": {
            "place": episode.place,
            "text": task["text"],
            "context": context(task["domain"], task["language"], task["tags"]),
            "steps": [step(number, each, whole["started_at"]) for number, each in enumerate(whole["steps"], start=1)],
            "outcome": outcome(whole["outcome"]["verdict"], whole["outcome"]["summary"]),
        }})

    def held(self):
        return self._ask("count")

    def words(self, query):
        """It looks in one domain only: if the query names none, in that of its nearest episode."""
        domain = query.domain or self.data.episodes[query.nearest[0]].domain
        return self._ask({"search": {"text": query.text, "context": context(domain), "k": K}})

    def close(self):
        self.program.stdin.close()
        if self.program.wait() != 0:
            raise RuntimeError("the program has failed")
