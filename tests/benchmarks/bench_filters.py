"""Recall and latency of filtered searches at every selectivity, planned by `sil` and left to FAISS alone, in one run.

    python tests/benchmarks/bench_filters.py --size 100000

`FAISS alone` is the same index with the same effort and an IDSelector, whatever the filter keeps.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from pathlib import Path

import faiss
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from clusters import clustered

from sil_cli.gallery.local.approximate import ApproximateIndex, training_size
from sil_cli.gallery.local.segments import Segment
from sil_cli.gallery.local.vector_search import Searcher, plan_search
from sil_cli.gallery.recall import Bench, least_effort

SHARES = [1.0, 0.5, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0001]
QUERIES, K = 1000, 10


def seconds(work):
    start = time.perf_counter()
    result = work()
    return (time.perf_counter() - start) / QUERIES, result


def one_by_one(searcher, queries, allowed, *, exact=False):
    found = [searcher.search(query[None], K, allowed, [frozenset()], exact=exact)[0] for query in queries]
    return [[one for one, _ in ranked] for ranked in found]


def by_faiss_alone(index, queries, effort, allowed):
    keep = None
    if allowed is not None:
        keep = np.zeros(int(allowed[-1]) + 1, dtype=bool)
        keep[allowed] = True
    found = [index.search(query[None], K, effort, keep)[0] for query in queries]
    return [one[one >= 0].tolist() for one in found]


def recall(found, truth) -> float:
    return float(
        np.mean([len(set(one) & set(best)) / max(1, len(best)) for one, best in zip(found, truth, strict=True)])
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--index", default="PCA64,HNSW32,SQ8")
    parser.add_argument("--noise", type=float, default=0.5, help="spread of a person's images, in that of people")
    arguments = parser.parse_args()
    size, dimension = arguments.size, arguments.dimension
    rows, _, _ = clustered(size, dimension, people=max(1, size // 20), noise=arguments.noise)
    queries, _, _ = clustered(QUERIES, dimension, people=max(1, size // 20), noise=arguments.noise, seed=1)
    ids = np.arange(1, size + 1)
    start = time.perf_counter()
    held = np.sort(np.random.default_rng(6).permutation(size)[: min(4096, size // 20)])  # as `sil` does
    rest = np.setdiff1d(np.arange(size), held)
    training = rows[rest[: training_size(arguments.index, dimension, len(rest))]]
    index = ApproximateIndex.build(arguments.index, training, [(ids[rest], rows[rest])])
    built = time.perf_counter() - start
    bench = Bench(Searcher([(Segment(ids, rows), None)]), held_out=ids[held])
    tuned = Searcher([(Segment(ids[rest], rows[rest]), None)], index, last_id=size)
    effort, reached = least_effort(bench, tuned, index.efforts, 0.99)
    index.add(ids[held], rows[held])
    searcher = Searcher([(Segment(ids, rows), None)], index, last_id=size, effort=effort)
    cores = f"{os.cpu_count()} cores, {faiss.omp_get_max_threads()} threads"
    print(f"bench_filters.py --size {size} --index {arguments.index} ({platform.machine()}, {cores})")
    print(
        f"{size:,} x {dimension}: built in {built:.0f} s, effort {effort}, recall@10 {reached:.4f}; one query at a time"
    )
    print("    kept  plan    recall  short      ms  exact ms  | FAISS alone: recall  short  ms")
    for share in SHARES:
        count = max(1, round(size * share))
        allowed = np.sort(np.random.default_rng(5).permutation(ids)[:count]) if share < 1 else None
        exact_time, truth = seconds(lambda allowed=allowed: one_by_one(searcher, queries, allowed, exact=True))
        ours, found = seconds(lambda allowed=allowed: one_by_one(searcher, queries, allowed))
        theirs, alone = seconds(lambda allowed=allowed: by_faiss_alone(index, queries, effort, allowed))
        plan = plan_search(count, size, index=True, takes_filter=index.takes_filter)
        short, short_alone = (sum(len(one) < min(K, count) for one in each) / QUERIES for each in (found, alone))
        print(
            f"{share:8.2%}  {plan:6}  {recall(found, truth):6.4f}  {short:5.0%}  {1000 * ours:6.2f}"
            f"  {1000 * exact_time:8.2f}  |              {recall(alone, truth):6.4f}"
            f"  {short_alone:5.0%}  {1000 * theirs:.2f}"
        )


if __name__ == "__main__":
    main()
