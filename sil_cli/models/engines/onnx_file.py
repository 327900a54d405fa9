"""What an ONNX file is made of, read without the package `onnx`, and what of a stranger's no runtime gets to see.

ONNX Runtime and OpenVINO trust the files that they are given: they open whatever a tensor names as its external data,
loop as often as the graph says, and allocate what its shapes claim. So a file is looked through first, by a reader of
the protobuf wire format (protobuf.dev/programming-guides/encoding) that knows the messages of `onnx.proto`, and what
passes is handed on as one piece of memory that refers to no other file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import PurePosixPath, PureWindowsPath

import numpy as np
from numpy.typing import NDArray

from sil_cli.errors import ModelError
from sil_cli.models.record import LARGEST_GRAPH

MOST_VALUES = 2**30
"""Of a tensor whose shape is declared: 4 GiB in float32."""

_MOST_FIELDS = 5_000_000
_MOST_NODES = 100_000
_CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
_STANDARD = ("", "ai.onnx")
_OURS = (".json", ".jsonl", ".onnx", ".safetensors", ".toml", ".xml", ".pt")
_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}
_EXTERNAL = 1

_TYPES: Mapping[int, np.dtype] = {
    1: np.dtype("float32"),
    2: np.dtype("uint8"),
    3: np.dtype("int8"),
    6: np.dtype("int32"),
    7: np.dtype("int64"),
    10: np.dtype("float16"),
    11: np.dtype("float64"),
}
_SIZES: Mapping[int, float] = {
    **{number: dtype.itemsize for number, dtype in _TYPES.items()},
    **dict.fromkeys((21, 22, 23), 0.5),
    **dict.fromkeys((9, 17, 18, 19, 20), 1),
    **dict.fromkeys((4, 5, 16), 2),
    **{12: 4, 13: 8, 14: 8, 15: 16},  # noqa: PIE800 - beside the others
}
"""Bytes of a value by its type in `TensorProto`; strings, which need none, are left out."""

_TYPED_DATA = (4, 5, 7, 10, 11)  # float_data, int32_data, int64_data, double_data, uint64_data


class _OddError(ValueError):
    """Bytes are no message of the kind that is expected."""


class _Message:
    """A protobuf message whose fields are looked up by number; one within is split only once it is asked for.

    Attributes:
        view: Its bytes.
        fields: Number and bytes of each field as they stand there, in their order.
    """

    def __init__(self, view: memoryview, left: list[int]) -> None:
        """Split a message into fields.

        Args:
            view: Its bytes.
            left: How many fields of the whole file may still be read, counted down.
        """
        self._left = left
        self.view = view
        self.fields: list[tuple[int, memoryview]] = []
        self._values: dict[int, list[int | memoryview]] = {}
        place, end = 0, len(view)
        while place < end:
            start = place
            key, place = _varint(view, place)
            number, kind = key >> 3, key & 7
            value: int | memoryview
            if kind == _VARINT:
                value, place = _varint(view, place)
            else:
                length, place = _varint(view, place) if kind == _BYTES else (_FIXED.get(kind, end + 1), place)
                if number == 0 or place + length > end:
                    raise _OddError
                value, place = view[place : place + length], place + length
            self.fields.append((number, view[start:place]))
            self._values.setdefault(number, []).append(value)
        left[0] -= len(self.fields)
        if left[0] < 0:
            raise _OddError

    def messages(self, number: int) -> list[_Message]:
        """The messages in a field, of which protobuf would merge several where one is expected."""
        return [_Message(each, self._left) for each in self.views(number)]

    def views(self, number: int) -> list[memoryview]:
        """The bytes in a field."""
        found = []
        for value in self._values.get(number, ()):
            if isinstance(value, int):
                raise _OddError
            found.append(value)
        return found

    def text(self, number: int) -> str:
        """The text in a field, the last where there are several; empty where there is none."""
        return (self.texts(number) or [""])[-1]

    def texts(self, number: int) -> list[str]:
        """All the texts in a field."""
        return [str(each, "utf-8") for each in self.views(number)]

    def integers(self, number: int) -> list[int]:
        """The whole numbers in a field, packed or not."""
        found: list[int] = []
        for value in self._values.get(number, ()):
            found += [_signed(value)] if isinstance(value, int) else _packed(value)
        return found

    def integer(self, number: int) -> int:
        """The whole number in a field, the last where there are several; 0 where there is none."""
        return (self.integers(number) or [0])[-1]

    def values_held(self, numbers: Iterable[int]) -> int:
        """The most values that fields of numbers can hold: a packed one takes a byte at least, another a field."""
        values = [value for number in numbers for value in self._values.get(number, ())]
        return sum(1 if isinstance(value, int) else len(value) for value in values)


def _varint(view: memoryview, place: int) -> tuple[int, int]:
    if place < len(view) and (value := view[place]) < 128:
        return value, place + 1
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(view):
            break
        byte = view[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (2**64 - 1), place
    raise _OddError


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _packed(view: memoryview) -> list[int]:
    found, place = [], 0
    while place < len(view):
        value, place = _varint(view, place)
        found.append(_signed(value))
    return found


class _Tensor:
    """A `TensorProto`."""

    def __init__(self, message: _Message) -> None:
        self.message = message
        self.name = message.text(8)
        self.shape = tuple(message.integers(1))
        self.type = message.integer(2)
        entries = {each.text(1): each.text(2) for each in message.messages(13)}
        self.external = entries if entries or _EXTERNAL in message.integers(14) else None

    @property
    def bytes(self) -> int:
        """How many its shape claims."""
        if any(size < 0 for size in self.shape):
            raise _OddError
        return int(np.ceil(prod(self.shape) * _SIZES.get(self.type, 0)))

    def claims_too_much(self) -> bool:
        """Whether its shape has more values than the file holds for it; external data are another matter."""
        if self.external is not None:
            return False
        raw = self.message.views(9)
        if raw:
            return self.bytes > len(raw[-1])
        return bool(_SIZES.get(self.type)) and prod(self.shape) > self.message.values_held(_TYPED_DATA)

    def values(self) -> NDArray[np.generic] | None:
        """Its numbers, where they lie in the file as they are and are of a common type."""
        dtype, raw = _TYPES.get(self.type), self.message.views(9)
        if dtype is None or self.external is not None:
            return None
        if raw:
            return np.frombuffer(raw[-1], dtype.newbyteorder("<"))[: prod(self.shape)].reshape(self.shape)
        if dtype == np.float32 and (packed := self.message.views(4)):
            return np.frombuffer(b"".join(packed), "<f4")[: prod(self.shape)].reshape(self.shape)
        return None


@dataclass(frozen=True)
class Port:
    """An input or an output of a network.

    Attributes:
        name: What it is called.
        type: As NumPy calls it, `float32`; another word where it can't hold pixels or an embedding.
        shape: None where a size is free; None as a whole where nothing is said.
        layout: What its axes are, a letter each ("NCHW"); empty where nothing is said.
    """

    name: str
    type: str
    shape: tuple[int | None, ...] | None
    layout: str = ""

    def __str__(self) -> str:
        sizes = (
            "of any shape"
            if self.shape is None
            else "×".join("?" if size is None else str(size) for size in self.shape)
        )
        return f"{self.name} ({self.type}, {sizes})"


@dataclass(frozen=True)
class Node:
    """An operation of a network.

    Attributes:
        kind: `Conv`, …
        inputs: Names of what goes in.
        outputs: Names of what comes out.
        attributes: Those that are whole numbers; of a graph that was read, all as lists.
        fractions: Those that are other numbers; only of a graph that is written.
        words: Those that are text; likewise.
    """

    kind: str
    inputs: list[str]
    outputs: list[str]
    attributes: Mapping[str, Sequence[int] | int] = field(default_factory=dict)
    fractions: Mapping[str, float] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)


_AXES = {"DATA_BATCH": "N", "DATA_CHANNEL": "C", "DATA_FEATURE": ""}


class OnnxFile:
    """An ONNX file that nothing is wrong with as far as its structure tells.

    Attributes:
        name: The file's, for messages.
        inputs: What has to be given; what the file gives itself is left out.
        outputs: What can be had.
        opset: The version of the standard's operators.
        metadata: What its makers noted.
    """

    def __init__(self, content: bytes, name: str) -> None:
        """Look through a file.

        Args:
            content: Of the file.
            name: What to call it.

        Raises:
            ModelError: It is no ONNX file, or one that no runtime should be given.
        """
        self.name = name
        try:
            self._model = _Message(memoryview(content), [_MOST_FIELDS])
            graphs = self._model.messages(7)
            if len(graphs) != 1 or not self._model.integer(1):
                raise _OddError
            self._graph = graphs[0]
            self._nodes = self._graph.messages(1)
            self._tensors = [_Tensor(each) for each in self._graph.messages(5)]
            self._check()
            self.opset = max(
                (each.integer(2) for each in self._model.messages(8) if each.text(1) in _STANDARD), default=0
            )
            self.metadata = {each.text(1): each.text(2) for each in self._model.messages(14)}
            given = {tensor.name for tensor in self._tensors}
            self.inputs = [port for port in map(_port, self._graph.messages(11)) if port.name not in given]
            self.outputs = [_port(each) for each in self._graph.messages(12)]
            self._check_shapes([*self.inputs, *self.outputs])
        except ValueError:
            raise not_onnx(name) from None

    def _check(self) -> None:
        """Refuse what a runtime would have to be trusted with."""
        if self._model.messages(25):
            self._refuse("it brings functions of its own", "Inline them with onnx.inliner.inline_local_functions")
        if len(self._nodes) > _MOST_NODES:
            self._refuse(f"it has {len(self._nodes):,} operations", f"Networks of up to {_MOST_NODES:,} can be used")
        if self._graph.views(15):
            self._refuse("it holds sparse tensors", "Export it with dense ones")
        for node in self._nodes:
            kind, domain = node.text(4), node.text(7)
            if domain not in _STANDARD:
                self._refuse(f"its operator {kind} is not of the ONNX standard but of {domain}", "Export it without")
            attributes = node.messages(5)
            if kind in _CONTROL_FLOW or any(each.views(6) or each.views(11) for each in attributes):
                self._refuse(f"it has loops or branches ({kind})", "Export it without, or simplify it with onnxsim")
            if any(each.views(22) or each.views(23) for each in attributes):
                self._refuse("it holds sparse tensors", "Export it with dense ones")
            constants = [
                _Tensor(tensor) for each in attributes for number in (5, 10) for tensor in each.messages(number)
            ]
            if any(each.external is not None for each in constants):
                self._refuse(f"an operation ({kind}) has its values in another file", "Export it with them inside")
            self._check_claims(constants)
        self._check_claims(self._tensors)
        if sum(tensor.bytes for tensor in self._tensors) > LARGEST_GRAPH:
            self._refuse(f"its weights would take more than {LARGEST_GRAPH / 2**30:.0f} GiB", "Use a smaller network")

    def _check_claims(self, tensors: list[_Tensor]) -> None:
        for tensor in tensors:
            if tensor.claims_too_much():
                size = "×".join(map(str, tensor.shape))
                self._refuse(f"its tensor {tensor.name} is said to be {size} and holds less", "Export it again")

    def _check_shapes(self, ports: list[Port]) -> None:
        for port in ports:
            if port.shape is not None and prod(size or 1 for size in port.shape) > MOST_VALUES:
                self._refuse(f"its tensor {port} would not fit into memory", "Export it for smaller images")

    def _refuse(self, why: str, fix: str) -> None:
        raise ModelError(f"{self.name} can't be used: {why}.", f"{fix}.")

    def check_activations(self) -> None:
        """Look at what the file says of its other tensors, too.

        Raises:
            ModelError: One would not fit into memory.
        """
        self._check_shapes(self._between)

    @cached_property
    def nodes(self) -> list[Node]:
        """The operations, in the order of computation."""
        return [_node(each) for each in self._nodes]

    @cached_property
    def locations(self) -> list[str]:
        """The names of the files beside it that hold values of its tensors.

        Raises:
            ModelError: One is no plain file name, or one that means something else in a model's folder.
        """
        found = dict.fromkeys(t.external.get("location", "") for t in self._tensors if t.external is not None)
        for name in found:
            plain = name and PurePosixPath(name).name == name == PureWindowsPath(name).name and name.isprintable()
            if not plain or name.startswith(".") or PurePosixPath(name).suffix.lower() in _OURS:
                self._refuse(
                    f"it wants values from {name or 'a file without a name'}",
                    "Values may lie in the file itself, or in a file beside it, as `onnx.save` writes them",
                )
        return list(found)

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int | None, ...]]:
        """Of all tensors of which the file says so, by name; None where a size is free."""
        ports = [*self._between, *self.inputs, *self.outputs]
        known = {port.name: port.shape for port in ports if port.shape is not None}
        return {tensor.name: tensor.shape for tensor in self._tensors} | known

    @cached_property
    def _between(self) -> list[Port]:
        """What is said of tensors that are neither given nor results."""
        return [_port(each) for each in self._graph.messages(13)]

    @property
    def float32_between(self) -> set[str]:
        """The names of those that are said to hold float32."""
        return {port.name for port in self._between if port.type == "float32"}

    def constant(self, name: str) -> NDArray[np.generic] | None:
        """The values of a tensor that the file itself holds; None where it holds none of that name."""
        for tensor in self._tensors:
            if tensor.name == name:
                return tensor.values()
        for node in self._nodes:
            if node.text(4) == "Constant" and name in node.texts(2):
                for value in (value for attribute in node.messages(5) for value in attribute.messages(5)):
                    return _Tensor(value).values()
        return None

    def self_contained(self, data: Mapping[str, bytes]) -> bytes:
        """The file with the values that lie in others put into it.

        Args:
            data: The content of each of `locations`.

        Raises:
            ModelError: One is not there, or too short.
        """
        if not self.locations:
            return bytes(self._model.view)
        tensors = iter(self._tensors)
        graph = b"".join(
            bytes_field(5, self._filled(next(tensors), data)) if number == 5 else bytes(whole)
            for number, whole in self._graph.fields
        )
        parts = [bytes_field(7, graph) if number == 7 else bytes(whole) for number, whole in self._model.fields]
        return b"".join(parts)

    def _filled(self, tensor: _Tensor, data: Mapping[str, bytes]) -> bytes:
        if tensor.external is None:
            return bytes(tensor.message.view)
        location = tensor.external.get("location", "")
        content = data.get(location)
        if content is None:
            self._refuse(f"its file {location} is missing", "Keep it beside the graph")
        assert content is not None  # noqa: S101 - `_refuse` raises
        numbers = [tensor.external.get("offset", "0"), tensor.external.get("length", str(tensor.bytes))]
        if not all(each.isdecimal() and len(each) < 19 for each in numbers):
            raise ModelError(f"{self.name} is damaged: it says no place in {location}.", "Export it again.")
        start, length = map(int, numbers)
        if length != tensor.bytes or start + length > len(content):
            self._refuse(f"{location} does not hold its tensor {tensor.name}", "Keep both files as they were exported")
        kept = [bytes(whole) for number, whole in tensor.message.fields if number not in (9, 13, 14)]
        return b"".join([*kept, bytes_field(9, memoryview(content)[start : start + length])])


def not_onnx(name: str) -> ModelError:
    """That a file's bytes are not what ONNX files are made of."""
    return ModelError(f"{name} is not an ONNX file, or is damaged.", "Name a network that was exported as ONNX.")


def bytes_field(number: int, content: bytes | memoryview) -> bytes:
    """A field of bytes, as it stands in a message."""
    return b"".join([_written(number << 3 | _BYTES), _written(len(content)), content])


def number_field(number: int, value: int) -> bytes:
    """A field that is a whole number."""
    return _written(number << 3 | _VARINT) + _written(value % 2**64)


def type_number(dtype: np.dtype) -> int:
    """What `TensorProto` calls a type.

    Raises:
        KeyError: It is none of those that can be written here.
    """
    return {each: number for number, each in _TYPES.items()}[dtype]


def _written(value: int) -> bytes:
    """A varint."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def _port(value: _Message) -> Port:
    """An input or output as `ValueInfoProto` describes it."""
    for kind in value.messages(2):
        for tensor in kind.messages(1):
            number = tensor.integer(1)
            dtype = _TYPES.get(number)
            shapes = [_sizes(shape) for shape in tensor.messages(2)]
            axes = [_AXES.get(dim.text(3), "") for shape in tensor.messages(2) for dim in shape.messages(1)]
            layout = "".join(axes) if axes.count("C") == 1 else ""
            shape = shapes[-1] if shapes else None
            if layout and shape is not None and len(shape) == 4:
                layout = "NHWC" if axes.index("C") == 3 else "NCHW"
            return Port(value.text(1), str(dtype) if dtype else f"type {number}", shape, layout)
    return Port(value.text(1), "no tensor", None)


def _sizes(shape: _Message) -> tuple[int | None, ...]:
    found: list[int | None] = []
    for dim in shape.messages(1):
        size = dim.integer(1)
        found.append(size if size > 0 else None)
    return tuple(found)


def _node(message: _Message) -> Node:
    numbers = {each.text(1): each.integers(8) or each.integers(3) for each in message.messages(5)}
    return Node(message.text(4), message.texts(1), message.texts(2), numbers)
