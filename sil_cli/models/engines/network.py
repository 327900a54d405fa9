"""What a graph says of itself, whichever format it has; its files are read here, and looked through."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.errors import ModelError, SilError, UsageError, one_line
from sil_cli.files import open_no_link
from sil_cli.models.engines.engine import reason, require_library
from sil_cli.models.engines.onnx_file import OnnxFile, Port, not_onnx
from sil_cli.models.record import GRAPH_SUFFIX, IR_SUFFIX, read_part

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import openvino
    from numpy.typing import NDArray

    Affine = tuple[NDArray[np.float64], NDArray[np.float64]]
    Steps = Iterable[tuple[str, NDArray[np.generic] | None, bool]]

ANOTHER = "Name a network that gives an embedding of each crop, such as one trained for re-identification."
_ONNX_BEGINS = b"\x08"  # its first field, the version of the format
_SKIPPED = {"Identity", "Cast", "Convert", "Transpose", "Constant"}


@dataclass(frozen=True)
class Network:
    """What a graph says of itself, whichever format it has.

    Attributes:
        name: Its file's, for messages.
        files: Its files' content by the names that they get in the model's folder, the graph's first.
        inputs: What has to be given.
        outputs: What can be had.
        kinds: Its operations, in the order of computation.
        noted: What its makers noted of it.
        first: What is done to the input first, as factor and addend of each channel; None where nothing like that is.
        opset: Of its operators.
    """

    name: str
    files: Mapping[str, bytes]
    inputs: Sequence[Port]
    outputs: Sequence[Port]
    kinds: Sequence[str]
    noted: Mapping[str, str]
    first: Affine | None
    opset: int

    @property
    def file(self) -> str:
        """The graph's own file."""
        return next(iter(self.files))

    @property
    def data(self) -> dict[str, bytes]:
        """The others, which hold its values."""
        return {name: content for name, content in self.files.items() if name != self.file}


def read_network(path: Path) -> Network:
    """Read a graph and the files that belong to it.

    Args:
        path: An ONNX file, or the .xml of an OpenVINO IR.

    Raises:
        UsageError: There is no such file, or OpenVINO is not installed.
        ModelError: It can't be read, or no runtime should be given it.
    """
    if not path.is_file():
        raise UsageError(f"There is no file {path}.", "Name an ONNX file, or the .xml of an OpenVINO IR.")
    content = read_part(path, "Name a readable file.")
    xml = content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
    xml = xml or (path.suffix.lower() == IR_SUFFIX and not content.startswith(_ONNX_BEGINS))
    return _read_ir(path, content) if xml else _read_onnx(path, content)


def _read_onnx(path: Path, content: bytes) -> Network:
    file = OnnxFile(content, path.name)
    data = {name: _beside(path, name) for name in file.locations}
    file.self_contained(data)
    try:
        file.check_activations()
        kinds = [node.kind for node in file.nodes]
        first = _affine(_steps_of_onnx(file, file.inputs[0].name)) if file.inputs else None
    except ValueError:  # of parts that a model needs not be loaded for
        raise not_onnx(path.name) from None
    files = {f"model{GRAPH_SUFFIX}": content, **data}
    noted = {key.removeprefix("model_info ").lower(): value for key, value in file.metadata.items()}
    return Network(path.name, files, file.inputs, file.outputs, kinds, noted, first, file.opset)


def _read_ir(path: Path, content: bytes) -> Network:
    from sil_cli.models.engines.openvino_file import check_ir, ports, read_openvino

    noted = check_ir(content, path.name)
    require_library("openvino")
    weights = _beside(path, f"{path.stem}.bin")
    files = {f"model{IR_SUFFIX}": content, "model.bin": weights}
    try:
        model = read_openvino(f"model{IR_SUFFIX}", content, {"model.bin": weights})
        inputs, outputs = ports(model)
        kinds = [node.get_type_name() for node in model.get_ordered_ops()]
        first = _affine(_steps_of_openvino(model))
    except RuntimeError as error:
        raise ModelError(
            f"{path.name}: OpenVINO {reason(error)}.", "Keep .xml and .bin as they were converted."
        ) from error
    return Network(path.name, files, inputs, outputs, kinds, noted, first, 0)


def _beside(path: Path, name: str) -> bytes:
    """The content of a plain file in a graph's folder."""
    file = path.parent / name
    fix = "Keep it beside the graph, as a file and not as a link."
    try:
        os.close(open_no_link(file, os.O_RDONLY))
    except (OSError, SilError) as error:
        why = error.what if isinstance(error, SilError) else f"{one_line(error)}."
        raise ModelError(f"{path.name} needs {name} in the same folder: {why}", fix) from error
    return read_part(file, fix)


def _steps_of_onnx(file: OnnxFile, name: str) -> Steps:
    """What is done to the input first: the operation, its constant, and whether the constant is its first operand."""
    while True:
        users = [node for node in file.nodes if name in node.inputs]
        if len(users) != 1:
            return
        others = [each for each in users[0].inputs if each != name]
        yield users[0].kind, file.constant(others[0]) if len(others) == 1 else None, users[0].inputs[0] != name
        name = users[0].outputs[0]


def _steps_of_openvino(model: openvino.Model) -> Steps:
    """The same for OpenVINO's operations, which it names a little longer."""
    output = model.input(0) if len(model.inputs) == 1 else None
    while output is not None:
        users = list(output.get_target_inputs())
        if len(users) != 1:
            return
        node, place = users[0].get_node(), users[0].get_index()
        sources = [each.get_source_output().get_node() for each in node.inputs()]
        constants = [each.data for each in sources if each.get_type_name() == "Constant"]
        constant = constants[0] if len(sources) == 2 and len(constants) == 1 else None
        short = {"Subtract": "Sub", "Multiply": "Mul", "Divide": "Div"}
        yield short.get(node.get_type_name(), node.get_type_name()), constant, place == 1
        output = node.output(0) if node.outputs() else None


def _affine(steps: Steps) -> Affine | None:
    """Factor and addend of each channel that the first steps come to; None where they are no such thing."""
    factor, addend, found = np.ones(3), np.zeros(3), False
    for kind, constant, is_first in steps:
        if kind in _SKIPPED:
            continue
        if kind not in ("Add", "Sub", "Mul", "Div") or constant is None or constant.size not in (1, 3):
            break
        value = np.broadcast_to(constant.astype(np.float64).reshape(-1), 3)
        if kind in ("Add", "Sub"):
            if kind == "Sub" and is_first:
                factor, addend, value = -factor, -addend, value
            addend = addend + (-value if kind == "Sub" and not is_first else value)
        elif kind == "Mul" or (kind == "Div" and not is_first and value.all()):
            by = value if kind == "Mul" else 1 / value
            factor, addend = factor * by, addend * by
        else:
            break
        found = True
    return (factor, addend) if found else None
