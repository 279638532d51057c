"""Measures one peer in a process of its own, called by scripts/peers; prints a line of JSON.

measure.py MODULE write DATA STORE ROUNDS SECONDS
measure.py MODULE search DATA STORE
measure.py MODULE acknowledge DATA STORE EPISODES
"""
import importlib
import json
import os
import pathlib
import statistics
import struct
import sys
import tempfile
import time

import numpy

from peer import K, Data

# Queries of one way before the next has its turn, and how long a turn takes at most: as `load recall` does.
BLOCK = 100
TURN = 2.0
WAYS = ("vector", "filtered", "hybrid", "words", "scan")
TOGETHER = 250


# What counts syncs, and makes none while it is told so: see syncs.c.
SHARED = pathlib.Path(os.environ.get("KNOWHOW_LOAD_SYNCS", os.devnull))


def syncs():
    """How many syncs there were so far, by this process and its children."""
    return struct.unpack("=Q", SHARED.read_bytes()[:8])[0]


def make_syncs(made):
    with SHARED.open("r+b") as shared:
        shared.seek(8)
        shared.write(struct.pack("=Q", 0 if made else 2**64 - 1))


def fill(peer, episodes):
    """Adds what nobody measures, without syncs."""
    make_syncs(False)
    for at in range(0, len(episodes), TOGETHER):
        peer.insert_many(episodes[at:at + TOGETHER])
    make_syncs(True)


def resident():
    """Of this process and its children, in bytes."""
    def of(process):
        status = pathlib.Path(f"/proc/{process}/status").read_text()
        children = pathlib.Path(f"/proc/{process}/task/{process}/children").read_text().split()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024 + sum(map(of, children))
    return of(os.getpid())


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def append(folder, episodes, seconds):
    """Appends the bytes of episodes to a file and syncs after each, the limit of what is durable; returns how many a second."""
    records = [episode.json.encode() + episode.vector.tobytes() for episode in episodes]
    with tempfile.NamedTemporaryFile(dir=folder, buffering=0) as file:
        count, start = 0, time.perf_counter()
        for record in records:
            file.write(record)
            os.fdatasync(file.fileno())
            count += 1
            if time.perf_counter() - start > seconds:
                break
        return count / (time.perf_counter() - start)


def insert(peer, episodes, seconds):
    """Inserts one by one as long as there is time; returns the times."""
    times, start = [], time.perf_counter()
    for episode in episodes:
        before = time.perf_counter()
        peer.insert(episode)
        after = time.perf_counter()
        times.append(after - before)
        if after - start > seconds:
            break
    return times


def write(Peer, data, store, rounds, seconds):
    by_round, times, synced = [], [], 0
    for part in range(int(rounds)):
        episodes = data.episodes[len(data.episodes) * part // int(rounds):len(data.episodes) * (part + 1) // int(rounds)]
        peer = Peer(store, data)
        before = syncs()
        taken = insert(peer, episodes, float(seconds) / int(rounds))
        synced += syncs() - before
        fill(peer, episodes[len(taken):])
        if part + 1 == int(rounds):
            peer.settle()
        peer.close()
        by_round.append({"rate": len(taken) / sum(taken), "limit": append(store.parent, episodes, 1.0)})
        times += taken
    peer = Peer(store, data)
    held = peer.held()
    peer.close()
    if held != len(data.episodes):
        raise RuntimeError(f"{held} of {len(data.episodes)} episodes are stored")
    rate, limit = len(times) / sum(times), statistics.median(each["limit"] for each in by_round)
    return {
        "inserted": len(times),
        "inserts_per_s": rate,
        "limit_per_s": limit,
        "ratio_to_limit": rate / limit,
        "syncs_per_insert": synced / len(times),
        "first_to_last_rate": by_round[-1]["rate"] / by_round[0]["rate"],
        "bytes_per_record": size(store) / len(data.episodes),
        "by_round": by_round,
    }


def scan(data, query):
    """The plain way: compares all vectors in memory, and reads nothing."""
    cosines = data.vectors @ query.vector
    best = numpy.argpartition(cosines, -K)[-K:]
    return best[numpy.argsort(-cosines[best])].tolist()


def right(way, query):
    return {"vector": query.nearest, "scan": query.nearest, "filtered": query.filtered}.get(way)


def turn(way, ask, queries, times, shares):
    asked = [query for query in queries if way != "filtered" or query.domain]
    # What the turn before has driven out of the caches is no cost of this one.
    ask(asked[0])
    start = time.perf_counter()
    for query in asked:
        before = time.perf_counter()
        found = ask(query)
        times.append(time.perf_counter() - before)
        wanted = right(way, query)
        if wanted:
            shares.append(len(set(found) & set(wanted)) / len(wanted))
        if time.perf_counter() - start > TURN:
            break


def search(Peer, data, store):
    before = resident()
    peer = Peer(store, data)
    ways = {way: getattr(peer, way) for way in WAYS if hasattr(peer, way)}
    times, shares = {way: [] for way in (*ways, "scan")}, {way: [] for way in WAYS}
    for at in range(0, len(data.queries), BLOCK):
        for way in times:
            ask = ways.get(way, lambda query: scan(data, query))
            turn(way, ask, data.queries[at:at + BLOCK], times[way], shares[way])
    grown = resident() - before
    peer.close()
    middle = statistics.median(times["scan"])
    figures = {"memory_mb": grown / 1e6}
    for way, took in times.items():
        figures[way] = {
            "searches": len(took),
            "p50_ms": 1e3 * statistics.median(took),
            "p99_ms": 1e3 * float(numpy.quantile(took, 0.99)),
            "recall_at_10": statistics.mean(shares[way]) if shares[way] else None,
            "ratio_to_scan": statistics.median(took) / middle,
        }
    return figures


def acknowledge(Peer, data, store, episodes):
    """Says how many are held, then how many after each that is acknowledged, until it is killed."""
    peer = Peer(store, data)
    held = peer.held()
    print(held, flush=True)
    for episode in data.episodes[held:int(episodes)]:
        peer.insert(episode)
        print(episode.place + 1, flush=True)
    peer.close()


def main():
    module, mode, data, store, *more = sys.argv[1:]
    peer = importlib.import_module(module).Peer
    store = pathlib.Path(store)
    store.mkdir(parents=True, exist_ok=True)
    figures = {"write": write, "search": search, "acknowledge": acknowledge}[mode](peer, Data(data), store, *more)
    if figures:
        print(json.dumps(figures))


main()
