"""From a path to a model that is ready to embed, by torch or by an export that starts and runs quicker."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sil_cli.data.images import MAX_PIXELS, pixels_in
from sil_cli.errors import ModelError, UsageError, quoted
from sil_cli.models.engines.engine import Engine, require_library
from sil_cli.models.model import Model
from sil_cli.models.record import (
    AGAIN,
    OPENVINO_BFLOAT16,
    ExportRecord,
    ModelFiles,
    find_model,
    read_export,
    read_graph,
    read_record,
)
from sil_cli.runtime import DeviceName, SilentReporter, is_installed, may_have_accelerator, resolve_device

if TYPE_CHECKING:
    from torch import Tensor

    from sil_cli.models.embedder import Embedder
    from sil_cli.runs.checkpoint import TrainingState
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings
    from sil_cli.settings.fields import EngineName, Precision


FEW_IMAGES = 256
"""Up to so many images, the quickest start wins: OpenVINO takes some seconds to import and to compile."""

ONE_BY_ONE = 8
"""Up to so many images, ONNX Runtime doesn't repack the weights, which takes as long as embedding them."""

ExportEngine = Literal["onnxruntime", "openvino"]


@dataclass(frozen=True)
class EngineRequest:
    """What the user asks of an engine.

    Attributes:
        engine: A library, or `auto`.
        precision: `auto`: bfloat16 where the export says that it agrees with float32, else float32.
        device: Where torch computes; exports run on the CPU.
        images: How many images there are to embed, None where unknown.
        max_pixels: The most pixels of an image file that is read for it.
    """

    engine: EngineName = "auto"
    precision: Precision = "auto"
    device: DeviceName = "auto"
    images: int | None = None
    max_pixels: int = MAX_PIXELS


def load_engine(path: Path, request: EngineRequest, reporter: Reporter) -> Model:
    """Load a model with the quickest engine there is for it, or with the one that is asked for.

    Needs torch only where torch is chosen. `auto` takes, on a CPU, OpenVINO for many images if bfloat16 was measured
    to agree with torch, else ONNX Runtime, else OpenVINO, else torch; and torch on an accelerator.

    Args:
        path: A run folder, the model folder of a gallery, `model.safetensors`, an ONNX file or its record.
        request: What is asked for.
        reporter: Gets which engine it is, and warnings of an export that can't be used.

    Raises:
        UsageError: The engine that is asked for is not installed, or does not run on that device.
        ModelError: There is no such model, it is damaged, or the precision that is asked for does not agree.
    """
    files = find_model(path)
    export, content = _usable_export(files, request, reporter)
    if export is None:
        files = ModelFiles(files.folder)
    name = _chosen(files, export, request)
    if name == "torch" or export is None:
        model = _load_torch(files, export, request)
    else:
        try:
            model = Model(_export_engine(export, content, name, request), export.model, files)
        except ModelError as error:
            if files.folder is None or request.engine != "auto" or request.precision == "bfloat16":
                raise
            reporter.warn(f"{error.what} torch is used instead. {error.fix}")
            model = _load_torch(files, export, request)
    model.engine.max_pixels = request.max_pixels
    reporter.note(f"Embedding with {model.engine.name}.")
    return model


def _usable_export(
    files: ModelFiles, request: EngineRequest, reporter: Reporter
) -> tuple[ExportRecord | None, dict[str, bytes]]:
    """The export and the content of its files, whose checksums are right; without them where torch was asked for.

    None where there is no export, or it is stale or damaged and torch can take its place.
    """
    if files.export is None:
        return None, {}
    try:
        export = read_export(files.export)
        if files.folder is not None and read_record(files.folder).fingerprint != export.model.fingerprint:
            raise ModelError(f"{files.export} was exported from other weights than those beside it.", AGAIN)
        return export, {} if request.engine == "torch" else read_graph(files.export, export)
    except ModelError as error:
        if files.folder is None or request.engine not in ("auto", "torch"):
            raise
        reporter.warn(f"{error.what} It is not used. {error.fix}")
        return None, {}


def _chosen(files: ModelFiles, export: ExportRecord | None, request: EngineRequest) -> Literal["torch"] | ExportEngine:
    if request.engine == "torch":
        if files.folder is None and export is not None and export.foreign is not None:
            raise ModelError(f"{files.export} is of an imported graph, which torch can't run.", "Use another --engine.")
        if files.folder is None:
            raise ModelError(f"{files.export} is an export, which torch can't run.", "Name the run that it came from.")
        return "torch"
    if request.engine != "auto":
        require_library(request.engine)
        if export is not None and request.engine not in export.engines:
            raise ModelError(f"{request.engine} can't run {export.file}.", f"Use --engine {export.engines[0]}.")
        if export is None:
            raise ModelError(
                f"{files.folder} holds no export for {request.engine}.",
                f"Make one with `sil export --model {quoted(str(files.folder))}`.",
            )
        if request.device not in ("auto", "cpu"):
            raise UsageError(
                f"The engine {request.engine} runs on the CPU, not on {request.device}.", "Use --engine torch."
            )
        return request.engine
    return _quickest(files, export, request)


def _quickest(
    files: ModelFiles, export: ExportRecord | None, request: EngineRequest
) -> Literal["torch"] | ExportEngine:
    if export is None:
        return "torch"
    few = request.images is not None and request.images <= FEW_IMAGES
    if files.folder is not None and _on_accelerator(request.device, few=few):
        return "torch"
    installed: list[ExportEngine] = [name for name in export.engines if is_installed(name)]
    if files.folder is None and not installed:
        require_library(export.engines[0])
    right = [name for name in installed if not export.differs(f"{name} {export.precision}")]
    if not right:
        return "torch" if files.folder is not None else installed[0]
    gains = export.precision == "int8" or (request.precision != "float32" and export.agrees(OPENVINO_BFLOAT16))
    if "openvino" in right and gains and not few:
        return "openvino"
    return right[0]


def _on_accelerator(device: DeviceName, *, few: bool) -> bool:
    """Whether torch should compute on an accelerator; torch is asked only if there may be one."""
    if device == "auto" and not few and may_have_accelerator():
        return resolve_device("auto").type != "cpu"
    return device not in ("auto", "cpu")


def _load_torch(files: ModelFiles, export: ExportRecord | None, request: EngineRequest) -> Model:
    from sil_cli.models.embedder import load_embedder
    from sil_cli.models.engines.torch_engine import TorchEngine

    assert files.folder is not None  # noqa: S101 - `_chosen` saw to it
    bfloat16 = _wants_bfloat16("torch", export, request)
    embedder, record = load_embedder(files.folder)
    device = resolve_device(request.device)
    return Model(TorchEngine(embedder, record.fingerprint, device=device, bfloat16=bfloat16), record, files)


def _export_engine(
    export: ExportRecord, content: dict[str, bytes], name: ExportEngine, request: EngineRequest
) -> Engine:
    graph, data = content[export.file], {file: each for file, each in content.items() if file != export.file}
    bfloat16 = _wants_bfloat16(name, export, request)
    how = f"{name} {'bfloat16' if bfloat16 else export.precision}"
    if export.differs(how):
        raise _other_model(how, export, f"Use another --engine. {export.again}")
    from sil_cli.models.engines.exported_engine import OnnxRuntimeEngine, OpenVinoEngine

    if name == "onnxruntime":
        few = request.images is not None and request.images <= ONE_BY_ONE
        return OnnxRuntimeEngine(export, graph, data, few=few)
    return OpenVinoEngine(export, graph, data, bfloat16=bfloat16)


def _wants_bfloat16(name: str, export: ExportRecord | None, request: EngineRequest) -> bool:
    """Whether to compute in bfloat16; refuses it where it was asked for and would give other embeddings."""
    how = f"{name} bfloat16"
    agrees = export is not None and export.agrees(how)
    if request.precision == "bfloat16" and not agrees:
        raise _other_model(how, export, "Use inference.precision=auto, or compare it here with `sil export`.")
    return agrees and request.precision != "float32"


def _other_model(how: str, export: ExportRecord | None, fix: str) -> ModelError:
    measured = export.measured(how) if export else None
    why = "it was not compared with torch on this kind of CPU"
    if measured is not None:
        against = "torch" if export is None or export.foreign is None else f"{export.engines[0]} float32"
        why = f"its smallest cosine to {against}'s is {measured.min:.5f}"
    return ModelError(f"{how} is not the same model: {why}.", fix)


CHECKPOINT_SUFFIX = ".pt"

_AVERAGED_MODEL = "module."
"""What torch's `AveragedModel` puts before the names of the weights that it averages."""


def load_model(
    path: str | Path,
    *,
    engine: EngineName = "auto",
    precision: Precision = "auto",
    device: DeviceName = "auto",
    max_megapixels: float = MAX_PIXELS / 10**6,
) -> Model:
    """Load a trained model, to embed images with.

    Args:
        path: A run folder, the model folder of a gallery, `model.safetensors`, an ONNX file or its record.
        engine: `torch`, `onnxruntime` or `openvino`; `auto` takes the fastest that is installed and exported.
        precision: `auto` takes bfloat16 only where it was measured to give the same embeddings.
        device: Where torch computes: `cpu`, `cuda` or `mps`.
        max_megapixels: Image files of more are refused.

    Raises:
        UsageError: The engine is not installed, or does not run on that device.
        ModelError: There is no such model, it is damaged, or the precision does not agree with float32.
    """
    request = EngineRequest(engine, precision, device, max_pixels=pixels_in(max_megapixels))
    return load_engine(Path(path), request, SilentReporter())


def load(
    path: Path, settings: Settings, reporter: Reporter, *, images: int | None = None, exact: bool = False
) -> Model:
    """Load a model with the engine that the settings ask for.

    Args:
        path: Whatever `load_engine` takes, or a checkpoint of an unfinished run.
        settings: Of the command.
        reporter: Gets which engine it is.
        images: How many there are to embed, None where unknown.
        exact: Not in bfloat16 unless it was asked for by name: numbers that are published should be float32's.

    Raises:
        SilError: There is no such model, or it can't be used like that.
    """
    request = engine_request(settings, images)
    if exact and request.precision == "auto":
        request = replace(request, precision="float32")
    if path.suffix == CHECKPOINT_SUFFIX:
        return _load_checkpoint(path, request, reporter)
    model = load_engine(path, request, reporter)
    card = model.record.card
    if card is not None and exact:
        reporter.note(f"This model is {card}.")
        for warning in card.warnings:
            reporter.warn(warning)
    return model


def engine_request(settings: Settings, images: int | None) -> EngineRequest:
    """What the settings ask of an engine that is to embed so many images, None where unknown."""
    inference = settings.inference
    return EngineRequest(
        inference.engine,
        inference.precision,
        settings.device,
        images,
        max_pixels=pixels_in(settings.data.max_megapixels),
    )


def _load_checkpoint(path: Path, request: EngineRequest, reporter: Reporter) -> Model:
    """The model of a run's checkpoint, as after its last iteration; computed by torch, as there is no export of it.

    Raises:
        ModelError: It is no checkpoint of this program, damaged, or not in its run folder.
        SilError: The run's settings can't be read.
    """
    from sil_cli.models.embedder import state_record
    from sil_cli.models.engines.torch_engine import TorchEngine
    from sil_cli.runs.checkpoint import NAME, read_checkpoint
    from sil_cli.runs.run_folder import SETTINGS_FILE

    fix = "Name a checkpoint-….pt in its run folder, or a finished run."
    if not NAME.fullmatch(path.name) or not path.is_file():
        raise ModelError(f"{path} is not a checkpoint of a run.", fix)
    if request.engine not in ("auto", "torch"):
        raise ModelError(f"{path} has no export for {request.engine}.", "Use --engine torch, or finish the run first.")
    if not (path.parent / SETTINGS_FILE).is_file():
        raise ModelError(f"{path.parent} is not a run folder: {SETTINGS_FILE} is missing.", fix)
    state = read_checkpoint(path)
    try:
        embedder = _embedder_of(state, path.parent / SETTINGS_FILE)
    except (ValueError, RuntimeError, TypeError) as error:
        raise ModelError(f"{path} does not fit the {SETTINGS_FILE} beside it.", fix) from error
    record, _ = state_record(embedder)
    engine = TorchEngine(embedder, record.fingerprint, device=resolve_device(request.device))
    engine.max_pixels = request.max_pixels
    averaged = "" if state.averaged is None else ", averaged weights"
    reporter.note(f"Embedding with {engine.name}, as after iteration {state.iteration}{averaged}.")
    return Model(engine, record)


def _embedder_of(state: TrainingState, settings_file: Path) -> Embedder:
    from sil_cli.models.embedder import Embedder, architecture
    from sil_cli.settings import ModelSettings, read_toml

    network = read_toml(settings_file).get("model", {})
    known = {name: network[name] for name in network.keys() & ModelSettings.model_fields.keys()}
    embedder = Embedder(architecture(ModelSettings(**known)))
    embedder.load_state_dict(_kept_weights(state))
    return embedder


def _kept_weights(state: TrainingState) -> dict[str, Tensor]:
    """The moving average where there is one, as a finished run keeps it; else the last iteration's weights."""
    if state.averaged is None:
        return state.embedder
    return {
        name.removeprefix(_AVERAGED_MODEL): tensor
        for name, tensor in state.averaged.items()
        if name.startswith(_AVERAGED_MODEL)
    }
