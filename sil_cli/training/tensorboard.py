"""A run's metrics for TensorBoard."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from sil_cli.errors import UsageError
from sil_cli.files import make_own_folder

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = "tensorboard"


def require_tensorboard() -> None:
    """Check that the package is there.

    Raises:
        UsageError: It is not; says how to install it.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise UsageError(
            "train.tensorboard needs the package tensorboard, which is not installed.",
            "Install it with `pip install 'sil-cli[tensorboard]'`, or leave --tensorboard out.",
        )


class TensorBoardLog:
    """Writes every epoch's figures as event files in RUN/tensorboard.

    Event files can only grow, so a resumed run deletes those of its earlier parts and writes the epochs that its
    checkpoint knows again: no step is there twice, and none that was lost.
    """

    def __init__(self, run: Path) -> None:
        """Begin with no event files in the run's folder."""
        from torch.utils.tensorboard.writer import SummaryWriter

        folder = make_own_folder(run, FOLDER)
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = SummaryWriter(str(folder))
        self._written = 0

    def write(self, history: list[dict[str, float]]) -> None:
        """Write the epochs that are not written yet; the epoch is the step."""
        for facts in history[self._written :]:
            for name, value in facts.items():
                if name != "epoch":
                    self._writer.add_scalar(f"train/{name}", value, int(facts["epoch"]))
        self._written = len(history)
        self._writer.flush()

    def close(self) -> None:
        """Finish the event file."""
        self._writer.close()
