"""Detectors as graphs that others exported: what their outputs mean is told by shapes and names.

Read are the forms that detectors with a free licence are published in: SSD's (OpenVINO's `DetectionOutput`), YOLO's in
its three layouts and YOLOX's undecoded one, end-to-end ones with six numbers a box, torchvision's boxes, labels and
scores, and DETR's logits and boxes. A graph is looked through before a runtime gets it, as a model's is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from PIL import Image

from sil_cli.errors import ModelError
from sil_cli.footage.frames import Detection
from sil_cli.models.engines.engine import reason, require_library
from sil_cli.models.engines.network import Network, read_network
from sil_cli.models.engines.onnx_file import OnnxFile
from sil_cli.models.record import IR_SUFFIX
from sil_cli.runtime import import_quietly, interruptible, is_installed, map_threads, thread_count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sil_cli.footage.frames import Frame
    from sil_cli.models.engines.onnx_file import Port

    Outputs = Mapping[str, NDArray[Any]]
    Found = tuple[NDArray[np.float64], NDArray[np.float64]]

Form = Literal["ssd", "yolo", "yolo-rows", "yolo-transposed", "yolox", "end-to-end", "boxes", "detr"]

MOST_PEOPLE = 500
"""Of a frame; a detector that finds more is wrong, and everything after it would take as long as that."""

_CANDIDATES = 5000
_GREY = 114
_STRIDES = (8, 16, 32)
_FREE_SIDE = 640
_PERSON = re.compile(r"(\d+)['\"]?\s*:\s*['\"]person['\"]", re.IGNORECASE)
_SECOND = re.compile(r"size|shape|scale|info", re.IGNORECASE)
_OTHER = "Name a detector whose outputs are those of SSD, YOLO, YOLOX, torchvision or DETR; docs/footage.md lists them."
_ROWS_OF_COCO = 84
"""A box and COCO's 80 classes: no column is left for whether there is anything at all, which other rows have."""

_MOST_SHARES = 2.0
"""Shares of the image lie between 0 and 1, or a little beside; boxes in pixels go far beyond."""

_UNDECODED = 50.0
"""Pixels: the centres that an undecoded YOLOX gives are offsets from a cell and stay far below, decoded ones go as far
as the image does."""


@dataclass(frozen=True)
class GraphOptions:
    """What the user says of a detector.

    Attributes:
        person: Which class is a person; None for what the graph notes, or the form's usual.
        bgr: Its channels are blue, green, red; None as the form usually has them.
        scale: Pixels are divided by this; None as the form usually has it.
        size: Height and width that a graph of any size is given.
        overlap: Of two boxes that overlap more (intersection over union), the less certain one goes.
    """

    person: int | None = None
    bgr: bool | None = None
    scale: float | None = None
    size: tuple[int, int] = (_FREE_SIDE, _FREE_SIDE)
    overlap: float = 0.5


@dataclass(frozen=True)
class Fitted:
    """How a frame lies in a network's input.

    Attributes:
        frame: Width and height of the frame.
        scale: Of width and height, from the frame to the input.
        offset: Of left and top, in the input.
    """

    frame: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[int, int]

    def boxes(self, edges: NDArray[np.float64]) -> NDArray[np.float64]:
        """Left, top, right and bottom (N, 4) in the frame, of those in the input."""
        offset, scale = np.array([*self.offset] * 2), np.array([*self.scale] * 2)
        inside: NDArray[np.float64] = (edges - offset) / scale
        return inside


class _Runtime(Protocol):
    def __call__(self, given: Mapping[str, NDArray[Any]]) -> Outputs: ...


class GraphDetector:
    """A detector in an ONNX file or an OpenVINO IR.

    Attributes:
        form: What its outputs are.
        name: Its file's.
    """

    def __init__(self, path: Path, *, least: float, options: GraphOptions | None = None) -> None:
        """Read it, and find out what it gives.

        Args:
            path: An ONNX file, or the .xml of an IR.
            least: Detections of lower scores are left out.
            options: What the user says of it.

        Raises:
            UsageError: There is no such file, or no runtime for it is installed.
            ModelError: It can't be read, or is no detector of a known form.
        """
        network = read_network(path)
        self.name = network.name
        self._options = options or GraphOptions()
        self._least = least
        self._image, self._second = _inputs(network)
        self._layout, self._height, self._width = _size(network, self._image, self._options.size)
        self._batch = self._image.shape[0] if self._image.shape is not None else None
        self._outputs = list(network.outputs)
        self.form = recognise(network.outputs, network.name, self._height, self._width)
        self._person = self._options.person if self._options.person is not None else _person(network, self.form)
        self._undecoded: bool | None = None
        self._run = _runtime(network)

    def detect(self, frames: Sequence[Frame]) -> list[list[Detection]]:
        """The people in each frame, most certain first.

        Raises:
            ModelError: The runtime fails, or gives other outputs than the graph says.
        """
        if not frames:
            return []
        one_by_one = self._batch == 1 or (self.form == "boxes" and self._unbatched)
        # A frame to each core takes less than all cores for each frame, and frames are fitted meanwhile.
        size = 1 if one_by_one else self._batch or -(-len(frames) // thread_count())
        parts = [frames[start : start + size] for start in range(0, len(frames), size)]
        rest = parts
        found: list[list[Detection]] = []
        if self.form == "yolox" and self._undecoded is None:  # the first image tells how the others are to be read
            found, rest = self._some(parts[0], size), parts[1:]
        for some in interruptible(lambda: map_threads(lambda part: self._some(part, size), rest)):
            found += some
        return found

    @property
    def _unbatched(self) -> bool:
        boxes = next(port for port in self._outputs if port.shape is None or port.shape[-1:] == (4,))
        return boxes.shape is None or len(boxes.shape) == 2

    def _some(self, frames: Sequence[Frame], size: int) -> list[list[Detection]]:
        fitted = [
            fit(each.image, self._height, self._width, stretch=self.form == "ssd", corner=self.form == "yolox")
            for each in frames
        ]
        pixels = np.stack([pixels for pixels, _ in fitted])
        full = (
            np.concatenate([pixels, np.repeat(pixels[-1:], size - len(pixels), axis=0)])
            if len(pixels) < size
            else pixels
        )
        given = {self._image.name: self._prepared(full)}
        if self._second is not None:
            given[self._second.name] = self._sizes([each for _, each in fitted], size)
        try:
            outputs = self._run(given)
        except MemoryError:
            raise
        except Exception as error:  # neither runtime has a common base class for what it raises
            raise ModelError(f"{self.name}: its runtime {reason(error)}.", _OTHER) from error
        try:
            return [self._people(outputs, number, fit_) for number, (_, fit_) in enumerate(fitted)]
        except (IndexError, ValueError, KeyError) as error:
            shapes = ", ".join(f"{name} {value.shape}" for name, value in outputs.items())
            raise ModelError(f"{self.name} gives {shapes}, which are not boxes after all.", _OTHER) from error

    def _sizes(self, fitted: Sequence[Fitted], count: int) -> NDArray[Any]:
        """What a second input wants to know: width and height for RT-DETR, six numbers for Intel's older ones."""
        assert self._second is not None  # noqa: S101 - it is asked for only then
        columns = (self._second.shape or (2,))[-1]
        sides: list[tuple[float, ...]] = [(self._width, self._height)] * len(fitted)
        if columns == 6:
            sides = [(self._height, self._width, *(each.scale * 2)) for each in fitted]
        elif columns == 3:
            sides = [(self._height, self._width, 1)] * len(fitted)
        kind = np.int64 if self._second.type.startswith("i") else np.float32
        return np.array([*sides, *[sides[-1]] * (count - len(sides))], dtype=kind)

    def _prepared(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """Pixels (B, height, width, 3) as the graph takes them: SSD and YOLOX in BGR to 255, others in RGB to 1."""
        raw = self.form in ("ssd", "yolox")
        bgr = self._options.bgr if self._options.bgr is not None else raw
        given: NDArray[Any] = pixels[..., ::-1] if bgr else pixels
        if self._image.type != "uint8":
            scale = self._options.scale if self._options.scale is not None else (1.0 if raw else 255.0)
            given = (given.astype(np.float32) / np.float32(scale)).astype(self._image.type)
        return np.ascontiguousarray(given.transpose(0, 3, 1, 2) if self._layout == "NCHW" else given)

    def _people(self, outputs: Outputs, number: int, fitted: Fitted) -> list[Detection]:
        if self.form == "yolox" and self._undecoded is None:
            self._undecoded = bool(np.nanmax(np.abs(_only(outputs)[number, :, :2])) < _UNDECODED)
        edges, scores = read_outputs(
            self.form,
            outputs,
            number,
            person=self._person,
            size=(self._height, self._width),
            undecoded=bool(self._undecoded),
        )
        return to_detections(
            fitted.boxes(edges), scores, fitted.frame, least=self._least, overlap=self._options.overlap
        )


def fit(
    image: NDArray[np.uint8], height: int, width: int, *, stretch: bool = False, corner: bool = False
) -> tuple[NDArray[np.uint8], Fitted]:
    """A frame in the size of a network's input: in its own shape with grey around it (a letterbox), or stretched.

    Args:
        image: (h, w, 3) uint8.
        height: Of the input.
        width: Likewise.
        stretch: Fill the input, whatever becomes of the shape.
        corner: The frame lies in the upper left, not in the middle.
    """
    h, w = image.shape[:2]
    if stretch:
        sides, scale = (width, height), (width / w, height / h)
    else:
        factor = min(width / w, height / h)
        sides = (max(1, round(w * factor)), max(1, round(h * factor)))
        scale = (sides[0] / w, sides[1] / h)
    small = (
        image
        if sides == (w, h)
        else np.asarray(Image.fromarray(image).resize(sides, Image.Resampling.BILINEAR, reducing_gap=2.0))
    )
    offset = (0, 0) if corner or stretch else ((width - sides[0]) // 2, (height - sides[1]) // 2)
    if sides == (width, height):
        return small, Fitted((w, h), scale, offset)
    full = np.full((height, width, 3), _GREY, dtype=np.uint8)
    full[offset[1] : offset[1] + sides[1], offset[0] : offset[0] + sides[0]] = small
    return full, Fitted((w, h), scale, offset)


def recognise(outputs: Sequence[Port], name: str, height: int, width: int) -> Form:
    """What a graph's outputs are.

    Raises:
        ModelError: No form of detections that is known.
    """
    shapes = {port.name: list(port.shape or ()) for port in outputs}
    listed = ", ".join(map(str, outputs)) or "none"
    if len(outputs) == 1:
        shape = next(iter(shapes.values()))
        # Three dimensions would be a YOLO of two classes, and two those that YOLOv7 exports, in another order.
        if len(shape) == 4 and shape[3] == 7 and all(size in (1, None) for size in shape[:2]):
            return "ssd"
        of_cells = len(shape) == 3 and shape[1] == _cells(height, width)
        if len(shape) == 3 and shape[2] == 6 and not of_cells and (shape[1] is None or shape[1] <= 2000):
            return "end-to-end"
        if len(shape) == 3:
            rows, columns = shape[1], shape[2]
            if columns == _ROWS_OF_COCO and (rows is None or rows > columns):
                return "yolo-rows"
            if columns is not None and columns >= 6 and (rows is None or rows > columns):
                return "yolox" if of_cells else "yolo"
            if rows is not None and rows >= 5 and (columns is None or columns > rows):
                return "yolo-transposed"
    sides = [each for each in outputs if each.shape is None or each.shape[-1:] == (4,)]
    if any("logits" in port.name for port in outputs) and any("box" in port.name for port in outputs):
        return "detr"
    if len(outputs) >= 3 and len(sides) == 1:
        return "boxes"
    if len(outputs) == 2 and len(sides) == 1 and all(len(shape) == 3 for shape in shapes.values()):
        return "detr"
    raise ModelError(f"{name} gives {listed}, which are not detections of a known form.", _OTHER)


def read_outputs(
    form: Form, outputs: Outputs, number: int, *, person: int | None, size: tuple[int, int], undecoded: bool = False
) -> Found:
    """The people that a graph found in one image of a batch.

    Args:
        form: What its outputs are.
        outputs: By name, of the whole batch.
        number: Of the image in it.
        person: Which class is a person; None as the form and the number of classes have it.
        size: Height and width of the input.
        undecoded: Of YOLOX: boxes are relative to their cells.

    Returns:
        Left, top, right and bottom (N, 4) in pixels of the input, and scores (N,).
    """
    height, width = size
    whole = np.array([width, height, width, height], dtype=np.float64)
    if form == "ssd":
        rows = _only(outputs).reshape(-1, 7).astype(np.float64)
        rows = rows[(rows[:, 0] == number) & (rows[:, 1] == (1 if person is None else person))]
        return rows[:, 3:7] * whole, rows[:, 2]
    if form == "end-to-end":
        rows = _only(outputs)[number].astype(np.float64)
        rows = rows[rows[:, 5] == (person or 0)]
        return rows[:, :4], rows[:, 4]
    if form in ("yolo", "yolo-rows", "yolo-transposed", "yolox"):
        rows = _only(outputs)[number].astype(np.float64)
        rows = rows.T if form == "yolo-transposed" else rows
        # Older ones say apart whether there is anything at all.
        first = 4 if form in ("yolo-rows", "yolo-transposed") else 5
        column = rows[:, first + (person or 0)] if rows.shape[1] > first else np.ones(len(rows))
        scores = column * (1 if first == 4 else rows[:, 4])
        middle = _decoded_yolox(rows[:, :4], height, width) if undecoded else rows[:, :4]
        return _edges(middle), scores
    if form == "detr":
        boxes = next(value for name, value in outputs.items() if value.shape[-1] == 4 and "logit" not in name)[number]
        logits = next(value for value in outputs.values() if value is not None and value.shape[-1] != 4)[number].astype(
            np.float64
        )
        if np.nanmax(np.abs(boxes), initial=0.0) > _MOST_SHARES:
            raise ValueError("boxes in pixels")  # of YOLO-NAS and the like, with scores that are no logits
        of_coco = logits.shape[1] in (91, 92)  # whose persons are 1
        if logits.shape[1] == 92:  # DETR's own: the last class is nothing at all
            raised = np.exp(logits - logits.max(axis=1, keepdims=True))
            scores = (raised / raised.sum(axis=1, keepdims=True))[:, 1 if person is None else person]
        else:
            scores = 1 / (1 + np.exp(-logits[:, int(of_coco) if person is None else person]))
        return _edges(boxes.astype(np.float64)) * whole, scores
    return _of_boxes(outputs, number, person)


def _of_boxes(outputs: Outputs, number: int, person: int | None) -> Found:
    """Of separate outputs: boxes, labels and scores, of one image or of a batch."""
    name, boxes = next((name, value) for name, value in outputs.items() if value.shape[-1] == 4)
    others = {
        other: value
        for other, value in outputs.items()
        if other != name and value.ndim == boxes.ndim - 1 and value.ndim > 0
    }
    batched = boxes.ndim == 3
    of_one = {other: (value[number] if batched else value) for other, value in others.items()}
    of_one = {
        other: value for other, value in of_one.items() if value.shape == (len(boxes[number] if batched else boxes),)
    }
    labels = next((value for other, value in of_one.items() if re.search(r"label|class", other)), None)
    if labels is None:
        labels = next(value for value in of_one.values() if value.dtype.kind in "iu")
    scores = next((value for other, value in of_one.items() if re.search(r"score|conf", other)), None)
    if scores is None:
        scores = next(value for value in of_one.values() if value.dtype.kind == "f" and value is not labels)
    usual = 0 if batched else 1  # torchvision counts COCO's classes from 1, and gives one image at a time
    mine = labels == (usual if person is None else person)
    count = next((value for other, value in outputs.items() if re.search(r"num", other)), None)
    if count is not None:
        mine = mine & (np.arange(len(labels)) < int(np.asarray(count).reshape(-1)[number if batched else 0]))
    edges = (boxes[number] if batched else boxes).astype(np.float64)
    if mine.any() and np.nanmax(np.abs(edges[mine]), initial=0.0) <= _MOST_SHARES and scores[mine].max() > 0:
        raise ValueError("boxes as shares of the image")  # TensorFlow's, top before left
    return edges[mine], scores[mine].astype(np.float64)


def suppress(edges: NDArray[np.float64], scores: NDArray[np.float64], overlap: float, most: int) -> list[int]:
    """Non-maximum suppression: the boxes that no more certain one overlaps by more than `overlap`.

    Args:
        edges: Left, top, right and bottom, (N, 4).
        scores: (N,).
        overlap: Intersection over union, 0..1.
        most: Stop at so many.

    Returns:
        Their numbers, most certain first; of equal scores the first.
    """
    order = np.argsort(-scores, kind="stable")
    areas = np.maximum(edges[:, 2] - edges[:, 0], 0) * np.maximum(edges[:, 3] - edges[:, 1], 0)
    kept: list[int] = []
    while len(order) and len(kept) < most:
        best, order = int(order[0]), order[1:]
        kept.append(best)
        sides = np.minimum(edges[best, 2:], edges[order, 2:]) - np.maximum(edges[best, :2], edges[order, :2])
        shared = np.maximum(sides, 0).prod(axis=1)
        union = areas[best] + areas[order] - shared
        order = order[shared <= overlap * np.maximum(union, 1e-9)]
    return kept


def to_detections(
    edges: NDArray[np.float64],
    scores: NDArray[np.float64],
    frame: tuple[int, int],
    *,
    least: float,
    overlap: float = 0.5,
) -> list[Detection]:
    """Boxes as detections: within the frame, certain enough, each person once, most certain first.

    Args:
        edges: Left, top, right and bottom, (N, 4), in pixels of the frame; NaN and infinite ones are left out.
        scores: (N,).
        frame: Its width and height.
        least: The lowest score.
        overlap: See `suppress`.
    """
    scores = np.clip(scores, None, 1.0)
    usable = np.flatnonzero(np.isfinite(edges).all(axis=1) & (scores >= least))  # NaN is never at least anything
    usable = usable[np.argsort(-scores[usable], kind="stable")][:_CANDIDATES]
    whole = np.array([*frame, *frame])
    edges, scores = np.clip(np.round(edges[usable]), 0, whole), scores[usable]
    there = ((edges[:, 2:] - edges[:, :2]) >= 1).all(axis=1)
    edges, scores = edges[there], scores[there]
    found = []
    for number in suppress(edges, scores, overlap, MOST_PEOPLE):
        left, top, right, bottom = map(int, edges[number])
        found.append(Detection((left, top, right - left, bottom - top), float(scores[number])))
    return found


def _edges(middle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Left, top, right and bottom of boxes given by their middle, width and height."""
    half = middle[:, 2:4] / 2
    return np.concatenate([middle[:, :2] - half, middle[:, :2] + half], axis=1)


def _decoded_yolox(raw: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Middle, width and height in pixels, of offsets from cells in units of strides (YOLOX, arXiv 2107.08430)."""
    cells, strides = [], []
    for side in _STRIDES:
        rows, columns = height // side, width // side
        y, x = np.divmod(np.arange(rows * columns), columns)
        cells.append(np.stack([x, y], axis=1))
        strides.append(np.full((rows * columns, 1), side))
    stride = np.concatenate(strides)
    return np.concatenate(
        [(raw[:, :2] + np.concatenate(cells)) * stride, np.exp(np.clip(raw[:, 2:4], None, 20)) * stride], axis=1
    )


def _cells(height: int, width: int) -> int:
    return sum((height // stride) * (width // stride) for stride in _STRIDES)


def _only(outputs: Outputs) -> NDArray[Any]:
    (value,) = outputs.values()
    return value


def _inputs(network: Network) -> tuple[Port, Port | None]:
    """The input of pixels, and a second one that wants the size of the images."""
    pictures = [port for port in network.inputs if port.shape is None or len(port.shape) == 4]
    others = [port for port in network.inputs if port not in pictures]
    listed = ", ".join(map(str, network.inputs)) or "none"
    if len(pictures) != 1 or len(others) > 1 or (others and not _SECOND.search(others[0].name)):
        raise ModelError(f"{network.name} takes {listed}, not images alone.", "Export the detector for images alone.")
    if pictures[0].type not in ("float32", "float16", "float64", "uint8"):
        raise ModelError(
            f"{network.name} takes {pictures[0]}, which can't be pixels.", "Export it with an input of float32."
        )
    return pictures[0], others[0] if others else None


def _size(network: Network, port: Port, free: tuple[int, int]) -> tuple[str, int, int]:
    shape = port.shape or (None, 3, None, None)
    layout = "NHWC" if shape[3] == 3 and shape[1] != 3 else "NCHW"
    sides = shape[1:3] if layout == "NHWC" else shape[2:4]
    if (shape[3] if layout == "NHWC" else shape[1]) not in (3, None):
        raise ModelError(f"{network.name} takes {port}, not images in colour.", "Use a detector for images in colour.")
    height, width = (side or free_side for side, free_side in zip(sides, free, strict=True))
    if not all(16 <= side <= 4096 for side in (height, width)):
        raise ModelError(
            f"{network.name} takes images of {width}×{height} pixels.", "Use a detector for 16 to 4096 a side."
        )
    return layout, height, width


def _person(network: Network, form: Form) -> int | None:
    """The class that a graph's makers note as a person."""
    found = next((match for text in network.noted.values() if (match := _PERSON.search(text))), None)
    return int(found[1]) if found and form != "ssd" else None


def _runtime(network: Network) -> _Runtime:
    """What computes a graph: ONNX Runtime an ONNX file where it is installed, else OpenVINO.

    Raises:
        UsageError: Neither is installed.
        ModelError: It can't run the graph.
    """
    ir = network.file.endswith(IR_SUFFIX)
    library: Literal["onnxruntime", "openvino"] = "openvino" if ir or not is_installed("onnxruntime") else "onnxruntime"
    require_library("openvino" if ir else "onnxruntime" if not is_installed("openvino") else library)
    try:
        return _onnxruntime(network) if library == "onnxruntime" else _openvino(network)
    except ModelError:
        raise
    except Exception as error:  # whatever a runtime says of hostile bytes
        raise ModelError(f"{network.name}: {library} {reason(error)}.", "Export the detector again.") from error


def _onnxruntime(network: Network) -> _Runtime:
    onnxruntime = import_quietly("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong arrives as an exception
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # cores decode frames meanwhile
    content = OnnxFile(network.files[network.file], network.name).self_contained(network.data)
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]

    def run(given: Mapping[str, NDArray[Any]]) -> Outputs:
        return dict(zip(names, map(np.asarray, session.run(names, dict(given))), strict=True))

    return run


def _openvino(network: Network) -> _Runtime:
    openvino = import_quietly("openvino")
    from sil_cli.models.engines.openvino_file import read_openvino

    model = read_openvino(network.file, network.files[network.file], network.data)
    count = thread_count()
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": count, "NUM_STREAMS": count})
    names = [port.name for port in network.outputs]
    idle: SimpleQueue[Any] = SimpleQueue()
    for _ in range(count):
        idle.put(compiled.create_infer_request())

    def run(given: Mapping[str, NDArray[Any]]) -> Outputs:
        request = idle.get()  # which one thread uses at a time
        try:
            result = request.infer(dict(given))
            return {name: np.array(result[number]) for number, name in enumerate(names)}
        finally:
            idle.put(request)

    return run
