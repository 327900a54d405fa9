"""What codes of fewer bytes cost and save: recall, four proposals a match scored exactly, and the speed of one core.

    python tests/benchmarks/bench_codes.py --size 100000 --dimension 512 --into docs/scale.json

Last comes an inverted file of 4·√n cells: the least number of cells with recall@10 of 0.99, and the share of all
vectors that lie in them.

One thread does it all, BLAS's too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # before they are read

import faiss
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from clusters import clustered

CODES = {
    "float32": "Flat",
    "float16": "SQfp16",
    "int8": "SQ8",
    "PQ64": "PQ64",
    "PQ32": "PQ32",
}
K, PROPOSALS, SPARE = 10, 4, 8
TRAINED_WITH = 10_000
WISHED_RECALL = 0.99


def recall(found, truth):
    return sum(len(set(one) & set(other)) for one, other in zip(found, truth, strict=True)) / truth.size


def built(factory, rows):
    """The index, and the seconds that training and encoding took."""
    index = faiss.index_factory(rows.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    start = time.perf_counter()
    if not index.is_trained:
        index.train(rows[:: max(1, len(rows) // TRAINED_WITH)])
    trained = time.perf_counter() - start
    start = time.perf_counter()
    index.add(rows)
    return index, trained, time.perf_counter() - start


def scan_seconds(index, queries):
    """For one query of all vectors: the median of queries asked one by one."""
    times = []
    for query in queries:
        start = time.perf_counter()
        index.search(query[None], PROPOSALS * K + SPARE)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def measure_code(factory, rows, queries, truth, timed):
    index, trained, encoded = built(factory, rows)
    _, found = index.search(queries, PROPOSALS * K + SPARE)
    scored = [ids[np.argsort(-(rows[ids] @ query))[:K]] for ids, query in zip(found, queries, strict=True)]
    return {
        "bytes": index.sa_code_size(),
        "recall": recall(found[:, :K], truth),
        "rescored": recall(scored, truth),
        "scan_ns": 1e9 * scan_seconds(index, queries[:timed]) / len(rows),
        "train_s": trained,
        "encode_rate": len(rows) / encoded,
    }


def measure_cells(rows, queries, truth):
    """The least number of cells with the wished recall, and the share of vectors that a query is compared with."""
    cells = 4 * round(len(rows) ** 0.5)
    index, trained, encoded = built(f"IVF{cells},Flat", rows)
    probed, found = 0, 0.0
    while found < WISHED_RECALL and probed < cells:
        probed = min(cells, max(probed + 1, round(1.2 * probed)))
        index.nprobe = probed
        faiss.cvar.indexIVF_stats.reset()
        found = recall(index.search(queries, K)[1], truth)
    share = faiss.cvar.indexIVF_stats.ndis / len(queries) / len(rows)
    return {"cells": cells, "probed": probed, "recall": found, "share": share, "build_s": trained + encoded}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--timed", type=int, default=30)
    parser.add_argument("--into", type=Path, default=None, help="put the results into this JSON file as 'codes'")
    chosen = parser.parse_args()
    faiss.omp_set_num_threads(1)
    print(f"{platform.machine()}, one core, FAISS {faiss.__version__} ({faiss.get_compile_options().strip()})")
    people = max(50, chosen.size // 20)
    rows = clustered(chosen.size, chosen.dimension, people=people, seed=1)[0]
    queries = clustered(chosen.queries, chosen.dimension, people=people, seed=2)[0]
    truth = np.argsort(-(queries @ rows.T), axis=1)[:, :K]
    codes = {}
    print("code      bytes  recall@10  rescored  core-ns a vector  trained in s  encoded a second")
    for name, factory in CODES.items():
        codes[name] = one = measure_code(factory, rows, queries, truth, chosen.timed)
        print(
            f"{name:8} {one['bytes']:6} {one['recall']:10.4f} {one['rescored']:9.4f} {one['scan_ns']:17.0f}"
            f" {one['train_s']:13.1f} {one['encode_rate']:17,.0f}",
            flush=True,
        )
    cells = measure_cells(rows, queries, truth)
    print(
        f"{cells['cells']} cells: recall@10 {cells['recall']:.4f} in {cells['probed']} of them, with"
        f" {100 * cells['share']:.1f} % of the vectors; built in {cells['build_s']:.1f} s"
    )
    if chosen.into:
        measured = {"size": chosen.size, "dimension": chosen.dimension, "codes": codes, "cells": cells}
        everything = json.loads(chosen.into.read_text(encoding="utf-8")) | {"codes": measured}
        chosen.into.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
