"""Labels of two sides: what is one camera under two names, and what only looks so."""

from __future__ import annotations

import pytest

from sil_cli.data.labels import is_unknown, label_warnings
from sil_cli.evaluation.pairs import EmbeddingSet

PEOPLE = 5


def side(cameras, people=None, images=1):
    """Every person by every camera, `images` times."""
    people = people or [f"p{number}" for number in range(PEOPLE)]
    both = [(person, camera) for person in people for camera in cameras for _ in range(images)]
    return lambda: both


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (["1", "2"], ["c1", "c2"]),
        (["01", "02"], ["1", "2"]),
        (["1.0", "2.0"], ["1", "2"]),
        (["C1", "C2"], ["c1", "c2"]),
        ([1, 2], ["1", "2"]),
        ([1.0, 2.0], ["c01", "c02"]),
        (["cam 1", "cam 2"], ["camera_01", "camera_02"]),
        (["gate-1", "gate-2"], ["1", "2"]),
        (["gate_c1", "gate_c2"], ["c1", "c2"]),
        (["Hall", "Door"], ["hall ", " door"]),
        (["1_2", "1_3"], ["1-2", "1-3"]),
        (["１", "２"], ["1", "2"]),
        ([b"c1", b"c2"], ["c1", "c2"]),
    ],
)
def test_a_camera_in_two_spellings_is_told_with_the_pairs_that_it_lets_through(here, there):
    (text,) = label_warnings(side(here), side(there, images=3))
    assert "Cameras are written in more than one way" in text
    assert " and ".join(sorted([repr(here[0]), repr(there[0])])) in text
    assert f"{PEOPLE * 2 * 3} pairs of one person by one camera" in text
    assert label_warnings(side(there), side(here))


def test_one_camera_of_several_in_another_spelling_is_told():
    (text,) = label_warnings(side(["c1", "2"]), side(["c1", "c2"]))
    assert "('2' and 'c2'): 5 pairs" in text
    (text,) = label_warnings(side(["1"]), side(["1", "01", "2"]))
    assert "('01' and '1'): 5 pairs" in text
    (text,) = label_warnings(side(["1", "01", "2"]))  # all against all: each pair in both directions
    assert "('01' and '1'): 10 pairs" in text


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (["c1", "c2"], ["c1", "c2"]),
        (["a"], ["b"]),  # VIPeR, PRID2011
        (["a"], ["b", "c", "d"]),
        (["1"], ["2"]),
        (["c1"], ["c1", "c2", "c3"]),
        (["c1", "c2", "c3"], ["c1", "c2"]),
        (["c1", "c2"], ["c12", "c1", "c2"]),
        (["1-2", "12"], ["12", "1-2"]),
        (["a", "A"], ["a", "A"]),
        ([1, 2], [1.0, 2.0]),
        ([None], [None]),
        ([""], [None]),
    ],
)
def test_cameras_of_a_protocol_are_not_doubted(here, there):
    assert label_warnings(side(here), side(there)) == []


def test_cameras_that_only_one_person_was_seen_by_are_not_doubted():
    query = [("p1", "c1"), ("p2", "c9")]
    gallery = [("p1", "c2"), ("p1", "c8"), ("p2", "c1"), ("p3", "c2")]  # nobody is behind both c9 and c8
    assert label_warnings(lambda: query, lambda: gallery) == []


def test_cameras_with_nothing_in_common_are_told_where_each_side_has_several():
    (text,) = label_warnings(side(["north", "south"]), side(["N", "S"]))
    assert "No camera is on both sides (only queries: 'north', 'south'; only gallery: 'N', 'S')" in text
    assert "20 pairs" in text
    (text,) = label_warnings(side([0, 1, 2]), side([1, 2, 3]))
    assert "1 of the queries' 3 cameras are not in the gallery, and 1 of the gallery's 3 not among the queries" in text


@pytest.mark.parametrize("nothing", [None, "", -1, float("nan"), "nan", "None", "N/A"])
def test_cameras_known_of_some_images_only_are_told(nothing):
    assert is_unknown(nothing)
    (text,) = label_warnings(side(["c1", nothing]), side(["c1", "c2"]))
    assert "cameras of 5 of 10 queries are unknown" in text
    (text,) = label_warnings(side(["c1"]), side(["c1", nothing]))
    assert "cameras of 5 of 10 gallery images of their people are unknown" in text
    assert label_warnings(side(["c1"]), side([nothing])) != []


def test_text_for_nothing_is_told_also_where_all_images_have_it():
    (text,) = label_warnings(side(["nan"]), side(["nan"]))
    assert "written 'nan', which counts as a camera of that name" in text


def test_distractors_need_no_camera():
    gallery = [("p1", "c1"), ("p1", "c2"), ("stranger", None)]
    assert label_warnings(lambda: [("p1", "c1")], lambda: gallery) == []


@pytest.mark.parametrize(
    ("here", "there"),
    [("0002", "2"), (2, "2"), ("2.0", "2"), ("P2", "p2"), ("id_2", "2"), ("Anna", "anna "), ("2", "veri_0002")],
)
def test_people_written_differently_are_told(here, there):
    (text,) = label_warnings(side(["c1"], [here]), side(["c2"], [there, "other"]))
    assert f"1 of the queries' people are written differently in the gallery ({here!r} and {there!r})" in text or (
        f"({there!r} and {here!r})" in text
    )


def test_people_who_are_not_in_the_gallery_are_not_doubted():
    assert label_warnings(side(["c1"], ["1", "17"]), side(["c2"], ["1", "d17", "170", "1-7"])) == []


def test_junk_is_left_aside():
    query = EmbeddingSet([[1.0]] * 2, ["p", "p"], ["c1", "1"], [False, True])
    gallery = EmbeddingSet([[1.0]] * 2, ["p", "p"], ["c1", "c2"])
    assert list(query.labelled()) == [("p", "c1")]
    assert label_warnings(query.labelled, gallery.labelled) == []
