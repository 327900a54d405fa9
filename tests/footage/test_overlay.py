from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from commands import sil

from sil_cli.files import TEMPORARY_MARK
from sil_cli.footage.overlay import Trajectory, draw_boxes, draw_trajectories

if TYPE_CHECKING:
    from pathlib import Path

av = pytest.importorskip("av")
FOOTAGE = [
    "--set=data.synthetic.domains=1",
    "--set=data.synthetic.cameras=2",
    "--set=data.footage.seconds=6",
    "--set=data.footage.frames_per_second=2",
    "--set=data.footage.people=8",
    "--set=data.footage.width=160",
    "--set=data.footage.height=121",
    "--out=<film>",
]
CROP = ["--model", "none", "--every", "0", "--min-height", "16", "--json"]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Footage in a folder whose name is no HTML."""
    folder = tmp_path_factory.mktemp("film")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert sil("prepare-data", "synthetic", "--footage", *FOOTAGE).code == 0
    return folder / "<film>"


def frames_in(video: Path) -> list[np.ndarray]:
    with av.open(str(video)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_footage_is_drawn_with_its_boxes_and_a_page_of_ways(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = sil(
        "crop",
        film / "c1",
        film / "c2",
        "--detector",
        film / "c1/gt/gt.txt",
        *CROP,
        "--overlay",
        "seen",
        "--html",
        "p.html",
    ).document
    assert result["overlays"] == ["seen/c1.mp4", "seen/c2.mp4"]
    frames = frames_in(tmp_path / "seen/c1.mp4")
    assert [frame.shape for frame in frames] == [(122, 160, 3)] * 12
    page = (tmp_path / "p.html").read_text()
    assert "c1-0001" in page
    assert "&lt;film&gt;" in page
    assert "<film>" not in page
    assert "<script" not in page
    assert page.count("<rect") == len(set(re.findall(r"a crop of (c\d-\d{4})", page)))
    assert oct((tmp_path / "p.html").stat().st_mode & 0o777) == oct(
        (tmp_path / "crops/crops.csv").stat().st_mode & 0o777
    )


def test_done_footage_is_drawn_later_without_cropping_it_again(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["crop", film / "c1", "--detector", film / "c1/gt/gt.txt", *CROP]
    sil(*command)
    left = tmp_path / f"{TEMPORARY_MARK}{16 * 'a'}.mkv"
    left.write_bytes(b"of a killed run")
    again = sil(*command, "--overlay", "one.mkv").document
    assert again["footage"][0]["unchanged"]
    assert len(frames_in(tmp_path / "one.mkv")) == 12
    assert not left.exists()


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (["--overlay", "seen.txt"], "seen.txt is not the name of a video"),
        (["--overlay", "seen.mp4"], "is one file, and 2 pieces of footage are named"),
    ],
)
def test_an_overlay_that_can_not_be_is_refused_before_anything_is_cropped(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = sil("crop", film / "c1", film / "c2", "--detector", "hog", "--model", "none", *more)
    assert outcome.code != 0
    assert what in outcome.error
    assert not list(tmp_path.rglob("*.jpg"))


def test_a_box_is_drawn_where_it_is_and_large_frames_become_smaller() -> None:
    image = np.full((100, 200, 3), 255, np.uint8)
    drawn = draw_boxes(image, [(np.asarray([50.0, 30.0, 40.0, 60.0]), "7")])
    rows, columns = np.nonzero((drawn != 255).any(axis=2))
    assert (columns.min(), columns.max(), rows.max()) == (48, 90, 90)
    assert (drawn[40:80, 60:80] == 255).all()
    assert draw_boxes(np.zeros((1080, 3840, 3), np.uint8), []).shape == (360, 1280, 3)


def test_ways_go_through_feet_and_stay_within_the_picture() -> None:
    boxes = np.asarray([[10.0, 10, 20, 50], [60, 10, 20, 50], [180, 60, 40, 60]])
    way = Trajectory("c1-0001", "1", np.asarray([0.0, 1, 2]), boxes, ())
    plain = np.asarray(draw_trajectories(np.full((100, 200, 3), 200, np.uint8), []))
    drawn = np.asarray(draw_trajectories(np.full((100, 200, 3), 200, np.uint8), [way]))
    assert drawn.shape == plain.shape
    changed = (drawn != plain).any(axis=2)
    scale = drawn.shape[1] / 200
    assert changed[round(60 * scale), round(45 * scale)]
    assert not changed[: round(40 * scale)].any()
