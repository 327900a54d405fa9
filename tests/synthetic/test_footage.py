from __future__ import annotations

import io
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from commands import sil
from PIL import Image

from sil_cli.settings import FootageSettings, SyntheticSettings
from sil_cli.synthetic.footage import SeenPerson, draw_frame, plan_walks, simulate_detections

if TYPE_CHECKING:
    from pathlib import Path

PEOPLE = SyntheticSettings(domains=1, train_identities=2, test_identities=2, cameras=3, seed=3)
SMALL = FootageSettings(seconds=8, frames_per_second=4, people=5, width=200, height=120)
TINY = [
    "--set=data.synthetic.domains=1",
    "--set=data.synthetic.cameras=2",
    "--set=data.footage.seconds=2",
    "--set=data.footage.frames_per_second=2",
    "--set=data.footage.people=3",
    "--set=data.footage.width=160",
    "--set=data.footage.height=120",
]


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)), np.int64)


def test_a_frame_depends_on_its_number_alone() -> None:
    walks = plan_walks(PEOPLE, SMALL, 0)
    first = [draw_frame(PEOPLE, SMALL, 0, 1, frame, walks) for frame in (3, 17)]
    again = [draw_frame(PEOPLE, SMALL, 0, 1, frame, plan_walks(PEOPLE, SMALL, 0)) for frame in (17, 3)]
    assert first == again[::-1]


def test_a_box_holds_all_that_is_drawn_of_a_person() -> None:
    """The slow way: the frame with the person, the frame without, and where the two differ."""
    walks = plan_walks(PEOPLE, SMALL, 0)
    checked = 0
    for camera in range(PEOPLE.cameras):
        for frame in range(4, 32, 9):
            with_all, seen = draw_frame(PEOPLE, SMALL, 0, camera, frame, walks)
            for each in seen:
                others = [walk for walk in walks if walk.person != each.person]
                without, _ = draw_frame(PEOPLE, SMALL, 0, camera, frame, others)
                changed = np.abs(pixels(with_all) - pixels(without)).max(axis=2) > 60
                left, top, width, height = each.box
                around = np.zeros_like(changed)
                around[max(top - 8, 0) : top + height + 12, max(left - 8, 0) : left + width + 8] = True
                assert not (changed & ~around).any()
                checked += each.visible > 0.9 and bool(changed.any())
    assert checked >= 5


def test_who_is_hidden_is_less_visible() -> None:
    walks = plan_walks(PEOPLE, SMALL, 0)
    shares = [
        (each, len(seen))
        for camera in range(PEOPLE.cameras)
        for frame in range(0, 32, 2)
        for seen in [draw_frame(PEOPLE, SMALL, 0, camera, frame, walks)[1]]
        for each in seen
    ]
    assert all(0.1 <= each.visible <= 1 for each, _ in shares)
    assert any(each.visible < 0.9 for each, _ in shares)
    inside = [each for each, count in shares if count == 1 and each.box[0] > 4 and sum(each.box[::2]) < 196]
    assert all(each.visible > 0.5 for each in inside)  # nothing but a pole before them


def test_nobody_is_before_two_cameras_at_once_and_everybody_before_two() -> None:
    footage = FootageSettings(seconds=600, people=30)
    walks = plan_walks(PEOPLE, footage, 0)
    for person in {walk.person for walk in walks}:
        ways = sorted((walk for walk in walks if walk.person == person), key=lambda walk: walk.start)
        assert all(before.end < after.start for before, after in pairwise(ways))
        assert len({walk.camera for walk in ways}) == len(ways)


def test_a_person_who_stops_goes_on_where_they_stood() -> None:
    walk = next(each for each in plan_walks(PEOPLE, FootageSettings(seconds=600, people=40), 0) if each.pause[1])
    stop = walk.start + walk.pause[0] / walk.pace
    before, during, after = (walk.at(stop + shift) for shift in (-0.01, walk.pause[1] / 2, walk.pause[1] + 0.01))
    assert np.allclose(before[:2], during[:2], atol=0.05)
    assert np.allclose(after[:2], during[:2], atol=0.05)
    assert during[3].stride < 0.1 < after[3].stride


def test_a_simulated_detector_misses_the_hidden_most_and_sees_ghosts() -> None:
    plain = [SeenPerson(frame, 1, (50, 20, 30, 80), 1.0) for frame in range(400)]
    hidden = [SeenPerson(frame, 1, (50, 20, 30, 80), 0.2) for frame in range(400)]
    counts = []
    for seen in (plain, hidden):
        found = simulate_detections(seen, SMALL, 400, np.random.default_rng(0))
        near = [box for _, box, _ in found if abs(box[0] - 50) < 10 and abs(box[3] - 80) < 20]
        counts.append(len(near))
        assert len(found) > len(near)
        assert np.std([box[0] for box in near]) == pytest.approx(0.03 * 30, rel=0.3)
    assert counts[0] > 370
    assert 90 < counts[1] < 180


def test_footage_is_drawn_kept_and_read_as_motchallenge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = sil("prepare-data", "synthetic", "--footage", *TINY, "--json").document
    folder = tmp_path / made["folder"]
    frames = sorted((folder / "c2/img1").iterdir())
    assert [frame.name for frame in frames] == [f"{number:06d}.jpg" for number in (1, 2, 3, 4)]
    assert {camera["frames"] for camera in made["cameras"]} == {4}
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = sil("prepare-data", "synthetic", "--footage", *TINY, "--json").document
    assert again["unchanged"]
    assert again | {"unchanged": False} == made
    other = sil("prepare-data", "synthetic", "--footage", *TINY, "--set=data.footage.people=2")
    assert other.code == 1
    assert "drawn with other settings" in other.error
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    read = sil("prepare-data", "motchallenge", folder, "--out", "read", "--json").document
    visible = [
        line
        for camera in ("c1", "c2")
        for line in (folder / camera / "gt/gt.txt").read_text().splitlines()
        if float(line.split(",")[8]) >= 0.3
    ]
    assert read["datasets"][0]["splits"]["train"]["images"] == len(visible)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["market1501", "--footage"], "Footage is drawn of generated people"),
        (["synthetic", "raw", "--footage"], "Generated data has no ROOT"),
        (["synthetic", "--footage", "--set=data.footage.network=9"], "There is no network 9"),
        (["synthetic", "--footage", "--out", "full"], "holds something else"),
    ],
)
def test_what_footage_does_not_take_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    outcome = sil("prepare-data", *arguments)
    assert outcome.code in (1, 2)
    assert what in outcome.error
    assert (tmp_path / "full/notes.txt").read_text() == "mine"
