"""The model inside the checkpoint of a run: trained or averaged weights, as they are after the last saved iteration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import safetensors.torch
from pydantic import ValidationError

from sil_cli.errors import ModelError
from sil_cli.models.choose import NOWHERE, EngineWish, LoadedModel
from sil_cli.models.embedder import Embedder, architecture
from sil_cli.models.record import ModelRecord, fingerprint_of
from sil_cli.models.torch_engine import make_torch_engine
from sil_cli.runs.checkpoint import NAME, read_checkpoint
from sil_cli.runs.run_folder import SETTINGS_FILE
from sil_cli.runtime import resolve_device
from sil_cli.settings import ModelSettings, read_toml

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from sil_cli.runs.checkpoint import TrainingState
    from sil_cli.runtime import Reporter

_OF_THE_MODEL = "module."
"""What torch's `AveragedModel` puts before the names of the weights that it averages."""


def load_checkpoint_model(path: Path, wish: EngineWish, reporter: Reporter) -> LoadedModel:
    """Load the model of a run's checkpoint; computed by torch, as there is no export of it.

    Args:
        path: The checkpoint, in its run folder, whose settings say how the network is built.
        wish: What is asked for.
        reporter: Is told what it is.

    Raises:
        ModelError: It is no checkpoint of this program, damaged, or not in its run folder.
        SilError: The run's settings can't be read.
    """
    fix = "Name a checkpoint-….pt in its run folder, or a finished run."
    if not NAME.fullmatch(path.name) or not path.is_file():
        raise ModelError(f"{path} is no checkpoint of a run.", fix)
    if wish.engine not in ("auto", "torch"):
        raise ModelError(f"{path} has no export for {wish.engine}.", "Use --engine torch, or finish the run first.")
    if not (path.parent / SETTINGS_FILE).is_file():
        raise ModelError(f"{path.parent} is no run folder: {SETTINGS_FILE} is missing.", fix)
    state = read_checkpoint(path)
    network = read_toml(path.parent / SETTINGS_FILE).get("model", {})
    try:
        known = {name: network[name] for name in network.keys() & ModelSettings.model_fields.keys()}
        as_trained = architecture(ModelSettings(**known))
        embedder = Embedder(as_trained)
        embedder.load_state_dict(_kept_weights(state))
    except (ValidationError, RuntimeError, TypeError) as error:
        raise ModelError(f"{path} does not fit the {SETTINGS_FILE} beside it.", fix) from error
    weights = {name: tensor.contiguous() for name, tensor in embedder.state_dict().items()}
    fingerprint = fingerprint_of(as_trained, safetensors.torch.save(weights))
    engine = make_torch_engine(embedder, fingerprint, device=resolve_device(wish.device))
    record = ModelRecord(architecture=as_trained, dimension=embedder.dimension, fingerprint=fingerprint)
    averaged = "" if state.averaged is None else ", averaged weights"
    reporter.note(f"Embedding with {engine.name}, as after iteration {state.iteration}{averaged}.")
    return LoadedModel(engine, record, NOWHERE)


def _kept_weights(state: TrainingState) -> dict[str, Tensor]:
    """The moving average where there is one, as a finished run keeps it; else the last iteration's weights."""
    if state.averaged is None:
        return state.embedder
    return {
        name.removeprefix(_OF_THE_MODEL): tensor
        for name, tensor in state.averaged.items()
        if name.startswith(_OF_THE_MODEL)
    }
