"""How well are people grouped without labels, and how long does it take?

    python tests/benchmarks/bench_people.py MODEL DATASET [DATASET ...]
    python tests/benchmarks/bench_people.py --entries 100000

MODEL is a run folder (of `sil train` or `sil import-model`). All images of a prepared data set are embedded, and
grouped by `sil people find`'s own functions, by cameras and times but no labels; the model's calibration is used where
it is. Beside it stand DBSCAN (scikit-learn, cosine distances, min_samples 2) at the radius that turns out best *by the
labels*, once for BCubed F and once for pairwise F, and HDBSCAN (min_cluster_size 2), both of plain distances. Then each
data set again with few people (the first 15) and with each person once. Further lines: of members of a confidence, how
many of the other entries of their group show the same person. With --entries, generated embeddings of so
many entries (12 a person, 8 cameras, 512 dimensions) are grouped, and CPU seconds and memory are told.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.cluster import DBSCAN, HDBSCAN

sys.path.insert(0, str(Path(__file__).parents[1]))
from clusters import clustered

import sil_cli
from sil_cli.data.manifest import load_dataset
from sil_cli.evaluation.calibration import read_calibration
from sil_cli.gallery.entry import instant_of
from sil_cli.people.constraints import Sighting, as_matrix, find_apart
from sil_cli.people.grouping import Grouping, group_entries
from sil_cli.people.links import find_links, learn_likeness, no_links
from sil_cli.people.metrics import GroupingScores, score_grouping
from sil_cli.runtime import SilentReporter

QUIET = SilentReporter()
FEW = 15
BINS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.001)


@dataclass
class Images:
    """Embeddings (N, D) with what is known of them."""

    vectors: np.ndarray
    people: np.ndarray
    cameras: np.ndarray
    instants: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Images:
        return Images(self.vectors[rows], self.people[rows], self.cameras[rows], self.instants[rows])

    def __len__(self) -> int:
        return len(self.vectors)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("datasets", type=Path, nargs="*")
    parser.add_argument("--entries", type=int)
    options = parser.parse_args()
    if options.entries:
        measure_time(options.entries)
        return
    model = sil_cli.load_model(options.model)
    calibration = read_calibration(options.model)
    thresholds = None if calibration is None else dict(calibration.thresholds)
    print("| data set | entries | people | ours: P, R, F; pairwise F | DBSCAN, best by F | by pairwise F | HDBSCAN |")
    print("|---|---|---|---|---|---|---|")
    sure: list[tuple[float, float]] = []
    for folder in options.datasets:
        dataset = load_dataset(folder)
        records = [record for record in dataset.records if not record.junk]
        images = Images(
            model.embed([(dataset.image_path(record), record.box) for record in records]).astype(np.float32),
            np.array([record.identity for record in records]),
            np.array([record.camera or "" for record in records]),
            np.array([np.nan if record.time is None else instant_of(record.time) for record in records]),
        )
        sure += print_row(dataset.name, images, thresholds)
        few = np.isin(images.people, np.unique(images.people)[:FEW])
        print_row(f"{dataset.name}, {FEW} people", images[few], thresholds)
        rng = np.random.default_rng(0)
        once = [rng.choice(np.flatnonzero(images.people == person)) for person in np.unique(images.people)]
        print_row(f"{dataset.name}, each once", images[np.array(once)], thresholds)
    print("\n| confidence | entries | on average | right |\n|---|---|---|---|")
    confidence, right = (np.array(each) for each in zip(*sure, strict=True))
    for low, high in itertools.pairwise(BINS):
        here = (confidence >= low) & (confidence < high)
        if here.any():
            means = f"{confidence[here].mean():.2f} | {right[here].mean():.2f}"
            print(f"| {low:.1f} to {min(high, 1.0):.1f} | {here.sum():,} | {means} |")


def grouped(images: Images, thresholds: dict[str, float] | None) -> Grouping:
    """As `sil people find` does it."""
    likeness = learn_likeness(images.vectors, images.cameras, images.instants, thresholds, QUIET)
    links = no_links(len(images)) if likeness is None else find_links(likeness, QUIET)
    sightings = [
        Sighting(("", str(row)), None, ("", camera) if camera else None, instant, instant)
        for row, (camera, instant) in enumerate(zip(images.cameras.tolist(), images.instants.tolist(), strict=True))
    ]
    apart = find_apart(sightings, links, overlap=("auto",), at_once=1.0)
    return group_entries(links, np.full(len(images), -1), as_matrix(len(images), [apart.pairs]), QUIET)


def print_row(name: str, images: Images, thresholds: dict[str, float] | None) -> list[tuple[float, float]]:
    """Compare the ways of grouping; returns confidence and how far it is right of each entry that isn't alone."""
    grouping = grouped(images, thresholds)
    ours = scores(grouping.groups, images)
    distances = np.clip(1 - images.vectors.astype(np.float64) @ images.vectors.T.astype(np.float64), 0, 2)
    nearest = np.sort(distances, axis=1)[:, 1:4]
    found = [
        scores(alone(DBSCAN(eps=radius, min_samples=2, metric="precomputed").fit_predict(distances)), images)
        for radius in np.quantile(nearest, np.linspace(0.02, 1, 40)) + 1e-9
    ]
    by_f = max(found, key=lambda each: each.bcubed_f)
    by_pairs = max(found, key=lambda each: each.pairwise_f)
    hdbscan = scores(alone(HDBSCAN(min_cluster_size=2, metric="precomputed", copy=True).fit_predict(distances)), images)
    print(
        f"| {name} | {len(images):,} | {ours.people} | {ours.bcubed_precision:.2f}, {ours.bcubed_recall:.2f}, "
        f"**{ours.bcubed_f:.3f}**; {ours.pairwise_f:.3f} | {short(by_f)} | {short(by_pairs)} | {short(hdbscan)} |",
        flush=True,
    )
    together = (grouping.groups[:, None] == grouping.groups[None]) & ~np.eye(len(images), dtype=bool)
    others = together.sum(axis=1)
    same = ((images.people[:, None] == images.people[None]) & together).sum(axis=1)
    some = others > 0
    return list(zip(grouping.confidence[some].tolist(), (same[some] / others[some]).tolist(), strict=True))


def short(found: GroupingScores) -> str:
    return f"{found.bcubed_f:.3f}; {found.pairwise_f:.3f}"


def alone(labels: np.ndarray) -> np.ndarray:
    """Labels of clusters, whoever is noise on their own."""
    noise = labels < 0
    labels = labels.copy()
    labels[noise] = labels.max(initial=-1) + 1 + np.arange(noise.sum())
    return labels


def scores(groups: np.ndarray, images: Images) -> GroupingScores:
    found = score_grouping(groups.tolist(), images.people.tolist())
    assert found is not None
    return found


def measure_time(count: int) -> None:
    """Group generated embeddings, and say what each step takes."""
    vectors, people, cameras = clustered(count, 512, people=count // 12)
    images = Images(vectors, people, np.array([f"c{camera}" for camera in cameras]), np.full(count, np.nan))
    print("| step | CPU seconds | largest memory so far |\n|---|---|---|")
    began = time.process_time()

    def lap(what: str) -> None:
        nonlocal began
        now = time.process_time()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"| {what} | {now - began:.0f} | {peak:.2f} GiB |", flush=True)
        began = now

    likeness = learn_likeness(images.vectors, images.cameras, images.instants, None, QUIET)
    lap("how alike by chance")
    links = no_links(count) if likeness is None else find_links(likeness, QUIET)
    lap("links")
    grouping = group_entries(links, np.full(count, -1), as_matrix(count, []), QUIET)
    lap("groups")
    print(f"\n{len(links.first):,} links, {len(np.unique(grouping.groups)):,} people")


if __name__ == "__main__":
    main()
