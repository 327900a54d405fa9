"""How fast `sil query --batch` answers, against the speed at which `sil index-gallery` embeds the same images.

    python tests/benchmarks/bench_batch_query.py --data data/viaduct --model runs/001-dbs [--copies 4]

Both run in this process, in turns, on the same list of files; the ratio of medians is what counts. --as-if-agreed lets
both take bfloat16 though it was not found to agree with float32, as with a network that has hardly learnt.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

from sil_cli.data.manifest import load_dataset
from sil_cli.gallery.index import index_gallery
from sil_cli.runtime import SilentReporter, cpu_count
from sil_cli.search.batch_query import query_batch
from sil_cli.settings import load_settings


def seconds(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--as-if-agreed", action="store_true")
    wanted = parser.parse_args()
    dataset = load_dataset(wanted.data)
    agreed = patch("sil_cli.models.record.SAME_MODEL", -1.0)
    with tempfile.TemporaryDirectory() as name, agreed if wanted.as_if_agreed else contextlib.nullcontext():
        folder = Path(name)
        crops = folder / "crops"
        for copy in range(wanted.copies):
            for number, record in enumerate(dataset.of_split("gallery")):
                target = crops / f"{copy}" / f"{number:06d}{Path(record.path).suffix}"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(dataset.image_path(record), target)
        count = sum(1 for path in crops.rglob("*") if path.is_file())
        gallery = {"images": (crops,), "model": wanted.model}
        took: dict[str, list[float]] = {"index": [], "batch": []}
        for turn in range(wanted.rounds):
            settings = load_settings(
                flags={"gallery": gallery | {"folder": folder / f"gallery-{turn}"}, "query": {"batch": crops}}
            )
            took["index"].append(seconds(lambda made=settings: index_gallery(made, SilentReporter())))
            took["batch"].append(seconds(lambda made=settings: query_batch(made, SilentReporter(), io.StringIO())))
    index, batch = (statistics.median(each) for each in took.values())
    print(f"{platform.processor() or platform.machine()}, {cpu_count()} cores, {count} images, {wanted.rounds} rounds")
    print(f"index-gallery {count / index:8.1f} images/s")
    print(f"query --batch {count / batch:8.1f} images/s, {index / batch:.2f} of index-gallery")


if __name__ == "__main__":
    main()
