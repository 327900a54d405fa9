from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from commands import sil

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "frame,seconds,tracklet,left,top,width,height,score\n"


@pytest.fixture
def footage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two cameras of ten frames; person 1 passes both, person 2 the first. Tracks are right, but for what is said."""
    monkeypatch.chdir(tmp_path)
    for camera, people in (("c1", (1, 2)), ("c2", (1,))):
        (tmp_path / "truth" / camera / "gt").mkdir(parents=True)
        lines = [
            f"{frame},{person},{100 * person + 1},11,40,100,1,1,1.0\n" for frame in range(1, 11) for person in people
        ]
        (tmp_path / "truth" / camera / "gt/gt.txt").write_text("".join(lines))
        rows = [f"{at},{at / 10},{person},{100 * person},10,40,100,0.9\n" for at in range(10) for person in people]
        write(tmp_path / f"crops/tracks/{camera}.csv", HEADER + "".join(rows))
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def evaluate(*more: str) -> dict:
    return sil("evaluate", "--tracks", "crops", "--truth", "truth", "--json", *more).document


def test_tracks_that_are_right_score_one(footage: Path) -> None:
    result = evaluate()
    assert [each["name"] for each in result["cameras"]] == ["c1", "c2"]
    for each in (*result["cameras"], result["all"]):
        assert {each[rate] for rate in ("precision", "recall", "idf1", "hota")} == {1.0}
    assert (result["all"]["people"], result["all"]["tracklets"], result["all"]["boxes"]) == (3, 3, 30)
    assert json.loads((footage / "crops/results.json").read_text()) == result
    table = sil("evaluate", "--tracks", "crops", "--truth", "truth").out
    assert "c1" in table
    assert "HOTA" in table
    assert max(map(len, table.splitlines())) <= 80


def test_frames_that_were_not_looked_at_count_for_nothing_and_empty_ones_do(footage: Path) -> None:
    """Every second frame was looked at, and in the last of them nobody was found."""
    rows = [f"{at},{at / 10},{person},{100 * person},10,40,100,0.9\n" for at in (0, 2, 4, 6) for person in (1, 2)]
    write(footage / "crops/tracks/c1.csv", HEADER + "".join(rows) + "8,0.8,,,,,,\n")
    first = evaluate()["cameras"][0]
    assert (first["frames"], first["boxes"]) == (5, 10)
    assert (first["precision"], first["recall"]) == (1.0, 0.8)


def test_results_in_motchallenge_form_are_read_too(footage: Path) -> None:
    lines = [f"{frame},4,101,11,40,100,1,-1,-1,-1\n" for frame in range(1, 11)]
    write(footage / "theirs/c1.txt", "".join(lines))
    result = sil("evaluate", "--tracks", "theirs", "--truth", "truth", "--out", "here", "--json")
    assert "c2 is left out" in result.error
    scores = result.document["cameras"][0]
    assert (scores["precision"], scores["recall"]) == (1.0, 0.5)
    assert scores["idf1"] == pytest.approx(20 / 30)
    assert (footage / "here/results.json").exists()


def test_names_are_compared_as_sil_crop_writes_them_and_places_on_the_ground_are_no_classes(footage: Path) -> None:
    """MOT15 has ten columns: of people whose places are known in millimetres, these stand where others have a class."""
    gt = footage / "truth/c1/gt/gt.txt"
    lines = [",".join([*line.split(",")[:6], "-1", "-11773", "-14337", "0"]) for line in gt.read_text().splitlines()]
    gt.write_text("\n".join(lines))
    (footage / "truth/c1").rename(footage / "truth/Hall C1")
    (footage / "crops/tracks/c1.csv").rename(footage / "crops/tracks/hall-c1.csv")
    first = evaluate()["cameras"][1]
    assert (first["name"], first["boxes"], first["hota"]) == ("hall-c1", 20, 1.0)


@pytest.mark.parametrize("by", ["tracklet", "path"])
def test_groups_of_tracklets_are_scored_over_all_cameras(footage: Path, by: str) -> None:
    """Person 1 is known on both cameras by one group: all right. Without groups, 10 of their 20 boxes are theirs."""
    groups = {"c1-0001": "Ann", "c2-0001": "Ann", "c1-0002": "Ben"}
    crops = "".join(f"images/{name}.jpg,{name}\n" for name in groups)
    write(footage / "crops/crops.csv", "path,tracklet\n" + crops)
    key = {"tracklet": "{0}", "path": "images/{0}.jpg"}[by]
    write(
        footage / "who.csv", f"{by},person\n" + "".join(f"{key.format(name)},{who}\n" for name, who in groups.items())
    )
    over = evaluate("--groups", "who.csv")["across_cameras"]
    assert (over["people"], over["found"], over["idf1"]) == (2, 2, 1.0)
    assert over["cameras_alone"] == pytest.approx(20 / 30)
    assert "IDF1 100.0" in sil("evaluate", "--tracks", "crops", "--truth", "truth", "--groups", "who.csv").out


def test_one_sequence_alone_and_what_is_no_pedestrian(footage: Path) -> None:
    """A statue (class 7) that was found counts neither way; a person flagged to be ignored is not missed."""
    truth = footage / "truth/c1/gt/gt.txt"
    statue = [f"{frame},9,301,11,40,100,0,7,1.0\n" for frame in range(1, 11)]
    ignored = [f"{frame},8,401,11,40,100,0,1,1.0\n" for frame in range(1, 11)]
    truth.write_text(truth.read_text() + "".join(statue + ignored))
    rows = "".join(f"{at},{at / 10},3,300,10,40,100,0.9\n" for at in range(10))
    tracks = footage / "crops/tracks/c1.csv"
    tracks.write_text(tracks.read_text() + rows)
    result = sil("evaluate", "--tracks", "crops", "--truth", "truth/c1", "--json").document
    assert [each["precision"] for each in result["cameras"]] == [1.0]
    assert result["all"]["recall"] == 1.0


@pytest.mark.parametrize(
    ("file", "content", "arguments", "what"),
    [
        ("x", "", ["--tracks", "crops"], "both must be named"),
        ("x", "", ["--truth", "truth"], "both must be named"),
        ("x", "", ["--tracks", "nothing", "--truth", "truth"], "There are no tracks in nothing"),
        ("x", "", ["--tracks", "crops", "--truth", "crops"], "There is no ground truth in crops"),
        ("other/a.txt", "1,1,1,1,1,1\n", ["--tracks", "other", "--truth", "truth"], "has the name of a sequence"),
        ("crops/tracks/c1.csv", HEADER + "0,0.0,1,5\n", [], "c1.csv, line 2, is not a line of tracks"),
        ("crops/tracks/c1.csv", HEADER + "x,0.0,1,5,5,5,5,1\n", [], "line 2, is not a line of tracks"),
        ("crops/tracks/c1.csv", HEADER + "0,0,1,nan,5,5,5,1\n", [], "line 2, is not a line of tracks"),
        ("crops/tracks/c1.csv", HEADER + "0,0,1,5,5,5,5,1\n" * 2, [], "has tracklet 1 2 times in frame 0"),
        ("truth/c1/gt/gt.txt", "1,1,5\n", [], "is not as MOTChallenge writes boxes"),
        ("who.csv", "name\nx\n", ["--groups", "who.csv"], "needs a column person"),
        ("who.csv", "tracklet,person\nc9-0001,x\n", ["--groups", "who.csv"], "names no tracklet"),
        ("who.csv", "path,person\nx.jpg,x\n", ["--groups", "who.csv"], "crops.csv is missing"),
    ],
)
def test_what_can_not_be_compared_is_said_in_two_lines(
    footage: Path, file: str, content: str, arguments: list[str], what: str
) -> None:
    write(footage / file, content)
    given = arguments if "--tracks" in arguments or "--truth" in arguments else []
    rest = [] if given else ["--tracks", "crops", "--truth", "truth", *arguments]
    outcome = sil("evaluate", *given, *rest)
    assert outcome.code in (1, 2)
    assert what in outcome.error


def test_empty_tracks_and_an_empty_truth_have_no_rates(footage: Path) -> None:
    write(footage / "crops/tracks/c1.csv", HEADER)
    write(footage / "truth/c2/gt/gt.txt", "")
    first, second = evaluate()["cameras"]
    assert (first["precision"], first["recall"], first["tracklets"]) == (None, 0.0, 0)
    assert (second["precision"], second["recall"], second["people"]) == (0.0, None, 0)


def test_results_that_can_not_be_written_are_still_told(footage: Path) -> None:
    (footage / "file").write_text("in the way")
    outcome = sil("evaluate", "--tracks", "crops", "--truth", "truth", "--out", "file")
    assert outcome.code == 1
    assert "can't be written" in outcome.error
    assert "HOTA" in outcome.out
