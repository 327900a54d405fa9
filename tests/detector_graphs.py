"""Tiny detectors as ONNX files: each finds one person of a known box in any image, in one of the forms that there are.

They have no weights to speak of. The score is the image's own mean, as the graph gets it, so that a test sees whether
pixels arrive in the right order and scale.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HEIGHT, WIDTH = 64, 96
BOX = (24.0, 16.0, 48.0, 56.0)
"""Left, top, right, bottom in the input."""

ANCHORS = 300
_KINDS = {np.dtype("float32"): TensorProto.FLOAT, np.dtype("int64"): TensorProto.INT64}


def middle() -> list[float]:
    left, top, right, bottom = BOX
    return [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]


def detector(
    path: Path,
    outputs: dict[str, tuple[np.ndarray, tuple[object, ...], int | None]],
    *,
    batch: object = "n",
    size: tuple[object, object] = (HEIGHT, WIDTH),
    channel: int = 0,
    divide: float = 1.0,
    metadata: dict[str, str] | None = None,
    second: str | None = None,
) -> Path:
    """Write a graph whose outputs are constants, with the mean of a channel put where a score belongs.

    Args:
        path: The file.
        outputs: By name: what one image gives, the declared shape, and the flat place of the score in it or None.
        batch: Declared number of images.
        size: Declared height and width.
        channel: Of which the mean is the score.
        divide: The mean is divided by this.
        metadata: What its makers note.
        second: The name of a second input, of sizes.
    """
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("Gather", ["means", "channel"], ["mean"], axis=1),
        helper.make_node("Div", ["mean", "divide"], ["score"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([channel], dtype=np.int64), "channel"),
        numpy_helper.from_array(np.array(divide, dtype=np.float32), "divide"),
    ]
    infos = []
    for name, (one, shape, place) in outputs.items():
        flat = np.array(one).reshape(1, -1)
        weights = np.zeros((1, flat.size), dtype=np.float32)
        if place is not None:
            weights[0, place] = 1
        constants += [
            numpy_helper.from_array(flat.astype(np.float32), f"{name}_constant"),
            numpy_helper.from_array(weights, f"{name}_weights"),
            numpy_helper.from_array(np.array([-1 if d == "n" else d for d in shape], dtype=np.int64), f"{name}_shape"),
        ]
        nodes += [
            helper.make_node("MatMul", ["score", f"{name}_weights"], [f"{name}_scores"]),
            helper.make_node("Add", [f"{name}_scores", f"{name}_constant"], [f"{name}_flat"]),
            helper.make_node("Reshape", [f"{name}_flat", f"{name}_shape"], [f"{name}_float"]),
            helper.make_node("Cast", [f"{name}_float"], [name], to=_KINDS[one.dtype]),
        ]
        infos.append(helper.make_tensor_value_info(name, _KINDS[one.dtype], shape))
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, (batch, 3, *size))]
    if second is not None:
        inputs.append(helper.make_tensor_value_info(second, TensorProto.INT64, (batch, 2)))
    graph = helper.make_graph(nodes, "tiny-detector", inputs, infos, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def ssd(path: Path) -> Path:
    scale = np.array([WIDTH, HEIGHT] * 2)
    rows = np.zeros((1, 1, 20, 7), dtype=np.float32)
    rows[..., 0] = -1
    rows[0, 0, 0] = [0, 1, 0, *(np.array(BOX) / scale)]
    rows[0, 0, 1] = [0, 2, 0.9, 0, 0, 1, 1]  # of another class
    return detector(path, {"detection_out": (rows, (1, 1, 20, 7), 2)}, batch=1, channel=2, divide=255.0)


def yolo(path: Path, *, transposed: bool = False, classes: int = 3, person: int = 0, **options: object) -> Path:
    """YOLOv5's (anchors in rows, with objectness), or YOLOv8's (anchors in columns, without)."""
    first = 4 if transposed else 5
    rows = np.zeros((ANCHORS, first + classes), dtype=np.float32)
    rows[:, :4] = [5, 5, 4, 4]
    rows[7, :4] = middle()
    rows[8, :4] = middle()  # the same person again
    if not transposed:
        rows[:, 4] = 1.0
    rows[8, first + person] = 0.05
    values = rows.T if transposed else rows
    place = int(np.ravel_multi_index((first + person, 7) if transposed else (7, first + person), values.shape))
    return detector(path, {"output0": (values, ("n", *values.shape), place)}, **options)


def yolox(path: Path) -> Path:
    """Boxes relative to the cell and the stride that an anchor stands for."""
    cells = [(stride, y, x) for stride in (8, 16, 32) for y in range(HEIGHT // stride) for x in range(WIDTH // stride)]
    rows = np.zeros((len(cells), 6), dtype=np.float32)
    rows[:, 5] = 1.0
    at = cells.index((8, 4, 4))
    x, y, width, height = middle()
    rows[at, :4] = [x / 8 - 4, y / 8 - 4, np.log(width / 8), np.log(height / 8)]
    place = int(np.ravel_multi_index((at, 4), rows.shape))
    return detector(path, {"output": (rows, ("n", *rows.shape), place)}, channel=2, divide=255.0)


def end_to_end(path: Path) -> Path:
    rows = np.zeros((300, 6), dtype=np.float32)
    rows[0] = [*BOX, 0, 0]
    rows[1] = [0, 0, 90, 60, 0.99, 5]
    return detector(path, {"output0": (rows, ("n", 300, 6), 4)})


def torchvision_like(path: Path) -> Path:
    boxes = np.array([BOX, (0, 0, 90, 60)], dtype=np.float32)
    return detector(
        path,
        {
            "boxes": (boxes, (2, 4), None),
            "labels": (np.array([1, 3], dtype=np.int64), (2,), None),
            "scores": (np.array([0, 0.99], dtype=np.float32), (2,), 0),
        },
        batch=1,
    )


def rtdetr(path: Path) -> Path:
    """As its authors export it: labels, boxes and scores, with the size of the images as a second input."""
    boxes = np.zeros((10, 4), dtype=np.float32)
    boxes[0], boxes[1] = BOX, (0, 0, 90, 60)
    labels = np.full(10, 7, dtype=np.int64)
    labels[0] = 0
    scores = np.zeros(10, dtype=np.float32)
    scores[1] = 0.99
    outputs = {
        "labels": (labels, ("n", 10), None),
        "boxes": (boxes, ("n", 10, 4), None),
        "scores": (scores, ("n", 10), 0),
    }
    return detector(path, outputs, second="orig_target_sizes")


def detr(path: Path) -> Path:
    """As `transformers` exports it: logits of each class and boxes as shares of the image."""
    boxes = np.zeros((10, 4), dtype=np.float32)
    boxes[0] = np.array(middle()) / np.array([WIDTH, HEIGHT] * 2)
    logits = np.full((10, 80), -9, dtype=np.float32)
    logits[0, 0] = 0
    return detector(path, {"logits": (logits, ("n", 10, 80), 0), "pred_boxes": (boxes, ("n", 10, 4), None)})
