"""Who finds the people in a frame: a network of torchvision's, a detector of one's own, a file of boxes, or HOG."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

import numpy as np

from sil_cli.data.annotations import SUFFIXES, is_annotations, read_annotations
from sil_cli.errors import DataError, ModelError, UsageError, did_you_mean, one_line
from sil_cli.files import read_text
from sil_cli.footage.frames import Detection
from sil_cli.installing import extra_command, install_command
from sil_cli.runtime import import_quietly, is_installed
from sil_cli.settings import refuse_fetching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sil_cli.data.annotations import Annotation
    from sil_cli.footage.frames import Detector, Frame
    from sil_cli.runtime import Reporter
    from sil_cli.settings import CropSettings, Settings

GRAPHS = (".onnx", ".xml")
TABLES = (".txt", ".csv")
TORCHVISION = "fasterrcnn_mobilenet_v3_large_fpn"
"""Of torchvision's detectors the one that is quick enough on a CPU and still sees people who are small in a frame."""

NAMES = ("torchvision", "hog")
_LARGEST_TABLE = 400_000_000  # bytes: some 8 million boxes
_LAST_NUMBER = re.compile(r"(\d{1,9})\D*\.\w+$", re.ASCII)
_HOG_WIDTH = 800
_HOG_MARGINS = (0.2, 0.1, 0.6, 0.8)
"""Left, top, width and height of the person in a window of HOG's, as shares of it: it was trained with a margin.

On the two pieces of real footage of docs/tracklets.md 94 and 78 % of boxes so cut overlap by half with what somebody
drew around the person; with the 0.1, 0.07, 0.8, 0.86 that OpenCV's sample code is near to, 31 and 75 %."""


def make_detector(settings: Settings, name: str, reporter: Reporter, *, named_by: str = "crop.detector") -> Detector:
    """The detector that the settings name.

    Args:
        settings: All of them; `crop.detector` says which.
        name: Of the footage, by which its boxes are found in a folder of such files.
        reporter: Is told what to expect of it.
        named_by: The setting that `crop.detector` was taken from.

    Raises:
        UsageError: It is none, or what it needs is not installed.
        ModelError: It can't be used, or its weights can't be had.
        DataError: A file of boxes can't be read.
    """
    wanted = settings.crop
    if wanted.detector == "hog":
        return HogDetector(least=wanted.min_score)
    if wanted.detector == "torchvision":
        return TorchvisionDetector(settings, reporter, named_by=named_by)
    path = Path(wanted.detector)
    if path.is_dir():
        path = _boxes_in(path, name)
    if path.suffix.lower() in TABLES:
        return KnownDetections(path, least=wanted.min_score)
    if path.is_file() and is_annotations(path):
        return AnnotatedPeople(path, least=wanted.min_score)
    if not path.is_file() and path.suffix.lower() not in GRAPHS:
        raise UsageError(
            f"There is no detector '{wanted.detector}'.",
            f"{did_you_mean(wanted.detector, NAMES)} Or name an .onnx or .xml file, or a .txt, .json or .xml of boxes.",
        )
    from sil_cli.footage.graph_detector import GraphDetector

    return GraphDetector(path, least=wanted.min_score, options=_graph_options(wanted))


def _boxes_in(folder: Path, name: str) -> Path:
    """The boxes of a piece of footage in a folder of such files, or among MOTChallenge's sequences or in one of them.

    Raises:
        DataError: There are none.
    """
    places = [folder / f"{name}{suffix}" for suffix in (".txt", *SUFFIXES)]
    places.append(folder / name / "det" / "det.txt")
    if folder.resolve().name == name:
        places.append(folder / "det" / "det.txt")
    for place in places:
        if place.is_file():
            return place
    raise DataError(
        f"{folder} has no boxes of {name}.", f"They are looked for in {', '.join(map(str, places))}; or name a file."
    )


def _graph_options(wanted: CropSettings) -> Any:
    from sil_cli.footage.graph_detector import GraphOptions

    return GraphOptions(
        person=wanted.person_class,
        bgr=wanted.detector_bgr,
        scale=wanted.detector_scale,
        size=(wanted.detector_size, wanted.detector_size),
    )


class HogDetector:
    """OpenCV's people detector: histograms of gradients and a linear SVM (Dalal and Triggs, CVPR 2005).

    It needs no file and finds upright, whole people of 100 pixels and more before a calm background; it misses many
    others, and takes poles and doors for people.
    """

    def __init__(self, *, least: float) -> None:
        if not is_installed("cv2"):
            raise UsageError(
                "The detector hog needs OpenCV.",
                f"Install it with `{extra_command('video')}`, or use another --detector.",
            )
        self._cv2 = import_quietly("cv2")
        if not hasattr(self._cv2, "HOGDescriptor"):
            raise UsageError(
                "This version of OpenCV no longer has HOG.",
                f"Install an older one with `{install_command('opencv-python-headless<5')}`.",
            )
        self._cv2.setNumThreads(1)  # frames are looked at while others are decoded
        self._hog = self._cv2.HOGDescriptor()
        self._hog.setSVMDetector(self._cv2.HOGDescriptor_getDefaultPeopleDetector())
        self._least = least

    def detect(self, frames: Sequence[Frame]) -> list[list[Detection]]:
        """See `Detector`; the score is the logistic function of the distance from the SVM's plane."""
        return [self._one(frame) for frame in frames]

    def _one(self, frame: Frame) -> list[Detection]:
        from sil_cli.footage.graph_detector import to_detections

        height, width = frame.image.shape[:2]
        scale = min(1.0, _HOG_WIDTH / width)
        image = frame.image
        if scale < 1:
            sides = (round(width * scale), max(1, round(height * scale)))
            image = self._cv2.resize(image, sides, interpolation=self._cv2.INTER_AREA)
        if image.shape[0] < 128 or image.shape[1] < 64:
            return []
        found, weights = self._hog.detectMultiScale(image, winStride=(8, 8), padding=(8, 8), scale=1.05)
        windows = np.asarray(found, dtype=np.float64).reshape(-1, 4) / scale
        left, top, wide, high = _HOG_MARGINS
        edges = np.empty_like(windows)
        edges[:, :2] = windows[:, :2] + windows[:, 2:] * (left, top)
        edges[:, 2:] = edges[:, :2] + windows[:, 2:] * (wide, high)
        scores = 1 / (1 + np.exp(-np.asarray(weights, dtype=np.float64).reshape(-1)))
        return to_detections(edges, scores, (width, height), least=self._least)


class TorchvisionDetector:
    """Faster R-CNN with a MobileNetV3, trained by torchvision on COCO."""

    def __init__(self, settings: Settings, reporter: Reporter, *, named_by: str) -> None:
        from sil_cli.runtime import resolve_device

        self._device = resolve_device(settings.device)
        self._network = _torchvision_network(settings, reporter, named_by).to(self._device)
        self._least = settings.crop.min_score

    def detect(self, frames: Sequence[Frame]) -> list[list[Detection]]:
        """See `Detector`."""
        import torch

        from sil_cli.footage.graph_detector import to_detections

        images = [
            torch.from_numpy(frame.image.copy()).to(self._device).permute(2, 0, 1).float() / 255 for frame in frames
        ]
        with torch.inference_mode():
            results = self._network(images)
        found = []
        for frame, each in zip(frames, results, strict=True):
            people = each["labels"] == 1
            edges, scores = (each[name][people].double().cpu().numpy() for name in ("boxes", "scores"))
            size = (frame.image.shape[1], frame.image.shape[0])
            found.append(to_detections(edges, scores, size, least=self._least))
        return found


def _torchvision_network(settings: Settings, reporter: Reporter, named_by: str) -> Any:
    """The network with its published weights, which are downloaded once.

    Raises:
        UsageError: They would be downloaded because a file that was merely found names this detector.
        ModelError: They can't be had.
    """
    from torch import hub
    from torchvision.models.detection import FasterRCNN_MobileNet_V3_Large_FPN_Weights as Weights
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn

    weights = Weights.COCO_V1
    file = Path(hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    if not file.exists():
        refuse_fetching(settings, named_by)
        reporter.note(f"Fetching torchvision's {TORCHVISION}, 74 MB, once.")
    try:
        # torch.hub announces a download where results belong, and we have told of it.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            state = weights.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise ModelError(
            f"torchvision's detector can't be downloaded: {one_line(_reason(error))}.",
            f"Put {weights.url} at {file}, or use --detector FILE.onnx, or --detector hog, which finds far fewer.",
        ) from error
    network = fasterrcnn_mobilenet_v3_large_fpn(weights=None, weights_backbone=None)
    network.load_state_dict(state)
    return network.eval()


def _reason(error: Exception) -> BaseException:
    """What a network's error wraps."""
    inner = getattr(error, "reason", None)
    return inner if isinstance(inner, BaseException) else error


class KnownDetections:
    """Boxes that somebody else has found, from a file as MOTChallenge has them.

    Its lines are `frame,id,left,top,width,height,score,…`, frames and coordinates from 1. A `gt.txt` is read too, of it
    only the rows that count, and of these only pedestrians.
    """

    def __init__(self, path: Path, *, least: float) -> None:
        """Read the file.

        Args:
            path: The file.
            least: Detections of lower scores are left out.

        Raises:
            DataError: It can't be read, or a line of it holds no box.
        """
        self._least = least
        self._rows: dict[int, list[tuple[float, ...]]] = {}
        fix = "Write a line for each box: frame,id,left,top,width,height,score."
        try:
            lines = read_text(path, most=_LARGEST_TABLE).splitlines()
        except (OSError, ValueError) as error:
            raise DataError(f"{path} can't be read: {one_line(error)}.", fix) from error
        for number, cells in enumerate(csv.reader(lines), 1):
            if not any(cell.strip() for cell in cells) or cells[0].startswith("#"):
                continue
            try:
                values = tuple(float(cell) for cell in cells)
                if len(values) < 6 or not all(map(math.isfinite, values[:7])):
                    raise ValueError
            except ValueError:
                if number == 1:
                    continue  # a header
                raise DataError(f"{path}, line {number} holds no box.", fix) from None
            truth = len(values) == 9
            if truth and (values[6] == 0 or values[7] not in (1.0, -1.0)):
                continue
            score = 1.0 if truth or len(values) < 7 else values[6]
            self._rows.setdefault(int(values[0]) - 1, []).append((*values[2:6], score))
        scores = [row[4] for rows in self._rows.values() for row in rows]
        unknown = all(score == -1 for score in scores)
        raw = not unknown and not all(0 <= score <= 1 for score in scores)
        self._unknown, self._raw = unknown, raw

    def detect(self, frames: Sequence[Frame]) -> list[list[Detection]]:
        """See `Detector`; scores beyond 0..1 are raw ones, of which the logistic function is taken."""
        return [self._one(frame) for frame in frames]

    def _one(self, frame: Frame) -> list[Detection]:
        from sil_cli.footage.graph_detector import to_detections

        rows = np.array(self._rows.get(frame.index, []), dtype=np.float64).reshape(-1, 5)
        corner = rows[:, :2] - 1
        scores = np.ones(len(rows)) if self._unknown else rows[:, 4]
        if self._raw:
            scores = 1 / (1 + np.exp(-np.clip(scores, -50, 50)))
        size = (frame.image.shape[1], frame.image.shape[0])
        edges = np.concatenate([corner, corner + rows[:, 2:4]], axis=1)
        return to_detections(edges, scores, size, least=self._least, overlap=1.0)


class AnnotatedPeople:
    """People whom an annotation tool marked: a document as `read_annotations` takes it.

    Frames that are files are known by their names. Those of a video are known by their number from 0: CVAT counts them,
    and elsewhere it is the last number in the name of the image that was made of the frame.
    """

    def __init__(self, path: Path, *, least: float) -> None:
        """Read the file.

        Args:
            path: The file.
            least: People of lower scores are left out; what was drawn by hand has none, and counts as 1.

        Raises:
            DataError: It can't be read, or two of its images have one name.
        """
        self._least = least
        self._by_name: dict[str, list[Annotation]] = {}
        self._by_number: dict[int, list[Annotation]] = {}
        for each in read_annotations(path):
            name = PurePosixPath(each.file.replace("\\", "/")).name
            others = self._by_name.setdefault(name, [])
            if others and others[0].file != each.file:
                raise DataError(f"{path} has two images called {name}.", "Make a document for each piece of footage.")
            others.append(each)
            number = _LAST_NUMBER.search(name)
            frame = each.frame if each.frame is not None else int(number[1]) if number else None
            if frame is not None:
                self._by_number.setdefault(frame, []).append(each)

    def detect(self, frames: Sequence[Frame]) -> list[list[Detection]]:
        """See `Detector`."""
        return [self._one(frame) for frame in frames]

    def _one(self, frame: Frame) -> list[Detection]:
        from sil_cli.footage.graph_detector import to_detections

        known = self._by_name.get(frame.name, []) if frame.name else self._by_number.get(frame.index, [])
        size = (frame.image.shape[1], frame.image.shape[0])
        boxes = np.array([each.box or (0, 0, *size) for each in known], dtype=np.float64).reshape(-1, 4)
        scores = np.array([1.0 if each.score is None else each.score for each in known])
        edges = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        return to_detections(edges, scores, size, least=self._least, overlap=1.0)
