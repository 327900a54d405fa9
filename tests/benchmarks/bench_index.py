"""Approximate indexes against exact search on a gallery of generated people, in one run.

    python tests/benchmarks/bench_index.py --size 1000000 --index IVF4096,SQ8 --folder /tmp/bench

The gallery is made in the folder (2 GiB for a million) and left there; a second run with the same size uses it again.
Memory is what the process holds itself (anonymous pages); pages of mapped files can be dropped at any time.
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

sys.path.insert(0, str(Path(__file__).parents[1] / "retrieval"))
from clusters import clustered
from galleries import Notes

from sil_cli.retrieval.gallery import open_gallery
from sil_cli.retrieval.store import GalleryEntry
from sil_cli.retrieval.tuning import tune
from sil_cli.retrieval.writer import existing_writer, gallery_writer

BATCH = 16_384


def memory(kind: str) -> float:
    """MiB of this process: RssAnon, RssFile or VmHWM."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(kind))


def on_disk(folder: Path, kind: str) -> float:
    return sum(path.stat().st_size for path in folder.glob(f"{kind}-*")) / 2**20


def fill(folder: Path, arguments: argparse.Namespace) -> None:
    size = arguments.size
    with gallery_writer(folder, {"fingerprint": "b" * 64, "dimension": arguments.dimension}) as writer:
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


def timed(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--index", action="append", help="may be repeated; default: SQfp16 and IVF..,SQ8 by size")
    parser.add_argument("--noise", type=float, default=0.5, help="spread of a person's images, in that of people")
    parser.add_argument("--folder", type=Path, required=True, help="where the gallery is made")
    arguments = parser.parse_args()
    cells = 2 ** round(np.log2(4 * arguments.size**0.5))
    factories = arguments.index or ["SQfp16", f"IVF{cells},SQ8"]
    folder = arguments.folder / f"gallery-{arguments.size}-{arguments.dimension}-{arguments.noise}"
    cores = f"{platform.machine()}, {os.cpu_count()} cores, {faiss.omp_get_max_threads()} threads"
    print(f"bench_index.py --size {arguments.size} --index {' --index '.join(factories)} ({cores})")
    print(f"filled in {timed(lambda: fill(folder, arguments)):.0f} s")
    queries, _, _ = clustered(
        1, arguments.dimension, people=max(1, arguments.size // 20), noise=arguments.noise, seed=1
    )
    for factory in factories:
        with existing_writer(folder) as writer:
            build = timed(
                lambda writer=writer, factory=factory: tune(writer, Notes(), recall=0.99, factories=[factory])
            )
            measured, best = tune(writer, Notes(), recall=0.99, factories=[factory])
        for one in measured:
            faster = measured[0].batch_seconds / one.batch_seconds
            print(
                f"{one.factory:14} effort {one.effort:4}  recall@10 {one.recall:.4f}"
                f"  {1 / one.batch_seconds:8.0f} queries/s  {faster:5.1f}x  alone {1000 * one.single_seconds:.2f} ms"
            )
        disk = {
            kind: sum(path.stat().st_size for path in (folder / "vectors").glob(f"{kind}-*"))
            for kind in ("segment", "index")
        }
        print(
            f"{best.factory}: built and measured in {build:.0f} s (and measured again);"
            f" {disk['segment'] / 2**20:.0f} MiB of vectors, {disk['index'] / 2**20:.0f} MiB of index on disk;"
            f" peak {memory('VmHWM'):.0f} MiB"
        )
    before = memory("RssAnon")
    for attempt in ("first", "again"):
        start = time.perf_counter()
        with open_gallery(folder) as gallery:
            opened = time.perf_counter() - start
            gallery.search(queries, 10)
            answered = time.perf_counter() - start
            kept = memory("RssAnon") - before
            print(
                f"opened ({attempt}) in {opened:.3f} s, first answer after {answered:.3f} s, {kept:.0f} MiB of its own"
            )


if __name__ == "__main__":
    main()
