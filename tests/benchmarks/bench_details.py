"""Time what an evaluation keeps for reports against the ranking itself, in one run.

    python tests/benchmarks/bench_details.py --size market
    python tests/benchmarks/bench_details.py --size msmt17 --part 0.2

`--part` takes a part of the queries, and of the pairs that may be looked at: both times grow in proportion to them.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from bench_metrics import SIZES, make_case

from sil_cli.data.manifest import ImageRecord
from sil_cli.evaluation.pairs import EmbeddingSet
from sil_cli.evaluation.ranking import rank_matches
from sil_cli.evaluation.report_data import PAIRS, make_report_data, write_report_data
from sil_cli.runtime import SilentReporter


def records(side: EmbeddingSet, split: str) -> list[ImageRecord]:
    return [
        ImageRecord(path=f"{split}/{row:06}.jpg", identity=identity, camera=camera, split=split, domain="bench")
        for row, (identity, camera) in enumerate(zip(side.identities, side.cameras, strict=True))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="market")
    parser.add_argument("--dimension", type=int, default=2048)
    parser.add_argument("--part", type=float, default=1.0)
    chosen = parser.parse_args()
    case = make_case(chosen.size, "clusters", chosen.dimension, chosen.part)
    both = (records(case.query, "query"), records(case.gallery, "gallery"))

    started = time.perf_counter()
    ranks = rank_matches(case.query, case.gallery)
    ranking = time.perf_counter() - started
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    started = time.perf_counter()
    about = dict.fromkeys(("target", "dataset", "dataset_from_here"), "bench")
    about |= {"fingerprint": "0" * 64, "manifest_sha256": "0" * 64, "generated": True}
    sides, pairs = (case.query, case.gallery), int(PAIRS * chosen.part)
    data = make_report_data(about, sides, ranks, both, pairs=pairs, reporter=SilentReporter())
    with tempfile.TemporaryDirectory() as folder:
        write_report_data(Path(folder), data)
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
    looking = time.perf_counter() - started
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    print("python", " ".join(sys.argv))
    print(f"{platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}")
    print(f"{len(case.query):,} queries × {len(case.gallery):,} gallery images × {chosen.dimension}")
    print(f"queries looked at   {data.record.sampled_queries:,}")
    print(f"ranking             {ranking:8.1f} s")
    print(f"details             {looking:8.1f} s  ({looking / ranking:.2f} × the ranking)")
    print(f"peak memory         {max(0, more) / 1024:8.0f} MiB above the ranking's")
    print(f"files               {size / 1e6:8.1f} MB")


if __name__ == "__main__":
    main()
