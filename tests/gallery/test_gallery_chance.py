"""What comes up by chance is learnt by a gallery of enough entries, kept in it, and decides its queries."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from galleries import MODEL, Notes, entry, make_gallery

from sil_cli.errors import GalleryError
from sil_cli.evaluation.calibration import Calibration, read_chance, write_calibration
from sil_cli.gallery.chance import renew_chance
from sil_cli.gallery.interface import MODEL_FOLDER
from sil_cli.gallery.local.store import LocalStore
from sil_cli.gallery.stores import open_gallery
from sil_cli.people.asking import calibrate_gallery
from sil_cli.search.matching import NOT_CALIBRATED, Matcher, make_matcher
from sil_cli.search.queries import Query
from sil_cli.settings import Settings

DIMENSION, PEOPLE, IMAGES = 32, 100, 6
RECORD = MODEL | {"dimension": DIMENSION}


def rows_of(people: int, seed: int = 0) -> np.ndarray:
    """Six images of each person, one after the other; cameras c0 to c2 take turns."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(rng.standard_normal((people, DIMENSION)), IMAGES, axis=0)
    return (centres + 0.7 * rng.standard_normal(centres.shape)).astype(np.float32)


def described(number: int):
    return entry(number, camera=f"c{number % 3}", identity=f"p{number // IMAGES}")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("chance") / "gallery"
    make_gallery(folder, PEOPLE * IMAGES, batch=100, make=described, rows=rows_of(PEOPLE), model=RECORD)
    with open_gallery(folder) as gallery:
        assert renew_chance(gallery, Notes()) is not None
    return folder


@pytest.fixture
def folder(made, tmp_path) -> Path:
    import shutil

    return Path(shutil.copytree(made, tmp_path / "gallery"))


def settings(folder: Path, **query) -> Settings:
    return Settings.model_validate({"gallery": {"folder": folder}, "query": query})


def ask(folder: Path, row: np.ndarray, **query):
    """The matcher, the matches of one query, and what was said."""
    said = Notes()
    with open_gallery(folder) as gallery:
        matcher = make_matcher(settings(folder, **query), gallery, said)
        ((*groups,),) = matcher.find([Query((), (), "somebody")], row[None], [frozenset()])
    return matcher, [group[0] for group in groups], said


def grow(folder: Path, first: int, count: int) -> None:
    with LocalStore(folder).existing_writer() as writer:
        rows = rows_of(count, seed=first)[:count]
        writer.add([replace(described(number), path=f"new{first + number}.jpg") for number in range(count)], rows)


def test_chance_is_kept_until_a_tenth_of_the_gallery_has_changed(folder) -> None:
    first = read_chance(folder)
    grow(folder, 1000, 50)
    with open_gallery(folder) as gallery:
        assert renew_chance(gallery, Notes()) == first
        assert renew_chance(gallery, Notes(), force=True).entries == 650
    grow(folder, 2000, 80)
    with open_gallery(folder) as gallery:
        assert renew_chance(gallery, Notes()).entries == 730


def test_chance_of_another_model_or_a_damaged_file_is_learnt_again(folder) -> None:
    first = read_chance(folder)
    file = folder / "chance.json"
    document = json.loads(file.read_text())
    for text in (json.dumps(document | {"fingerprint": "f" * 64}), "{", json.dumps(document | {"entries": -1}), ""):
        file.write_text(text)
        with open_gallery(folder) as gallery:
            assert renew_chance(gallery, Notes()) == first
        assert read_chance(folder) == first


def test_a_gallery_that_became_small_forgets(folder) -> None:
    with LocalStore(folder).existing_writer() as writer:
        writer.remove(writer.ids()[100:].tolist(), "test")
    with open_gallery(folder) as gallery:
        assert renew_chance(gallery, Notes()) is None
    assert not (folder / "chance.json").exists()
    with pytest.raises(GalleryError, match="100 entries are too few"):
        calibrate_gallery(settings(folder).with_users_own(["gallery.folder"]), Notes())


def test_matches_say_how_many_false_ones_are_expected_and_decisions_follow(folder) -> None:
    rows = rows_of(PEOPLE)
    matcher, matches, _ = ask(folder, rows[0], top=600)
    assert matcher.calibration is None
    expected = [match.expected_false_matches for match in matches]
    assert all(one is not None for one in expected)
    for match in matches:
        right = match.expected_false_matches
        assert match.decision == ("match" if right <= 0.1 else "possible" if right <= 5 else "no match")
    own = [match for match in matches if match.identity == "p0"]
    assert matches[0].expected_false_matches < 0.01  # the very image
    assert np.median([match.expected_false_matches for match in own]) < 2
    others = [match.expected_false_matches for match in matches if match.identity != "p0"]
    assert 200 < np.median(others) < 400  # half of 594 entries score higher than the median does
    assert matcher.decide(matches) == "match"
    assert "fewer than 0.01 false matches are expected among 600 entries" in matcher.verdict(matches)


def test_the_same_score_means_more_among_fewer_entries(folder) -> None:
    rows = rows_of(PEOPLE)
    _, everywhere, _ = ask(folder, rows[6], top=600)
    _, here, _ = ask(folder, rows[6], top=600, filter={"camera": ["c1"]})
    wide = {match.id: match.expected_false_matches for match in everywhere}
    assert len(here) == 200
    for match in here:
        assert match.expected_false_matches == pytest.approx(wide[match.id] / 3, rel=0.01)


def test_somebody_who_is_not_there_is_no_match(folder) -> None:
    stranger = rows_of(1, seed=77)[0]
    matcher, matches, _ = ask(folder, stranger)
    assert matcher.decide(matches) in {"possible", "no match"}
    assert "would look as alike as the best by chance" in matcher.verdict(matches)


def test_all_lists_down_to_possible_and_no_further(folder) -> None:
    row = rows_of(PEOPLE)[12]
    _, whole, _ = ask(folder, row, top=600)
    _, listed, _ = ask(folder, row, all=True)
    assert [match.id for match in listed] == [match.id for match in whole if match.expected_false_matches <= 5]
    assert [match.rank for match in listed] == list(range(1, len(listed) + 1))
    _, strict, _ = ask(folder, row, all=True, possible=0.01)
    assert {match.id for match in strict} == {match.id for match in whole if match.expected_false_matches <= 0.01}
    matcher, nobody, _ = ask(folder, rows_of(1, seed=77)[0], all=True, possible=1e-9)
    assert nobody == []
    assert matcher.verdict(nobody).startswith("No match")


def calibrated(folder: Path, *, named: bool) -> None:
    (folder / MODEL_FOLDER).mkdir(exist_ok=True)
    write_calibration(
        folder / MODEL_FOLDER,
        Calibration(
            fingerprint=RECORD["fingerprint"], made_on="people of the site", same_pairs=9, different_pairs=900,
            thresholds={"1e-2": 0.3}, match=0.3, possible=0.2, named=named,
        ),
    )  # fmt: skip


def test_thresholds_of_people_whom_the_user_named_decide_and_those_of_the_sources_do_not(folder) -> None:
    row = rows_of(PEOPLE)[0]
    calibrated(folder, named=False)
    matcher, _, _ = ask(folder, row)
    assert matcher.by_chance is not None
    calibrated(folder, named=True)
    matcher, matches, _ = ask(folder, row)
    assert matcher.by_chance is None
    assert all(match.decision == "match" for match in matches if match.score >= 0.3)
    assert "have a score of 0.300 or more; " in matcher.verdict(matches)
    assert "of others would by chance" in matcher.verdict(matches)


def test_a_gallery_that_grew_since_is_warned_of_and_a_small_one_is_not_decided(folder, tmp_path) -> None:
    grow(folder, 1000, 90)
    _, _, said = ask(folder, rows_of(PEOPLE)[0])
    assert "learnt when the gallery had 600 entries; it has 690 now" in said.warnings[0]
    small = make_gallery(tmp_path / "small", 30, make=described, rows=rows_of(5), model=RECORD)
    matcher, matches, _ = ask(small, rows_of(5)[0])
    assert isinstance(matcher, Matcher)
    assert matcher.verdict(matches) == NOT_CALIBRATED
    assert {match.expected_false_matches for match in matches} == {None}
