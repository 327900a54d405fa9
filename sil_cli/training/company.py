"""The processes of one training, as its workflow sees them: who they are, and what they must agree on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sil_cli.defaults import numbered_runs
from sil_cli.distributed.command import agree, connect
from sil_cli.distributed.log import RankLog
from sil_cli.runs.run_folder import FACTS_FILE, current_versions, read_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import torch
    from pydantic import BaseModel

    from sil_cli.data.manifest import Dataset
    from sil_cli.distributed.launch import Launch
    from sil_cli.distributed.process_group import ProcessGroup
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

Result = TypeVar("Result", bound="BaseModel")

MAY_DIFFER = {"sources", "run", "runs", "resume", "tensorboard", "keep_checkpoints", "calibrate"}
"""Settings of `train` that the first process alone goes by, or that name the same by another path."""


@dataclass(frozen=True)
class Company:
    """The processes that share a training.

    Attributes:
        launch: What torchrun said.
        group: They, as the training uses them.
        device: This one's.
        log: Where this one says what it does; the first also tells the user. None where there is one process.
        reporter: The same, as all work takes it.
    """

    launch: Launch
    group: ProcessGroup
    device: torch.device
    log: RankLog | None
    reporter: Reporter

    def decide(self, make: Callable[[], str]) -> str:
        """What the first process decides, told to all."""
        return self.group.from_first(lambda: make().encode()).decode()


def meet(settings: Settings, launch: Launch, reporter: Reporter) -> Company:
    """Join the processes of a launch.

    Raises:
        SilError: They can't be joined.
    """
    group, device = connect(launch, settings.device, timeout=settings.distributed.timeout)
    log = RankLog(launch.rank, reporter) if launch.world_size > 1 else None
    return Company(launch, group, device, log, log or reporter)


def agree_on(company: Company, settings: Settings, datasets: Sequence[Dataset]) -> None:
    """Refuse processes that would not do the same.

    Raises:
        UsageError: Settings, data or versions differ; says which.
    """
    facts: dict[str, Any] = {}
    for section in ("model", "style", "train", "supervised"):
        values = getattr(settings, section).model_dump(mode="json", exclude=MAY_DIFFER)
        facts |= {f"{section}.{key}": value for key, value in values.items()}
    facts["sources"] = [dataset.name for dataset in datasets]
    facts |= {f"the manifest of {each.name}": each.info.manifest_sha256[:12] for each in datasets}
    facts |= {f"the version of {name}": version for name, version in current_versions().items()}
    agree(company.group, facts, fix="Give all of them the same settings, data and packages.")


def begun_by_this_launch(company: Company, settings: Settings) -> Path | None:
    """The run that a launch began before torchrun started its processes anew; None where there is none.

    It may have finished: a process can die after the first one has done its work.
    """
    if company.launch.attempt == 0 or settings.train.resume:
        return None
    if settings.train.run is not None:
        return settings.train.run if (settings.train.run / FACTS_FILE).is_file() else None
    for run in reversed(numbered_runs(settings.train.runs)):
        if (run / FACTS_FILE).is_file() and read_facts(run).launch == company.launch.name:
            return run
    return None


def as_first(company: Company, kind: type[Result], make: Callable[[], Result]) -> Result:
    """A result that the first process makes, and all have in the end."""
    if company.group.is_first:
        result = make()
        company.group.from_first(lambda: result.model_dump_json().encode())
        return result
    return kind.model_validate_json(company.group.from_first(bytes))
