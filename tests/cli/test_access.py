"""Who may read what commands write: their user alone, or with `--shared` whom the umask lets."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from commands import TINY_DATA, TINY_DATA_FLAGS, TINY_TRAIN_FLAGS, sil

import sil_cli
from sil_cli.errors import UsageError
from sil_cli.settings import load_settings


@pytest.fixture
def open_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def rights(folder: Path) -> dict[str, str]:
    """Whatever a folder holds, with its rights."""
    return {str(path.relative_to(folder)): oct(stat.S_IMODE(path.lstat().st_mode)) for path in folder.rglob("*")}


def open_to_others(folder: Path) -> list[str]:
    return sorted(name for name, mode in rights(folder).items() if int(mode, 8) & 0o077)


def picture() -> Path:
    return sorted(Path().glob("data/*/images/query/*.jpg"))[0]


@pytest.mark.thorough
def test_nothing_that_any_command_writes_is_open_to_others(tmp_path, monkeypatch, open_umask) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (
        ["prepare-data", *TINY_DATA_FLAGS],
        ["train", *TINY_TRAIN_FLAGS, "--tensorboard"],
        ["evaluate", "--save-embeddings", "deep/embeddings.npz"],
        ["calibrate", "--on", "data/orchard"],  # too few people, which is said after the work
        ["import-model", "runs/001-dbs/model.safetensors", "--backbone", "resnet18", "--out", "imported"],
        ["index-gallery"],
        ["query", "PICTURE", "--html", "new/page.html"],
        ["query", "--batch", "data/orchard", "--out", "found.jsonl"],
        ["report"],
        ["show", "--out", "shown.png"],
        ["gallery", "export", "gallery.csv"],
        ["gallery", "export", "gallery.npz"],
        ["gallery", "export", "gallery.parquet"],
        ["gallery", "copy", "gallery", "copied"],
        ["gallery", "remove", "--camera", "c1", "--yes"],
        ["gallery", "compact"],
        ["gallery", "rebuild"],
        ["train", "--resume", "--run", "runs/001-dbs"],  # finished, which is said
    ):
        outcome = sil(*(picture() if word == "PICTURE" else word for word in words))
        assert outcome.code == 0 or words[0] in ("calibrate", "train"), outcome.err
    written = (
        "matches.jpg",
        "deep/embeddings.npz",
        "new/page.html",
        "found.jsonl",
        "shown.png",
        "copied/gallery.sqlite",
    )
    assert {rights(tmp_path)[path] for path in written} == {"0o600"}
    assert open_to_others(tmp_path) == []


def test_what_functions_write_is_not_open_to_others(empty, open_umask) -> None:
    sil_cli.prepare(settings={f"data.synthetic.{key}": value for key, value in TINY_DATA.items()})
    assert Path("data/orchard/manifest.jsonl").is_file()
    assert open_to_others(empty) == []
    assert os.umask(0) == 0  # as it was


@pytest.mark.parametrize(
    ("said_by", "umask", "file", "folder"),
    [
        ("flag", 0o007, "0o660", "0o770"),
        pytest.param("variable", 0o022, "0o644", "0o755", marks=pytest.mark.thorough),
        pytest.param("file", 0o002, "0o664", "0o775", marks=pytest.mark.thorough),
    ],
)
def test_shared_lets_others_in_as_the_umask_says(empty, monkeypatch, open_umask, said_by, umask, file, folder) -> None:
    os.umask(umask)
    if said_by == "variable":
        monkeypatch.setenv("SIL_SHARED", "true")
    (empty / "mine.toml").write_text("shared = true\n")
    words = {"flag": ["--shared"], "variable": [], "file": ["--config", "mine.toml"]}[said_by]
    assert sil("prepare-data", *TINY_DATA_FLAGS, *words).code == 0
    found = rights(empty / "data")
    assert found["orchard/images/query"] == found["orchard"] == folder
    assert found["orchard/manifest.jsonl"] == found["samples.jpg"] == file
    assert os.umask(umask) == umask


def test_a_found_file_opens_nothing_to_others(empty) -> None:
    (empty / "sil.toml").write_text("shared = true\n")
    outcome = sil("prepare-data", *TINY_DATA_FLAGS)
    assert (outcome.code, outcome.out) == (2, "")
    assert "shared = true was set by a file found in the working folder" in outcome.error
    assert "--shared" in outcome.error
    assert not Path("data").exists()
    with pytest.raises(UsageError, match="shared = true was set by a file"):
        load_settings(recipe={"shared": True})


@pytest.fixture
def copied_world(world, tmp_path, monkeypatch, open_umask):
    shutil.copytree(world, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    return tmp_path / "w"


@pytest.mark.parametrize(("file", "folder"), [(0o644, 0o755), pytest.param(0o660, 0o770, marks=pytest.mark.thorough)])
def test_what_is_added_to_a_gallery_has_the_rights_of_what_is_there(copied_world, file, folder) -> None:
    gallery = Path("gallery")
    for path in (gallery, *gallery.rglob("*")):
        path.chmod(folder if path.is_dir() else file)
    os.umask(0o022)
    assert sil("index-gallery", "data/harbour").code == 0
    assert sil("gallery", "rebuild").code == 0
    assert sil("query", picture(), "--exclude-self").code == 0
    found = rights(gallery)
    assert {mode for name, mode in found.items() if (gallery / name).is_file()} == {oct(file)}
    assert {mode for name, mode in found.items() if (gallery / name).is_dir()} == {oct(folder)}
    assert stat.S_IMODE(gallery.stat().st_mode) == folder
    assert rights(copied_world)["matches.jpg"] == "0o600"


def test_a_gallery_made_for_others_can_be_written_by_them(copied_world) -> None:
    os.umask(0o007)
    assert sil("index-gallery", "data/harbour", "--gallery", "ours", "--shared").code == 0
    assert {*rights(Path("ours")).values()} == {"0o660", "0o770"}
    with sil_cli.open_gallery("ours"):  # while it is read, SQLite's log and index lie beside
        assert {*rights(Path("ours")).values()} == {"0o660", "0o770"}


def test_the_folders_of_a_user_keep_their_rights(copied_world) -> None:
    for name in ("gallery-to-be", "pages"):
        Path(name).mkdir(mode=0o755)
    assert sil("index-gallery", "data/harbour", "--gallery", "gallery-to-be").code == 0
    assert sil("query", picture(), "--html", "pages/page.html").code == 0
    found = rights(copied_world)
    assert (found["gallery-to-be"], found["pages"]) == ("0o755", "0o755")
    assert found["gallery-to-be/gallery.sqlite"] == found["pages/page.html"] == "0o600"


def test_what_is_replaced_is_closed_to_others(copied_world) -> None:
    Path("matches.jpg").write_bytes(b"of an earlier version")
    Path("matches.jpg").chmod(0o644)
    assert sil("query", picture()).code == 0
    assert rights(copied_world)["matches.jpg"] == "0o600"
