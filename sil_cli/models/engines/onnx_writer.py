"""An ONNX file, written without the package `onnx`.

It takes the messages and numbers of fields of `onnx.proto` in the protobuf wire format
(protobuf.dev/programming-guides/encoding), of which `onnx_file` is the reader.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sil_cli.models.engines.onnx_file import bytes_field, number_field, type_number
from sil_cli.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sil_cli.models.engines.onnx_file import Node

IR_VERSION = 9
OPSET = 20
_FLOAT, _INT, _STRING, _INTS = 1, 2, 3, 7

Shape = tuple[int | str, ...]
"""Sizes, and names for those that depend on the number of images."""


@dataclass
class Graph:
    """A network that is being written.

    Attributes:
        nodes: Operations in the order of computation.
        tensors: Its constants by name; those that no operation uses are left out of the file.
        shapes: Of its input and of all that operations give, by name.
        types: Of the same, where they are not float32.
    """

    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, NDArray[Any]] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    types: dict[str, np.dtype[np.generic]] = field(default_factory=dict)

    def constant(self, name: str, values: NDArray[np.generic]) -> str:
        """Add a constant, by another name where there is one of that name with other values."""
        free, number = name, 1
        while free in self.tensors and not _same(self.tensors[free], values):
            number += 1
            free = f"{name}_{number}"
        self.tensors[free] = values
        return free

    def content(self, given: str, result: str) -> bytes:
        """The file's content.

        Args:
            given: The name of the network's input, whose first axis is that of the images.
            result: Of its output.
        """
        used = {name for node in self.nodes for name in node.inputs}
        between = [name for node in self.nodes for name in node.outputs if name != result]
        graph = b"".join(
            [
                *(bytes_field(1, _node(node)) for node in self.nodes),
                bytes_field(2, b"embedder"),
                *(bytes_field(5, _tensor(name, values)) for name, values in self.tensors.items() if name in used),
                bytes_field(11, self._described(given)),
                bytes_field(12, self._described(result)),
                *(bytes_field(13, self._described(name)) for name in between),
            ]
        )
        parts = [
            number_field(1, IR_VERSION),
            bytes_field(2, b"sil"),
            bytes_field(3, VERSION.encode()),
            bytes_field(7, graph),
            bytes_field(8, bytes_field(1, b"") + number_field(2, OPSET)),
        ]
        return b"".join(parts)

    def _described(self, name: str) -> bytes:
        """A `ValueInfoProto`."""
        shape = b"".join(bytes_field(1, _size(size)) for size in self.shapes[name])
        number = type_number(self.types.get(name, np.dtype(np.float32)))
        tensor = number_field(1, number) + bytes_field(2, shape)
        return bytes_field(1, name.encode()) + bytes_field(2, bytes_field(1, tensor))


def _same(one: NDArray[np.generic], other: NDArray[np.generic]) -> bool:
    return one is other or (one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes())


def _size(size: int | str) -> bytes:
    return number_field(1, size) if isinstance(size, int) else bytes_field(2, size.encode())


def _node(node: Node) -> bytes:
    parts = [
        *(bytes_field(1, name.encode()) for name in node.inputs),
        *(bytes_field(2, name.encode()) for name in node.outputs),
        bytes_field(3, node.outputs[0].encode()),
        bytes_field(4, node.kind.encode()),
        *(bytes_field(5, each) for each in _attributes(node)),
    ]
    return b"".join(parts)


def _attributes(node: Node) -> Sequence[bytes]:
    """`AttributeProto`s: a list of whole numbers, or a single one, a fraction, or a word."""
    written = [bytes_field(1, name.encode()) + _numbers(value) for name, value in node.attributes.items()]
    for name, fraction in node.fractions.items():
        content = b"\x15" + struct.pack("<f", fraction)  # field 2, four bytes
        written.append(bytes_field(1, name.encode()) + content + number_field(20, _FLOAT))
    for name, word in node.words.items():
        written.append(bytes_field(1, name.encode()) + bytes_field(4, word.encode()) + number_field(20, _STRING))
    return written


def _numbers(value: Sequence[int] | int) -> bytes:
    if isinstance(value, int):
        return number_field(3, value) + number_field(20, _INT)
    return b"".join(number_field(8, each) for each in value) + number_field(20, _INTS)


def _tensor(name: str, values: NDArray[np.generic]) -> bytes:
    """A `TensorProto`."""
    little = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False)
    parts = [
        *(number_field(1, size) for size in values.shape),
        number_field(2, type_number(values.dtype)),
        bytes_field(8, name.encode()),
        bytes_field(9, little.tobytes()),
    ]
    return b"".join(parts)
