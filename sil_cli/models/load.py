"""From a path to a model that is ready to embed: as the settings ask for, or as a program does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.errors import ModelError
from sil_cli.models.choose import EngineRequest, load_engine
from sil_cli.models.model import Model
from sil_cli.runtime import DeviceName, SilentReporter, resolve_device

if TYPE_CHECKING:
    from torch import Tensor

    from sil_cli.models.embedder import Embedder
    from sil_cli.runs.checkpoint import TrainingState
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings
    from sil_cli.settings.fields import EngineName, Precision

CHECKPOINT_SUFFIX = ".pt"

_AVERAGED_MODEL = "module."
"""What torch's `AveragedModel` puts before the names of the weights that it averages."""


def load_model(
    path: str | Path,
    *,
    engine: EngineName = "auto",
    precision: Precision = "auto",
    device: DeviceName = "auto",
) -> Model:
    """Load a trained model, to embed images with.

    Args:
        path: A run folder, the model folder of a gallery, `model.safetensors`, an ONNX file or its record.
        engine: `torch`, `onnxruntime` or `openvino`; `auto` takes the quickest that is installed and exported.
        precision: `auto` takes bfloat16 only where it was measured to give the same embeddings.
        device: Where torch computes: `cpu`, `cuda` or `mps`.

    Raises:
        UsageError: The engine is not installed, or does not run on that device.
        ModelError: There is no such model, it is damaged, or the precision does not agree with float32.
    """
    return load_engine(Path(path), EngineRequest(engine, precision, device), SilentReporter())


def load(
    path: Path, settings: Settings, reporter: Reporter, *, images: int | None = None, exact: bool = False
) -> Model:
    """Load a model with the engine that the settings ask for.

    Args:
        path: Whatever `load_engine` takes, or a checkpoint of an unfinished run.
        settings: Of the command.
        reporter: Is told which engine it is.
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
    return load_engine(path, request, reporter)


def engine_request(settings: Settings, images: int | None) -> EngineRequest:
    """What the settings ask of an engine that is to embed so many images, None where unknown."""
    return EngineRequest(settings.inference.engine, settings.inference.precision, settings.device, images)


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
        raise ModelError(f"{path} is no checkpoint of a run.", fix)
    if request.engine not in ("auto", "torch"):
        raise ModelError(f"{path} has no export for {request.engine}.", "Use --engine torch, or finish the run first.")
    if not (path.parent / SETTINGS_FILE).is_file():
        raise ModelError(f"{path.parent} is no run folder: {SETTINGS_FILE} is missing.", fix)
    state = read_checkpoint(path)
    try:
        embedder = _embedder_of(state, path.parent / SETTINGS_FILE)
    except (ValueError, RuntimeError, TypeError) as error:
        raise ModelError(f"{path} does not fit the {SETTINGS_FILE} beside it.", fix) from error
    record, _ = state_record(embedder)
    engine = TorchEngine(embedder, record.fingerprint, device=resolve_device(request.device))
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
