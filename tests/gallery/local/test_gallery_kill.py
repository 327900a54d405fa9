"""A gallery whose writer is killed at a random moment, again and again."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ingest_worker import MODEL, expected_after, vector

from sil_cli.gallery.local.store import LocalStore
from sil_cli.gallery.stores import open_gallery
from sil_cli.runtime import SilentReporter

WORKER = Path(__file__).with_name("ingest_worker.py")


def steps_done_when_killed(folder: Path, first: int, rng: random.Random) -> int:
    """Start the worker, kill it some steps and a moment later; returns the last step that it reported."""
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", str(WORKER), str(folder), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline() for _ in range(rng.randrange(1, 15))]
        time.sleep(rng.random() * 0.02)
        process.kill()
        lines += process.stdout.readlines()
    whole = [int(line) for line in lines if line.endswith("\n")]
    assert whole, "the worker didn't start"
    return whole[-1]


def held(folder: Path) -> dict[int, int]:
    """What the gallery holds, each entry found by its own vector; entries and vectors agree one to one."""
    with open_gallery(folder) as gallery:
        count = len(gallery)
        everything = gallery.search(np.ones((1, MODEL["dimension"])), count)[0]
        state = {int(match.path.removesuffix(".jpg")): match for match in everything}
        assert len(state) == count
        assert gallery.info().entries == count
        versions = {}
        for path, match in state.items():
            entry = gallery._tables.entries([match.id])[match.id]
            versions[path] = int(entry.content_hash)
            nearest = gallery.search(vector(path, versions[path])[None], 1, exact=True)[0][0]
            assert nearest.id == match.id
            assert nearest.score == pytest.approx(1.0, abs=1e-6)
        return versions


def kill_again_and_again(folder: Path, times: int, seed: int) -> None:
    rng = random.Random(seed)
    done = 0
    for _ in range(times):
        reported = steps_done_when_killed(folder, done, rng)
        now = held(folder)
        # the step after the last report may have been finished before it could be reported
        if now == expected_after(reported):
            done = reported
        else:
            assert now == expected_after(reported + 1)
            done = reported + 1
    with LocalStore(folder).writer(MODEL) as writer:
        named = {segment.name for segment in writer._tables.segments()}
        index = writer.index.record()
        named |= {index.name} if index else set()
        assert {path.name for path in (folder / "vectors").iterdir()} == named
        writer.finish()
        writer.refresh_index(SilentReporter(), requested="exact")
    assert all(check.ok for check in LocalStore(folder).check())
    assert held(folder) == expected_after(done)
    assert len(list((folder / "vectors").iterdir())) == 1


def test_killed_eight_times(tmp_path):
    kill_again_and_again(tmp_path / "gallery", times=8, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_killed_very_often(tmp_path, seed):
    kill_again_and_again(tmp_path / "gallery", times=50, seed=seed)
