"""`sil import-model net.onnx`: a network that others exported becomes a model, once it has proved to be one.

What the graph says of its input is taken from it, the rest is asked for or named as assumed. Then it embeds generated
people, in a process of its own with a limit on memory and time, because nobody knows what a stranger's graph does.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from sil_cli.errors import ModelError, SilError, UsageError, did_you_mean
from sil_cli.files import one_line, open_no_link, sha256_of_bytes, staging_folder, write_bytes, write_json
from sil_cli.models.engines.agreement import drawn_crops
from sil_cli.models.engines.engine import SAME_MODEL, reason, require_library
from sil_cli.models.engines.onnx_file import OnnxFile, Port, not_onnx
from sil_cli.models.record import (
    FAILED,
    GRAPH_SUFFIX,
    IMAGENET_MEAN,
    IMAGENET_STD,
    IR_SUFFIX,
    OPENVINO_BFLOAT16,
    RECORD_FILES,
    Agreement,
    Architecture,
    ExportRecord,
    ForeignGraph,
    ModelRecord,
    read_export,
    read_graph,
    read_part,
)
from sil_cli.results import Result
from sil_cli.runtime import cpu_kind, is_installed
from sil_cli.similarity.distance import unit_rows
from sil_cli.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import openvino

    from sil_cli.runtime import Reporter

    Affine = tuple[NDArray[np.float64], NDArray[np.float64]]

Colours = tuple[float, float, float]

BACKBONE = "graph"
"""What stands for the backbone of a model that is a graph."""

CROPS = 8
_OTHER = 5
"""The crop that is embedded by itself, besides the first."""

_ONNX_BEGINS = b"\x08"  # its first field, the version of the format
_TOO_NEW = "knows operators up to"
_CROPS_FILE, _FAILURES_FILE = "crops.npy", "failures.json"
_CONSTANT = 1 - 1e-7
_NEARER = 0.25
"""Of the way from other images to the same one, how far an image's mirror has to be."""

_LARGEST_SIDE = 2048
_LARGEST_BATCH = 1024
_MOST_PARTS = 16
_ANCHORS = 1000
_MOST_DIMENSIONS = 65_536
_SECONDS = 180
_MEMORY = 6 * 2**30
_EMBEDS = re.compile(r"embed|feat|descriptor|re_?id|bottleneck|neck", re.IGNORECASE)
_DETECTS = re.compile(r"box|dets?$|detections?$|num_det|labels?$|anchors?|scores?$|masks?$", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?")
_SKIPPED = {"Identity", "Cast", "Convert", "Transpose", "Constant"}
_ANOTHER = "Name a network that gives an embedding of each crop, such as one trained for re-identification."


@dataclass(frozen=True)
class InputWish:
    """What the user says of a graph.

    Attributes:
        height: Of its input; None as the graph says.
        width: Likewise.
        mean: As in `ForeignGraph`; None for what the graph says, or ImageNet's.
        std: Likewise.
        scale: Likewise.
        bgr: Its channels are blue, green, red; None for what the graph says.
        output: Which output is the embedding.
    """

    height: int | None = None
    width: int | None = None
    mean: Colours | None = None
    std: Colours | None = None
    scale: float | None = None
    bgr: bool | None = None
    output: str | None = None


class GraphImportResult(Result):
    """The outcome of `sil import-model` for a graph.

    Attributes:
        model: The folder that other commands take as the model.
        graph: Where it came from.
        engines: What computes it here.
        height: Of its input in pixels.
        width: Of its input in pixels.
        dimension: Numbers in an embedding.
        fingerprint: A hash of the graph, its data and its preprocessing: equal ones embed alike.
        input: How images become its input.
        agreement: Cosines to the first engine's embeddings, by engine and precision.
        notes: What was assumed, and what looks odd.
    """

    model: Path
    graph: str
    engines: list[str]
    height: int
    width: int
    dimension: int
    fingerprint: str
    input: ForeignGraph
    agreement: dict[str, Agreement]
    notes: list[str]


@dataclass(frozen=True)
class _Network:
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


def import_graph(path: Path, out: Path, wish: InputWish, reporter: Reporter) -> GraphImportResult:
    """Make a model of a graph.

    Args:
        path: An ONNX file, or the .xml of an OpenVINO IR with its .bin beside it.
        out: The folder that is made.
        wish: What is known of the graph's input and output beyond what it says.
        reporter: Shows the progress, and hears what was assumed.

    Raises:
        UsageError: Something has to be said of the graph, or contradicts it; or `out` holds something.
        ModelError: It can't be used; says why.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not empty.", "Choose another folder with --out DIR.")
    network = _read(path)
    notes: list[str] = []
    draft = _draft(network, wish, notes)
    with staging_folder(out.parent) as staging:
        folder = staging / "model"
        for name, content in network.files.items():
            write_bytes(folder / name, content)
        record = _proved(draft, folder, notes, reporter)
        write_json(folder / RECORD_FILES["float32"], record.model_dump(mode="json"))
        if out.exists():
            out.rmdir()
        folder.rename(out)
    for note in notes:
        reporter.warn(note)
    assert record.foreign is not None  # noqa: S101 - as `_draft` made it
    size = record.model.architecture
    return GraphImportResult(
        model=out,
        graph=str(path),
        engines=[name for name in record.engines if is_installed(name) and not record.differs(f"{name} float32")],
        height=size.height,
        width=size.width,
        dimension=record.model.dimension,
        fingerprint=record.model.fingerprint,
        input=record.foreign,
        agreement=record.agreement,
        notes=notes,
    )


def _read(path: Path) -> _Network:
    """Read a graph and the files that belong to it."""
    if not path.is_file():
        raise UsageError(f"There is no file {path}.", "Name an ONNX file, or the .xml of an OpenVINO IR.")
    content = read_part(path, "Name a readable file.")
    xml = content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
    xml = xml or (path.suffix.lower() == IR_SUFFIX and not content.startswith(_ONNX_BEGINS))
    return _read_ir(path, content) if xml else _read_onnx(path, content)


def _read_onnx(path: Path, content: bytes) -> _Network:
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
    return _Network(path.name, files, file.inputs, file.outputs, kinds, noted, first, file.opset)


def _read_ir(path: Path, content: bytes) -> _Network:
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
    return _Network(path.name, files, inputs, outputs, kinds, noted, first, 0)


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


def _steps_of_onnx(file: OnnxFile, name: str) -> Iterable[tuple[str, NDArray[np.generic] | None, bool]]:
    """What is done to the input first: the operation, its constant, and whether the constant is its first operand."""
    while True:
        users = [node for node in file.nodes if name in node.inputs]
        if len(users) != 1:
            return
        others = [each for each in users[0].inputs if each != name]
        yield users[0].kind, file.constant(others[0]) if len(others) == 1 else None, users[0].inputs[0] != name
        name = users[0].outputs[0]


def _steps_of_openvino(model: openvino.Model) -> Iterable[tuple[str, NDArray[np.generic] | None, bool]]:
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


def _affine(steps: Iterable[tuple[str, NDArray[np.generic] | None, bool]]) -> Affine | None:
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


def _draft(network: _Network, wish: InputWish, notes: list[str]) -> ExportRecord:
    """The record of a graph as far as it tells itself, and the user."""
    port = _image_input(network)
    layout, height, width = _size(network, port, wish, notes)
    batch = port.shape[0] if port.shape is not None else None
    if batch is not None and batch > _LARGEST_BATCH:
        raise ModelError(
            f"{network.name} takes {batch:,} images at once.", "Export it for any number of images, or one."
        )
    output = _embedding_output(network, wish.output, notes)
    scale, mean, std, bgr = _preparation(network, port, wish, notes)
    foreign = ForeignGraph(
        input=port.name,
        output=output.name,
        layout=layout,
        type=cast("Literal['float32', 'float16', 'float64', 'uint8']", port.type),
        batch=batch,
        bgr=bgr,
        scale=scale,
        mean=mean,
        std=std,
        data={name: sha256_of_bytes(content) for name, content in network.data.items()},
    )
    checksum = sha256_of_bytes(network.files[network.file])
    in_units = [tuple(value * scale / 255 for value in each) for each in (mean, std)]
    size = Architecture(
        backbone=BACKBONE,
        height=height,
        width=width,
        mean=cast("Colours", in_units[0]),
        std=cast("Colours", in_units[1]),
    )
    return ExportRecord(
        model=ModelRecord(architecture=size, dimension=1, fingerprint=foreign.fingerprint(checksum, height, width)),
        precision="float32",
        file=network.file,
        sha256=checksum,
        opset=network.opset,
        crops=CROPS,
        measured_on="generated people",
        agreement={},
        cpu=cpu_kind(),
        versions={"sil": VERSION},
        foreign=foreign,
    )


def _image_input(network: _Network) -> Port:
    if len(network.inputs) != 1:
        named = ", ".join(map(str, network.inputs)) or "none"
        raise ModelError(f"{network.name} has {len(network.inputs)} inputs ({named}), not one image.", _ANOTHER)
    (port,) = network.inputs
    if port.type not in ("float32", "float16", "float64", "uint8"):
        raise ModelError(
            f"{network.name} takes {port}, which are no pixels.",
            "Export it with an input of float32, float16 or uint8.",
        )
    if port.shape is not None and len(port.shape) != 4:
        raise ModelError(
            f"{network.name} takes {port}, not a batch of images.",
            "Export it with an input of 4 axes: images, channels, height and width.",
        )
    return port


def _size(network: _Network, port: Port, wish: InputWish, notes: list[str]) -> tuple[Literal["NCHW", "NHWC"], int, int]:
    """Layout, height and width of the input."""
    shape = port.shape or (None,) * 4
    first, last = shape[1] in (3, None), shape[3] in (3, None)
    if not first and not last:
        raise ModelError(
            f"{network.name} takes {port}, not images of 3 channels.", "Use a network for images in colour."
        )
    layout: Literal["NCHW", "NHWC"] = "NHWC" if (last and shape[3] == 3 and shape[1] != 3) or not first else "NCHW"
    said = port.layout
    if first and last and said in ("NCHW", "NHWC"):
        layout = "NHWC" if said == "NHWC" else "NCHW"
    elif shape[1] == shape[3]:
        notes.append(f"{network.name} doesn't say where its channels are: taken as {layout}.")
    known = shape[2:] if layout == "NCHW" else shape[1:3]
    sizes = []
    for name, given, wanted in (("height", known[0], wish.height), ("width", known[1], wish.width)):
        if given is None and wanted is None:
            raise UsageError(
                f"{network.name} takes images of any {name}.",
                "Say which it was trained at, for example --height 256 --width 128.",
            )
        if given is not None and wanted not in (None, given):
            raise UsageError(
                f"{network.name} takes images of {name} {given} only, not {wanted}.", f"Leave --{name} out."
            )
        sizes.append(cast("int", given if given is not None else wanted))
    if not all(1 < side <= _LARGEST_SIDE for side in sizes):
        raise ModelError(
            f"{network.name} takes images of {sizes[0]}×{sizes[1]} pixels.",
            f"Use a network for crops of up to {_LARGEST_SIDE}×{_LARGEST_SIDE}.",
        )
    return layout, sizes[0], sizes[1]


def _embedding_output(network: _Network, wanted: str | None, notes: list[str]) -> Port:
    by_name = {port.name: port for port in network.outputs}
    listed = ", ".join(map(str, network.outputs)) or "none"
    if wanted is not None:
        if wanted not in by_name:
            raise UsageError(f"{network.name} has no output {wanted}; it has {listed}.", did_you_mean(wanted, by_name))
        return by_name[wanted]
    if _is_detector(network):
        raise ModelError(f"{network.name} is a detector: it gives boxes ({listed}), not an embedding.", _ANOTHER)
    vectors = [port for port in network.outputs if port.type.startswith("float") and _may_be_vector(port)]
    named = [port for port in vectors if _EMBEDS.search(port.name)]
    chosen = vectors if len(vectors) == 1 else named
    if len(network.outputs) < 2 and not vectors:
        raise ModelError(f"{network.name} gives {listed}, which is no embedding.", _ANOTHER)
    if len(chosen) != 1:
        raise UsageError(
            f"{network.name} has {len(network.outputs)} outputs: {listed}.",
            "Say which is the embedding: --output NAME.",
        )
    if len(network.outputs) > 1:
        others = ", ".join(port.name for port in network.outputs if port.name != chosen[0].name)
        notes.append(f"The output {chosen[0].name} is taken as the embedding, not {others}; --output says another.")
    return chosen[0]


def _may_be_vector(port: Port) -> bool:
    """Whether an output can be a vector of each image, or a few of its parts."""
    if port.shape is None:
        return True
    long = [size for size in port.shape[1:] if size != 1]
    return len(port.shape) > 1 and (
        len(long) == 1 or (len(long) == 2 and (long[0] or 1) <= _MOST_PARTS and len(port.shape) < 4)
    )


def _is_detector(network: _Network) -> bool:
    """Whether it finds people instead of describing one: by its operations, its makers' notes or its outputs."""
    if any("NonMaxSuppression" in kind or "NMS" in kind or kind == "DetectionOutput" for kind in network.kinds):
        return True
    if network.noted.get("task") in ("detect", "segment", "pose", "obb"):
        return True
    if sum(_DETECTS.search(port.name) is not None for port in network.outputs) >= 2:
        return True
    grids = [[size for size in port.shape[1:] if size != 1] for port in network.outputs if port.shape is not None]
    return bool(grids) and all(len(grid) == 2 and max(size or 0 for size in grid) >= _ANCHORS for grid in grids)


def _preparation(
    network: _Network, port: Port, wish: InputWish, notes: list[str]
) -> tuple[float, Colours, Colours, bool]:
    """Scale, mean, deviation and order of channels: the user's, else the makers', else the graph's, else ImageNet's."""
    said = (wish.scale, wish.mean, wish.std)
    own = any(each is not None for each in said)
    noted = _noted(network.noted)
    bgr = wish.bgr if wish.bgr is not None else _is_bgr(network.noted)
    if port.type == "uint8":
        if own:
            raise UsageError(
                f"{network.name} takes uint8, and so prepares images itself.", "Leave --mean, --std and --scale out."
            )
        return 1.0, (0.0,) * 3, (1.0,) * 3, bgr
    if own:
        if wish.scale is None and max(wish.mean or (0.0,)) > 1.5:
            raise UsageError(
                "--mean is larger than 1, and images are divided by 255 first.", "For values in 0..255 add --scale 1."
            )
        if network.first is not None:
            notes.append(f"{network.name} normalises images itself, and now they are normalised before as well.")
        return wish.scale or 255.0, wish.mean or (0.0,) * 3, wish.std or (1.0,) * 3, bgr
    if noted is not None:
        return (*noted, bgr)
    if network.first is not None:
        factor, addend = network.first
        whole = np.abs(factor).max() < 0.5 or np.abs(addend).max() > 10
        notes.append(f"{network.name} normalises images itself; it seems to take values in 0..{255 if whole else 1}.")
        return (1.0 if whole else 255.0), (0.0,) * 3, (1.0,) * 3, bgr
    notes.append(
        f"{network.name} doesn't say how images are normalised: taken are RGB values in 0..1, less ImageNet's mean, by "
        "its deviation. Say otherwise with --mean, --std, --scale and --bgr."
    )
    return 255.0, IMAGENET_MEAN, IMAGENET_STD, bgr


def _is_bgr(noted: Mapping[str, str]) -> bool:
    reverse = noted.get("reverse_input_channels", "").lower() in ("yes", "true", "1")
    return reverse or noted.get("image.bitmappixelformat", "").lower().startswith("bgr")


def _noted(notes: Mapping[str, str]) -> tuple[float, Colours, Colours] | None:
    """What a graph's makers noted of its input: by OpenVINO's Model API, by ONNX's own words, or as mean and std."""
    ranges: dict[str, tuple[float, float]] = {
        "nominalrange_0_255": (1.0, 0.0),
        "normalized_0_1": (255.0, 0.0),
        "normalized_1_1": (127.5, 1.0),
    }
    nominal = ranges.get(notes.get("image.nominalpixelrange", "").lower())
    if nominal is not None:
        return nominal[0], (nominal[1],) * 3, (1.0,) * 3
    mean = _colours(notes.get("mean_values", notes.get("mean", "")))
    std = _colours(notes.get("scale_values", notes.get("std", "")))
    if mean is None and std is None:
        return None
    whole = "mean_values" in notes or "scale_values" in notes or max(mean or (0.0,)) > 1.5
    if _is_bgr(notes):  # as the network's channels lie
        mean, std = (each and (each[2], each[1], each[0]) for each in (mean, std))
    return (1.0 if whole else 255.0), mean or (0.0,) * 3, std or (1.0,) * 3


def _colours(text: str) -> Colours | None:
    numbers = [float(each) for each in _NUMBER.findall(text)]
    if len(numbers) == 1:
        numbers *= 3
    return (numbers[0], numbers[1], numbers[2]) if len(numbers) == 3 else None


def _proved(draft: ExportRecord, folder: Path, notes: list[str], reporter: Reporter) -> ExportRecord:
    """The record of a graph that embeds people here, with its dimension and how well engines agree.

    Raises:
        ModelError: It doesn't; says what it gives instead.
    """
    if not any(is_installed(name) for name in draft.engines):
        require_library(draft.engines[0])
    size = draft.model.architecture
    crops = drawn_crops(size.height, size.width, reporter).pixels[:CROPS]
    with reporter.task("Embedding generated people", None) as task:
        record, found = draft, _tried(draft, folder, crops)
        problem = _problem(found)
        if problem is not None and record.foreign is not None and record.foreign.batch is None:
            # Exporters note any number of images where the graph takes one.
            record = _one_by_one(draft)
            found = _tried(record, folder, crops)
            if _problem(found) is None:
                problem = None
                notes.append("The graph says that it takes any number of images, and takes only one at a time.")
        if problem is not None:
            raise problem
        task.advance()
    good = {how: each for how, each in found.items() if not isinstance(each, ModelError)}
    first = next(iter(good.values()))
    dimension = _dimension(first.together.shape[1:], notes)
    truth = _unit(first.together)
    _check_embeddings(truth, first, notes)
    agreement = {}
    for how, each in found.items():
        if isinstance(each, ModelError):
            agreement[how] = FAILED
            notes.append(f"{each.what} It is not used for this model.")
            continue
        cosines = (_unit(each.together) * truth).sum(axis=1)
        agreement[how] = Agreement(min=float(cosines.min()), mean=float(cosines.mean()))
    model = record.model.model_copy(update={"dimension": dimension})
    return record.model_copy(update={"model": model, "agreement": agreement, "crops": len(crops)})


def _one_by_one(record: ExportRecord) -> ExportRecord:
    assert record.foreign is not None  # noqa: S101 - as `_draft` made it
    foreign, size = record.foreign.model_copy(update={"batch": 1}), record.model.architecture
    fingerprint = foreign.fingerprint(record.sha256, size.height, size.width)
    model = record.model.model_copy(update={"fingerprint": fingerprint})
    return record.model_copy(update={"foreign": foreign, "model": model})


class Trial(NamedTuple):
    """What a graph gave for some crops, in float32: (N, …) each.

    Attributes:
        together: All in one batch.
        again: The same once more.
        alone: The first, and then another, each by itself.
        mirrored: The mirror images.
    """

    together: NDArray[np.float32]
    again: NDArray[np.float32]
    alone: NDArray[np.float32]
    mirrored: NDArray[np.float32]


Trials = dict[str, "Trial | ModelError"]


def _tried(record: ExportRecord, folder: Path, crops: NDArray[np.uint8]) -> Trials:
    """What every engine that is installed makes of a graph, or why it fails; in a process with limits.

    Raises:
        ModelError: The process was ended: it crashed, took too long or too much memory.
    """
    write_json(folder / RECORD_FILES["float32"], record.model_dump(mode="json"))
    with tempfile.TemporaryDirectory(prefix="sil-graph-") as apart:
        np.save(Path(apart, _CROPS_FILE), crops)
        code = "import sys; from sil_cli.models.engines.import_graph import try_graph; try_graph(*sys.argv[1:])"
        command = [sys.executable, "-c", code, str(folder.absolute()), apart]
        places = os.pathsep.join(str(Path(each).absolute()) for each in sys.path)
        environment = os.environ | {"PYTHONPATH": places, "PYTHONSAFEPATH": "1"}
        try:
            done = subprocess.run(  # noqa: S603 - this program itself
                command, cwd=apart, env=environment, capture_output=True, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise ModelError(
                f"The graph did not embed {len(crops)} images within {_SECONDS} s.", "Use a smaller network."
            ) from None
        if done.returncode != 0 or not Path(apart, _FAILURES_FILE).is_file():
            raise ModelError(
                f"The graph crashes what computes it (code {done.returncode}).",
                "It is damaged, or wants more memory than a network for crops should: export it again.",
            )
        failures = json.loads(Path(apart, _FAILURES_FILE).read_text(encoding="utf-8"))
        found: Trials = {}
        for how, failure in failures.items():
            if failure is not None:
                found[how] = ModelError(*failure)
                continue
            with np.load(Path(apart, f"{how}.npz")) as arrays:
                found[how] = Trial(*(arrays[name] for name in Trial._fields))
        return found


def try_graph(folder: str, apart: str) -> None:
    """Let every engine embed crops, and write down what it gives or why it fails: the work of the process apart.

    Args:
        folder: Holds the graph's files and its record.
        apart: Holds the crops; takes the results.
    """
    from sil_cli.models.engines.exported_engine import OnnxRuntimeEngine, OpenVinoEngine, openvino_multiplies_bfloat16

    path = Path(folder, RECORD_FILES["float32"])
    record = read_export(path)
    files = read_graph(path, record)
    _limit_memory(_MEMORY + 4 * sum(map(len, files.values())))
    graph, data = files.pop(record.file), files
    crops = np.load(Path(apart, _CROPS_FILE))
    ways: dict[str, Callable[[], OnnxRuntimeEngine | OpenVinoEngine]] = {}
    if "onnxruntime" in record.engines and is_installed("onnxruntime"):
        ways["onnxruntime float32"] = lambda: OnnxRuntimeEngine(record, graph, data)
    if is_installed("openvino"):
        ways["openvino float32"] = lambda: OpenVinoEngine(record, graph, data)
        if openvino_multiplies_bfloat16():
            ways[OPENVINO_BFLOAT16] = lambda: OpenVinoEngine(record, graph, data, bfloat16=True)
    failures: dict[str, tuple[str, str] | None] = {}
    for how, make in ways.items():
        if how == OPENVINO_BFLOAT16 and failures["openvino float32"]:
            continue
        try:
            engine = make()
            alone = np.concatenate([engine.raw(crops[:1]), engine.raw(crops[_OTHER : _OTHER + 1])])
            mirrored = np.ascontiguousarray(crops[:, :, ::-1])
            trial = Trial(engine.raw(crops), engine.raw(crops), alone, engine.raw(mirrored))
            np.savez(Path(apart, f"{how}.npz"), **trial._asdict())
            failures[how] = None
        except SilError as error:
            failures[how] = (error.what, error.fix)
        except MemoryError:
            failures[how] = (f"{how} needs too much memory for {len(crops)} images.", "Use a smaller network.")
    Path(apart, _FAILURES_FILE).write_text(json.dumps(failures), encoding="utf-8")


def _limit_memory(more: int) -> None:
    """Let this process take only so many bytes more, where the system can see to that."""
    try:
        import resource
    except ImportError:  # Windows
        return
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    with contextlib.suppress(ValueError, OSError):  # there is a lower limit already
        resource.setrlimit(resource.RLIMIT_DATA, (more, hard))


def _problem(found: Trials) -> ModelError | None:
    """Why none of the engines can be used; of those that work, the first decides."""
    good = [each for each in found.values() if not isinstance(each, ModelError)]
    bad = [each for each in found.values() if isinstance(each, ModelError)]
    if not good or (bad and _TOO_NEW in bad[0].what):  # what its operators do is not known yet
        fix = "Export it again, with an older opset or without unusual operators, or update onnxruntime and openvino."
        return ModelError(bad[0].what, "Export it for smaller images." if "memory" in bad[0].what else fix)
    trial = good[0]
    for each in trial:
        if not np.isfinite(each).all():
            return ModelError(
                "The graph gives NaN or infinite values for crops of people.",
                "Check --mean, --std and --scale, and that the network was exported for inference.",
            )
        if not each.reshape(len(each), -1).any(axis=1).all():
            return ModelError("The graph gives nothing but zeros for a crop of a person.", _ANOTHER)
    together = _unit(trial.together)
    if (_unit(trial.again) * together).sum(axis=1).min() < SAME_MODEL:
        return ModelError("The graph gives another embedding each time.", "Export it for inference, without dropout.")
    if (_unit(trial.alone) * together[[0, _OTHER]]).sum(axis=1).min() < SAME_MODEL:
        return ModelError(
            "An image's embedding depends on the other images of its batch.", "Export the network for inference."
        )
    return None


def _unit(outputs: NDArray[np.float32]) -> NDArray[np.float64]:
    return unit_rows(outputs.reshape(len(outputs), -1).astype(np.float64))


def _dimension(shape: tuple[int, ...], notes: list[str]) -> int:
    """The length of an embedding, for what the graph gives of an image.

    Raises:
        ModelError: That is no embedding.
    """
    long = [size for size in shape if size != 1]
    said = "×".join(map(str, shape))
    if len(long) == 2 and long[0] <= _MOST_PARTS and len(shape) < 3:
        notes.append(f"The graph gives {long[0]} parts of {long[1]} values; one after another they are the embedding.")
    elif len(long) > 1:
        kind = "a map of features" if len(shape) == 3 else "something else"
        raise ModelError(f"The graph gives {said} values of an image: {kind}, not an embedding.", _ANOTHER)
    dimension = prod(long)
    if not 1 < dimension <= _MOST_DIMENSIONS:
        raise ModelError(f"The graph gives {said} values of an image, which is no embedding.", _ANOTHER)
    return dimension


def _check_embeddings(rows: NDArray[np.float64], trial: Trial, notes: list[str]) -> None:
    """Tell embeddings that can't be right.

    Raises:
        ModelError: All images have the same.
    """
    cosines = rows @ rows.T
    others = cosines[~np.eye(len(rows), dtype=bool)]
    if others.min() > _CONSTANT:
        raise ModelError("The graph gives the same embedding for every image.", "Check --scale, --mean and --std.")
    mirror, other = float((_unit(trial.mirrored) * rows).sum(axis=1).mean()), float(others.mean())
    if mirror - other < _NEARER * (1 - other):
        notes.append(
            f"An image and its mirror are hardly nearer than two images of different people (cosines {mirror:.3f} and "
            f"{other:.3f}): check --mean, --std, --scale, --bgr, and that this is a network for crops of people."
        )
