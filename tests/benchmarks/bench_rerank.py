"""Time sparse k-reciprocal re-ranking against the dense NumPy original, in one run, and measure its memory.

    python tests/benchmarks/bench_rerank.py --size market --dense
    python tests/benchmarks/bench_rerank.py --size msmt17

Both start from unit embeddings and end with the final distances of all queries, a chunk of rows at a time in ours.
The dense original needs about 9 GiB at Market-1501's size and 200 GiB at MSMT17's.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time

import numpy as np
from bench_metrics import SIZES, make_case
from dense_rerank import dense_k_reciprocal, squared_by_product

from sil_cli.runtime import SilentReporter, cpu_count
from sil_cli.settings import RerankSettings
from sil_cli.similarity.distance import unit_rows
from sil_cli.similarity.rerank import KReciprocalDistances

CHUNK = 256


class Stages(SilentReporter):
    """Says how long each stage took."""

    def task(self, label, total, unit=""):
        self.end()
        self._label, self._started = label, time.perf_counter()
        return super().task(label, total, unit)

    def end(self):
        if hasattr(self, "_label"):
            print(f"    {self._label}: {time.perf_counter() - self._started:.1f} s", flush=True)
            del self._label


def sparse_rerank(units: np.ndarray, queries: int) -> np.ndarray:
    stages = Stages()
    reranked = KReciprocalDistances(units, queries, RerankSettings(), reporter=stages)
    stages.task("Distances", queries)
    checked = [
        reranked.rows(np.arange(start, min(start + CHUNK, queries)))[:: CHUNK // 4]
        for start in range(0, queries, CHUNK)
    ]
    stages.end()
    return np.concatenate(checked)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--data", choices=["clusters", "untrained", "noise"], default="clusters")
    parser.add_argument("--dimension", type=int, default=2048)
    parser.add_argument("--dense", action="store_true", help="time the dense original too")
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {cpu_count()} cores, NumPy {np.__version__}")
    print("threads:", {name: os.environ[name] for name in sorted(os.environ) if name.endswith("_NUM_THREADS")})
    case = make_case(arguments.size, arguments.data, arguments.dimension, 1.0)
    queries = len(case.query)
    units = unit_rows(np.concatenate([case.query.embeddings, case.gallery.embeddings]))
    del case
    print(f"{queries} x {len(units) - queries} x {arguments.dimension}, {arguments.data}; {peak():.2f} GiB before")
    started = time.perf_counter(), time.process_time()
    ours = sparse_rerank(units, queries)
    seconds, busy = time.perf_counter() - started[0], time.process_time() - started[1]
    print(f"sparse: {seconds:.1f} s ({busy:.1f} s of CPU), peak memory of the process {peak():.2f} GiB")
    if arguments.dense:
        started = time.perf_counter(), time.process_time()
        theirs = dense_k_reciprocal(squared_by_product(units), queries)
        dense, dense_busy = time.perf_counter() - started[0], time.process_time() - started[1]
        same = np.concatenate([theirs[at : at + CHUNK][:: CHUNK // 4] for at in range(0, queries, CHUNK)])
        print(f"dense: {dense:.1f} s ({dense_busy:.1f} s of CPU), peak memory {peak():.2f} GiB")
        print(f"sparse is {dense / seconds:.1f} times faster, and takes {dense_busy / busy:.1f} times less CPU")
        print(f"largest difference in {len(same)} rows: {np.abs(same - ours).max():.1e}")


if __name__ == "__main__":
    main()
