"""What codes of fewer bytes cost: the recall of what they propose, and of four proposals a match scored exactly.

python tests/benchmarks/bench_codes.py --size 100000 --dimension 512
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import faiss
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "retrieval"))
from clusters import clustered

CODES = {"float32": "Flat", "float16": "SQfp16", "int8": "SQ8", "PQ128": "PQ128", "PQ64": "PQ64"}
K, PROPOSALS, SPARE = 10, 4, 8


def recall(found, truth):
    return sum(len(set(one) & set(other)) for one, other in zip(found, truth, strict=True)) / truth.size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--json", type=Path, default=None)
    chosen = parser.parse_args()
    people = max(50, chosen.size // 20)
    rows = clustered(chosen.size, chosen.dimension, people=people, seed=1)[0]
    queries = clustered(chosen.queries, chosen.dimension, people=people, seed=2)[0]
    truth = np.argsort(-(queries @ rows.T), axis=1)[:, :K]
    measured = {}
    print("code      bytes  recall@10  rescored  ms a query  built in s")
    for name, factory in CODES.items():
        index = faiss.index_factory(chosen.dimension, factory, faiss.METRIC_INNER_PRODUCT)
        start = time.perf_counter()
        if not index.is_trained:
            index.train(rows[:: max(1, chosen.size // 20_000)])
        index.add(rows)
        built = time.perf_counter() - start
        start = time.perf_counter()
        _, found = index.search(queries, PROPOSALS * K + SPARE)
        searched = 1000 * (time.perf_counter() - start) / len(queries)
        scored = [ids[np.argsort(-(rows[ids] @ query))[:K]] for ids, query in zip(found, queries, strict=True)]
        plain, again = recall(found[:, :K], truth), recall(scored, truth)
        size = index.sa_code_size()
        measured[name] = {"bytes": size, "recall": plain, "rescored": again}
        print(f"{name:8} {size:6} {plain:10.4f} {again:9.4f} {searched:11.2f} {built:11.1f}", flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(measured, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
