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


@pytest.mark.parametrize("name", ["gallery.sqlite", "model/model.safetensors", "new.jpg", "sheet.jpg"])
def test_nothing_is_written_into_the_gallery(photograph, in_world, name) -> None:
    gallery = in_world / "gallery"
    out = gallery / name
    if name == "sheet.jpg":
        out = Path(name)
        out.symlink_to(gallery / "gallery.sqlite")
    before = {path: path.read_bytes() for path in gallery.rglob("*") if path.is_file()}
    for command, option in (
        (("query", photograph, "--sheet", "other.jpg", "--html", out), "--html"),
        (("query", "--batch", photograph, "--out", out), "--out"),
        *([(("query", photograph, "--sheet", out), "--sheet")] if out.suffix == ".jpg" else []),
    ):
        outcome = sil(*command)
        assert (outcome.code, outcome.out) == (2, "")
        assert f"{option} {out} would be written into the gallery, {gallery}" in outcome.error
        assert f"Name another file with {option} FILE" in outcome.error
    assert {path: path.read_bytes() for path in gallery.rglob("*") if path.is_file()} == before


def test_nothing_is_written_into_a_named_model_or_over_a_local_store(photograph, in_world) -> None:
    (run,) = (in_world / "runs").iterdir()
    before = (run / "model.safetensors").read_bytes()
    outcome = sil("query", photograph, "--model", run, "--sheet", "other.jpg", "--html", run / "model.safetensors")
    assert outcome.code == 2
    assert f"would be written into the model, {run}" in outcome.error
    assert (run / "model.safetensors").read_bytes() == before
    Path("people.db").write_bytes(b"entries")
    outcome = sil("query", photograph, "--store", "people.db", "--sheet", "other.jpg", "--html", "people.db")
    assert outcome.code == 2
    assert "would be written into the gallery's store, people.db" in outcome.error
    assert Path("people.db").read_bytes() == b"entries"


def test_what_is_found_does_not_replace_the_gallerys_images(photograph, in_world) -> None:
    crop = sorted((in_world / "data").glob("*/images/gallery/*.jpg"))[0]
    Path("link.jpg").symlink_to(crop)
    before = crop.read_bytes()
    for command, option in (
        (("query", photograph, "--top", 1, "--sheet", crop), "--sheet"),
        (("query", photograph, "--top", 1, "--sheet", "link.jpg"), "--sheet"),
        (("query", photograph, "--sheet", "other.jpg", "--html", crop), "--html"),
        (("query", "--batch", photograph, "--out", crop), "--out"),
    ):
        outcome = sil(*command)
        assert outcome.code == 2, outcome.err
        assert f"{option} {command[-1]} would be written over {in_world}" in outcome.error
        assert "which is to be read" in outcome.error
        assert crop.read_bytes() == before
    assert not Path("other.jpg").exists()


def test_a_match_is_not_replaced_where_its_content_is_not_known(photograph, in_world) -> None:
    crop = sorted((in_world / "data").glob("*/images/gallery/*.jpg"))[0]
    shutil.copytree(crop.parent, "crops")
    (run,) = (in_world / "runs").iterdir()
    known = ("--gallery", "own")
    assert sil("index-gallery", "crops", *known, "--model", run, "--tracklets", "folder").code == 0
    match = sil("query", photograph, *known, "--sheet", "other.jpg", "--json").document["matches"][0]
    shown = Path("own") / match["source"] / match["path"]
    before = shown.read_bytes()
    outcome = sil("query", photograph, *known, "--sheet", shown)
    assert outcome.code == 2
    assert f"would be written over {shown}" in outcome.error
    assert shown.read_bytes() == before


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
