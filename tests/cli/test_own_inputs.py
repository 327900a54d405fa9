"""No command writes over what it reads: the user's only copy of a photograph may be at stake."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Outcome, sil


@pytest.fixture
def photograph(in_world, tmp_path, monkeypatch) -> Path:
    """A picture called matches.jpg, as the contact sheet is, in a folder of its own where a gallery may be asked."""
    monkeypatch.setenv("SIL_GALLERY__FOLDER", str(in_world / "gallery"))
    picture = next((in_world / "data").glob("*/images/query/*.jpg"))
    shutil.copy(picture, tmp_path / "matches.jpg")
    monkeypatch.chdir(tmp_path)
    return Path("matches.jpg")


def refused(outcome: Outcome, option: str, path: str) -> None:
    assert outcome.code == 2, outcome.err
    assert f"written over {path}, which is to be read" in outcome.error
    assert f"Name another file with {option} FILE" in outcome.error
    assert outcome.out == ""


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ((), "--sheet"),
        (("--sheet", "./matches.jpg"), "--sheet"),
        (("--sheet", "link.jpg"), "--sheet"),
        (("--sheet", "sheet.jpg", "--html", "matches.jpg"), "--html"),
        (("--sheet", "matches.jpg", "--fuse", "--id", "1"), "--sheet"),
    ],
)
def test_a_query_is_not_replaced_by_what_is_found(photograph, options, option) -> None:
    Path("link.jpg").symlink_to(photograph)
    before = photograph.read_bytes()
    refused(sil("query", photograph, *options), option, "matches.jpg")
    assert photograph.read_bytes() == before
    assert sorted(path.name for path in Path().iterdir()) == ["link.jpg", "matches.jpg"]


def test_an_earlier_sheet_is_replaced(photograph) -> None:
    photograph.rename("query.jpg")
    Path("matches.jpg").write_bytes(b"")
    assert sil("query", "query.jpg").code == 0
    assert Path("matches.jpg").stat().st_size


def test_a_batch_is_not_replaced_by_its_answers(photograph, in_world) -> None:
    Path("crops").mkdir()
    crop = shutil.copy(photograph, "crops/a.jpg")
    Path("list.txt").write_text("crops/a.jpg\n")
    Path("table.csv").write_text("path\ncrops/a.jpg\n")
    target = next(path for path in (in_world / "data").iterdir() if path.is_dir())
    for source, out in (
        ("list.txt", "list.txt"),
        ("list.txt", crop),
        ("table.csv", "table.csv"),
        ("table.csv", crop),
        ("crops", crop),
        (target, target / "manifest.jsonl"),
    ):
        before = Path(out).read_bytes()
        outcome = sil("query", "--batch", source, "--out", out)
        refused(outcome, "--out", str(Path(out).resolve() if out == crop else out))
        assert Path(out).read_bytes() == before


def test_a_stream_is_not_replaced_by_its_answers(photograph) -> None:
    Path("list.txt").write_text("matches.jpg\n")
    for out, read in (("list.txt", "/dev/stdin"), ("matches.jpg", str(photograph.resolve()))):
        before = Path(out).read_bytes()
        with Path("list.txt").open("rb") as stdin:
            command = [sys.executable, "-m", "sil_cli", "query", "--batch", "-", "--out", out]
            done = subprocess.run(command, stdin=stdin, capture_output=True, text=True, check=False)
        refused(Outcome(done.returncode, done.stdout, done.stderr), "--out", read)
        assert Path(out).read_bytes() == before


def test_answers_may_lie_among_the_pictures(photograph) -> None:
    assert sil("query", "--batch", ".", "--out", "lines.jsonl").code == 0
    assert sil("query", "--batch", ".", "--out", "lines.jsonl").code == 0


def test_a_sheet_is_no_picture_of_its_data_set(in_world, tmp_path) -> None:
    picture = next((in_world / "data").glob("*/images/query/*.jpg"))
    folder = tmp_path / "data"
    shutil.copytree(picture.parents[2], folder)
    own = folder / picture.relative_to(picture.parents[2])
    (tmp_path / "sheet.jpg").symlink_to(own)
    (tmp_path / "other-style.png").symlink_to(own)
    before = own.read_bytes()
    for out in (own, tmp_path / "sheet.jpg", tmp_path / "other.jpg"):
        refused(sil("show", folder, "--out", out), "--out", str(own))
        assert own.read_bytes() == before


def test_saved_embeddings_are_no_input(in_world) -> None:
    (run,) = Path("runs").iterdir()
    picture = next(Path("data").glob("*/images/query/*.jpg"))
    for out in (run / "model.safetensors", picture.parents[2] / "manifest.jsonl", picture):
        before = out.read_bytes()
        target = ("--target", picture.parents[2])
        refused(sil("evaluate", *target, "--save-embeddings", out), "--save-embeddings", str(out))
        assert out.read_bytes() == before
