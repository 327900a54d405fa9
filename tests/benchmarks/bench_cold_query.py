"""How long `sil query IMAGE` takes from the shell on a large gallery, and where the time goes in a process that stays.

    python tests/benchmarks/bench_cold_query.py --size 100000 --backbone resnet18 --folder /tmp/bench

The model is real and exported (random weights, 256×128); all vectors of the gallery but those of the query's person
are generated. `cold` is a new process each time, with the contact sheet that `sil query` draws by default; `by id`
searches for an entry of the gallery, which needs no model. `floor` is a process that imports NumPy and ONNX Runtime,
prepares the model and computes one embedding, and does nothing else. They take turns. With `--evict` the gallery's
files are first put out of the page cache as well, as after a restart of the machine. `warm` is one process that answers
again and again, the decoding of the picture included.
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

sys.path.insert(0, str(Path(__file__).parents[1]))
from clusters import clustered

from sil_cli.data.images import load_image, resize_to
from sil_cli.gallery.entry import GalleryEntry
from sil_cli.gallery.index import index_gallery
from sil_cli.gallery.kept_model import load_for_gallery
from sil_cli.gallery.local.store import LocalStore
from sil_cli.gallery.stores import open_gallery
from sil_cli.runtime import SilentReporter, cpu_count
from sil_cli.settings import SyntheticSettings, load_settings
from sil_cli.synthetic.generate import generate_domains

PORTION = 16_384


def make_model(folder: Path, backbone: str) -> None:
    import torch

    from sil_cli.models.embedder import Embedder, save_model
    from sil_cli.models.record import Architecture

    torch.manual_seed(0)
    save_model(folder, Embedder(Architecture(backbone=backbone, height=256, width=128)).eval())


def make_gallery(folder: Path, arguments: argparse.Namespace) -> None:
    """A gallery of some real crops, which brings model and export with it, filled up with generated vectors."""
    options = SyntheticSettings(domains=1, train_identities=1, test_identities=4, height=256, width=128)
    generate_domains(folder / "crops", options, SilentReporter(), workers=cpu_count())
    make_model(folder / "run", arguments.backbone)
    flags = {"gallery": {"model": folder / "run", "images": (folder / "crops",), "folder": folder / "gallery"}}
    index_gallery(load_settings(flags=flags), SilentReporter())
    with open_gallery(folder / "gallery") as gallery:
        model = dict(gallery.model)
    with LocalStore(folder / "gallery").writer(model) as writer:
        for start in range(len(writer), arguments.size, PORTION):
            count = min(PORTION, arguments.size - start)
            rows, who, where = clustered(count, writer.dimension, people=max(1, arguments.size // 20), seed=start)
            entries = [
                GalleryEntry(f"{start + at}.jpg", "h", "generated", identity=f"p{who[at]}", camera=f"c{where[at]}")
                for at in range(count)
            ]
            writer.add(entries, rows)
        writer.finish()
        writer.refresh_index(SilentReporter(), requested=arguments.index)


def evict(folder: Path) -> None:
    """Put a folder's files out of the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


FLOOR = """
import sys
import numpy as np
import onnxruntime
from PIL import Image
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
pixels = np.asarray(Image.open(sys.argv[2]).convert("RGB").resize((128, 256), Image.Resampling.BILINEAR))
session.run(None, {"pixels": pixels[None]})
"""


def seconds(command: list[str]) -> float:
    """Wall clock of a process in a folder of its own, its bytecode compiled before as that of installed programs is."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as elsewhere:
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=elsewhere, env=environment)
        return time.perf_counter() - start


def time_processes(folder: Path, image: Path, rounds: int, *, evicting: bool) -> None:
    """Print how long a cold query takes by picture and by id, and the floor."""
    query = [sys.executable, "-m", "sil_cli", "query", "--gallery", str(folder / "gallery"), "--json"]
    commands = {
        "floor": [sys.executable, "-c", FLOOR, str(folder / "gallery/model/model.onnx"), str(image)],
        "cold": [*query, str(image)],
        "by id": [*query, "--id", "1"],
    }
    took: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            if evicting:
                evict(folder / "gallery")
            one = seconds(command)
            if turn:  # the first one compiles bytecode and fills the page cache
                took[name].append(one)
    floor = statistics.median(took["floor"])
    for name, each in took.items():
        middle = statistics.median(each)
        print(
            f"{name:6s} median {middle:.2f} s, {min(each):.2f} to {max(each):.2f} s, {middle / floor:.2f} × the floor"
        )


def warm(folder: Path, image: Path, rounds: int) -> dict[str, float]:
    """Median seconds of the steps of a query in a process that holds gallery and model."""
    settings = load_settings(flags={"gallery": {"folder": folder / "gallery"}})
    took: dict[str, list[float]] = {"decode": [], "forward": [], "search": []}
    with open_gallery(folder / "gallery") as gallery:
        engine = load_for_gallery(folder / "gallery" / "model", settings, gallery, SilentReporter(), images=None)
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
    time_processes(folder, image, arguments.rounds, evicting=arguments.evict)
    steps = warm(folder, image, max(20, arguments.rounds))
    whole = sum(steps.values())
    print(", ".join(f"{kind} {1000 * each:.1f} ms ({each / whole:.0%})" for kind, each in steps.items()))


if __name__ == "__main__":
    main()
