"""Are the generated networks a useful benchmark? Leave one out, and compare.

For every network T of the default data, mAP and Rank-1 on T's test of

- a colour histogram (no learning at all),
- the default network with random weights,
- the default recipe trained on all networks but T ("left out"),
- the default recipe trained on all networks, T's training people included ("seen").

Run by hand, about 3 minutes a training on 2 cores, (networks + 1) trainings a seed:

    python tests/benchmarks/bench_generated.py FOLDER [--seeds 1] [--style ubs] [--set KEY=VALUE ...]

FOLDER keeps data and runs; what stands there already is not made again. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sil_cli.data.manifest import load_dataset
from sil_cli.evaluation.pairs import EmbeddingSet
from sil_cli.evaluation.score import score
from sil_cli.models.embedder import Embedder, save_model
from sil_cli.models.record import Architecture

_STRIPES = 6
_HUES, _SATURATIONS, _VALUES = 8, 4, 4


def sil(folder: Path, *arguments: str) -> dict:
    """Run a command in `folder` and return its JSON document."""
    done = subprocess.run(
        [sys.executable, "-m", "sil_cli", *arguments, "--json"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def colour_histogram(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """An HSV histogram of six horizontal stripes of the middle half, joined, square-rooted and L2-normalised.

    The outer quarters of the columns show background more than person, and are left out. Stripes of colour
    histograms are the classic hand-made descriptor of people (Gray and Tao, "Viewpoint
    Invariant Pedestrian Recognition with an Ensemble of Localized Features", ECCV 2008). The square root makes
    the inner product the Hellinger kernel (Arandjelović and Zisserman, "Three things everyone should know to
    improve object retrieval", CVPR 2012).

    Args:
        image: (height, width, 3), RGB, 0 to 255; at least six rows and one column.

    Returns:
        (6 · 8 · 4 · 4,) = (768,) float32 of length 1; compare by inner product.

    Raises:
        ValueError: The image has another shape or type.
    """
    if (
        image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[2] != 3
        or image.shape[0] < _STRIPES
        or not image.shape[1]
    ):
        raise ValueError(f"expected (height >= {_STRIPES}, width, 3) uint8, got {image.shape} {image.dtype}")
    edge = image.shape[1] // 4
    bins = _bins(image[:, edge : image.shape[1] - edge].astype(np.float32) * np.float32(1 / 255))
    size = _HUES * _SATURATIONS * _VALUES
    stripes = [np.bincount(stripe.ravel(), minlength=size) / stripe.size for stripe in np.array_split(bins, _STRIPES)]
    joined = np.sqrt(np.concatenate(stripes))
    histogram: NDArray[np.float32] = (joined / np.linalg.norm(joined)).astype(np.float32)
    return histogram


def _bins(image: NDArray[np.float32]) -> NDArray[np.intp]:
    """The number of each pixel's (hue, saturation, value) cell."""
    high, low = image.max(axis=2), image.min(axis=2)
    spread = high - low
    safe = np.where(spread > 0, spread, 1)
    red, green, blue = np.moveaxis(image, 2, 0)
    sector = np.where(
        high == red, (green - blue) / safe, np.where(high == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    )
    hue = np.where(spread > 0, np.mod(sector / 6, 1), 0)
    saturation = np.where(high > 0, spread / np.where(high > 0, high, 1), 0)
    cells = [
        np.minimum((channel * count).astype(np.intp), count - 1)
        for channel, count in ((hue, _HUES), (saturation, _SATURATIONS), (high, _VALUES))
    ]
    bins: NDArray[np.intp] = (cells[0] * _SATURATIONS + cells[1]) * _VALUES + cells[2]
    return bins


def histogram_scores(folder: Path) -> tuple[float, float]:
    """mAP and Rank-1 of the colour histogram on a data set's test."""
    dataset = load_dataset(folder)
    sides = [
        EmbeddingSet(
            embeddings=np.stack([colour_histogram(np.asarray(dataset.load_image(record))) for record in records]),
            identities=[record.identity for record in records],
            cameras=[record.camera for record in records],
        )
        for records in (dataset.of_split("query"), dataset.of_split("gallery"))
    ]
    scores = score(*sides)
    return scores.mAP, scores.cmc[1]


def untrained(folder: Path, seed: int, architecture: Architecture) -> str:
    """A run folder that holds the default network with random weights."""
    torch.manual_seed(seed)
    save_model(folder / f"untrained-{seed}", Embedder(architecture))
    return f"untrained-{seed}"


def trained(folder: Path, name: str, sources: list[str], seed: int, more: list[str]) -> str:
    """A finished run, trained now unless it stands already."""
    if not (folder / name / "model.json").exists():
        resume = ["--resume"] if (folder / name / "run.json").exists() else more
        named = [] if resume == ["--resume"] else [f"--source=data/{source}" for source in sources]
        seeded = [] if resume == ["--resume"] else ["--seed", str(seed)]
        sil(folder, "train", *named, "--run", name, *seeded, *resume)
    return name


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--style", default="ubs")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    more = ["--style", options.style, *(f"--set={each}" for each in options.settings)]
    prepared = sil(options.folder, "prepare-data")
    networks = [dataset["name"] for dataset in prepared["datasets"]]

    rows: dict[str, dict[str, list[tuple[float, float]]]] = {network: {} for network in networks}

    def score(network: str, kind: str, model: str) -> None:
        found = sil(options.folder, "evaluate", "--model", model, "--target", f"data/{network}")
        rows[network].setdefault(kind, []).append((found["mAP"], found["cmc"]["1"]))

    for seed in range(1, options.seeds + 1):
        everything = trained(options.folder, f"all-{options.style}-{seed}", networks, seed, more)
        record = json.loads((options.folder / everything / "model.json").read_text())
        random_weights = untrained(options.folder, seed, Architecture(**record["architecture"]))
        for network in networks:
            others = [name for name in networks if name != network]
            score(network, "untrained", random_weights)
            left_out = trained(options.folder, f"without-{network}-{options.style}-{seed}", others, seed, more)
            score(network, "left out", left_out)
            score(network, "seen", everything)

    kinds = ["colour histogram", "untrained", "left out", "seen"]
    print("| network | " + " | ".join(f"{kind}: mAP / Rank-1" for kind in kinds) + " |")
    print("|---|" + "---|" * len(kinds))
    for network in networks:
        rows[network]["colour histogram"] = [histogram_scores(options.folder / "data" / network)]
        print(f"| {network} | " + " | ".join(written(rows[network][kind]) for kind in kinds) + " |")
    means = [[tuple(np.mean(rows[network][kind], axis=0)) for network in networks] for kind in kinds]
    print("| mean | " + " | ".join(written([tuple(np.mean(each, axis=0))]) for each in means) + " |")


def written(scores: list[tuple[float, float]]) -> str:
    """`17.7 / 19.5` in percent, with the standard deviation over seeds where there are several."""
    percent = 100 * np.array(scores)
    spread = [f" ± {each:.1f}" if len(scores) > 1 else "" for each in percent.std(axis=0)]
    return " / ".join(f"{mean:.1f}{deviation}" for mean, deviation in zip(percent.mean(axis=0), spread, strict=True))


if __name__ == "__main__":
    main()
