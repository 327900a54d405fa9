"""`sil import-model net.onnx`: a network that others exported becomes a model, once it has proved to be one."""

from __future__ import annotations

import json
import subprocess
import tempfile
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sil_cli.errors import ModelError, SilError, UsageError
from sil_cli.files import staging_folder, write_bytes, write_json
from sil_cli.limited_process import as_program, limit_process
from sil_cli.models.engines.agreement import drawn_crops
from sil_cli.models.engines.engine import SAME_MODEL, require_library
from sil_cli.models.engines.graph_input import MOST_PARTS, draft_record
from sil_cli.models.engines.network import ANOTHER, read_network
from sil_cli.models.record import (
    FAILED,
    OPENVINO_BFLOAT16,
    RECORD_FILES,
    Agreement,
    ExportRecord,
    ForeignGraph,
    read_export,
    read_graph,
)
from sil_cli.results import Result
from sil_cli.runtime import is_installed
from sil_cli.similarity.distance import unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from sil_cli.models.engines.exported_engine import OnnxRuntimeEngine, OpenVinoEngine
    from sil_cli.models.engines.graph_input import InputWish
    from sil_cli.models.record import ModelCard
    from sil_cli.runtime import Reporter


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


def import_graph(
    path: Path, out: Path, wish: InputWish, reporter: Reporter, card: ModelCard | None = None
) -> GraphImportResult:
    """Make a model of a graph.

    Args:
        path: An ONNX file, or the .xml of an OpenVINO IR with its .bin beside it.
        out: The folder that is made.
        wish: What is known of the graph's input and output beyond what it says.
        reporter: Shows the progress, and hears what was assumed.
        card: Where it came from.

    Raises:
        UsageError: Something has to be said of the graph, or contradicts it; or `out` holds something.
        ModelError: It can't be used; says why.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not empty.", "Choose another folder with --out DIR.")
    network = read_network(path)
    notes: list[str] = []
    draft = draft_record(network, wish, notes)
    with staging_folder(out.parent) as staging:
        folder = staging / "model"
        for name, content in network.files.items():
            write_bytes(folder / name, content)
        record = proved(draft, folder, notes, reporter)
        record = record.model_copy(update={"model": record.model.model_copy(update={"card": card})})
        write_json(folder / RECORD_FILES["float32"], record.model_dump(mode="json"))
        if out.exists():
            out.rmdir()
        folder.rename(out)
    for note in notes:
        reporter.warn(note)
    assert record.foreign is not None  # noqa: S101 - as it was drafted
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


CROPS = 8
_OTHER = 5
"""The crop that is embedded by itself, besides the first."""

_CROPS_FILE, _FAILURES_FILE = "crops.npy", "failures.json"
_TOO_NEW = "knows operators up to"
_CONSTANT = 1 - 1e-7
_NEARER = 0.25
"""Of the way from other images to the same one, how far an image's mirror has to be."""

_MOST_DIMENSIONS = 65_536
_SECONDS = 180
_MEMORY = 6 * 2**30


def proved(draft: ExportRecord, folder: Path, notes: list[str], reporter: Reporter) -> ExportRecord:
    """The record of a graph that embeds people here, with its dimension and how well engines agree.

    Args:
        draft: The record so far.
        folder: Holds the graph's files.
        notes: Gets what looks odd.
        reporter: Shows the progress.

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
    assert record.foreign is not None  # noqa: S101 - as it was drafted
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
        command, environment = as_program(code, str(folder.absolute()), apart)
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
    limit_process(memory=_MEMORY + 4 * sum(map(len, files.values())))
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
            return ModelError("The graph gives nothing but zeros for a crop of a person.", ANOTHER)
    together = _unit(trial.together)
    if (_unit(trial.again) * together).sum(axis=1).min() < SAME_MODEL:
        return ModelError(
            "The graph gives a different embedding each time.", "Export it for inference, without dropout."
        )
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
    if len(long) == 2 and long[0] <= MOST_PARTS and len(shape) < 3:
        notes.append(f"The graph gives {long[0]} parts of {long[1]} values; one after another they are the embedding.")
    elif len(long) > 1:
        kind = "a map of features" if len(shape) == 3 else "something else"
        raise ModelError(f"The graph gives {said} values of an image: {kind}, not an embedding.", ANOTHER)
    dimension = prod(long)
    if not 1 < dimension <= _MOST_DIMENSIONS:
        raise ModelError(f"The graph gives {said} values of an image, which is not an embedding.", ANOTHER)
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
