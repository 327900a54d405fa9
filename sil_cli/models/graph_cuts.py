"""Where an exported network is one tensor wide: there it can be computed in two parts, each in its own precision."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from onnx import TensorProto

if TYPE_CHECKING:
    import onnx

PRODUCTS = ("Conv", "MatMul", "Gemm")


@dataclass(frozen=True)
class Waist:
    """A tensor on which all that follows depends, and on nothing else but the images' number.

    Attributes:
        name: The tensor's.
        share: Of the network's multiply-adds that come before it, 0 to 1.
    """

    name: str
    share: float


def waists(model: onnx.ModelProto) -> list[Waist]:
    """The waists of a network with one input, in their order.

    Left out are those before a mere activation: it is computed with the product before it.

    Args:
        model: With the shapes of its tensors; nodes in the order of computation, as ONNX wants them.
    """
    nodes = [node for node in model.graph.node if not _counts_images(node, model.graph.input[0].name)]
    last_use = {name: place for place, node in enumerate(nodes) for name in node.input}
    work = [_multiply_adds(node, _shapes(model)) for node in nodes]
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
                found.append(Waist(name, sum(work[: place + 1]) / max(1, sum(work))))
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
