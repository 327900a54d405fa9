from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from sil_cli.errors import SilError
from sil_cli.footage.context import in_context, read_moment
from sil_cli.gallery.entry import GalleryEntry, footage_moment
from sil_cli.report.video import writing_video

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("av")
WHERE = {"video": "lobby.mp4", "frame": "7", "seconds": "1.400", "frame_box": "20,10,20,40"}


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    """A video and a folder of ten frames, each brighter than the one before."""
    (tmp_path / "frames").mkdir()
    with writing_video(tmp_path / "lobby.mp4") as video:
        for number in range(10):
            image = np.full((64, 96, 3), 20 * number, np.uint8)
            video.write(image, 0.2 * number)
            Image.fromarray(image).save(tmp_path / f"frames/{number}.png")
    return tmp_path


@pytest.mark.parametrize("video", ["lobby.mp4", "frames"])
@pytest.mark.parametrize("number", [0, 1, 7, 9])
def test_the_frame_of_a_crop_is_found_again(footage: Path, video: str, number: int) -> None:
    where = WHERE | {"video": video, "frame": str(number), "seconds": f"{0.2 * number:.3f}"}
    frame, box = read_moment(where, footage, max_pixels=10**6)
    assert box == (20, 10, 20, 40)
    assert frame.shape == (64, 96, 3)
    assert abs(int(frame[30, 60, 1]) - 20 * number) <= 6


@pytest.mark.parametrize(
    "wrong",
    [
        {"video": "gone.mp4"},
        {"seconds": "900"},
        {"seconds": "nan"},
        {"frame": "-1"},
        {"frame": "x"},
        {"frame_box": "1,2,3"},
        {"video": "frames", "frame": "99"},
        {"video": "notes.txt"},
    ],
)
def test_a_place_that_is_none_is_said(footage: Path, wrong: dict[str, str]) -> None:
    (footage / "notes.txt").write_text("no video")
    with pytest.raises(SilError):
        read_moment(WHERE | wrong, footage, max_pixels=10**6)


def test_frames_of_too_many_pixels_are_refused(footage: Path) -> None:
    with pytest.raises(SilError, match="pixels"):
        read_moment(WHERE, footage, max_pixels=1000)


def test_the_box_is_drawn_in_its_surroundings_and_others_are_hidden_if_asked() -> None:
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 200, (200, 300, 3), dtype=np.uint8)
    crop = Image.fromarray(frame[40:140, 100:140])
    shown = np.asarray(in_context(crop, frame, (100, 40, 40, 100), (144, 288), hide_others=False))
    hidden = np.asarray(in_context(crop, frame, (100, 40, 40, 100), (144, 288), hide_others=True))
    assert shown.shape == hidden.shape == (288, 144, 3)
    ink = (shown == (245, 158, 11)).all(axis=2)
    assert ink.any()
    rows, columns = np.nonzero(ink)
    inside = np.s_[rows.min() + 3 : rows.max() - 3, columns.min() + 3 : columns.max() - 3]
    assert np.array_equal(shown[inside], hidden[inside])
    assert not np.array_equal(shown[160:], hidden[160:])


@pytest.mark.parametrize("box", [(0, 0, 300, 200), (290, 190, 10, 10), (0, 0, 1, 1), (0, 150, 300, 50)])
def test_any_box_in_a_frame_can_be_shown(box: tuple[int, int, int, int]) -> None:
    frame = np.zeros((200, 300, 3), np.uint8)
    for hide in (True, False):
        assert in_context(Image.new("RGB", (20, 40)), frame, box, (144, 288), hide_others=hide).size == (144, 288)


def test_where_a_crop_was_cut_is_said_in_words() -> None:
    def said(metadata: dict[str, str]) -> str:
        return footage_moment(GalleryEntry("a.jpg", "", "", metadata=metadata))

    assert said(WHERE | {"video": "../videos/lobby.mp4", "seconds": "72.4"}) == "lobby.mp4 1:12.4"
    assert said(WHERE | {"seconds": "x"}) == "lobby.mp4"
    assert said({"video": "lobby.mp4", "seconds": "3"}) == ""
