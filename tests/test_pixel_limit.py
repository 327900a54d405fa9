"""One limit of pixels, `data.max_megapixels`, holds in whatever opens an image."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import TINY_DATA, TINY_TRAIN_FLAGS, Outcome, sil

import sil_cli
from sil_cli.data.manifest import load_dataset
from sil_cli.errors import SilError

PIXELS = TINY_DATA["height"] * TINY_DATA["width"]
LIMIT = ("--set", f"data.max_megapixels={(PIXELS - 1) / 10**6}")
"""A pixel fewer than the crops of the world have."""
REASON = f"{TINY_DATA['width']}×{TINY_DATA['height']} pixels, more than {PIXELS - 1:,} in all"


def target() -> Path:
    return sorted(path.parent for path in Path("data").glob("*/dataset.json"))[-1]


def crop() -> Path:
    dataset = load_dataset(target())
    return dataset.image_path(dataset.of_split("query")[0])


@pytest.fixture
def run(in_world) -> Path:
    (run,) = Path("runs").iterdir()
    return run


def limited(*arguments: object) -> Outcome:
    return sil(*arguments, *LIMIT)


def test_preparing(run, tmp_path) -> None:
    (tmp_path / "raw" / "person").mkdir(parents=True)
    (tmp_path / "raw" / "person" / "c1_1.jpg").write_bytes(crop().read_bytes())
    arguments = ["prepare-data", "folders", tmp_path / "raw", "--out", tmp_path / "out"]
    assert sil(*arguments, "--json").code == 0
    assert limited(*arguments, "--force").code == 1


def test_training(run, tmp_path) -> None:
    elsewhere = ("--run", tmp_path / "run", "--set", f"data.cache={tmp_path / 'cache'}")
    outcome = limited("train", *TINY_TRAIN_FLAGS, *elsewhere)
    assert outcome.code == 1
    assert REASON in outcome.error
    assert "--set data.max_megapixels=1," in outcome.error


def test_evaluating(run, tmp_path) -> None:
    for size in ((), ("--height", 16, "--width", 16)):
        outcome = limited("evaluate", "--out", tmp_path / "out", *size)
        assert outcome.code == 1
        assert REASON in outcome.error
        assert "give the data.max_megapixels that it was prepared with" in outcome.error


def test_calibrating(run) -> None:
    outcome = limited("calibrate", "--on", target())
    assert outcome.code == 1
    assert REASON in outcome.error


def test_indexing_and_embedding_again(run, tmp_path) -> None:
    outcome = limited("index-gallery", target(), "--gallery", tmp_path / "gallery", "--json")
    assert outcome.code == 1
    assert REASON in outcome.out
    arguments = ("--gallery", tmp_path / "gallery")
    assert sil("index-gallery", target(), *arguments).code == 0
    assert REASON in limited("gallery", "rebuild", *arguments, "--model", run).error
    assert sil("index-gallery", target(), *arguments).code == 0


@pytest.mark.parametrize("batch", [False, True])
def test_querying(run, tmp_path, batch) -> None:
    asked = ["--batch", crop().parent] if batch else [crop()]
    outcome = limited("query", *asked, *([] if batch else ["--sheet", tmp_path / "matches.jpg"]))
    assert REASON in (outcome.out if batch else outcome.error)


def test_what_matches_show(run, tmp_path) -> None:
    outcome = limited("query", "--id", 1, "--sheet", tmp_path / "matches.jpg")
    assert f"{REASON}; it is missing from the sheet" in outcome.error


def test_showing(run, tmp_path) -> None:
    assert REASON in limited("show", target(), "--out", tmp_path / "show.jpg", "--json").out


def test_exporting(run, tmp_path) -> None:
    outcome = limited("export", "--out", tmp_path / "out", "--int8", "--calibrate-on", target())
    assert "None of the images of" in outcome.error


def test_reporting(run, tmp_path) -> None:
    pages = [tmp_path / "all", tmp_path / "none"]
    assert sil("report", "--out", pages[0]).code == 0
    assert limited("report", "--out", pages[1]).code == 0
    count = [sum(page.read_text().count("data:image/jpeg") for page in folder.rglob("*.html")) for folder in pages]
    assert count[0] > count[1]


def test_from_python(run) -> None:
    model = sil_cli.load_model(run, engine="torch", max_megapixels=(PIXELS - 1) / 10**6)
    with pytest.raises(SilError, match=f"more than {PIXELS - 1:,} in all"):
        model.embed([crop()])
    assert sil_cli.load_model(run, engine="torch").embed([crop()]).shape == (1, model.dimension)
