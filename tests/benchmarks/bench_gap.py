"""How style varies between networks, between the cameras of a network, and between a camera's images.

    python tests/benchmarks/bench_gap.py DATASET [DATASET ...] [--images 600]

Each DATASET is a prepared one, and counts as a network. Of a sample of images, of each camera as many, resized to
128×64, these properties are measured:

- colour: the mean opponent colours (R − G, (R + G)/2 − B) against mean luma, and mean saturation,
- exposure: mean and standard deviation of luma,
- detail: log energy of the finest and of the second octave against luma's deviation,
- style: means and standard deviations of red, green and blue, which is what style transfer takes for it.

Prints, for each, what share of its variance lies between networks, between the cameras of one network, and between the
images of one camera (properties scaled to a variance of one; the three add up to 100 %), and for style the mean
2-Wasserstein distance between networks and between the cameras of one.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image

from sil_cli.data.images import load_image
from sil_cli.data.manifest import Dataset, load_dataset
from sil_cli.data.measuring import LOOK, style_distance

Groups = dict[str, dict[str, np.ndarray]]


def properties(image: Image.Image) -> dict[str, np.ndarray]:
    """What is measured of one RGB image."""
    pixels = np.asarray(image.resize(LOOK[::-1], Image.Resampling.BILINEAR), np.float64)
    red, green, blue = np.moveaxis(pixels, 2, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    mean, deviation = luma.mean() + 1, luma.std() + 1
    high, low = pixels.max(axis=2), pixels.min(axis=2)
    fine = _energy(luma)
    coarse = _energy(luma.reshape(LOOK[0] // 2, 2, LOOK[1] // 2, 2).mean(axis=(1, 3)))
    return {
        "colour": np.array(
            [(red - green).mean() / mean, ((red + green) / 2 - blue).mean() / mean, ((high - low) / (high + 1)).mean()]
        ),
        "exposure": np.array([mean, deviation]),
        "detail": np.log([fine / deviation + 1e-3, coarse / deviation + 1e-3]),
        "style": np.concatenate([pixels.mean((0, 1)), pixels.std((0, 1))]),
    }


def _energy(luma: np.ndarray) -> float:
    inner = luma[1:-1, 1:-1]
    around = (luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]) / 4
    return float((inner - around).std())


def measured(dataset: Dataset, count: int) -> dict[str, dict[str, np.ndarray]]:
    """By property and camera, (images, values)."""
    rng = np.random.default_rng(1)
    cameras = sorted({str(record.camera) for record in dataset.records})
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    for camera in cameras:
        records = [record for record in dataset.records if str(record.camera) == camera]
        for index in rng.permutation(len(records))[: max(count // len(cameras), 2)]:
            image = load_image(dataset.image_path(records[index]), box=records[index].box)
            for name, values in properties(image).items():
                found.setdefault(name, {}).setdefault(camera, []).append(values)
    return {name: {camera: np.stack(rows) for camera, rows in by.items()} for name, by in found.items()}


def shares(networks: list[dict[str, np.ndarray]]) -> tuple[float, float, float]:
    """The shares of variance between networks, between their cameras, and between a camera's images.

    Networks weigh alike, and so do the cameras of one.
    """
    everything = np.concatenate([rows for network in networks for rows in network.values()])
    scale = everything.std(axis=0) + 1e-12
    camera_means = [np.stack([rows.mean(0) for rows in network.values()]) / scale for network in networks]
    network_means = np.stack([means.mean(0) for means in camera_means])
    between = float(network_means.var(axis=0).sum())
    cameras = float(np.mean([means.var(axis=0).sum() for means in camera_means]))
    images = float(
        np.mean([np.mean([(rows / scale).var(axis=0).sum() for rows in network.values()]) for network in networks])
    )
    total = between + cameras + images
    return between / total, cameras / total, images / total


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", type=Path, nargs="+")
    parser.add_argument("--images", type=int, default=600)
    options = parser.parse_args()
    networks = [measured(load_dataset(folder), options.images) for folder in options.datasets]
    print("| share of variance | between networks | between cameras of one | between images of one camera |")
    print("|---|---|---|---|")
    for name in networks[0]:
        cells = " | ".join(f"{100 * share:.0f} %" for share in shares([network[name] for network in networks]))
        print(f"| {name} | {cells} |")
    between = [
        style_distance(np.concatenate(list(one["style"].values())), np.concatenate(list(other["style"].values())))
        for one, other in combinations(networks, 2)
    ]
    within = [
        style_distance(one, other) for network in networks for one, other in combinations(network["style"].values(), 2)
    ]
    print()
    for what, distances in (("networks", between), ("cameras of one network", within)):
        if distances:
            print(
                f"Style distance between {what}: {np.mean(distances):.1f} grey levels ({min(distances):.1f} to "
                f"{max(distances):.1f})."
            )


if __name__ == "__main__":
    main()
