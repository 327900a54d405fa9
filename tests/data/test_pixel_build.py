"""Pixel caches that are killed, filled up, waited for and removed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sil_cli.data import pixel_build
from sil_cli.data.manifest import ImageRecord, write_dataset
from sil_cli.data.pixels import UNUSED_AFTER, open_pixels
from sil_cli.errors import DataError
from sil_cli.runtime import SilentReporter

pytestmark = pytest.mark.thorough

WORKER = Path(__file__).with_name("pixel_build_worker.py")
IMAGES, BLOCK = 320, 32


class Noting(SilentReporter):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.decoded = 0

    def advance(self, count: int = 1, **facts: float | str) -> None:
        del facts
        self.decoded += count

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def write(tmp_path, make_image):
    for number in range(IMAGES):
        make_image(tmp_path / "raw" / f"{number}.bmp", size=(16, 32))

    def records(name: str = "x", count: int = IMAGES, folder: str = "out"):
        return write_dataset(
            tmp_path / folder,
            [ImageRecord(path=f"{n}.bmp", identity=str(n % 9), split="train", domain=name) for n in range(count)],
            name=name,
            reader="csv",
            reader_version=1,
            root=tmp_path / "raw",
            options={},
        )

    return records


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(pixel_build, "BLOCK_BYTES", 1)


def opened(dataset, folder, reporter=None, **options):
    options = {"height": 32, "width": 16, "workers": 2, **options}
    return open_pixels(dataset, folder=folder, reporter=reporter or SilentReporter(), **options)


def start(dataset, cache, seconds: float = 0.0, *more: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(WORKER), str(dataset.folder), str(cache), str(seconds), *map(str, more)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def lines_of(process: subprocess.Popen[str]) -> list[str]:
    out, _ = process.communicate(timeout=60)
    return out.splitlines()


def decoded_in(lines: list[str]) -> int:
    return sum(int(line.split()[1]) for line in lines if line.startswith("decoded"))


def interrupted(dataset, cache, after: int) -> None:
    """Build in this process and stop after so many images."""

    class Stopping(Noting):
        def advance(self, count: int = 1, **facts: float | str) -> None:
            super().advance(count, **facts)
            if self.decoded >= after:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(dataset, cache, Stopping())


def test_killed_at_any_moment_it_goes_on_and_gives_the_same_bytes(write, tmp_path, small_blocks):
    dataset = write()
    expected = opened(dataset, tmp_path / "reference")
    chance = random.Random(0)
    done = 0
    for _ in range(5):
        process = start(dataset, tmp_path / "cache", 0.004)
        process.stdout.readline()  # it has begun to decode
        time.sleep(chance.uniform(0.0, 0.4))
        process.kill()
        lines_of(process)
        assert process.returncode == -9
        (note,) = (tmp_path / "cache").glob("*.building.json")
        kept = len(json.loads(note.read_text())["block_sha256"])
        assert kept * BLOCK >= done  # nothing is ever lost again
        done = kept * BLOCK
    lines = lines_of(start(dataset, tmp_path / "cache"))
    assert f"after {done:,} of {IMAGES} images" in lines[0]
    assert decoded_in(lines) == IMAGES - done
    assert done > 0
    names = sorted(path.name for path in (tmp_path / "reference").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "cache").iterdir())
    for name in names:
        assert (tmp_path / "cache" / name).read_bytes() == (tmp_path / "reference" / name).read_bytes()
    np.testing.assert_array_equal(opened(dataset, tmp_path / "cache", check_all=True), expected)


def test_interrupted_it_goes_on_after_the_last_block(write, tmp_path, small_blocks):
    dataset = write()
    interrupted(dataset, tmp_path / "cache", 100)
    reporter = Noting()
    opened(dataset, tmp_path / "cache", reporter)
    assert reporter.decoded == IMAGES - 128
    assert reporter.notes == [f"Continuing the pixel cache of x after 128 of {IMAGES} images."]
    again = Noting()
    opened(dataset, tmp_path / "cache", again)
    assert (again.decoded, again.notes) == (0, [])


@pytest.mark.parametrize(
    ("harm", "kept"),
    [("nothing", 128), ("rows cut", 96), ("rows changed", 64), ("note cut", 0), ("note gone", 0), ("header", 0)],
)
def test_only_sound_blocks_are_gone_on_with(write, tmp_path, small_blocks, harm, kept):
    dataset, cache = write(), tmp_path / "cache"
    expected = np.array(opened(dataset, tmp_path / "reference"))
    interrupted(dataset, cache, 100)
    (rows,), (note,) = cache.glob("*.building"), cache.glob("*.building.json")
    header = rows.stat().st_size - 128 * 32 * 16 * 3
    if harm == "rows cut":
        os.truncate(rows, rows.stat().st_size - 1)
    elif harm in {"rows changed", "header"}:
        with rows.open("r+b") as stream:
            stream.seek(header + 70 * 32 * 16 * 3 if harm == "rows changed" else 3)
            stream.write(b"\0\1\2\3\4")
    elif harm == "note cut":
        os.truncate(note, note.stat().st_size - 9)
    elif harm == "note gone":
        note.unlink()
    reporter = Noting()
    np.testing.assert_array_equal(opened(dataset, cache, reporter), expected)
    assert reporter.decoded == IMAGES - kept
    assert sorted(path.suffix for path in cache.iterdir()) == [".TAG", ".json", ".npy"]


def test_killed_between_sealing_and_naming_it_decodes_nothing_again(write, tmp_path, small_blocks, monkeypatch):
    dataset = write()
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    monkeypatch.setattr(pixel_build, "_write_note", lambda path, value: path.write_text(json.dumps(value)))
    monkeypatch.setattr(pixel_build, "write_text", lambda path, text: path.write_text(text))
    with pytest.raises(KeyboardInterrupt):
        opened(dataset, tmp_path / "cache")
    monkeypatch.undo()
    monkeypatch.setattr(pixel_build, "BLOCK_BYTES", 1)
    reporter = Noting()
    assert opened(dataset, tmp_path / "cache", reporter).shape == (IMAGES, 32, 16, 3)
    assert reporter.decoded == 0


def test_a_changed_image_starts_anew(write, tmp_path, small_blocks, make_image):
    dataset = write()
    interrupted(dataset, tmp_path / "cache", 100)
    path = dataset.image_path(dataset.records[5])
    make_image(path.with_name("other.bmp"), size=(16, 33)).replace(path)
    reporter = Noting()
    opened(dataset, tmp_path / "cache", reporter)
    assert (reporter.decoded, reporter.notes) == (IMAGES, [])


def test_a_second_process_waits_and_decodes_nothing(write, tmp_path, small_blocks):
    dataset = write()
    process = start(dataset, tmp_path / "cache", 0.002)
    process.stdout.readline()
    reporter = Noting()
    waited = opened(dataset, tmp_path / "cache", reporter)
    assert reporter.decoded == 0
    assert reporter.notes == ["Another process is decoding x: waiting for it."]
    assert waited.shape == (IMAGES, 32, 16, 3)
    lines_of(process)
    assert process.returncode == 0


def test_where_the_one_waited_for_is_killed_the_other_goes_on(write, tmp_path, small_blocks):
    dataset = write()
    first = start(dataset, tmp_path / "cache", 0.01)
    for _ in range(3):
        first.stdout.readline()
    second = start(dataset, tmp_path / "cache")
    assert "waiting" in second.stdout.readline()
    first.kill()
    lines_of(first)
    lines = lines_of(second)
    assert second.returncode == 0
    assert 0 < decoded_in(lines) < IMAGES


def test_a_full_disk_is_told_and_what_is_done_is_kept(write, tmp_path, small_blocks):
    dataset = write()
    lines = lines_of(start(dataset, tmp_path / "cache", 0.0, 200_000))
    assert lines[-1].startswith("error The pixel cache")
    assert "can't be written: File too large. Free some space" in lines[-1]
    assert not list((tmp_path / "cache").glob("*.npy"))
    reporter = Noting()
    opened(dataset, tmp_path / "cache", reporter)
    assert reporter.decoded == IMAGES - 128  # 200,000 bytes hold four blocks of 32 images


def test_one_changed_byte_is_found_where_everything_is_compared(write, tmp_path, small_blocks):
    dataset = write()
    before = np.array(opened(dataset, tmp_path / "cache"))
    (path,) = (tmp_path / "cache").glob("*.npy")
    content = np.load(path, mmap_mode="r+")
    content[103, 3, 3, 1] ^= 1  # not among the 64 that are sampled
    content.flush()
    reporter = Noting()
    assert (opened(dataset, tmp_path / "cache", reporter) != before).sum() == 1
    assert reporter.decoded == 0
    np.testing.assert_array_equal(opened(dataset, tmp_path / "cache", reporter, check_all=True), before)
    assert reporter.decoded == IMAGES
    assert "is damaged" in reporter.notes[0]


def caches(folder: Path) -> int:
    return len(list(folder.glob("*.npy")))


def age(folder: Path, seconds: float) -> None:
    for path in folder.iterdir():
        os.utime(path, (time.time() - seconds,) * 2)


def test_caches_of_a_manifest_that_is_gone_are_removed(write, tmp_path):
    cache = tmp_path / "out" / "cache"
    old = opened(write(count=200), cache)
    kept = np.array(old)
    opened(write(count=200), cache, height=24)
    assert caches(cache) == 2
    reporter = Noting()
    opened(write(count=100), cache, reporter)
    assert caches(cache) == 1
    assert len(list(cache.glob("*.json"))) == 1
    freed = (200 * 32 * 16 * 3 + 200 * 24 * 16 * 3 + 2 * 128) / 1e6
    assert reporter.notes == [f"Removed 2 unused pixel caches of x: {freed:,.1f} MB freed."]
    np.testing.assert_array_equal(old, kept)  # a process that has it open keeps it


def test_in_a_shared_folder_only_forgotten_caches_are_removed(write, tmp_path):
    cache = tmp_path / "shared"
    opened(write(count=100), cache)
    opened(write(name="y", count=50, folder="other"), cache)
    opened(write(count=60), cache)
    assert caches(cache) == 3
    age(cache, UNUSED_AFTER + 60)
    opened(write(count=60), cache, height=24)
    assert caches(cache) == 2  # its own two are gone, another data set's is not
    assert len(list(cache.glob("y-*"))) == 2


def test_opening_keeps_another_size_from_being_forgotten(write, tmp_path):
    dataset, cache = write(count=40), tmp_path / "out" / "cache"
    opened(dataset, cache)
    age(cache, UNUSED_AFTER + 60)
    opened(dataset, cache)
    opened(dataset, cache, height=24)
    assert caches(cache) == 2


def test_an_unfinished_cache_is_removed_when_dead_and_left_while_it_is_built(write, tmp_path, small_blocks):
    cache = tmp_path / "out" / "cache"
    process = start(write(), cache, 0.02)
    process.stdout.readline()
    opened(write(count=40), cache)
    assert len(list(cache.glob("*.building"))) == 1
    process.kill()
    lines_of(process)
    reporter = Noting()
    opened(write(count=40), cache, reporter)
    assert not list(cache.glob("*.building*"))
    assert "Removed 1 unused pixel caches" in reporter.notes[0]


def test_a_strangers_files_are_left_alone(write, tmp_path):
    cache = tmp_path / "out" / "cache"
    cache.mkdir(parents=True)
    for name, text in (("notes.json", '{"domain": "x"}'), ("broken.json", "{"), ("list.json", "[]")):
        (cache / name).write_text(text)
    (cache / "z.building.json").write_text("no json\n")
    opened(write(count=40), cache)
    assert {"notes.json", "broken.json", "list.json", "z.building.json"} <= {path.name for path in cache.iterdir()}


def test_a_folder_without_permission_is_told(write, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    (tmp_path / "cache").mkdir(mode=0o555)
    with pytest.raises(DataError, match="can't be written: Permission denied"):
        opened(write(count=40), tmp_path / "cache")


def test_a_link_in_the_place_of_an_unfinished_cache_is_not_written_through(write, tmp_path):
    dataset, cache = write(count=40), tmp_path / "out" / "cache"
    opened(dataset, cache)
    finished = next(cache.glob("*.npy"))
    other = tmp_path / "other"
    other.write_text("not ours")
    finished.with_suffix(".building").symlink_to(other)
    finished.unlink()
    with pytest.raises(DataError, match="a link, where a plain file belongs"):
        opened(dataset, cache)
    assert other.read_text() == "not ours"
