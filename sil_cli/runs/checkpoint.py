"""The state of an unfinished training: each checkpoint whole or absent on disk, the last few kept."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sil_cli.errors import ModelError, one_line
from sil_cli.files import LARGEST_FILE, read_bytes, write_bytes

if TYPE_CHECKING:
    from torch import Tensor

    from sil_cli.runtime import Reporter

NAME = re.compile(r"checkpoint-(\d+)\.pt")
FORMAT = 3
OPTIMIZER_KEY = "descent"
"""What the files call the state of the optimiser."""

_START_AGAIN = "Train again in a new run folder."


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
        optimizer_step: The state of the optimiser, and of the loss's scaling.
        method: What the method keeps besides: prototypes, or a classifier.
        averaged: The state dict of the averaged weights, where they are kept.
        loss_sum: Sum of the losses of the current epoch's iterations.
        seconds: Time spent in iterations.
        history: One table an epoch, as in `metrics.jsonl`.
        selected: The best epoch, when models are chosen on held-out identities.
    """

    iteration: int
    embedder: dict[str, Tensor]
    optimizer_step: dict[str, Any]
    method: dict[str, Tensor]
    averaged: dict[str, Tensor] | None = None
    loss_sum: float = 0.0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    selected: Selected | None = None


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, by the iterations done, the newest last."""
    found = [(int(name[1]), path) for path in folder.iterdir() if (name := NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def save_checkpoint(folder: Path, state: TrainingState, *, keep: int = 2) -> Path:
    """Write a checkpoint, and then delete all but the newest `keep`.

    Raises:
        OSError: The folder can't be written, or the disk is full; the older checkpoints stay.
    """
    path = folder / f"checkpoint-{state.iteration:07d}.pt"
    # Through memory: on a full disk torch's own writer fails with an error of its own that says nothing of disks.
    write_bytes(path, to_bytes(state))
    for older in checkpoints(folder)[:-keep]:
        older.unlink(missing_ok=True)
    return path


def to_bytes(state: TrainingState) -> bytes:
    """The content of a checkpoint."""
    import torch

    content = dict(vars(state)) | {"format": FORMAT, "selected": vars(state.selected) if state.selected else None}
    content[OPTIMIZER_KEY] = content.pop("optimizer_step")
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def from_bytes(content: bytes) -> TrainingState:
    """The state that `to_bytes` made these bytes of, on the CPU."""
    path = Path("the first process's state")
    return _state(_loaded(content, path), path)


def load_checkpoint(folder: Path, reporter: Reporter) -> TrainingState:
    """Load the newest whole checkpoint in `folder` to the CPU; damaged ones after it are reported and deleted.

    Raises:
        ModelError: There is none, all are damaged, or it is of another format.
        OSError: One can't be read; it may be whole, so nothing is deleted.
    """
    found = checkpoints(folder)
    if not found:
        raise ModelError(f"{folder} holds no checkpoint to resume from.", _START_AGAIN)
    damaged: list[Path] = []
    for path in reversed(found):
        content = _content(path)
        if content is None:
            damaged.append(path)
            continue
        for each in damaged:
            reporter.warn(f"{each} is damaged; resuming from {path.name} instead.")
            each.unlink()
        return _state(content, path)
    raise ModelError(f"{found[-1]} is damaged{', and so is every older one' if len(found) > 1 else ''}.", _START_AGAIN)


def read_checkpoint(path: Path) -> TrainingState:
    """Load this checkpoint to the CPU, changing nothing.

    Raises:
        ModelError: It is damaged or of another format.
        OSError: It can't be read.
    """
    content = _content(path)
    if content is None:
        raise ModelError(f"{path} is damaged.", _START_AGAIN)
    return _state(content, path)


def _content(path: Path) -> dict[str, Any] | None:
    """What a checkpoint holds; None where its bytes are damaged."""
    content = read_bytes(path, most=LARGEST_FILE)  # apart from unpickling: what can't be read is not damaged
    try:
        loaded = _loaded(content, path)
    except MemoryError:
        raise
    except Exception:  # on damaged bytes the unpickler may raise anything
        return None
    return loaded if isinstance(loaded, dict) and "format" in loaded else None


def _loaded(content: bytes, path: Path) -> Any:
    from sil_cli.runs.weight_file import load_checked

    return load_checked(path, io.BytesIO(content))


def _state(content: dict[str, Any], path: Path) -> TrainingState:
    if content.pop("format") != FORMAT:
        raise ModelError(f"{path} was written by another version.", _START_AGAIN)
    try:
        selected, optimizer_step = content.pop("selected"), content.pop(OPTIMIZER_KEY)
        return TrainingState(
            **content, optimizer_step=optimizer_step, selected=Selected(**selected) if selected else None
        )
    except (KeyError, TypeError) as error:
        raise ModelError(f"{path} does not hold what a checkpoint should: {one_line(error)}.", _START_AGAIN) from error
