"""Tiny networks as ONNX files, with random weights, for tests of graphs that others might bring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IMAGE, EMBEDDING = "image", "embedding"
DIMENSION = 12
HEIGHT, WIDTH = 32, 16
SHAPE = ("n", 3, HEIGHT, WIDTH)

Step = tuple[str, list[Any], dict[str, Any]]
"""An operation, its constants and its attributes."""


def chain(
    steps: list[Step],
    *,
    shape: tuple[object, ...] | None = SHAPE,
    given: int = TensorProto.FLOAT,
    result: tuple[object, ...] | None = ("n", DIMENSION),
    output: str = EMBEDDING,
    opset: int = 17,
    metadata: dict[str, str] | None = None,
    gives: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A network of operations one after another, each on the result of the one before."""
    nodes, constants, current = [], [], IMAGE
    for place, (kind, values, attributes) in enumerate(steps):
        names = [f"constant_{place}_{number}" for number in range(len(values))]
        constants += [numpy_helper.from_array(np.asarray(v), name) for v, name in zip(values, names, strict=True)]
        after = output if place == len(steps) - 1 else f"after_{place}"
        nodes.append(helper.make_node(kind, [current, *names], [after], **attributes))
        current = after
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(IMAGE, given, shape)],
        [helper.make_tensor_value_info(output, gives, result)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    return model


def body(seed: int = 0, dtype: type = np.float32) -> list[Step]:
    """A convolution, a pooling and a flattening: from (N, 3, h, w) to (N, DIMENSION)."""
    rng = np.random.default_rng(seed)
    weights = (0.3 * rng.normal(size=(DIMENSION, 3, 5, 5))).astype(dtype)
    bias = (0.1 * rng.normal(size=DIMENSION)).astype(dtype)
    return [
        ("Conv", [weights, bias], {"strides": [2, 2]}),
        ("Relu", [], {}),
        ("GlobalAveragePool", [], {}),
        ("Flatten", [], {}),
    ]


def tiny(seed: int = 0, before: list[Step] | None = None, **options: Any) -> onnx.ModelProto:
    """An embedder, with other operations before its convolution."""
    return chain([*(before or []), *body(seed)], **options)


def saved(model: onnx.ModelProto, path: Path) -> Path:
    """A model as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def saved_apart(model: onnx.ModelProto, path: Path, location: str = "net.data") -> Path:
    """A model as a file whose weights lie in another, as exporters write large ones."""
    onnx.save(model, path, save_as_external_data=True, location=location, size_threshold=0)
    return path


def pointed_at(model: onnx.ModelProto, location: str, **entries: object) -> onnx.ModelProto:
    """A model that says that its first weights lie in a file."""
    tensor = model.graph.initializer[0]
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": 0, "length": size, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return model
