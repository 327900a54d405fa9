"""A rebuild that is killed at a random moment, again and again: the gallery is the old one or the new one."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from galleries import entry, make_gallery
from rebuild_worker import DIMENSION, ENTRIES, vector

from sil_cli.gallery.interface import rebuilding_folder
from sil_cli.gallery.local.store import LocalStore
from sil_cli.gallery.stores import open_gallery

WORKER = Path(__file__).with_name("rebuild_worker.py")


def whole_gallery_of(folder: Path) -> str:
    """The fingerprint of the gallery, all of whose entries have that model's vectors."""
    with open_gallery(folder) as gallery:
        fingerprint = gallery.model["fingerprint"]
        assert gallery.ids().tolist() == list(range(1, ENTRIES + 1))
        for one in range(1, ENTRIES + 1):
            match = gallery.search(vector(one, fingerprint)[None], 1)[0][0]
            assert (match.id, match.path) == (one, f"{one - 1}.jpg")
            assert match.score == pytest.approx(1.0, abs=1e-6)
    return fingerprint


def kill_again_and_again(folder: Path, times: int, seed: int) -> int:
    """Returns how often a new gallery took the old one's place."""
    rng = random.Random(seed)
    old, new = "a" * 64, "b" * 64
    rows = np.stack([vector(one, old) for one in range(1, ENTRIES + 1)])
    make_gallery(folder, ENTRIES, make=entry, rows=rows, model={"fingerprint": old, "dimension": DIMENSION})
    swaps = 0
    for _ in range(times):
        command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", str(WORKER), str(folder), new]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            heard = [process.stdout.readline() for _ in range(rng.randrange(1, 9))]
            time.sleep(rng.random() * 0.02)
            process.kill()
            heard += process.stdout.readlines()
        assert heard[0] == "open\n"
        now = whole_gallery_of(folder)
        assert now in (old, new)
        if "swapped\n" in heard:
            assert now == new
        if now == new:
            old, new = new, old
            swaps += 1
    with LocalStore(folder).existing_writer():
        pass
    assert all(check.ok for check in LocalStore(folder).check())
    left = rebuilding_folder(folder)
    assert not left.with_name(".g.superseded").exists()
    if (left / "gallery.sqlite").exists():  # unfinished, and sound as far as it goes
        assert all(check.ok for check in LocalStore(left).check())
    return swaps


def test_killed_five_times(tmp_path):
    kill_again_and_again(tmp_path / "g", times=5, seed=3)


@pytest.mark.slow
def test_killed_sixty_times(tmp_path):
    assert kill_again_and_again(tmp_path / "g", times=60, seed=4) >= 10
