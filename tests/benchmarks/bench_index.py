"""Approximate indexes against exact search on a gallery of generated people, in one run.

    python tests/benchmarks/bench_index.py --size 1000000 --folder /tmp/bench

The gallery is made in the folder (2 GiB for a million) and left there; a second run with the same size uses it again.
Exact search is the gallery's own: float32 matrix products of all threads, then the best in float64. Either way of
searching may take as many queries at once as suits it best. They take turns, the index ten for each of the other, since
a round of it is that much shorter; medians count. Memory is what
the process holds itself (anonymous pages); pages of mapped files can be dropped at any time.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import threading
import time
from functools import partial
from pathlib import Path

import faiss
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from clusters import clustered
from galleries import Notes

from sil_cli.gallery.entry import GalleryEntry
from sil_cli.gallery.local.approximate import cells_factory, graph_factory
from sil_cli.gallery.local.store import LocalStore
from sil_cli.gallery.local.vector_search import Searcher
from sil_cli.gallery.stores import open_gallery

BATCH = 16_384
DEPTH = 10
AT_ONCE = (256, 1024)
ROUNDS = 3
INDEX_ROUNDS = 10


def memory(kind: str) -> float:
    """MiB of this process: RssAnon, RssFile or VmHWM."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(kind))


def on_disk(folder: Path, kind: str) -> float:
    return sum(path.stat().st_size for path in folder.glob(f"{kind}-*")) / 2**20


def fill(folder: Path, arguments: argparse.Namespace) -> None:
    size = arguments.size
    with LocalStore(folder).writer({"fingerprint": "b" * 64, "dimension": arguments.dimension}) as writer:
        for start in range(len(writer), size, BATCH):
            count = min(BATCH, size - start)
            rows, who, where = clustered(
                count, arguments.dimension, people=max(1, size // 20), noise=arguments.noise, seed=start + 2
            )
            entries = [
                GalleryEntry(f"{start + at}.jpg", "h", "generated", identity=f"p{who[at]}", camera=f"c{where[at]}")
                for at in range(count)
            ]
            writer.add(entries, rows)
        writer.finish()


def timed(work):
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


class PeakMemory:
    """The most that the process held itself while a block ran, looked at ten times a second."""

    def __enter__(self) -> PeakMemory:
        self.peak, self._stop = memory("RssAnon"), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            self.peak = max(self.peak, memory("RssAnon"))

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def answers(searcher: Searcher, queries: np.ndarray, at_once: int, *, exact: bool) -> list[list[int]]:
    found = []
    for start in range(0, len(queries), at_once):
        part = queries[start : start + at_once]
        found += searcher.search(part, DEPTH, None, [frozenset()] * len(part), exact=exact)
    return [[one for one, _ in ranked] for ranked in found]


def in_turns(searcher: Searcher, queries: np.ndarray) -> dict[bool, tuple[float, int, list[list[int]]]]:
    """For exact search or not, by the number at once that suits it best: queries a second, that number, the answers."""
    seconds: dict[tuple[bool, int], list[float]] = {}
    found: dict[bool, list[list[int]]] = {}
    for _ in range(ROUNDS):
        for exact, repeats in ((True, 1), (False, INDEX_ROUNDS)):
            for at_once in AT_ONCE:
                for _ in range(repeats):
                    took, found[exact] = timed(partial(answers, searcher, queries, at_once, exact=exact))
                    seconds.setdefault((exact, at_once), []).append(took)
    medians = {way: float(np.median(took)) for way, took in seconds.items()}
    best = {exact: min((medians[exact, at_once], at_once) for at_once in AT_ONCE) for exact in (True, False)}
    return {exact: (len(queries) / took, at_once, found[exact]) for exact, (took, at_once) in best.items()}


def bare_products(searcher: Searcher, queries: np.ndarray) -> float:
    """Queries a second of nothing but the matrix product that an exact search can't do without."""
    held = [vectors[start : start + 8192] for _, vectors in searcher.parts() for start in range(0, len(vectors), 8192)]
    rounds = [timed(lambda: [queries @ rows.T for rows in held])[0] for _ in range(ROUNDS)]
    return len(queries) / min(rounds)


def by_faiss(searcher: Searcher, queries: np.ndarray) -> float:
    """Queries a second of FAISS's own exact search, whose BLAS library may not know the processor."""
    took = 0.0
    for _, vectors in searcher.parts():
        flat = faiss.IndexFlatIP(vectors.shape[1])
        flat.add(vectors)
        took += timed(lambda flat=flat: flat.search(queries, DEPTH))[0]
    return len(queries) / took


def build(folder: Path, factory: str) -> None:
    """Build an index and tune its effort as `sil index-gallery --index FACTORY` does."""
    with LocalStore(folder).existing_writer() as writer:
        writer.refresh_index(Notes(), requested="exact")
        with PeakMemory() as building:
            took, _ = timed(lambda: writer.refresh_index(Notes(), requested=factory))
    print(f"{factory:15} built and tuned in {took:.0f} s with {building.peak:.0f} MiB of memory", flush=True)


def measure(folder: Path, queries: np.ndarray) -> None:
    """Measure the index that the gallery has with new queries."""
    with LocalStore(folder).existing_writer() as writer:
        record = writer.index.record()
        searcher = writer.index.searcher(writer.index.read())  # as searches have it, mapped into memory
        searcher.effort = record.effort
        both = in_turns(searcher, queries)
        exact, at_once, truth = both[True]
        bare = bare_products(searcher, queries[:1024])
        print(f"exact           {exact:6.0f} queries/s, {at_once} at once; the bare matrix product {bare:.0f}")
        print(f"exact by FAISS  {by_faiss(searcher, queries[:256]):6.0f} queries/s, 256 at once")
        quick, at_once, found = both[False]
    recall = np.mean([len(set(one) & set(best)) / len(best) for one, best in zip(found, truth, strict=True)])
    print(
        f"{record.factory:15} {quick:6.0f} queries/s, {at_once} at once: "
        f"{quick / exact:.1f}x exact, {quick / bare:.1f}x the product, at recall@10 {recall:.4f} of"
        f" {len(queries)} new queries (effort {record.effort}, {record.recall:.4f} when tuned)"
    )
    print(
        f"{'':15} {on_disk(folder / 'vectors', 'index'):.0f} MiB of index and"
        f" {on_disk(folder / 'vectors', 'segment'):.0f} MiB of vectors on disk",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument(
        "--index", action="append", help="may be repeated; default: a graph and cells that suit the size"
    )
    parser.add_argument("--built", action="store_true", help="measure the index that the gallery has already")
    parser.add_argument("--noise", type=float, default=0.5, help="spread of a person's images, in that of people")
    parser.add_argument("--queries", type=int, default=1024)
    parser.add_argument("--folder", type=Path, required=True, help="where the gallery is made")
    arguments = parser.parse_args()
    people = max(1, arguments.size // 20)
    queries, _, _ = clustered(arguments.queries, arguments.dimension, people=people, noise=arguments.noise, seed=1)
    factories = arguments.index or [graph_factory(queries), cells_factory(arguments.size)]
    folder = arguments.folder / f"gallery-{arguments.size}-{arguments.dimension}-{arguments.noise}"
    cores = f"{platform.machine()}, {os.cpu_count()} cores, {faiss.omp_get_max_threads()} threads"
    print(f"bench_index.py --size {arguments.size} --index {' --index '.join(factories)} ({cores})")
    print(f"filled in {timed(lambda: fill(folder, arguments))[0]:.0f} s", flush=True)
    if arguments.built:
        measure(folder, queries)
    for factory in [] if arguments.built else factories:
        build(folder, factory)
        measure(folder, queries)
    before = memory("RssAnon")
    for attempt in ("first", "again"):
        start = time.perf_counter()
        with open_gallery(folder) as gallery:
            opened = time.perf_counter() - start
            gallery.search(queries[:1], DEPTH)
            answered = time.perf_counter() - start
            kept = memory("RssAnon") - before
            print(
                f"opened ({attempt}) in {opened:.3f} s, first answer after {answered:.3f} s, {kept:.0f} MiB of its own"
            )


if __name__ == "__main__":
    main()
