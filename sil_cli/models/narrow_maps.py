"""Convolutions that CPUs with AMX get wrong in bfloat16, put in another way that they get right.

oneDNN, by which OpenVINO computes, gives wrong values (relative errors above 1, or NaN) for a 3×3 convolution of stride
2 in bfloat16 on a map that is one or two pixels wide and higher than wide; seen with OpenVINO 2026.4 and torch 2.14.
The last stage of a ResNet at 64×32 has such a map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    import onnx

WIDE = 4
"""Maps of so many columns are right."""


def widen_narrow_maps(model: onnx.ModelProto) -> onnx.ModelProto:
    """Add columns of zeros to narrow maps before such convolutions and cut their results off again; changed in place.

    Args:
        model: With the shapes of its tensors.

    Returns:
        The model, which gives the same results.
    """
    widths = {
        value.name: value.type.tensor_type.shape.dim[3].dim_value
        for value in model.graph.value_info
        if len(value.type.tensor_type.shape.dim) == 4
    }
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        width = widths.get(node.input[0], 0) if _is_strided(node) else 0
        nodes += _widened(model.graph, node, width, widths[node.output[0]]) if 0 < width < WIDE - 1 else [node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _is_strided(node: onnx.NodeProto) -> bool:
    known = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return node.op_type == "Conv" and (known["kernel_shape"], known["strides"]) == ([3, 3], [2, 2])


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
