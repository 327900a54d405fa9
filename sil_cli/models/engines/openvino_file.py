"""Networks for OpenVINO: an IR, which is an .xml and a .bin, or an ONNX file; each is looked through first."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING
from xml.parsers import expat

from sil_cli.errors import ModelError
from sil_cli.models.engines.onnx_file import OnnxFile, Port
from sil_cli.models.record import IR_SUFFIX
from sil_cli.runtime import import_quietly

if TYPE_CHECKING:
    from collections.abc import Mapping

    import openvino

VERSIONS = ("10", "11")
_LARGEST_XML = 64 * 2**20
_MOST_LAYERS = 100_000
_DEEPEST = 50
_REFUSED = ("If", "Loop", "TensorIterator", "ReadValue", "Assign")
_TYPES = {"f32": "float32", "f16": "float16", "f64": "float64", "u8": "uint8"}


def read_openvino(name: str, graph: bytes, data: Mapping[str, bytes]) -> openvino.Model:
    """Have OpenVINO read a network, from memory alone.

    Args:
        name: The file's, which says what it is.
        graph: Its content.
        data: The content of the files that hold its values, by name: of an IR, one.

    Raises:
        ModelError: It is none, or one that no runtime should be given.
        RuntimeError: OpenVINO can't read it.
    """
    core = import_quietly("openvino").Core()
    if not name.endswith(IR_SUFFIX):
        return core.read_model(io.BytesIO(OnnxFile(graph, name).self_contained(data)))
    check_ir(graph, name)
    (weights,) = data.values()
    return core.read_model(graph, weights)


def check_ir(graph: bytes, name: str) -> dict[str, str]:
    """Look through the .xml of an IR.

    Returns:
        What its makers noted of how images are to be prepared, by the names of OpenVINO's Model API.

    Raises:
        ModelError: It is none, of a version that OpenVINO no longer reads, or one that it should not be given.
    """

    def refuse(why: str, fix: str) -> None:
        raise ModelError(f"{name} can't be used: {why}.", f"{fix}.")

    again = "Convert the network again, with `ovc` of a current OpenVINO"
    parser = expat.ParserCreate()
    path: list[str] = []
    layers = 0
    noted: dict[str, str] = {}

    def start(tag: str, values: dict[str, str]) -> None:
        nonlocal layers
        path.append(tag)
        if len(path) == 1 and tag != "net":
            raise expat.ExpatError
        if len(path) == 1 and values.get("version") not in VERSIONS:
            refuse(
                f"it is an IR of version {values.get('version')}, and OpenVINO reads {' and '.join(VERSIONS)}", again
            )
        if len(path) > _DEEPEST:
            refuse("it is nested too deeply", again)
        if path[:3] == ["net", "rt_info", "model_info"] and "value" in values:
            noted[tag] = values["value"]
        if tag == "layer":
            layers += 1
            kind, origin = values.get("type", ""), values.get("version", "")
            if kind in _REFUSED:
                refuse(f"it has loops, branches or a memory ({kind})", "Export it without")
            if not origin.removeprefix("opset").isdecimal():
                refuse(f"its operator {kind} is not OpenVINO's own but of {origin}", "Export it without")
            if layers > _MOST_LAYERS:
                refuse(f"it has more than {_MOST_LAYERS:,} layers", "Use a smaller network")

    def end(_: str) -> None:
        path.pop()

    def doctype(*_: object) -> None:
        refuse("it declares a document type, which no IR does", again)

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = doctype
    try:
        if len(graph) > _LARGEST_XML:
            refuse(f"it has {len(graph) / 2**20:.0f} MiB, and an IR's .xml should be small", again)
        parser.Parse(graph, True)
    except expat.ExpatError:
        raise ModelError(
            f"{name} is not an OpenVINO IR, or is damaged.", "Name the .xml of a network, with its .bin beside it."
        ) from None
    return noted


def ports(model: openvino.Model) -> tuple[list[Port], list[Port]]:
    """The inputs and the outputs of a network."""
    return [_port(each) for each in model.inputs], [_port(each) for each in model.outputs]


def _port(value: openvino.Output) -> Port:
    node = value.get_node()
    names = sorted(value.get_names())
    shape = value.get_partial_shape()
    sizes = None if shape.rank.is_dynamic else tuple(int(n.get_length()) if n.is_static else None for n in shape)
    layout = str(node.get_layout()) if hasattr(node, "get_layout") else ""
    kind = value.get_element_type().get_type_name()
    return Port(
        names[0] if names else node.get_friendly_name(),
        _TYPES.get(kind, kind),
        sizes,
        layout.strip("[]").replace(",", ""),
    )
