"""The processes that share one training: what they must agree on, what the first one decides, and their logs."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from sil_cli.defaults import numbered_runs
from sil_cli.distributed.command import agree, connect
from sil_cli.errors import one_line
from sil_cli.files import make_own_folder, open_no_link
from sil_cli.runs.run_folder import FACTS_FILE, current_versions, read_facts
from sil_cli.training.run_settings import SECTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import TextIO

    import torch
    from pydantic import BaseModel

    from sil_cli.data.manifest import Dataset
    from sil_cli.distributed.process_group import ProcessGroup
    from sil_cli.runtime import Launch, Reporter, Task
    from sil_cli.settings import Settings

Result = TypeVar("Result", bound="BaseModel")

MAY_DIFFER = {"sources", "run", "runs", "resume", "tensorboard", "keep_checkpoints", "calibrate", "export"}
"""Settings of `train` that the first process alone goes by, or that name the same by another path."""


LOGS = "logs"
SECONDS_BETWEEN_LINES = 30.0


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
        """What the first process decides, sent to all."""
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


class RankLog:
    """A `Reporter` that writes lines with their time, and passes everything on to another one.

    Lines from before the file is opened are kept for it.
    """

    def __init__(self, number: int, then: Reporter) -> None:
        self._number = number
        self._then = then
        self._waiting: list[str] = []
        self._file: TextIO | None = None
        self._write(f"process {number} is {os.getpid()} on {socket.gethostname()}")

    @contextlib.contextmanager
    def opened(self, run: Path) -> Iterator[None]:
        """Write to the run's folder until the block ends, and how it ended; what stood in the file stays."""
        path = make_own_folder(run, LOGS) / f"rank-{self._number}.log"
        handle = open_no_link(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        with os.fdopen(handle, "a", encoding="utf-8") as self._file:
            try:
                self._file.writelines(self._waiting)
                self._waiting.clear()
                yield
            except BaseException as error:
                self._write(f"ended by {type(error).__name__}: {one_line(error)}")
                if error.__cause__ is not None:
                    self._write(f"because of {type(error.__cause__).__name__}: {one_line(error.__cause__)}")
                raise
            else:
                self._write("done")
            finally:
                self._file = None

    @contextlib.contextmanager
    def task(self, label: str, total: int | None, unit: str = "") -> Iterator[Task]:
        """Open a piece of work."""
        self._write(f"{label}: begun, {total} {unit}")
        with self._then.task(label, total, unit) as then:
            yield _LoggedTask(self._write, label, then)
        self._write(f"{label}: done")

    def note(self, text: str) -> None:
        """Write a note."""
        self._write(text)
        self._then.note(text)

    def warn(self, text: str) -> None:
        """Write a warning."""
        self._write(f"warning: {text}")
        self._then.warn(text)

    def _write(self, text: str) -> None:
        line = f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n"
        if self._file is None:
            self._waiting.append(line)
            return
        with contextlib.suppress(OSError):  # a full disk is reported by whoever writes what matters
            self._file.write(line)
            self._file.flush()


class _LoggedTask:
    def __init__(self, write: Callable[[str], None], label: str, then: Task) -> None:
        self._write, self._label, self._then = write, label, then
        self._done = 0
        self._written = time.monotonic()

    def advance(self, count: int = 1, **facts: float | str) -> None:
        """Write a line every half minute."""
        self._done += count
        self._then.advance(count, **facts)
        if time.monotonic() - self._written >= SECONDS_BETWEEN_LINES:
            self._written = time.monotonic()
            self._write(f"{self._label}: {self._done} {' '.join(f'{key}={value}' for key, value in facts.items())}")
