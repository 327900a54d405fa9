"""A process to be killed: changes a gallery step by step and says so when a step is done.

    python ingest_worker.py FOLDER FIRST_STEP

What a step does depends on its number alone, so that a test can say what the gallery must hold.
"""

# ruff: noqa: T201
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from sil_cli.gallery.entry import GalleryEntry
from sil_cli.gallery.filters import Filter
from sil_cli.gallery.local.store import LocalStore
from sil_cli.gallery.local.writer import LocalWriter
from sil_cli.runtime import SilentReporter

MODEL = {"fingerprint": "ab" * 32, "dimension": 16}
PATHS = 60


def vector(path: int, version: int) -> np.ndarray:
    return np.random.default_rng([path, version]).standard_normal(16).astype(np.float32)


def step_paths(step: int) -> list[int]:
    rng = np.random.default_rng(step)
    return rng.choice(PATHS, size=20 if step % 10 == 9 else 5, replace=False).tolist()


def expected_after(steps: int) -> dict[int, int]:
    """The version of each path after so many steps."""
    state: dict[int, int] = {}
    for step in range(steps):
        if step % 10 == 7:
            for path in step_paths(step):
                state.pop(path, None)
        elif step % 10 != 8:
            state |= dict.fromkeys(step_paths(step), step)
    return state


def take_step(writer: LocalWriter, step: int) -> None:
    paths = step_paths(step)
    keys = [("source", f"{path}.jpg", None) for path in paths]
    if step % 20 == 7:
        writer.remove([one for one, _ in writer.existing(keys).values()], "file gone")
    elif step % 20 == 17:
        writer.remove(writer.ids_passing(Filter(paths=tuple(f"{path}.jpg" for path in paths))).tolist(), "path")
    elif step % 20 == 8:
        writer.refresh_index(SilentReporter(), requested="IVF2,SQ8")
        writer.finish()
    elif step % 20 == 18:
        writer.compact()
    else:
        entries = [GalleryEntry(f"{path}.jpg", str(step), "source", identity=str(path)) for path in paths]
        writer.add(entries, np.stack([vector(path, step) for path in paths]))


def main() -> None:
    step = int(sys.argv[2])
    with LocalStore(Path(sys.argv[1])).writer(MODEL) as writer:
        while True:
            take_step(writer, step)
            step += 1
            print(step, flush=True)


if __name__ == "__main__":
    main()
