"""Ctrl-C and kills of real processes: the right exit code, and a run that goes on as if nothing had happened."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import TINY_DATA_FLAGS, TINY_TRAIN_FLAGS, sil, start_sil

from sil_cli.errors import GalleryError
from sil_cli.files import TEMPORARY_MARK
from sil_cli.gallery.stores import open_gallery

# Checkpoints of the smallest network take 2 MB each, not 134: how a training is stopped has nothing to do with it.
LONGER = ["--set", "train.epochs=4", "--set", "train.iterations=4", "--set", "model.backbone=osnet_x0_25"]
SECONDS = 120


def wait_for(condition, process) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


MORE_WAYS = [pytest.param(each, marks=pytest.mark.thorough) for each in (signal.SIGTERM, signal.SIGKILL)]


@pytest.fixture
def copy(world, tmp_path) -> Path:
    """A copy of the world's data, without its runs."""
    shutil.copytree(world / "data", tmp_path / "data")
    return tmp_path


def outcome_of(run: Path) -> tuple[str, list[float]]:
    """The finished model's fingerprint and the loss of every epoch."""
    fingerprint = json.loads((run / "model.json").read_text())["fingerprint"]
    return fingerprint, [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def uninterrupted(world, tmp_path_factory) -> tuple[str, list[float]]:
    """What a training comes to that nobody stops."""
    run = tmp_path_factory.mktemp("whole") / "run"
    with contextlib.chdir(world):
        outcome = sil("train", *TINY_TRAIN_FLAGS, *LONGER, "--run", run)
    assert outcome.code == 0, outcome.err
    return outcome_of(run)


@pytest.mark.parametrize(
    "how",
    [signal.SIGINT, *(pytest.param(each, marks=pytest.mark.thorough) for each in (signal.SIGTERM, signal.SIGKILL))],
)
def test_a_stopped_training_goes_on_to_the_very_same_model(copy, monkeypatch, uninterrupted, how) -> None:
    monkeypatch.chdir(copy)
    process = start_sil("train", *TINY_TRAIN_FLAGS, *LONGER, "--run", "stopped", cwd=copy)
    wait_for(lambda: (copy / "stopped/metrics.jsonl").exists(), process)
    process.send_signal(how)
    out, err = process.communicate(timeout=SECONDS)
    assert out == ""
    if how is signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130, err
        assert "nothing is lost" in err
        assert "sil train --resume --run stopped" in err
    assert not (copy / "stopped/model.json").exists()
    outcome = sil("train", "--resume", "--run", "stopped")
    assert outcome.code == 0, outcome.err
    assert outcome_of(copy / "stopped") == uninterrupted


@pytest.mark.thorough
def test_two_trainings_in_one_run_folder(copy, monkeypatch) -> None:
    monkeypatch.chdir(copy)
    process = start_sil("train", *TINY_TRAIN_FLAGS, "--set", "train.iterations=5000", "--run", "one", cwd=copy)
    try:
        wait_for(lambda: list((copy / "one").glob("checkpoint-*.pt")), process)
        outcome = sil("train", "--resume", "--run", "one")
        assert outcome.code == 1
        assert f"being written by process {process.pid}" in outcome.error
    finally:
        process.kill()
        process.communicate()


@pytest.mark.thorough
def test_ctrl_c_while_drawing_leaves_nothing_half_made(tmp_path) -> None:
    process = start_sil("prepare-data", *TINY_DATA_FLAGS, "--set", "data.synthetic.train_identities=4000", cwd=tmp_path)
    wait_for(lambda: list(tmp_path.glob("data/.sil-staging-*/*/images/*/*.jpg")), process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]


def searchable(gallery: Path) -> int:
    """How many images a reader finds while the writer is at work; a file of vectors alone is no finished batch."""
    try:
        with open_gallery(gallery) as opened:
            return len(opened)
    except GalleryError:
        return 0


def test_ctrl_c_while_indexing_keeps_what_is_done(world, tmp_path) -> None:
    crops = tmp_path / "crops"
    crops.mkdir()
    some = next((world / "data").glob("*/images/gallery/*.jpg"))
    for number in range(3000):
        shutil.copyfile(some, crops / f"{number}.jpg")
    run = world / "runs/001-dbs"
    arguments = ["index-gallery", crops, "--model", run, "--gallery", tmp_path / "gallery"]
    process = start_sil(*arguments, cwd=tmp_path)
    wait_for(lambda: searchable(tmp_path / "gallery"), process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, err
    assert "all of them are searchable" in err
    document = sil(*arguments, "--json").document
    assert document["unchanged"] >= 1024
    assert document["unchanged"] + document["added"] == document["total"] == 3000


@pytest.mark.thorough
@pytest.mark.parametrize("into_a_file", [False, True])
def test_ctrl_c_during_a_batch_of_queries_leaves_whole_lines_or_none(world, tmp_path, into_a_file) -> None:
    some = next((world / "data").glob("*/images/query/*.jpg"))
    names = tmp_path / "names.txt"
    names.write_text(f"{some}\n" * 200_000)
    out, lines = tmp_path / "out.jsonl", tmp_path / "lines.jsonl"
    options = ["--gallery", world / "gallery", *(["--out", out] if into_a_file else [])]
    with names.open("rb") as stdin, lines.open("wb") as stdout, (tmp_path / "err.txt").open("wb") as stderr:
        command = [sys.executable, "-m", "sil_cli", "query", "--batch", "-", *map(str, options)]
        process = subprocess.Popen(command, cwd=tmp_path, stdin=stdin, stdout=stdout, stderr=stderr)
    written_to = f"{TEMPORARY_MARK}*.jsonl" if into_a_file else lines.name
    try:
        wait_for(lambda: any(path.stat().st_size for path in tmp_path.glob(written_to)), process)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=SECONDS) == 130, (tmp_path / "err.txt").read_text()
    finally:
        process.kill()
        process.wait()
    said = (tmp_path / "err.txt").read_text()
    assert "Stopped after " in said
    assert "Traceback" not in said
    if into_a_file:
        assert {path.name for path in tmp_path.iterdir()} == {"names.txt", "lines.jsonl", "err.txt"}
        assert "out.jsonl was not written" in " ".join(said.split())
        return
    written = lines.read_text()
    assert written.endswith("\n")
    answers = [json.loads(line) for line in written.splitlines()]
    assert 0 < len(answers) < 200_000
    assert all(answer["matches"] and answer["error"] is None for answer in answers)
    assert f"Stopped after {len(answers):,} queries; their lines are whole" in " ".join(said.split())


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into /proc")
@pytest.mark.parametrize(
    ("command", "library"),
    [(["evaluate", "--engine", "torch"], "libtorch"), (["query", "x.jpg"], "faiss"), (["doctor"], "libtorch")],
)
def test_ctrl_c_early_is_code_130_and_one_line(world, command, library) -> None:
    for _ in range(3):  # Python drops an interrupt that strikes inside a destructor; thrice in a row is no accident
        process = start_sil(*command, cwd=world)
        maps = Path(f"/proc/{process.pid}/maps")
        wait_for(lambda maps=maps: library in maps.read_text(), process)  # it is among the imports
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=SECONDS)
        if process.returncode == 130:
            break
    assert process.returncode == 130, err
    assert "Traceback" not in err


def test_a_reader_that_leaves_is_no_failure_worth_a_traceback(world, tmp_path) -> None:
    query = next((world / "data").glob("*/images/query/*.jpg"))
    process = start_sil("query", query, "--sheet", tmp_path / "s.jpg", "--json", cwd=world)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=SECONDS) == 1
    assert "Traceback" not in err
    assert "BrokenPipe" not in err
