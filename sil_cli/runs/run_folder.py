"""A run's folder: what was asked for, what happened, and the model that came of it."""

from __future__ import annotations

import importlib.util
import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from sil_cli.data.manifest import manifest_checksum
from sil_cli.errors import ModelError, SilError, UsageError
from sil_cli.files import make_own_folder, parse_json, read_bytes, read_json, write_json, write_text
from sil_cli.installing import extra_command
from sil_cli.runs.git_state import GitState
from sil_cli.version import VERSION

SETTINGS_FILE = "settings.toml"
FACTS_FILE = "run.json"
METRICS_FILE = "metrics.jsonl"
CURVES_FILE = "curves.png"
TENSORBOARD_FOLDER = "tensorboard"


class SourceFacts(BaseModel):
    """A source as it was when the run began.

    Attributes:
        folder: Where it lay, from the working folder of then; `source_folder` finds it again.
        manifest_sha256: Its manifest's checksum; resuming with other data is refused.
        images: Images trained on.
        identities: Identities trained on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    folder: str
    manifest_sha256: str
    images: int
    identities: int


class RunFacts(BaseModel):
    """What `run.json` says.

    Attributes:
        recipe: The recipe that settings started from.
        method: `interleaved`, or `supervised`.
        source_splits: What of the sources was learnt from, `train` or `train+test`.
        protocol: The protocol that pinned settings, where there was one.
        device: Where it ran, as torch names it.
        precision: What convolutions ran in.
        versions: Of Python, this program, torch, torchvision and NumPy.
        git: The repository that the run was started in; None where there is none.
        processes: How many shared the training when it began.
        launch: The launch that began it, as torchrun names it, so that a restart of it finds the run again.
        weights: `trained`, or `averaged` where the moving average is what is kept.
        loss: Mean of the last epoch, once finished.
        images_per_second: Over the whole run, once finished.
        selected: Which epoch's model was kept, once finished.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = 1
    recipe: str
    method: str = "interleaved"
    sources: list[SourceFacts]
    source_splits: str = "train"
    protocol: str | None = None
    style: str
    seed: int
    epochs: int
    iterations: int
    device: str
    precision: str = "float32"
    versions: dict[str, str]
    git: GitState | None = None
    processes: int = 1
    launch: str | None = None
    weights: Literal["trained", "averaged"] = "trained"
    loss: float | None = None
    images_per_second: float | None = None
    selected: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_an_earlier_version(cls, values: Any) -> Any:
        """Runs that only said whether convolutions ran in bfloat16 are read, too."""
        if not isinstance(values, dict) or "bfloat16" not in values:
            return values
        rest = {key: value for key, value in values.items() if key != "bfloat16"}
        return rest | {"precision": "bfloat16" if values["bfloat16"] else "float32"}


def current_versions() -> dict[str, str]:
    """The versions that a run's numbers depend on."""
    import torch

    return {
        "python": platform.python_version(),
        "sil": VERSION,
        "torch": torch.__version__,
        "torchvision": metadata.version("torchvision"),
        "numpy": np.__version__,
    }


def write_settings(folder: Path, values: dict[str, Any]) -> None:
    """Write `settings.toml`; values that are None are left out, as TOML has none."""
    write_text(folder / SETTINGS_FILE, tomli_w.dumps(_without_none(values)))


def write_facts(folder: Path, facts: RunFacts) -> None:
    """Write `run.json`."""
    write_json(folder / FACTS_FILE, facts.model_dump(mode="json"))


def read_facts(folder: Path) -> RunFacts:
    """Read `run.json`.

    Raises:
        ModelError: It can't be read by this version.
        SilError: It is missing or damaged.
    """
    fix = "Train again in another run folder."
    try:
        return RunFacts.model_validate(read_json(folder / FACTS_FILE, what="a run's facts", fix=fix))
    except ValidationError as error:
        raise ModelError(f"{folder / FACTS_FILE} can't be read by this version.", fix) from error


def source_folder(run: Path, source: SourceFacts) -> Path:
    """Where a run's source lies now: as it was recorded, seen from here, or else from a folder above the run's.

    It is known by its manifest's checksum, so that the run and its data can move together, and be used from anywhere.

    Returns:
        The first such folder; the recorded one where there is none.
    """
    recorded = Path(source.folder)
    candidates = (recorded, *(above / recorded for above in run.resolve().parents))
    return next((each for each in candidates if manifest_checksum(each) == source.manifest_sha256), recorded)


def write_metrics(folder: Path, history: list[dict[str, float]]) -> None:
    """Replace `metrics.jsonl` by one line an epoch."""
    write_text(folder / METRICS_FILE, "".join(json.dumps(facts, allow_nan=False) + "\n" for facts in history))


def read_metrics(folder: Path) -> list[dict[str, object]]:
    """The lines of `metrics.jsonl`; none where there is no such file.

    Raises:
        SilError: A line is no JSON object.
    """
    path = folder / METRICS_FILE
    history: list[dict[str, object]] = []
    for number, line in enumerate(read_bytes(path).splitlines() if path.is_file() else [], start=1):
        try:
            facts = parse_json(line.decode())
        except ValueError:
            facts = None
        if not isinstance(facts, dict):
            raise SilError(f"{path}, line {number} is not what training wrote.", "Delete the file or the line.")
        history.append(facts)
    return history


def require_tensorboard() -> None:
    """Check that the package is there.

    Raises:
        UsageError: It is not; says how to install it.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise UsageError(
            "train.tensorboard needs the package tensorboard, which is not installed.",
            f"Install it with `{extra_command('tensorboard')}`, or leave --tensorboard out.",
        )


class TensorBoardLog:
    """Writes every epoch's figures as event files in RUN/tensorboard.

    Event files can only grow, so a resumed run deletes those of its earlier parts and writes the epochs that its
    checkpoint knows again: no step is there twice, and none that was lost.
    """

    def __init__(self, run: Path) -> None:
        """Begin with no event files in the run's folder."""
        from torch.utils.tensorboard.writer import SummaryWriter

        folder = make_own_folder(run, TENSORBOARD_FOLDER)
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


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if value is not None
    }
