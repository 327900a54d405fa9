"""What is looked for and changed in the graph of an exported network.

**Cuts.** Where the graph is one tensor wide it can be computed in two parts, each in its own precision.

**Narrow maps.** oneDNN, by which OpenVINO computes, gives wrong values (relative errors above 1, or NaN) on CPUs with
AMX for a 3×3 convolution of stride 2 in bfloat16 on a map that is one or two pixels wide and higher than wide; seen
with OpenVINO 2026.4 and torch 2.14. The last stage of a ResNet at 64×32 has such a map, and is padded.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from sil_cli.models.record import Float32Prefix

if TYPE_CHECKING:
    import onnx

WIDE = 4
"""bfloat16 is right on maps of so many columns."""

PRODUCTS = ("Conv", "MatMul", "Gemm")


def find_prefixes(model: onnx.ModelProto) -> list[Float32Prefix]:
    """The beginnings of a network with one input at whose ends it can be cut, in the order of computation.

    All that follows a cut depends on one tensor, and on nothing else but the number of images. Cuts before a mere
    activation are left out: it is computed with the product before it.

    Args:
        model: With the shapes of its tensors; nodes in the order of computation, as ONNX wants them.
    """
    nodes = [node for node in model.graph.node if not _counts_images(node, model.graph.input[0].name)]
    last_use = {name: place for place, node in enumerate(nodes) for name in node.input}
    shapes = _shapes(model)
    work = [_multiply_adds(node, shapes) for node in nodes]
    floating = {value.name for value in model.graph.value_info if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    open_tensors = {model.graph.input[0].name}
    found = []
    for place, node in enumerate(nodes):
        depends = not open_tensors.isdisjoint(node.input)
        open_tensors = {name for name in open_tensors if last_use[name] > place}
        if depends:
            open_tensors.update(name for name in node.output if last_use.get(name, -1) > place)
        if len(open_tensors) == 1 and (name := next(iter(open_tensors))) in floating:
            users = [user for user in nodes[place + 1 :] if name in user.input]
            if len(users) > 1 or users[0].op_type in PRODUCTS:
                found.append(Float32Prefix(until=name, share=sum(work[: place + 1]) / max(1, sum(work))))
    return found


def _counts_images(node: onnx.NodeProto, given: str) -> bool:
    """Whether a node only asks for the shape of the network's input, which both parts have."""
    return bool(node.op_type == "Shape" and node.input[0] == given)


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes by tensor; 0 stands for the number of images."""
    known = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        known[value.name] = tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
    return known


def _multiply_adds(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    """Of one image."""
    if node.op_type not in PRODUCTS:
        return 0
    result = shapes.get(node.output[0], ())[1:]
    if node.op_type == "Conv":
        return prod(result) * prod(shapes[node.input[1]][1:])
    return prod(result) * (shapes.get(node.input[0]) or (1,))[-1]


def widen_narrow_maps(model: onnx.ModelProto) -> onnx.ModelProto:
    """Add columns of zeros to narrow maps before such convolutions and cut their results off again; changed in place.

    Args:
        model: With the shapes of its tensors.

    Returns:
        The model, which gives the same results.
    """
    shapes = _shapes(model)
    widths = {
        value.name: value.type.tensor_type.shape.dim[3].dim_value
        for value in model.graph.value_info
        if len(value.type.tensor_type.shape.dim) == 4
    }
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        width = widths.get(node.input[0], 0) if _is_strided(node, shapes) else 0
        nodes += _widened(model.graph, node, width, widths[node.output[0]]) if 0 < width < WIDE - 1 else [node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _is_strided(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> bool:
    if node.op_type != "Conv":
        return False
    strides = [list(attribute.ints) for attribute in node.attribute if attribute.name == "strides"]
    return strides == [[2, 2]] and shapes.get(node.input[1], ())[2:] == (3, 3)  # not all exporters write kernel_shape


def _widened(graph: onnx.GraphProto, node: onnx.NodeProto, width: int, wanted: int) -> list[onnx.NodeProto]:
    given, result = node.input[0], node.output[0]
    wide, wide_result = f"{given}_wide_{node.name}", f"{result}_wide"

    def constant(name: str, *values: int) -> str:
        full = f"{result}_{name}"
        graph.initializer.append(numpy_helper.from_array(np.array(values, dtype=np.int64), full))
        return full

    pad = helper.make_node("Pad", [given, constant("columns", *[0] * 7, WIDE - width)], [wide], f"{node.name}_pad")
    cut = [constant("from", 0), constant("to", wanted), constant("axis", 3)]
    node.input[0], node.output[0] = wide, wide_result
    return [pad, node, helper.make_node("Slice", [wide_result, *cut], [result], f"{node.name}_cut")]


def without_metadata(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without what exporters note of the machine, such as source paths; changed in place."""
    graph = model.graph
    del model.metadata_props[:]
    del graph.metadata_props[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.ClearField("doc_string")
    return model
