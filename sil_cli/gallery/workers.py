"""Embedding image files by several processes: the first assigns the work, each embeds its share, the first stores.

The first process alone knows the gallery; it sends the others lists of files, and gets embeddings back. So no image
is embedded twice or left out whatever the number of processes, and a run that was stopped goes on with another number.
Batches are cut as one process would cut them, so that each image passes through the network in the same batch.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sil_cli.distributed.command import agree
from sil_cli.distributed.process_group import shares
from sil_cli.models.embed import EmbeddedBatch, embed_batches
from sil_cli.models.load import load
from sil_cli.runs.run_folder import current_versions

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from sil_cli.distributed.process_group import ProcessGroup
    from sil_cli.models.embed import ImageFile
    from sil_cli.models.engines.engine import Engine
    from sil_cli.runtime import Reporter, Task
    from sil_cli.settings import Settings

BATCHES_EACH = 8
"""Batches that each process gets at a time: enough for decoding to run ahead, few enough to lose with a kill."""

STILL_WAITING = 4
"""The first process is heard of so many times before the others would take it for hung."""


class Workers:
    """The other processes, as the first one sees them.

    Args:
        group: All of them.
        timeout: Seconds after which they take the first one for hung.
    """

    def __init__(self, group: ProcessGroup, *, timeout: float) -> None:
        self._group = group
        self._pause = timeout / STILL_WAITING
        self._sent = time.monotonic()

    def begin(self, model: Path, images: int, engine: Engine) -> None:
        """Have the others load the model, and compare what they loaded.

        Raises:
            UsageError: One of them computes something else.
        """
        self._send({"model": str(model), "images": images})
        _agree_on(self._group, engine)

    def embed(self, engine: Engine, files: Sequence[ImageFile], *, batch: int) -> Generator[EmbeddedBatch, None, None]:
        """As `embed_batches`, the network's work shared out."""
        block = BATCHES_EACH * batch * self._group.world_size
        for start in range(0, len(files), block):
            now = files[start : start + block]
            self._send({"batch": batch, "files": [[str(path), box] for path, box in now]})
            yield from _embed_share(self._group, engine, now, batch, start)

    def end(self) -> None:
        """Let the others go."""
        self._send({"end": True})

    def reporter(self, reporter: Reporter) -> Reporter:
        """The reporter, with word to the others now and then while long work of the first process makes progress."""
        return _WatchedReporter(reporter, self._send_sign_of_life)

    def _send_sign_of_life(self) -> None:
        if time.monotonic() - self._sent >= self._pause:
            self._send({})

    def _send(self, job: dict[str, Any]) -> None:
        self._group.from_first(json.dumps(job).encode)
        self._sent = time.monotonic()


def run_worker(settings: Settings, group: ProcessGroup, reporter: Reporter) -> None:
    """Be one of the others: embed what the first process asks for, until it has enough.

    Raises:
        SilError: The model can't be loaded here, or is another than the first process's.
    """
    engine: Engine | None = None
    while True:
        job = json.loads(group.from_first(bytes))
        if "end" in job:
            return
        if "model" in job:
            engine = load(Path(job["model"]), settings, reporter, images=job["images"]).engine
            _agree_on(group, engine)
        elif "files" in job:
            assert engine is not None  # noqa: S101 - the first process begins with the model
            files = [(Path(path), tuple(box) if box is not None else None) for path, box in job["files"]]
            list(_embed_share(group, engine, files, job["batch"], 0))


def _agree_on(group: ProcessGroup, engine: Engine) -> None:
    facts = {"the engine": engine.name, "the model": engine.fingerprint}
    facts |= {f"the version of {name}": version for name, version in current_versions().items()}
    agree(group, facts, fix="Give all of them the same model, packages and engine.")


def _embed_share(
    group: ProcessGroup, engine: Engine, files: Sequence[ImageFile], batch: int, offset: int
) -> Iterator[EmbeddedBatch]:
    """Embed this process's batches of some files; all processes get all parts, in order."""
    edges = np.minimum(shares(-(-len(files) // batch), group.world_size) * batch, len(files))
    first, last = (int(edge) for edge in edges[group.rank : group.rank + 2])
    own = list(embed_batches(engine, files[first:last], batch=batch)) if last > first else []
    mine = [
        {"positions": [first + each for each in part.positions], "failed": [[str(p), why] for p, why in part.failed]}
        for part in own
    ]
    everyone = [json.loads(text) for text in group.gather_texts(json.dumps(mine))]
    rows = [np.empty((0, engine.dimension), dtype=np.float32), *(part.embeddings for part in own)]
    lengths = [sum(len(part["positions"]) for part in parts) for parts in everyone]
    embeddings = group.gather_rows(torch.from_numpy(np.concatenate(rows)), lengths).numpy()
    done = 0
    for part in (part for parts in everyone for part in parts):
        count = len(part["positions"])
        yield EmbeddedBatch(
            positions=[offset + each for each in part["positions"]],
            embeddings=embeddings[done : done + count],
            failed=[(Path(path), why) for path, why in part["failed"]],
        )
        done += count


class _WatchedReporter:
    """A reporter whose progress is heard elsewhere too."""

    def __init__(self, reporter: Reporter, send: Any) -> None:
        self._reporter = reporter
        self._send = send
        self.note = reporter.note
        self.warn = reporter.warn

    @contextlib.contextmanager
    def task(self, label: str, total: int | None, unit: str = "") -> Iterator[Task]:
        with self._reporter.task(label, total, unit) as task:
            yield _WatchedTask(task, self._send)


class _WatchedTask:
    def __init__(self, task: Task, send: Any) -> None:
        self._task, self._send = task, send

    def advance(self, count: int = 1, **facts: float | str) -> None:
        self._task.advance(count, **facts)
        self._send()
