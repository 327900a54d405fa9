"""How long `sil query IMAGE` takes from the shell on a large gallery, and where the time goes in a process that stays.

    python tests/benchmarks/bench_cold_query.py --size 100000 --backbone resnet18 --folder /tmp/bench

The model is real and exported (random weights, 256×128); all vectors of the gallery but those of the query's person
are generated. `cold` is a new process each time, with the contact sheet that `sil query` draws by default. With
`--evict` the gallery's files are first put out of the page cache as well, as after a restart of the machine. `warm` is
one process that answers again and again, the decoding of the picture included.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "retrieval"))
from clusters import clustered

from sil_cli.data.images import load_image, resize_to
from sil_cli.data.synthetic.generate import generate_domains
from sil_cli.data.synthetic.options import SyntheticOptions
from sil_cli.retrieval.gallery import open_gallery
from sil_cli.retrieval.store import GalleryEntry
from sil_cli.retrieval.tuning import refresh_index
from sil_cli.retrieval.writer import gallery_writer
from sil_cli.runtime import SilentReporter, cpu_count
from sil_cli.settings import load_settings
from sil_cli.workflows.engine import load_for_gallery
from sil_cli.workflows.index import index_gallery

PORTION = 16_384


def make_model(folder: Path, backbone: str) -> None:
    import torch

    from sil_cli.models.embedder import Embedder, save_model
    from sil_cli.models.record import Architecture

    torch.manual_seed(0)
    save_model(folder, Embedder(Architecture(backbone=backbone, height=256, width=128)).eval())


def make_gallery(folder: Path, arguments: argparse.Namespace) -> None:
    """A gallery of some real crops, which brings model and export with it, filled up with generated vectors."""
    options = SyntheticOptions(domains=1, train_identities=1, test_identities=4, height=256, width=128)
    generate_domains(folder / "crops", options, SilentReporter(), workers=cpu_count())
    make_model(folder / "run", arguments.backbone)
    flags = {"gallery": {"model": folder / "run", "images": (folder / "crops",), "folder": folder / "gallery"}}
    index_gallery(load_settings(flags=flags), SilentReporter())
    with open_gallery(folder / "gallery") as gallery:
        model = dict(gallery.model)
    with gallery_writer(folder / "gallery", model) as writer:
        for start in range(len(writer), arguments.size, PORTION):
            count = min(PORTION, arguments.size - start)
            rows, who, where = clustered(count, writer.dimension, people=max(1, arguments.size // 20), seed=start)
            entries = [
                GalleryEntry(f"{start + at}.jpg", "h", "generated", identity=f"p{who[at]}", camera=f"c{where[at]}")
                for at in range(count)
            ]
            writer.add(entries, rows)
        writer.finish()
        refresh_index(writer, SilentReporter(), wished=arguments.index)


def evict(folder: Path) -> None:
    """Put a folder's files out of the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cold(folder: Path, image: Path, *more: str) -> float:
    """Seconds of one `sil query` in a process of its own."""
    command = [sys.executable, "-m", "sil_cli", "query", str(image), "--gallery", str(folder / "gallery"), "--json"]
    with tempfile.TemporaryDirectory() as elsewhere:
        start = time.perf_counter()
        subprocess.run([*command, *more], check=True, capture_output=True, cwd=elsewhere)
        return time.perf_counter() - start


def warm(folder: Path, image: Path, rounds: int) -> dict[str, float]:
    """Median seconds of the steps of a query in a process that holds gallery and model."""
    settings = load_settings(flags={"gallery": {"folder": folder / "gallery"}})
    took: dict[str, list[float]] = {"decode": [], "forward": [], "search": []}
    with open_gallery(folder / "gallery") as gallery:
        engine = load_for_gallery(folder / "gallery" / "model", settings, gallery, SilentReporter(), images=1)
        for _ in range(rounds + 1):
            times = [time.perf_counter()]
            pixels = resize_to(load_image(image), engine.height, engine.width)
            times.append(time.perf_counter())
            embedding = engine.embed(pixels[None])
            times.append(time.perf_counter())
            gallery.search(embedding, 10)
            times.append(time.perf_counter())
            for kind, seconds in zip(took, np.diff(times), strict=True):
                took[kind].append(float(seconds))
        print(f"warm, with {engine.name} and {gallery.info().index}:")
    return {kind: statistics.median(each[1:]) for kind, each in took.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--backbone", default="resnet18", help="resnet18 has 512 dimensions, resnet50 2048")
    parser.add_argument("--index", default="auto")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--evict", action="store_true")
    parser.add_argument("--folder", type=Path, required=True, help="where the gallery is made, and left")
    arguments = parser.parse_args()
    folder = arguments.folder / f"cold-{arguments.backbone}-{arguments.size}"
    if not (folder / "gallery").is_dir():
        make_gallery(folder, arguments)
    image = sorted((folder / "crops").rglob("*.jpg"))[0]
    print(
        f"bench_cold_query.py {arguments.backbone}, {arguments.size:,} entries"
        f" ({platform.machine()}, {cpu_count()} cores)"
    )
    cold(folder, image)
    seconds = []
    for _ in range(arguments.rounds):
        if arguments.evict:
            evict(folder / "gallery")
        seconds.append(cold(folder, image))
    print(f"cold: median {statistics.median(seconds):.2f} s, {min(seconds):.2f} to {max(seconds):.2f} s")
    steps = warm(folder, image, max(20, arguments.rounds))
    whole = sum(steps.values())
    print(", ".join(f"{kind} {1000 * each:.1f} ms ({each / whole:.0%})" for kind, each in steps.items()))


if __name__ == "__main__":
    main()
