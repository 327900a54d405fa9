"""A query on a larger image: people are found, numbered from the left, and one of them is searched for."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import sil
from footage_videos import WIDTH, picture
from PIL import Image

from sil_cli.search.people_in_frame import numbered

BOXES = [(100, 30, 20, 60), (20, 10, 20, 60), (60, 20, 20, 60)]


@pytest.fixture
def frame(in_world, tmp_path) -> Path:
    """An image of three people, and their boxes in a file."""
    Image.fromarray(picture(0)).save(tmp_path / "frame.png")
    rows = [f"1,-1,{left + 1},{top + 1},{width},{height},0.9" for left, top, width, height in BOXES]
    (tmp_path / "det.txt").write_text("\n".join([*rows, "1,-1,1,1,9,9,0.2"]))
    return tmp_path / "frame.png"


def asked(frame: Path, *more: object) -> list[object]:
    out = ("--set", f"query.people={frame.parent / 'people.jpg'}", "--sheet", "none")
    return ["query", frame, "--detector", frame.parent / "det.txt", *out, *more]


@pytest.mark.parametrize(("person", "box"), [(1, 1), (2, 2), (3, 0)])
def test_people_are_counted_from_the_left(frame, person, box) -> None:
    by_number = sil(*asked(frame, "--person", person, "--json"))
    assert by_number.code == 0, by_number.err
    by_box = sil("query", frame, "--box", ",".join(map(str, BOXES[box])), "--sheet", "none", "--json")
    assert by_number.document == by_box.document


def test_without_anybody_to_ask_people_are_shown_with_their_numbers(frame) -> None:
    outcome = sil(*asked(frame))
    assert outcome.code == 2
    assert "shows 3 people" in outcome.error
    assert "--person 1 to --person 3" in outcome.error
    with Image.open(frame.parent / "people.jpg") as shown:
        assert shown.width == WIDTH


def test_at_a_terminal_it_is_asked_whom_is_meant(frame) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "sil_cli", *map(str, asked(frame))]
    process = subprocess.Popen(command, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, text=True)
    os.close(theirs)
    said = b""
    while b"Whom do you mean" not in said:
        said += os.read(ours, 1000)
    os.write(ours, b"2\n")
    out, _ = process.communicate(timeout=120)
    os.close(ours)
    assert process.returncode == 0
    assert "60,20,20,60" in out


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (("--person", 4), "no person 4"),
        (("--person", 1, "--box", "1,1,20,40"), "don't go together"),
        (("--set", "query.people=people.txt"), "can't be written as people.txt"),
    ],
)
def test_what_can_not_be_is_refused(frame, more, why) -> None:
    outcome = sil(*asked(frame, *more))
    assert outcome.code == 2
    assert why in outcome.error


def test_a_person_needs_a_detector(frame) -> None:
    outcome = sil("query", frame, "--person", 1)
    assert outcome.code == 2
    assert "--person needs a detector" in outcome.error


def test_an_image_in_which_nobody_is_found_is_searched_for_as_it_is(frame) -> None:
    (frame.parent / "det.txt").write_text("")
    outcome = sil(*asked(frame, "--json"))
    assert outcome.code == 0, outcome.err
    assert "Nobody was found" in outcome.error
    assert sil(*asked(frame, "--person", 1)).code == 2


def test_numbers_stay_within_the_picture() -> None:
    image = Image.new("RGB", (200, 100), "#808080")
    drawn = np.asarray(numbered(image, [(0, 0, 10, 20), (190, 80, 10, 20)]))
    assert drawn.shape == (100, 200, 3)
    assert (drawn[:, :30] != 128).any()
    assert (drawn[:, -30:] != 128).any()
