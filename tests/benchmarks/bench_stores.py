"""Ingest, searches and filters of a gallery in each kind of store, in one run.

    python tests/benchmarks/bench_stores.py --size 50000 --dimension 512
    python tests/benchmarks/bench_stores.py --size 100000 --dimension 512 --store milvus://127.0.0.1:19530/bench
    python tests/benchmarks/bench_stores.py --size 100000 --dimension 512 --store bench.db

The local store is always measured beside it. Without --store it is a server of this machine (PyPI's `milvus`), started
and ended here, whose memory and disk are told, too. A collection of --store is not deleted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from clusters import clustered
from milvus_server import MilvusServer

from sil_cli.gallery.entry import GalleryEntry
from sil_cli.gallery.filters import Filter
from sil_cli.gallery.stores import open_store

BATCH, K = 1024, 10
SHARES = {"all": 1.0, "half": 0.5, "tenth": 0.1, "percent": 0.01, "permille": 0.001}


class Said:
    """A reporter that prints notes."""

    def task(self, *_):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def advance(self, count=1, **facts):
        pass

    def note(self, text):
        print(f"    {text}")

    warn = note


def bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


@contextlib.contextmanager
def own_server(folder: Path, store: str | None):
    """A server of our own where no store is named."""
    if store is not None:
        yield None
        return
    server = MilvusServer(folder)
    server.start()
    try:
        server.wait()
        print(f"an empty server has {resident(server.pid()) / 2**20:,.0f} MiB")
        yield server
    finally:
        server.kill()


def make_entry(number: int, rank: int, count: int) -> GalleryEntry:
    """About as much as a real one: a path of 40 letters, a time, a camera, and what the filters ask for."""
    return GalleryEntry(
        path=f"2024-05-01/camera-{number % 200:03d}/crop-{number:012d}.jpg",
        content_hash=f"{number:064x}",
        source="../crops",
        camera=f"camera-{number % 200:03d}",
        identity=f"person-{number % 9973:06d}",
        metadata={name: "yes" for name, share in SHARES.items() if share < 1 and rank < share * count},
    )


def measure(store, rows, ranks, queries, truth, index):
    count, dimension = rows.shape
    model = {"fingerprint": "0123456789abcdef" * 4, "dimension": dimension}
    facts = {}
    with store.writer(model) as writer:
        start = time.perf_counter()
        for first in range(0, count, BATCH):
            part = range(first, min(count, first + BATCH))
            writer.add([make_entry(one, ranks[one], count) for one in part], rows[first : first + BATCH])
        facts["add"] = time.perf_counter() - start
        start = time.perf_counter()
        writer.finish()
        facts["finish"] = time.perf_counter() - start
        start = time.perf_counter()
        writer.refresh_index(Said(), requested=index)
        facts["index"] = time.perf_counter() - start
    start = time.perf_counter()
    with store.open() as gallery:
        facts["open"] = time.perf_counter() - start
        print(f"    {gallery.info().index}")
        for name, share in SHARES.items():
            only = Filter(metadata=((name, "yes"),)) if share < 1 else None
            gallery.search(queries[:1], K, where=only)
            times, hits, total = [], 0, 0
            for query, row in zip(queries, truth, strict=True):
                start = time.perf_counter()
                (matches,) = gallery.search(query[None], K, where=only)
                times.append(time.perf_counter() - start)
                kept = np.flatnonzero(ranks < share * count) if only else np.arange(count)
                best = {f"{one:012d}" for one in kept[np.argsort(-row[kept])[:K]]}
                hits += len(best & {match.path[-16:-4] for match in matches})
                total += len(best)
            facts[name] = (1000 * float(np.median(times)), 1000 * float(np.quantile(times, 0.95)), hits / total)
        start = time.perf_counter()
        gallery.search(queries, K)
        facts["batch"] = 1000 * (time.perf_counter() - start) / len(queries)
    return facts


def tell(name, facts, count):
    print(f"{name}: {count:,} added in {facts['add']:.1f} s ({count / facts['add']:,.0f}/s), finished in", end=" ")
    print(f"{facts['finish']:.1f} s, index in {facts['index']:.1f} s, opened in {facts['open']:.2f} s")
    print("    kept       median ms   p95 ms   recall@10")
    for share in SHARES:
        median, p95, recall = facts[share]
        print(f"    {share:10} {median:9.1f} {p95:8.1f} {recall:11.4f}")
    print(f"    in a batch {facts['batch']:9.1f} a query")
    if facts["bytes"]:
        print(f"    on disk {facts['bytes'] / count:,.0f} bytes an entry")
    if "resident" in facts:
        print(f"    memory of the server {facts['resident'] / 2**20:,.0f} MiB")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--store", default=None)
    parser.add_argument("--index", default=None)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--into", type=Path, default=None, help="put the results into this JSON file as 'stores'")
    parser.add_argument("--no-local", action="store_true")
    chosen = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    people = max(50, chosen.size // 20)
    rows = clustered(chosen.size, chosen.dimension, people=people, seed=1)[0]
    queries = clustered(chosen.queries, chosen.dimension, people=people, seed=2)[0]
    truth = queries @ rows.T
    ranks = np.empty(chosen.size, dtype=int)
    ranks[np.random.default_rng(5).permutation(chosen.size)] = np.arange(chosen.size)
    everything: dict[str, object] = {"size": chosen.size, "dimension": chosen.dimension}
    with tempfile.TemporaryDirectory() as folder, own_server(Path(folder) / "server", chosen.store) as server:
        address = chosen.store or f"{server.url}/bench"
        for name, store_address in [("local", None), ("store", address)][chosen.no_local :]:
            store = open_store(Path(folder) / name, store_address, patience=120)
            facts = measure(store, rows, ranks, queries, truth, chosen.index if store_address else None)
            facts["bytes"] = store.size()
            if store_address and server:
                facts |= {"bytes": bytes_below(server.folder / "data"), "resident": resident(server.pid())}
            tell(store_address or name, facts, chosen.size)
            everything[name] = facts
    if chosen.into:
        file = json.loads(chosen.into.read_text(encoding="utf-8")) | {"stores": everything}
        chosen.into.write_text(json.dumps(file, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
