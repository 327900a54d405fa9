"""Asking a person about pairs of a gallery: the sheet and its table go out, answers come back and are kept."""

from __future__ import annotations

import contextlib
import csv
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from commands import sil
from galleries import MODEL, START, Notes, entry, make_gallery
from PIL import Image

from sil_cli.errors import DataError, GalleryError, UsageError
from sil_cli.gallery.local.store import LocalStore
from sil_cli.gallery.people import Verdict, open_people
from sil_cli.people.asking import answer_question, calibrate_gallery
from sil_cli.settings import Settings, load_settings

DIMENSION, PEOPLE, IMAGES = 32, 60, 6
RECORD = MODEL | {"dimension": DIMENSION}


def rows_of(people: int = PEOPLE, seed: int = 0) -> np.ndarray:
    """Six images of each person, one after the other."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(rng.standard_normal((people, DIMENSION)), IMAGES, axis=0)
    return (centres + 0.8 * rng.standard_normal(centres.shape)).astype(np.float32)


def seen(number: int):
    return entry(number, camera=f"c{number % 3}", time=START + timedelta(minutes=number))


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sil_cli.people.asking._QUERIES", 120)  # a third of the entries, for time
    photos = tmp_path / "g" / "photos"
    make_gallery(tmp_path / "g", PEOPLE * IMAGES, batch=100, make=seen, rows=rows_of(), model=RECORD)
    photos.mkdir()
    for number in range(PEOPLE * IMAGES):
        Image.new("RGB", (8, 16), (number % 256, 90, 40)).save(photos / f"{number}.jpg")
    return tmp_path / "g"


def settings(folder: Path, **calibrate) -> Settings:
    made = Settings.model_validate({"gallery": {"folder": folder}, "calibrate": calibrate})
    return made.with_users_own(["gallery.folder", "calibrate.sheet", "calibrate.answers"])


def run(folder: Path, by: str = "ann", **calibrate):
    said = Notes()
    return calibrate_gallery(settings(folder, **calibrate), said, by=by), said


def person(path: str) -> int:
    return int(Path(path).stem) // IMAGES


def truth(row: dict[str, str]) -> str:
    return "yes" if person(row["first_path"]) == person(row["second_path"]) else "No "


def fill_in(answer=truth, table: Path = Path("questions.csv")) -> list[dict[str, str]]:
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        row["answer"] = answer(row)
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return rows


def standing(folder: Path) -> list[Verdict]:
    with open_people(folder) as people:
        return people.standing()


def test_pairs_are_asked_answered_kept_and_told_of(folder) -> None:
    asked, _ = run(folder, ask=40)
    assert asked.rates is None
    assert [one.number for one in asked.questions] == list(range(1, 41))
    assert all(one.first.camera != one.second.camera for one in asked.questions)
    assert all(one.expected_false_matches <= 20 for one in asked.questions)
    with Image.open("questions.jpg") as sheet:
        assert sheet.width > 1000
    rows = fill_in(lambda row: "can’t tell" if row["number"] == "3" else truth(row))
    told, _ = run(folder, answers=Path("questions.csv"))
    right = sum(person(one.first.path) == person(one.second.path) for one in asked.questions if one.number != 3)
    assert (told.read.same, told.read.different, told.read.unsure) == (right, 39 - right, 1)
    assert (told.rates.answers, told.rates.decisions) == (39, [])
    kept = standing(folder)
    assert {one.origin for one in kept} == {"ask"}
    assert {one.by for one in kept} == {"ann"}
    assert sorted(one.probability for one in kept) == pytest.approx(sorted(float(row["probability"]) for row in rows))
    again, _ = run(folder, answers=Path("questions.csv"))
    assert (again.read.known, again.read.same) == (40, 0)
    assert len(standing(folder)) == 40
    more, _ = run(folder, ask=40)
    pairs = [{frozenset(one.ids) for one in each.questions} for each in (asked, more)]
    assert not pairs[0] & pairs[1]
    fill_in()
    whole, _ = run(folder, answers=Path("questions.csv"))
    match, possible = whole.rates.decisions
    assert match.right.low <= match.right.value <= match.right.high
    assert match.true_accept_rate.high <= possible.true_accept_rate.high
    assert run(folder)[0].rates == whole.rates  # and without a table, too


def test_answers_to_one_question_at_a_time_are_kept_at_once_and_the_latest_counts(folder) -> None:
    asked, _ = run(folder, ask=3)
    first, second, _ = asked.questions
    answer_question(load_settings(), asked, first, "different", by="ann")
    assert [one.answer for one in standing(folder)] == ["different"]
    answer_question(load_settings(), asked, second, "unsure", by="ann")
    answer_question(load_settings(), asked, first, "same", by="ann")
    assert sorted(one.answer for one in standing(folder)) == ["same", "unsure"]


def test_keys_at_a_terminal_answer_one_by_one(folder, monkeypatch) -> None:
    monkeypatch.setattr("sil_cli.cli.calibrate._is_interactive", lambda current: True)
    keys = iter("ynb?xq")
    monkeypatch.setattr("typer.getchar", lambda: next(keys))
    outcome = sil("calibrate", "--gallery", folder, "--ask", "5", "--by", "ann")
    assert outcome.code == 0, outcome.err
    assert "y, n, ?, b or q" in outcome.out
    assert "3 answers kept" in outcome.out
    assert sorted(one.answer for one in standing(folder)) == ["same", "unsure"]
    for path in (Path("questions.jpg"), Path("questions.csv")):
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.thorough
def test_a_table_whose_answers_were_not_read_is_not_written_over(folder) -> None:
    run(folder, ask=5)
    run(folder, ask=5)  # nothing is lost with empty ones
    fill_in()
    with pytest.raises(UsageError, match="holds 5 answers that were not read"):
        run(folder, ask=5)
    run(folder, ask=5, answers=Path("questions.csv"))
    Path("questions.csv").write_text("my notes\n")
    with pytest.raises(UsageError, match="would be written over"):
        run(folder, ask=5)
    assert Path("questions.csv").read_text() == "my notes\n"
    run(folder, ask=5, sheet=Path("more.png"))
    assert Path("more.csv").is_file()


def test_answers_that_contradict_each_other_are_named_and_left_out(folder) -> None:
    run(folder, ask=60)
    rows = fill_in()
    with Path("questions.csv").open("a", newline="") as stream:
        turned = rows[0] | {"answer": "no" if rows[0]["answer"] == "yes" else "yes"}
        csv.DictWriter(stream, rows[0]).writerow(turned)
    told, said = run(folder, answers=Path("questions.csv"))
    assert told.read.contradicting == 1
    assert f"whether {rows[0]['first_path']}" in said.warnings[0] or rows[0]["second_path"] in said.warnings[0]
    assert told.rates.answers == 59
    fill_in(lambda row: "yes" if row["number"] == "2" and truth(row) != "yes" else "no")  # somebody else sees it so
    other, said = run(folder, by="bob", answers=Path("questions.csv"))
    assert "can't all be right" in said.warnings[-1]
    assert other.warnings
    assert other.rates.answers < told.rates.answers


@pytest.mark.thorough
def test_answers_about_removed_entries_are_left_out(folder) -> None:
    asked, _ = run(folder, ask=55)
    fill_in()
    gone = asked.questions[0].ids[0]
    with LocalStore(folder).existing_writer() as writer:
        writer.remove([gone], "test")
    told, said = run(folder, answers=Path("questions.csv"))
    lost = sum(gone in one.ids for one in asked.questions)
    assert told.read.gone == lost
    assert told.rates.answers == 55 - lost
    assert "about entries that are gone" in said.warnings[0]
    with LocalStore(folder).existing_writer() as writer:
        writer.remove([asked.questions[1].ids[0]], "test")
    assert run(folder)[0].rates.answers < told.rates.answers


@pytest.mark.thorough
def test_answers_of_another_gallery_are_refused(folder, tmp_path) -> None:
    make_gallery(
        tmp_path / "other", 360, batch=360, make=lambda n: replace(seen(n), path=f"o{n}.jpg"), rows=rows_of(seed=9),
        model=RECORD,
    )  # fmt: skip
    run(folder, ask=5)
    fill_in()
    with pytest.raises(DataError, match="answers nothing about two entries"):
        run(tmp_path / "other", answers=Path("questions.csv"))
    assert standing(tmp_path / "other") == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"answer": "perhaps so"}, "'perhaps so' is not a verdict"),
        ({"first_path": "x" * 5000 + "\x1b[31m"}, ""),
        pytest.param({"probability": "7"}, "probability of 7", marks=pytest.mark.thorough),
        pytest.param({"probability": "nan"}, "probability of nan", marks=pytest.mark.thorough),
        pytest.param({"first_box": "[1,2]"}, "box", marks=pytest.mark.thorough),
        pytest.param({"why": "a" * 10_000}, "10,000 characters", marks=pytest.mark.thorough),
    ],
)
def test_a_table_with_a_senseless_row_is_refused_whole(folder, change, why) -> None:
    run(folder, ask=4)
    rows = fill_in()
    rows[2] |= change
    with Path("questions.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    outcome = sil("calibrate", "--gallery", folder, "--answers", "questions.csv")
    if why:
        assert outcome.code == 1, outcome.err
        assert "line 4" in outcome.error
        assert why in outcome.error
        assert standing(folder) == []
    else:
        assert outcome.code == 0
        assert "\x1b" not in outcome.err
        assert len(standing(folder)) == 3


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_a_small_gallery_asks_nothing(tmp_path, monkeypatch, count) -> None:
    monkeypatch.chdir(tmp_path)
    make_gallery(tmp_path / "g", count, batch=50, make=seen, rows=rows_of()[:count], model=RECORD)
    with pytest.raises(GalleryError, match="can't be told"):
        run(tmp_path / "g", ask=10)
    assert not Path("questions.csv").exists()


def placed(tmp_path: Path, make, rows: np.ndarray) -> Path:
    folder = make_gallery(tmp_path / "g", len(rows), batch=len(rows), make=make, rows=rows, model=RECORD)
    (folder / "photos").mkdir()
    Image.new("RGB", (8, 16)).save(folder / "photos" / "0.jpg")
    return folder


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("make", "pairs_from"),
    [
        (lambda number: entry(number, camera="c1"), "all"),
        (lambda number: entry(number), "all"),
        (lambda number: entry(number, time=START + timedelta(minutes=number)), "times"),
        (lambda number: entry(number, camera=f"c{number % 2}" if number % 3 else None), "cameras"),
    ],
    ids=["one camera", "neither cameras nor times", "times alone", "some without a camera"],
)
def test_pairs_are_of_different_visits_as_far_as_is_known(tmp_path, monkeypatch, make, pairs_from) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sil_cli.people.asking.load_image", lambda *_, **__: Image.new("RGB", (8, 16)))
    asked, _ = run(placed(tmp_path, make, rows_of()), ask=30)
    assert asked.chance.pairs_from == pairs_from
    assert len(asked.questions) == 30
    for one in asked.questions:
        if pairs_from == "times":
            assert abs((one.first.time - one.second.time).total_seconds()) >= 600
        if pairs_from == "cameras":
            assert None not in (one.first.camera, one.second.camera)
            assert one.first.camera != one.second.camera


@pytest.mark.thorough
@pytest.mark.parametrize(
    "rows",
    [
        rows_of(1, seed=3)[np.zeros(360, dtype=int)] + 0.3 * rows_of(60, seed=4),  # one person
        np.random.default_rng(5).standard_normal((360, DIMENSION)).astype(np.float32),  # each once
        np.repeat(rows_of(60, seed=6)[::6], 6, axis=0),  # each image six times
    ],
    ids=["one person", "each once", "copies"],
)
def test_odd_galleries_ask_what_they_can_or_say_why_not(tmp_path, monkeypatch, rows) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sil_cli.people.asking.load_image", lambda *_, **__: Image.new("RGB", (8, 16)))
    folder = placed(tmp_path, seen, rows.astype(np.float32))
    with contextlib.suppress(GalleryError):  # nothing can be learnt, or nobody is within reach
        asked, _ = run(folder, ask=55)
    if not Path("questions.csv").exists():
        return
    fill_in(lambda row: "yes" if int(row["number"]) % 2 else "no")
    told, _ = run(folder, answers=Path("questions.csv"))
    assert told.rates.answers <= len(asked.questions)
    for each in told.rates.decisions:
        for rate in (each.right, each.true_accept_rate, each.false_accept_rate):
            assert 0 <= rate.low <= rate.value <= rate.high <= 1


@pytest.mark.thorough
def test_without_any_image_nothing_is_asked_and_with_some_it_is_said(folder) -> None:
    some = sorted((folder / "photos").iterdir())[::2]
    for path in some:
        path.unlink()
    asked, said = run(folder, ask=20)
    assert any("pairs lack an image" in text for text in said.warnings)
    assert asked.warnings
    for path in (folder / "photos").iterdir():
        path.unlink()
    with pytest.raises(GalleryError, match="None of 20 pairs can be looked at"):
        run(folder, ask=20)


@pytest.mark.thorough
def test_a_gallery_that_grew_tenfold_since_still_counts_its_answers(folder) -> None:
    run(folder, ask=60)
    fill_in()
    before, _ = run(folder, answers=Path("questions.csv"))
    with LocalStore(folder).existing_writer() as writer:
        rows = rows_of(540, seed=11)
        writer.add([replace(seen(number), path=f"n{number}.jpg") for number in range(len(rows))], rows)
    after, _ = run(folder)
    assert after.chance.entries == 3600
    assert 0 < after.rates.answers <= before.rates.answers
