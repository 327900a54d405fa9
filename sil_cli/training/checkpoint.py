"""The state of an unfinished training, whole or absent on disk."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from sil_cli.errors import ModelError
from sil_cli.files import write_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

CHECKPOINT_FILE = "checkpoint.pt"
FORMAT = 1


@dataclass
class Selected:
    """The best epoch so far on held-out source identities.

    Attributes:
        epoch: Counted from 1.
        score: Its held-out mAP, 0..1.
        embedder: The model's state after it.
    """

    epoch: int
    score: float
    embedder: dict[str, Tensor]


@dataclass
class TrainingState:
    """All that the next iteration depends on; random numbers follow from the seed and the iteration's number.

    Attributes:
        iteration: Iterations done.
        embedder: The model's state dict.
        optimizer: The optimiser's state dict.
        prototypes: One (K, D) tensor a source.
        loss_sum: Sum of the losses of the current epoch's iterations.
        seconds: Time spent in iterations.
        history: One table an epoch, as in `metrics.jsonl`.
        selected: The best epoch, when models are chosen on held-out identities.
    """

    iteration: int
    embedder: dict[str, Tensor]
    optimizer: dict[str, Any]
    prototypes: list[Tensor]
    loss_sum: float = 0.0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    selected: Selected | None = None


def save_checkpoint(folder: Path, state: TrainingState) -> None:
    """Replace the checkpoint in `folder`.

    Raises:
        OSError: The folder can't be written, or the disk is full; the old checkpoint stays.
    """
    content = dict(vars(state)) | {"format": FORMAT, "selected": vars(state.selected) if state.selected else None}
    # Through memory: on a full disk torch's own writer fails with an error of its own that says nothing of disks.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(folder / CHECKPOINT_FILE, buffer.getvalue())


def load_checkpoint(folder: Path) -> TrainingState:
    """Load the checkpoint in `folder` to the CPU.

    Raises:
        ModelError: It is missing, damaged or of another format.
    """
    path = folder / CHECKPOINT_FILE
    fix = "Start again without --resume, in a new run folder."
    if not path.is_file():
        raise ModelError(f"{folder} holds no checkpoint to resume from.", fix)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        version = content.pop("format")
    except Exception as error:  # on damaged bytes the unpickler may raise anything
        raise ModelError(f"{path} is damaged.", fix) from error
    if version != FORMAT:
        raise ModelError(f"{path} was written by another version.", fix)
    selected = content.pop("selected")
    return TrainingState(**content, selected=Selected(**selected) if selected else None)
