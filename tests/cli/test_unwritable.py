"""Where nothing can be written: the answer comes first, and long work does not begin for outputs that can't be kept."""

from __future__ import annotations

import resource
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import sil

from sil_cli.errors import SilError
from sil_cli.output_checks import require_writable

NOWHERE = Path("/proc/self")  # root may not write there either
pytestmark = pytest.mark.skipif(not NOWHERE.exists(), reason="no /proc on this system")


@contextmanager
def files_up_to(size: int):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def query(world) -> list[object]:
    image = next((world / "data").glob("*/images/query/*.jpg"))
    return ["query", image, "--gallery", world / "gallery", "--json"]


def test_a_query_in_a_folder_that_may_not_be_written_is_answered(query, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    matches = sil(*query).document["matches"]
    monkeypatch.chdir(NOWHERE)
    outcome = sil(*query)
    assert outcome.code == 0
    assert outcome.document["matches"] == matches
    assert outcome.document["sheet"] is None
    assert "The contact sheet was not written to matches.jpg" in outcome.error
    assert "--sheet FILE, or leave it out with --sheet none" in outcome.error
    quiet = sil(*query, "--sheet", "none")
    assert (quiet.code, quiet.document["sheet"], "Warning" in quiet.err) == (0, None, False)


def test_no_sheet_is_drawn_where_none_is_wanted(query, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    outcome = sil(*query, "--sheet", "none", "--html", "page.html")
    assert outcome.document["html"] == "page.html"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    ("option", "key", "is_full"), [("--sheet", "sheet", False), ("--sheet", "sheet", True), ("--html", "html", False)]
)
def test_a_drawing_that_was_named_is_a_failure_behind_the_answer(query, monkeypatch, tmp_path, option, key, is_full):
    monkeypatch.chdir(tmp_path)
    place = tmp_path if is_full else NOWHERE
    with files_up_to(2**15 if is_full else resource.RLIM_INFINITY):
        outcome = sil(*query, option, place / f"x.{'jpg' if key == 'sheet' else 'html'}")
    assert outcome.code == 1
    assert outcome.document["matches"]
    assert outcome.document[key] is None
    assert f"Name another file with {option} FILE" in outcome.error


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["evaluate", "--out", NOWHERE / "x"], "--out DIR"),
        (["evaluate", "--save-embeddings", NOWHERE / "x.npz"], "--save-embeddings FILE"),
        (["report", "--out", NOWHERE / "x"], "--out DIR"),
        (["report", "--out", NOWHERE / "x.html"], "--out DIR"),
    ],
)
def test_long_work_does_not_begin_for_outputs_that_cannot_be_written(in_world, monkeypatch, command, option):
    def never(*arguments, **more):
        pytest.fail("it was begun")

    monkeypatch.setattr("sil_cli.evaluation.evaluate.load_models", never) if "--save-embeddings" in command else None
    monkeypatch.setattr("sil_cli.evaluation.evaluate.embed_images", never)
    monkeypatch.setattr("sil_cli.report.report._open_models", never)
    outcome = sil(*command)
    assert outcome.code == 1
    assert "can't be written" in outcome.error
    assert f"Name another place with {option}" in outcome.error
    assert outcome.out == ""


@pytest.mark.parametrize("limit", [0, 2_000])
def test_numbers_are_shown_where_the_disk_fills_up_behind_them(in_world, tmp_path, limit):
    whole = sil("evaluate", "--out", tmp_path / "whole", "--json").document
    with files_up_to(limit):
        outcome = sil("evaluate", "--out", tmp_path / "full", "--json")
    assert outcome.code == 1
    assert outcome.document["mAP"] == whole["mAP"]
    assert (outcome.document["results"], outcome.document["per_query"]) == (None, None)
    assert "full was not written: File too large" in outcome.error
    assert not (tmp_path / "full/results.json").exists()


def test_what_is_in_data_is_shown_without_a_sheet(in_world, monkeypatch):
    data = (in_world / "data").resolve()
    whole = sil("show", *sorted(data.glob("*/"))[:1], "--out", "none", "--json")
    assert (whole.code, whole.document["sheet"], whole.document["chart"]) == (0, None, None)
    monkeypatch.chdir(NOWHERE)
    outcome = sil("show", *sorted(data.glob("*/"))[:1], "--json")
    assert outcome.code == 0
    assert outcome.document == whole.document
    assert "not written to show.jpg" in outcome.error
    assert sil("show", *sorted(data.glob("*/"))[:1], "--out", "x.jpg").code == 1


def test_looking_leaves_nothing_behind(tmp_path):
    (tmp_path / "file").write_text("kept")
    for out in (tmp_path / "new/folder/x.json", tmp_path / "file", tmp_path, Path("/dev/null"), Path("/dev/full")):
        require_writable(out, option="--out DIR")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "kept"
    with pytest.raises(SilError, match="Not a directory"):
        require_writable(tmp_path / "file/x", option="--out DIR")
