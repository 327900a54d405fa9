"""What is looked for and changed in the graph of an exported network.

**Norms** by known statistics become part of the convolutions before them.

**Cuts.** Where the graph is one tensor wide it can be computed in two parts, each in its own precision.

**Narrow maps.** oneDNN, by which OpenVINO computes, gives wrong values (relative errors above 1, or NaN) on CPUs with
AMX for a 3×3 convolution of stride 2 in bfloat16 on a map that is one or two pixels wide and higher than wide; seen
with OpenVINO 2026.4 and torch 2.14. The last stage of a ResNet at 64×32 has such a map, and is padded.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.models.engines.onnx_file import Node, OnnxFile
from sil_cli.models.record import Float32Prefix

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sil_cli.models.engines.onnx_writer import Graph

WIDE = 4
"""bfloat16 is right on maps of so many columns."""

PRODUCTS = ("Conv", "MatMul", "Gemm")


def find_prefixes(file: OnnxFile) -> list[Float32Prefix]:
    """The beginnings of a network with one input at whose ends it can be cut, in the order of computation.

    All that follows a cut depends on one tensor, and on nothing else but the number of images. Cuts before a mere
    activation are left out: it is computed with the product before it.

    Args:
        file: Says the shapes of its tensors.
    """
    given, shapes, floating = file.inputs[0].name, file.shapes, file.float32_between
    nodes = [node for node in file.nodes if not _counts_images(node, given)]
    last_use = {name: place for place, node in enumerate(nodes) for name in node.inputs}
    work = [_multiply_adds(node, shapes) for node in nodes]
    open_tensors = {given}
    found = []
    for place, node in enumerate(nodes):
        depends = not open_tensors.isdisjoint(node.inputs)
        open_tensors = {name for name in open_tensors if last_use[name] > place}
        if depends:
            open_tensors.update(name for name in node.outputs if last_use.get(name, -1) > place)
        if len(open_tensors) == 1 and (name := next(iter(open_tensors))) in floating:
            users = [user for user in nodes[place + 1 :] if name in user.inputs]
            if len(users) > 1 or users[0].kind in PRODUCTS:
                found.append(Float32Prefix(until=name, share=sum(work[: place + 1]) / max(1, sum(work))))
    return found


def _counts_images(node: Node, given: str) -> bool:
    """Whether a node only asks for the shape of the network's input, which both parts have."""
    return node.kind == "Shape" and node.inputs[0] == given


def _multiply_adds(node: Node, shapes: Mapping[str, tuple[int | None, ...]]) -> int:
    """Of one image."""
    if node.kind not in PRODUCTS:
        return 0
    result = _sizes(shapes.get(node.outputs[0], ()))[1:]
    if node.kind == "Conv":
        return prod(result) * prod(_sizes(shapes[node.inputs[1]])[1:])
    return prod(result) * (_sizes(shapes.get(node.inputs[0]) or (1,)))[-1]


def _sizes(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """0 where a size depends on the number of images."""
    return tuple(size or 0 for size in shape)


def fold_norms(graph: Graph) -> None:
    """Make each batch norm part of the convolution before it, where nothing else reads that one; changed in place."""
    uses = Counter(name for node in graph.nodes for name in node.inputs)
    made_by = {name: node for node in graph.nodes for name in node.outputs}
    folded: list[Node] = []
    for node in graph.nodes:
        before = made_by.get(node.inputs[0]) if node.kind == "BatchNormalization" else None
        if before is None or before.kind != "Conv" or uses[node.inputs[0]] > 1:
            folded.append(node)
            continue
        place = next(at for at, each in enumerate(folded) if each.outputs == before.outputs)
        folded[place] = replace(before, inputs=_folded(graph, before, node), outputs=node.outputs)
        del graph.shapes[before.outputs[0]]
    graph.nodes[:] = folded


def _folded(graph: Graph, convolution: Node, norm: Node) -> list[str]:
    """The inputs of a convolution that also does what a norm does behind it."""
    scale, shift, mean, variance = (graph.tensors[name].astype(np.float64) for name in norm.inputs[1:])
    factor = scale / np.sqrt(variance + norm.fractions["epsilon"])
    weights = graph.tensors[convolution.inputs[1]]
    bias = graph.tensors[convolution.inputs[2]] if len(convolution.inputs) > 2 else np.zeros(len(mean))
    new_weights = (weights * factor.reshape(-1, 1, 1, 1)).astype(np.float32)
    new_bias = ((bias - mean) * factor + shift).astype(np.float32)
    return [
        convolution.inputs[0],
        graph.constant(f"{convolution.inputs[1]}_folded", new_weights),
        graph.constant(f"{convolution.inputs[1]}_bias", new_bias),
    ]


def widen_narrow_maps(graph: Graph) -> None:
    """Add columns of zeros to narrow maps before such convolutions and cut their results off again; changed in place.

    The graph gives the same results.
    """
    nodes: list[Node] = []
    for node in graph.nodes:
        width = graph.shapes[node.inputs[0]][3] if _is_strided(graph, node) else WIDE
        nodes += _widened(graph, node, width) if isinstance(width, int) and width < WIDE - 1 else [node]
    graph.nodes[:] = nodes


def _is_strided(graph: Graph, node: Node) -> bool:
    return (
        node.kind == "Conv"
        and node.attributes["strides"] == [2, 2]
        and graph.tensors[node.inputs[1]].shape[2:] == (3, 3)
    )


def _widened(graph: Graph, node: Node, width: int) -> list[Node]:
    given, result = node.inputs[0], node.outputs[0]
    wide, wide_result = f"{result}_widened", f"{result}_wide"
    before, after = graph.shapes[given], graph.shapes[result]

    def constant(name: str, *values: int) -> str:
        return graph.constant(f"{result}_{name}", np.array(values, dtype=np.int64))

    added = (WIDE - width) // 2  # as many more results
    graph.shapes[wide], graph.shapes[wide_result] = (*before[:3], WIDE), (*after[:3], int(after[3]) + added)
    cut = [constant("from", 0), constant("to", int(after[3])), constant("axis", 3)]
    return [
        Node("Pad", [given, constant("columns", *[0] * 7, WIDE - width)], [wide]),
        replace(node, inputs=[wide, *node.inputs[1:]], outputs=[wide_result]),
        Node("Slice", [wide_result, *cut], [result]),
    ]
