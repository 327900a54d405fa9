"""A gallery of a million in 2 GiB: open, query, filter, add a batch and verify under a hard limit.

    python tests/benchmarks/bench_index.py --size 1000000 --folder /tmp/bench
    python tests/benchmarks/bench_memory.py --gallery /tmp/bench/gallery-1000000-512-0.5

The limit is RLIMIT_DATA: all memory that the process can write to, wherever it comes from. What it only reads of mapped
files doesn't count, for the system drops that when it needs the room. Whoever asks for more gets a MemoryError.
The gallery is worked on in a copy whose files of vectors are links to the old ones.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from clusters import clustered

from sil_cli.gallery.entry import GalleryEntry
from sil_cli.gallery.filters import Filter
from sil_cli.gallery.local.store import LocalStore
from sil_cli.gallery.stores import open_gallery

BATCH = 1024


def now(kind: str) -> float:
    """MiB of this process: RssAnon or RssFile."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(kind))


def told(what: str, work) -> None:
    start = time.perf_counter()
    work()
    print(
        f"{what:28} {time.perf_counter() - start:7.2f} s, then {now('RssAnon'):5.0f} MiB of its own,"
        f" {now('RssFile'):5.0f} MiB of mapped files",
        flush=True,
    )


def copy_of(gallery: Path, folder: Path) -> Path:
    copy = folder / "gallery"
    (copy / "vectors").mkdir(parents=True)
    shutil.copy(gallery / "gallery.sqlite", copy)
    for path in (gallery / "vectors").iterdir():
        (copy / "vectors" / path.name).symlink_to(path.resolve())
    return copy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gallery", type=Path, required=True)
    parser.add_argument("--limit", type=float, default=2.0, help="GiB")
    arguments = parser.parse_args()
    limit = int(arguments.limit * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    with tempfile.TemporaryDirectory(dir=arguments.gallery.parent) as name:
        copy = copy_of(arguments.gallery, Path(name))
        with open_gallery(copy) as gallery:
            count, dimension = len(gallery), gallery.dimension
            queries, _, _ = clustered(256, dimension, people=max(1, count // 20), noise=0.5, seed=1)
            print(f"bench_memory.py: {count:,} x {dimension}, {gallery.info().index}, limit {arguments.limit:g} GiB")
            told("256 queries", lambda: gallery.search(queries, 10))
            told("256 exact queries", lambda: gallery.search(queries, 10, exact=True))
            for wanted in (Filter(identities=("p17",)), Filter(cameras=("c3",)), Filter(excluded_cameras=("c3",))):
                told(f"one query, {wanted}", lambda wanted=wanted: gallery.search(queries[:1], 10, where=wanted))
        rows = np.random.default_rng(0).standard_normal((BATCH, dimension)).astype(np.float32)
        entries = [GalleryEntry(f"new-{number}.jpg", "h", "generated") for number in range(BATCH)]
        with LocalStore(copy).existing_writer() as writer:
            told(f"adding {BATCH}", lambda: writer.add(entries, rows))
            told("merging", writer.finish)
        told("verifying", lambda: verified(copy))


def verified(folder: Path) -> None:
    wrong = [check for check in LocalStore(folder).check() if not check.ok]
    if wrong:
        raise SystemExit(f"not sound: {wrong}")


if __name__ == "__main__":
    main()
