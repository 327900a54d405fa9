"""`sil evaluate --tracks`: the boxes and tracklets of footage against those that are known."""

from __future__ import annotations

import csv
import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from sil_cli.data.readers.own_images import slug
from sil_cli.errors import DataError, UsageError, from_cell, one_line, quoted
from sil_cli.files import read_text, write_json
from sil_cli.footage.track_metrics import (
    Boxes,
    DetectionCounts,
    HotaCounts,
    count_detections,
    count_hota,
    count_identities,
    joined,
    without_distractors,
)
from sil_cli.results import Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

RESULTS_FILE: Final = "results.json"
_MOST_BYTES: Final = 2 * 10**9
_PEDESTRIANS: Final = (1, -1)
_DISTRACTORS: Final = (2, 7, 8, 12)
"""MOTChallenge's classes of what is much like a pedestrian: on a vehicle, standing still, a picture, a reflection."""


class TrackScores(Result):
    """Scores of one camera, or of all together; rates are in 0..1, and None where there is nothing to make them of.

    Attributes:
        name: The camera's; `all` for all together.
        frames: How many were looked at; in these alone people count as missed.
        people: Identities in the truth.
        tracklets: Tracklets in what was found.
        boxes: Boxes in the truth.
        precision: The part of boxes found that are somebody's, at an intersection over union of 0.5.
        recall: The part of people's boxes that were found.
        idf1: How far one tracklet stands for one person over all frames (Ristani et al., 2016).
        hota: Detection and association together (Luiten et al., 2021); the mean over thresholds from 0.05 to 0.95.
        detection_accuracy: Its part DetA.
        association_accuracy: Its part AssA.
    """

    name: str
    frames: int
    people: int
    tracklets: int
    boxes: int
    precision: float | None
    recall: float | None
    idf1: float | None
    hota: float
    detection_accuracy: float
    association_accuracy: float


class GroupScores(Result):
    """How far groups of tracklets are people, over all cameras.

    Attributes:
        groups: Where they were read.
        people: Identities in the truth, over all cameras.
        found: Groups.
        idf1: As for a camera, with groups in place of tracklets and all cameras' frames; tracklets in no group count as
            boxes that are nobody's.
        cameras_alone: What it is without groups, each tracklet a person of its own.
    """

    groups: Path
    people: int
    found: int
    idf1: float | None
    cameras_alone: float | None


class TrackResult(Result):
    """The outcome of `sil evaluate --tracks`.

    Attributes:
        tracks: What was found.
        truth: What was there.
        cameras: Each camera's scores.
        all: All together: counts added up.
        across_cameras: Of groups of tracklets; None where none were given.
        results: The file with this document; None where it could not be written.
    """

    format: Literal["sil-track-results"] = "sil-track-results"
    version: Literal[1] = 1
    tracks: Path
    truth: Path
    cameras: list[TrackScores]
    all: TrackScores
    across_cameras: GroupScores | None
    results: Path | None


@dataclass(frozen=True)
class _Camera:
    """What is known and what was found of one camera."""

    name: str
    frames: int
    truth: Boxes
    found: Boxes
    tracklets: list[str]


def evaluate_tracks(settings: Settings, reporter: Reporter) -> TrackResult:
    """Compare tracklets with the truth, camera by camera, and write `results.json`.

    Raises:
        UsageError: The tracks or the truth are not named, or there are none.
        DataError: A file of them is not as it should be.
    """
    given = settings.tracks
    if given.found is None or given.truth is None:
        missing = "--truth DIR, a folder in MOTChallenge's layout" if given.truth is None else "--tracks DIR"
        raise UsageError("Tracklets are scored against ground truth: both must be named.", f"Add {missing}.")
    files = find_tracks(given.found)
    truths = {name if name in files else slug(name): path for name, path in _find_truths(given.truth).items()}
    names = [name for name in files if name in truths]
    if not names:
        raise UsageError(
            f"Nothing in {given.found} has the name of a sequence in {given.truth}: {', '.join(sorted(files))}; "
            f"{', '.join(sorted(truths))}.",
            "Name files of tracks like the folders of the truth.",
        )
    for name in sorted(files.keys() - truths.keys()):
        reporter.warn(f"{files[name]} is left out: {given.truth} has no sequence of that name.")
    for name in sorted(truths.keys() - files.keys()):
        reporter.warn(f"{truths[name].parent.parent} is left out: {given.found} has no tracks of that name.")
    cameras = []
    parts = []
    with reporter.task("Comparing tracks", len(names), "cameras") as task:
        for name in names:
            camera = _read_camera(name, files[name], truths[name])
            cameras.append(camera)
            parts.append(_Counts.of(camera))
            task.advance()
    scores = [counts.scores(camera.name, [camera]) for camera, counts in zip(cameras, parts, strict=True)]
    total = sum(parts[1:], parts[0]).scores("all", cameras)
    groups = None if given.groups is None else _score_groups(given.groups, given.found, cameras)
    out = (settings.evaluate.out or given.found) / RESULTS_FILE
    result = TrackResult(
        tracks=given.found, truth=given.truth, cameras=scores, all=total, across_cameras=groups, results=out
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, result.model_dump(mode="json"))
    except OSError as error:
        reporter.warn(f"{out} can't be written: {one_line(error)}. Name another folder with --out DIR.")
        return result.model_copy(update={"results": None})
    return result


@dataclass(frozen=True)
class _Counts:
    """What scores are made of; cameras' counts add up."""

    detections: DetectionCounts
    identities: DetectionCounts
    hota: HotaCounts

    @classmethod
    def of(cls, camera: _Camera) -> _Counts:
        pair = camera.truth, camera.found
        return cls(count_detections(*pair), count_identities(*pair), count_hota(*pair))

    def __add__(self, other: _Counts) -> _Counts:
        return _Counts(self.detections + other.detections, self.identities + other.identities, self.hota + other.hota)

    def scores(self, name: str, cameras: Sequence[_Camera]) -> TrackScores:
        people = {person for each in cameras for person in each.truth.people.tolist()}
        within = sum(len(np.unique(each.truth.people)) for each in cameras)
        return TrackScores(
            name=name,
            frames=sum(each.frames for each in cameras),
            people=len(people) if len(cameras) == 1 else within,
            tracklets=sum(len(np.unique(each.found.people)) for each in cameras),
            boxes=sum(len(each.truth.frames) for each in cameras),
            precision=_known(self.detections.precision),
            recall=_known(self.detections.recall),
            idf1=_known(self.identities.f1),
            hota=self.hota.hota,
            detection_accuracy=self.hota.detection_accuracy,
            association_accuracy=self.hota.association_accuracy,
        )


def find_tracks(folder: Path) -> dict[str, Path]:
    """The files of tracks in a folder by their names: what `sil crop` wrote, or MOTChallenge's results, NAME.txt.

    Raises:
        UsageError: There are none.
    """
    own = folder / "tracks"
    files = sorted(own.glob("*.csv")) if own.is_dir() else []
    if not files:
        files = [each for suffix in ("csv", "txt") for each in sorted(folder.glob(f"*.{suffix}"))]
        files = [each for each in files if each.name != "crops.csv"]
    if not files:
        raise UsageError(
            f"There are no tracks in {folder}.",
            "Name a folder that sil crop made, or one of MOTChallenge results, NAME.txt.",
        )
    return {each.stem: each for each in files}


def read_tracks(path: Path) -> tuple[NDArray[np.float64], list[str], list[int]]:
    """Read one camera's tracks.

    Returns:
        (boxes, 6): frame from 0, seconds (NaN where the file has none), left, top, width and height in pixels from 0;
        each box's tracklet; and the frames that were looked at, empty where the file doesn't say.

    Raises:
        DataError: It is no such file, or a tracklet is twice in a frame.
    """
    rows: list[tuple[float, ...]] = []
    tracklets: list[str] = []
    looked: dict[int, None] = {}
    lines = csv.reader(())
    try:
        lines = csv.reader(read_text(path, most=_MOST_BYTES).splitlines())
        own = path.suffix == ".csv"
        for at, row in enumerate(lines):
            if not row or (own and at == 0):
                continue
            if own:
                frame, seconds, tracklet = int(row[0]), float(row[1]), from_cell(row[2])
                looked[frame] = None
                if not tracklet:
                    continue
                box = [float(cell) for cell in row[3:7]]
            else:
                frame, seconds, tracklet = int(float(row[0])) - 1, math.nan, str(int(float(row[1])))
                box = [float(row[2]) - 1, float(row[3]) - 1, float(row[4]), float(row[5])]
            if len(box) != 4 or not all(math.isfinite(edge) for edge in box):
                raise ValueError("a box of four numbers is missing")
            rows.append((frame, seconds, *box))
            tracklets.append(tracklet)
    except (OSError, ValueError, IndexError, OverflowError, csv.Error) as error:
        raise DataError(
            f"{path}, line {lines.line_num}, is not a line of tracks: {one_line(error)}.",
            "A .csv has frame, seconds, tracklet, left, top, width, height, score; a .txt, as MOTChallenge has it, "
            "frame, tracklet, left, top, width, height, score.",
        ) from error
    counts = Counter((int(row[0]), name) for row, name in zip(rows, tracklets, strict=True))
    for (where, name), count in counts.items():
        if count > 1:
            raise DataError(f"{path} has tracklet {name} {count} times in frame {where}.", "Keep one of them.")
    return np.asarray(rows, np.float64).reshape(-1, 6), tracklets, list(looked)


def _find_truths(folder: Path) -> dict[str, Path]:
    one = folder / "gt" / "gt.txt"
    if one.is_file():
        return {folder.resolve().name: one}
    found = {each.parent.parent.name: each for each in sorted(folder.glob("*/gt/gt.txt"))}
    if not found:
        raise UsageError(
            f"There is no ground truth in {folder}.", "Name a folder of sequences, each with gt/gt.txt in it."
        )
    return found


def _read_camera(name: str, tracks: Path, truth: Path) -> _Camera:
    rows, tracklets, looked = read_tracks(tracks)
    known, distractors = _read_truth(truth)
    if looked:
        known, distractors = (_within(each, looked) for each in (known, distractors))
    names, numbers = np.unique(np.asarray(tracklets, dtype=object), return_inverse=True)
    found = Boxes(rows[:, 0].astype(np.int64), numbers.astype(np.int64), rows[:, 2:])
    if len(distractors.frames):
        found = without_distractors(found, known, distractors)
    frames = len(looked) or len(np.unique(np.concatenate([known.frames, found.frames])))
    return _Camera(name, frames, known, found, [str(each) for each in names])


def _read_truth(path: Path) -> tuple[Boxes, Boxes]:
    """People, and what counts neither for nor against; frames are counted from 0, pixels too."""
    kinds: dict[bool, list[tuple[float, ...]]] = {True: [], False: []}
    rows = csv.reader(())
    try:
        rows = csv.reader(read_text(path, most=_MOST_BYTES).splitlines())
        for row in rows:
            if not row:
                continue
            with_classes = len(row) in (
                8,
                9,
            )  # of ten, as in the first benchmark, the last three are places on the ground
            cells = [float(cell) for cell in row[: 8 if with_classes else 7]]
            flag, kind = (cells[6:8] + [1.0, 1.0][len(cells[6:8]) :])[:2]
            frame, person, left, top, width, height = cells[:6]
            if kind in _DISTRACTORS or (flag and kind in _PEDESTRIANS):
                kinds[kind in _PEDESTRIANS].append((int(frame) - 1, int(person), left - 1, top - 1, width, height))
    except (OSError, ValueError, IndexError, OverflowError, csv.Error) as error:
        raise DataError(
            f"{path}, line {rows.line_num}, is not as MOTChallenge writes boxes: {one_line(error)}.",
            "A line is frame, person, left, top, width, height, flag, class, visibility.",
        ) from error
    people, others = (np.asarray(kinds[kind], np.float64).reshape(-1, 6) for kind in (True, False))
    return _boxes(people), _boxes(others)


def _boxes(rows: NDArray[np.float64]) -> Boxes:
    return Boxes(rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64), rows[:, 2:])


def _within(boxes: Boxes, frames: Iterable[int]) -> Boxes:
    kept = np.isin(boxes.frames, list(frames))
    return Boxes(boxes.frames[kept], boxes.people[kept], boxes.boxes[kept])


def _score_groups(table: Path, tracks: Path, cameras: Sequence[_Camera]) -> GroupScores:
    """IDF1 over all cameras, of groups that a table says."""
    groups = _read_groups(table, tracks)
    numbers: dict[str, int] = defaultdict(lambda: len(numbers))
    alone: list[Boxes] = []
    grouped: list[Boxes] = []
    for camera in cameras:
        whole = [_full_name(camera.name, each) for each in camera.tracklets]
        own = np.asarray([numbers[f"\0{name}"] for name in whole], np.int64)
        put = [f"\1{groups[name]}" if name in groups else f"\0{name}" for name in whole]
        people = np.asarray([numbers[name] for name in put], np.int64)
        for parts, labels in ((alone, own), (grouped, people)):
            parts.append(Boxes(camera.found.frames, labels[camera.found.people], camera.found.boxes))
    apart = 1 + max(int(part.frames.max(initial=0)) for each in cameras for part in (each.truth, each.found))
    truth = joined([each.truth for each in cameras], apart)
    before, after = (count_identities(truth, joined(parts, apart)) for parts in (alone, grouped))
    if not set(groups) & {_full_name(each.name, one) for each in cameras for one in each.tracklets}:
        raise DataError(
            f"{table} names no tracklet that is in {tracks}.", "Name tracklets as crops.csv does, such as c1-0007."
        )
    return GroupScores(
        groups=table,
        people=len(np.unique(truth.people)),
        found=len(set(groups.values())),
        idf1=_known(after.f1),
        cameras_alone=_known(before.f1),
    )


def _full_name(camera: str, tracklet: str) -> str:
    """A tracklet's name in `crops.csv`."""
    return f"{camera}-{int(tracklet):04d}" if tracklet.isdecimal() else tracklet


def _read_groups(table: Path, tracks: Path) -> dict[str, str]:
    """Each tracklet's group: by its name, or by those of most of its crops.

    Raises:
        DataError: The table has no column `person`, or neither `tracklet` nor `path`.
    """
    rows = _read_table(table)
    names = rows[0].keys() if rows else ()
    if "person" not in names or not {"tracklet", "path"} & set(names):
        raise DataError(
            f"{table} needs a column person, and one of tracklet and path.",
            "Such a table says which person each tracklet shows.",
        )
    if "tracklet" in names:
        return {row["tracklet"]: row["person"] for row in rows if row["person"]}
    crops = tracks / "crops.csv"
    if not crops.is_file():
        raise DataError(f"{crops} is missing, which says to which tracklet a path belongs.", "Name tracklets instead.")
    tracklet_of = {Path(row["path"]).as_posix(): row["tracklet"] for row in _read_table(crops)}
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        tracklet = tracklet_of.get(Path(row["path"]).as_posix())
        if tracklet is not None and row["person"]:
            votes[tracklet][row["person"]] += 1
    return {tracklet: max(sorted(each), key=lambda person: each[person]) for tracklet, each in votes.items()}


def _read_table(path: Path) -> list[Mapping[str, str]]:
    try:
        table = csv.DictReader(read_text(path, most=_MOST_BYTES).splitlines(), restval="")
        return [{name: from_cell(cell) for name, cell in row.items() if name is not None} for row in table]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} can't be read: {one_line(error)}.", f"Check it: head {quoted(path)}") from error


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
