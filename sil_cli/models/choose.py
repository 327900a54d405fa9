"""Choosing how a model on disk is computed: torch, or an export of it that starts and runs quicker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sil_cli.defaults import RECORD_FILE
from sil_cli.errors import ModelError, UsageError
from sil_cli.models.engine import Engine, EngineName, PrecisionName, is_installed, require_library
from sil_cli.models.export_record import (
    AGAIN,
    GRAPH_SUFFIX,
    OPENVINO_BFLOAT16,
    ExportRecord,
    export_beside,
    read_export,
    read_graph,
    record_of_graph,
)
from sil_cli.models.record import OTHER_MODEL, WEIGHTS_FILE, ModelRecord, read_record
from sil_cli.runtime import DeviceName, may_have_accelerator, resolve_device

if TYPE_CHECKING:
    from pathlib import Path

    from sil_cli.runtime import Reporter

FEW_IMAGES = 256
"""Up to so many images, the quickest start wins: OpenVINO takes some seconds to import and to compile."""

ONE_BY_ONE = 8
"""Up to so many images, ONNX Runtime goes without laying weights out anew, which takes as long as embedding them."""

ExportEngine = Literal["onnxruntime", "openvino"]


@dataclass(frozen=True)
class EngineWish:
    """What the user asks of an engine.

    Attributes:
        engine: A library, or `auto`.
        precision: `auto`: bfloat16 where the export says that it agrees with float32, else float32.
        device: Where torch computes; exports run on the CPU.
        images: How many images there are to embed, None where unknown.
    """

    engine: EngineName = "auto"
    precision: PrecisionName = "auto"
    device: DeviceName = "auto"
    images: int | None = None


@dataclass(frozen=True)
class ModelFiles:
    """Where the files of a model are, whichever of them the user named.

    Attributes:
        folder: Holds weights and `model.json`; None where there is only an export.
        export: The record of an export; None where there is none.
    """

    folder: Path | None
    export: Path | None


NOWHERE = ModelFiles(folder=None, export=None)
"""Of a model that was made up from something else, such as the checkpoint of an unfinished run."""


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to embed.

    Attributes:
        engine: Computes it.
        record: The source model's; an int8 engine has a fingerprint of its own.
        files: Where it came from; a stale export is left out.
    """

    engine: Engine
    record: ModelRecord
    files: ModelFiles


def find_model(path: Path) -> ModelFiles:
    """The files of the model at `path`: a folder, its weights, an ONNX file, or an export's record.

    Raises:
        ModelError: There is no model.
        SilError: A record is damaged.
    """
    if path.name == WEIGHTS_FILE:
        return ModelFiles(folder=path.parent, export=None)
    if path.suffix == GRAPH_SUFFIX:
        return ModelFiles(folder=None, export=record_of_graph(path))
    if path.suffix == ".json" and path.name != RECORD_FILE:
        return ModelFiles(folder=None, export=path)
    folder = path.parent if path.name == RECORD_FILE else path
    export = export_beside(folder)
    if (folder / RECORD_FILE).is_file():
        return ModelFiles(folder=folder, export=export)
    export = export or export_beside(folder, "int8")
    if export is None:
        raise ModelError(
            f"{path} holds no finished model: {RECORD_FILE} is missing, and there is no export.",
            OTHER_MODEL,
        )
    return ModelFiles(folder=None, export=export)


def load_engine(path: Path, wish: EngineWish, reporter: Reporter) -> LoadedModel:
    """Load a model with the quickest engine there is for it, or with the one that is asked for.

    Needs torch only where torch is chosen. `auto` takes, on a CPU, OpenVINO for many images if bfloat16 was measured
    to agree with torch, else ONNX Runtime, else OpenVINO, else torch; and torch on an accelerator.

    Args:
        path: A run folder, the model folder of a gallery, `model.safetensors`, an ONNX file or its record.
        wish: What is asked for.
        reporter: Is told which engine it is, and of an export that can't be used.

    Raises:
        UsageError: The engine that is asked for is not installed, or does not run on that device.
        ModelError: There is no such model, it is damaged, or the precision that is asked for does not agree.
    """
    files = find_model(path)
    checked = _usable_export(files, wish, reporter)
    if checked is None:
        files = ModelFiles(files.folder, None)
    export = checked.record if checked else None
    name = _chosen(files, export, wish)
    if name == "torch" or checked is None:
        loaded = _load_torch(files, export, wish)
    else:
        loaded = LoadedModel(_export_engine(checked, name, wish), checked.record.model, files)
    reporter.note(f"Embedding with {loaded.engine.name}.")
    return loaded


@dataclass(frozen=True)
class _Checked:
    """An export whose checksum is right; the graph is empty where torch was asked for."""

    record: ExportRecord
    graph: bytes


def _usable_export(files: ModelFiles, wish: EngineWish, reporter: Reporter) -> _Checked | None:
    """The export; None where there is none, or it is stale or damaged and torch can take its place."""
    if files.export is None:
        return None
    try:
        record = read_export(files.export)
        if files.folder is not None and read_record(files.folder).fingerprint != record.model.fingerprint:
            raise ModelError(f"{files.export} was exported from other weights than those beside it.", AGAIN)
        return _Checked(record, b"" if wish.engine == "torch" else read_graph(files.export, record))
    except ModelError as error:
        if files.folder is None or wish.engine not in ("auto", "torch"):
            raise
        reporter.warn(f"{error.what} It is not used. {error.fix}")
        return None


def _chosen(files: ModelFiles, export: ExportRecord | None, wish: EngineWish) -> Literal["torch"] | ExportEngine:
    if wish.engine == "torch":
        if files.folder is None:
            raise ModelError(f"{files.export} is an export, which torch can't run.", "Name the run that it came from.")
        return "torch"
    if wish.engine != "auto":
        require_library(wish.engine)
        if export is None:
            raise ModelError(
                f"{files.folder} holds no export for {wish.engine}.",
                f"Make one with `sil export --model {files.folder}`.",
            )
        if wish.device not in ("auto", "cpu"):
            raise UsageError(f"The engine {wish.engine} runs on the CPU, not on {wish.device}.", "Use --engine torch.")
        return wish.engine
    return _quickest(files, export, wish)


def _quickest(files: ModelFiles, export: ExportRecord | None, wish: EngineWish) -> Literal["torch"] | ExportEngine:
    if export is None:
        return "torch"
    few = wish.images is not None and wish.images <= FEW_IMAGES
    if files.folder is not None and _on_accelerator(wish.device, few=few):
        return "torch"
    there: list[ExportEngine] = [name for name in ("onnxruntime", "openvino") if is_installed(name)]
    if files.folder is None and not there:
        require_library("onnxruntime")
    right = [name for name in there if not export.differs(f"{name} {export.precision}")]
    if not right:
        return "torch" if files.folder is not None else there[0]
    gains = export.precision == "int8" or (wish.precision != "float32" and export.agrees(OPENVINO_BFLOAT16))
    if "openvino" in right and gains and not few:
        return "openvino"
    return right[0]


def _on_accelerator(device: DeviceName, *, few: bool) -> bool:
    """Whether torch should compute on an accelerator; torch is asked only if there may be one."""
    if device == "auto" and not few and may_have_accelerator():
        return resolve_device("auto").type != "cpu"
    return device not in ("auto", "cpu")


def _load_torch(files: ModelFiles, export: ExportRecord | None, wish: EngineWish) -> LoadedModel:
    from sil_cli.models.embedder import load_model
    from sil_cli.models.torch_engine import make_torch_engine

    assert files.folder is not None  # noqa: S101 - `_chosen` saw to it
    bfloat16 = _wants_bfloat16("torch", export, wish)
    embedder, record = load_model(files.folder)
    device = resolve_device(wish.device)
    engine = make_torch_engine(embedder, record.fingerprint, device=device, bfloat16=bfloat16)
    return LoadedModel(engine, record, files)


def _export_engine(checked: _Checked, name: ExportEngine, wish: EngineWish) -> Engine:
    bfloat16 = _wants_bfloat16(name, checked.record, wish)
    how = f"{name} {'bfloat16' if bfloat16 else checked.record.precision}"
    if checked.record.differs(how):
        raise _other_model(how, checked.record, "Use another --engine, or export it again with `sil export`.")
    if name == "onnxruntime":
        from sil_cli.models.onnx_engine import OnnxRuntimeEngine

        few = wish.images is not None and wish.images <= ONE_BY_ONE
        return OnnxRuntimeEngine(checked.record, checked.graph, few=few)
    from sil_cli.models.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(checked.record, checked.graph, bfloat16=bfloat16)


def _wants_bfloat16(name: str, export: ExportRecord | None, wish: EngineWish) -> bool:
    """Whether to compute in bfloat16; refuses it where it was asked for and would give other embeddings."""
    how = f"{name} bfloat16"
    agrees = export is not None and export.agrees(how)
    if wish.precision == "bfloat16" and not agrees:
        raise _other_model(how, export, "Use inference.precision=auto, or compare it here with `sil export`.")
    return agrees and wish.precision != "float32"


def _other_model(how: str, export: ExportRecord | None, fix: str) -> ModelError:
    measured = export.measured(how) if export else None
    told = "it was not compared with torch on this kind of CPU"
    if measured is not None:
        told = f"its smallest cosine to torch's is {measured.min:.5f}"
    return ModelError(f"{how} is not the same model: {told}.", fix)
