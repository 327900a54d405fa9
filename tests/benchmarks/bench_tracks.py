"""How well people are followed within a camera, and grouped over cameras, on generated footage.

    sil prepare-data synthetic --footage
    python tests/benchmarks/bench_tracks.py data/footage --model runs/001-dbs

Follows people by the true boxes (gt/gt.txt) and by those of the simulated detector (det/det.txt: people missed, boxes
beside, ghosts), at every frame, every second and every fifth; by motion alone and by looks too. Prints recall,
precision, IDF1, HOTA, DetA and AssA over all cameras, as `sil evaluate --tracks` does. Then the tracklets of all
cameras are grouped by average linkage of their mean embeddings, cut at several cosines, and the groups' IDF1 over all
cameras is printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.cluster.hierarchy import fcluster, linkage

from sil_cli import load_model
from sil_cli.footage.frames import Detection, Frame
from sil_cli.footage.track_metrics import (
    Boxes,
    DetectionCounts,
    HotaCounts,
    count_detections,
    count_hota,
    count_identities,
    joined,
)
from sil_cli.footage.tracker import Tracker
from sil_cli.settings import TrackSettings

KINDS = {"true boxes": "gt/gt.txt", "detector": "det/det.txt"}


class Camera:
    """One camera's boxes of each kind with their embeddings."""

    def __init__(self, folder: Path, model) -> None:
        about = (folder / "seqinfo.ini").read_text()
        self.rate = float(about.split("frameRate=")[1].split()[0])
        self.tables = {kind: np.loadtxt(folder / file, delimiter=",", ndmin=2) for kind, file in KINDS.items()}
        self.frames = sorted(folder.glob("img1/*.jpg"))
        self.size = Image.open(self.frames[0]).size
        self.boxes, self.looks = {}, {}
        for kind, table in self.tables.items():
            self.boxes[kind] = [self._within(row[2:6]) for row in table]
            crops, last, image = [], 0, None
            for row, (left, top, width, height) in zip(table, self.boxes[kind], strict=True):
                if int(row[0]) != last:
                    last = int(row[0])
                    image = Image.open(self.frames[last - 1]).convert("RGB")
                crops.append(np.asarray(image.crop((left, top, left + width, top + height))))
            self.looks[kind] = model.embed(crops)

    def _within(self, box) -> tuple[int, int, int, int]:
        left, top = max(round(box[0] - 1), 0), max(round(box[1] - 1), 0)
        right, bottom = min(round(box[0] - 1 + box[2]), self.size[0]), min(round(box[1] - 1 + box[3]), self.size[1])
        return left, top, max(right - left, 1), max(bottom - top, 1)

    def follow(self, kind: str, step: int, options: TrackSettings) -> tuple[Boxes, Boxes, dict[int, np.ndarray]]:
        """The truth, the tracklets, and each tracklet's mean embedding."""
        tracker, table = Tracker(options), self.tables[kind]
        blank = np.zeros((self.size[1], self.size[0], 3), np.uint8)
        rows, looks, looked = [], {}, range(1, len(self.frames) + 1, step)
        for number in looked:
            here = np.flatnonzero(table[:, 0] == number)
            scores = np.ones(len(here)) if kind == "true boxes" else table[here, 6]
            detections = [Detection(self.boxes[kind][at], float(score)) for at, score in zip(here, scores, strict=True)]
            embeddings = self.looks[kind][here]
            places = {id(each): at for at, each in enumerate(detections)}
            frame = Frame(number - 1, None, (number - 1) / self.rate, blank)
            for each, tracklet in tracker.update(frame, detections, embeddings):
                rows.append((number, tracklet, *each.box))
                looks.setdefault(tracklet, []).append(embeddings[places[id(each)]])
        kept = {tracklet for tracklet, each in looks.items() if len(each) >= options.shortest}
        truth = self.tables["true boxes"]
        truth = truth[np.isin(truth[:, 0], looked)]
        found = np.asarray([row for row in rows if row[1] in kept], np.float64).reshape(-1, 6)
        means = {tracklet: np.mean(looks[tracklet], axis=0) for tracklet in kept}
        known = Boxes(truth[:, 0].astype(int), truth[:, 1].astype(int), truth[:, 2:6] - (1, 1, 0, 0))
        return known, Boxes(found[:, 0].astype(int), found[:, 1].astype(int), found[:, 2:]), means


def across(results: list[tuple[Boxes, Boxes, dict[int, np.ndarray]]], cosine: float) -> tuple[float, int]:
    """IDF1 over all cameras of groups by average linkage, and how many groups there are."""
    names = [(at, tracklet) for at, (_, _, means) in enumerate(results) for tracklet in sorted(means)]
    means = np.stack([results[at][2][tracklet] for at, tracklet in names])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    groups = fcluster(linkage(means, "average", metric="cosine"), 1 - cosine, "distance")
    group_of = dict(zip(names, groups, strict=True))
    found = [
        Boxes(each.frames, np.asarray([group_of[at, one] for one in each.people.tolist()], int), each.boxes)
        for at, (_, each, _) in enumerate(results)
    ]
    apart = 1 + max(int(each.frames.max()) for each, _, _ in results)
    truth = joined([each for each, _, _ in results], apart)
    return count_identities(truth, joined(found, apart)).f1, len(set(groups.tolist()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("footage", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    given = parser.parse_args()
    model = load_model(given.model)
    cameras = [Camera(folder.parent.parent, model) for folder in sorted(given.footage.glob("*/gt/gt.txt"))]
    print("boxes        every  looks   recall  precision  IDF1   HOTA   DetA   AssA  tracklets")
    for kind in KINDS:
        for step in (1, 2, 5):
            for weight in (0.0, 1.0):
                results = [camera.follow(kind, step, TrackSettings(appearance=weight)) for camera in cameras]
                pairs = [(truth, found) for truth, found, _ in results]
                detections = sum((count_detections(*each) for each in pairs), DetectionCounts())
                identities = sum((count_identities(*each) for each in pairs), DetectionCounts())
                hota = sum((count_hota(*each) for each in pairs), HotaCounts())
                rates = (detections.recall, detections.precision, identities.f1, hota.hota)
                rates += (hota.detection_accuracy, hota.association_accuracy)
                shown = "  ".join(f"{100 * rate:5.1f}" for rate in rates)
                print(f"{kind:<12} {step:>5}  {weight:>5}   {shown}  {sum(len(each[2]) for each in results):>9}")
    results = [camera.follow("detector", 2, TrackSettings()) for camera in cameras]
    for cosine in (0.95, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.5):
        score, groups = across(results, cosine)
        print(f"groups at a cosine of {cosine:.2f}: IDF1 over all cameras {100 * score:.1f}, {groups} groups")


if __name__ == "__main__":
    main()
