"""The processes that share one training: who they are, what they must agree on, and what the first one decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sil_cli.defaults import numbered_runs
from sil_cli.distributed.command import agree, connect
from sil_cli.distributed.log import RankLog
from sil_cli.runs.run_folder import FACTS_FILE, current_versions, read_facts
from sil_cli.training.run_settings import SECTIONS

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
class TrainingProcesses:
    """The processes that share a training, as one of them knows them.

    Attributes:
        launch: What torchrun said.
        group: How they exchange values.
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

    def result_of_first(self, kind: type[Result], make: Callable[[], Result]) -> Result:
        """A result that the first process makes, and all have in the end."""
        if self.group.is_first:
            result = make()
            self.group.from_first(lambda: result.model_dump_json().encode())
            return result
        return kind.model_validate_json(self.group.from_first(bytes))

    def agree_on(self, settings: Settings, datasets: Sequence[Dataset]) -> None:
        """Refuse to train where the processes would not do the same.

        Raises:
            UsageError: Settings, data or versions differ; says which.
        """
        facts: dict[str, Any] = {}
        for section in SECTIONS:
            values = getattr(settings, section).model_dump(mode="json", exclude=MAY_DIFFER)
            facts |= {f"{section}.{key}": value for key, value in values.items()}
        facts["sources"] = [dataset.name for dataset in datasets]
        facts |= {f"the manifest of {each.name}": each.info.manifest_sha256[:12] for each in datasets}
        facts |= {f"the version of {name}": version for name, version in current_versions().items()}
        agree(self.group, facts, fix="Give all of them the same settings, data and packages.")

    def run_before_restart(self, settings: Settings) -> Path | None:
        """The run that this launch began before torchrun restarted its processes; None where there is none.

        It may have finished: a process can die after the first one has done its work.
        """
        if self.launch.attempt == 0 or settings.train.resume:
            return None
        if settings.train.run is not None:
            return settings.train.run if (settings.train.run / FACTS_FILE).is_file() else None
        for run in reversed(numbered_runs(settings.train.runs)):
            if (run / FACTS_FILE).is_file() and read_facts(run).launch == self.launch.name:
                return run
        return None


def join_processes(settings: Settings, launch: Launch, reporter: Reporter) -> TrainingProcesses:
    """Join the processes of a launch.

    Raises:
        SilError: They can't be joined.
    """
    group, device = connect(launch, settings.device, timeout=settings.distributed.timeout)
    log = RankLog(launch.rank, reporter) if launch.world_size > 1 else None
    return TrainingProcesses(launch, group, device, log, log or reporter)
