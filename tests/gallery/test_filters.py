from __future__ import annotations

import fnmatch
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from commands import sil
from galleries import START, described, entry, make_gallery, vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from sil_cli.errors import GalleryError, UsageError
from sil_cli.gallery.entry import instant_of
from sil_cli.gallery.filters import Filter
from sil_cli.gallery.local.store import LocalStore
from sil_cli.gallery.stores import open_gallery

EVERYONE = {number + 1: described(number) for number in range(30)}
TIMES = st.none() | st.integers(-1, 31).map(lambda hours: START + timedelta(hours=hours))
FILTERS = st.builds(
    Filter,
    cameras=st.lists(st.sampled_from(["c0", "c1", "c2", "c9"]), max_size=2).map(tuple),
    excluded_cameras=st.lists(st.sampled_from(["c0", "c1", "c9"]), max_size=2).map(tuple),
    after=TIMES,
    before=TIMES,
    identities=st.lists(st.sampled_from(["p0", "p1", "p4", "nobody"]), max_size=3).map(tuple),
    domains=st.sampled_from([(), ("airport",), ("airport", "station")]),
    paths=st.sampled_from([(), ("1*.jpg",), ("1*", "?.jpg"), ("7.jpg", "[8].jpg", "12.jpg")]),
    glob=st.booleans(),
    ids=st.sampled_from([(), (3, 4, 5, 99)]),
    metadata=st.lists(
        st.sampled_from([("weather", "rain"), ("weather", "sun"), ("floor", "0"), ("camera", "c1"), ("source", "x")]),
        max_size=2,
    ).map(tuple),
)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    with open_gallery(make_gallery(tmp_path_factory.mktemp("filters") / "g")) as gallery:
        yield gallery


def passes(identifier, one, wanted: Filter) -> bool:
    """What a filter means, the slow way."""

    def has(key):
        return one.metadata.get(key, getattr(one, key, None))

    groups = {}
    for key, value in wanted.metadata:
        groups.setdefault(key, set()).add(value)
    return (
        (not wanted.cameras or one.camera in wanted.cameras)
        and one.camera not in wanted.excluded_cameras
        and (wanted.after is None or (one.time is not None and one.time >= wanted.after))
        and (wanted.before is None or (one.time is not None and one.time < wanted.before))
        and (not wanted.identities or one.identity in wanted.identities)
        and (not wanted.domains or one.domain in wanted.domains)
        and (
            not wanted.paths
            or any(
                fnmatch.fnmatchcase(one.path, pattern) if wanted.glob else one.path == pattern
                for pattern in wanted.paths
            )
        )
        and (not wanted.ids or identifier in wanted.ids)
        and all(has(key) in values for key, values in groups.items())
    )


@settings(max_examples=200, deadline=None)
@given(wanted=FILTERS)
def test_a_filter_keeps_what_it_says(gallery, wanted):
    expected = [identifier for identifier, one in EVERYONE.items() if passes(identifier, one, wanted)]
    assert gallery.ids_passing(wanted).tolist() == expected


@settings(max_examples=40, deadline=None)
@given(wanted=FILTERS, k=st.integers(1, 12))
def test_a_filtered_search_is_the_whole_search_filtered(gallery, wanted, k):
    everything = gallery.search(vectors(2, seed=3), 30)
    for matches, complete in zip(gallery.search(vectors(2, seed=3), k, where=wanted), everything, strict=True):
        kept = [match.id for match in complete if passes(match.id, EVERYONE[match.id], wanted)]
        assert [match.id for match in matches] == kept[:k]
        assert [match.rank for match in matches] == list(range(1, len(matches) + 1))


def test_camera_and_ids_must_both_hold(gallery):
    found = gallery.search(vectors(1), 30, where=Filter(cameras=("c1",), ids=(2, 3, 5)))
    assert {match.id for match in found[0]} == {2, 5}


def test_metadata_comes_back_with_a_match(gallery):
    found = gallery.search(vectors(1), 30)[0]
    assert {match.id: match.metadata for match in found} == {key: one.metadata for key, one in EVERYONE.items()}


def test_metadata_goes_with_its_entry(tmp_path):
    folder = make_gallery(tmp_path / "g")
    with LocalStore(folder).existing_writer() as writer:
        writer.add([entry(0, metadata={"weather": "snow"})], vectors(1))
        assert writer._tables._rows("SELECT COUNT(*) FROM metadata WHERE value = 'rain'")[0][0] == 7
        writer.remove(writer.ids_passing(Filter()).tolist(), "everything")
        assert writer._tables._rows("SELECT COUNT(*) FROM metadata")[0][0] == 0


def test_unknown_metadata_is_named(gallery):
    with pytest.raises(GalleryError, match=r"no entry.*'wether'.*Did you mean 'weather'\?".replace("no", "No", 1)):
        gallery.search(vectors(1), 3, where=Filter(metadata=(("wether", "rain"),)))
    assert gallery.search(vectors(1), 3, where=Filter(metadata=(("weather", "hail"),))) == [[]]


def test_times_mean_the_same_in_every_zone():
    assert instant_of(datetime(2024, 5, 1)) == instant_of(datetime(2024, 5, 1, tzinfo=UTC))
    assert instant_of(datetime(2024, 5, 1, 2, tzinfo=timezone(timedelta(hours=2)))) == instant_of(datetime(2024, 5, 1))


def test_a_filter_in_words_and_by_its_kinds():
    wanted = Filter(cameras=("c1", "c2"), before=START, metadata=(("weather", "rain"), ("weather", "sun")))
    assert str(wanted) == "camera c1 or c2, before 2024-05-01T00:00:00+00:00, weather rain or sun"
    assert wanted.kinds == ("camera", "before", "metadata")
    assert wanted
    assert not Filter()


@pytest.mark.parametrize(
    "wanted",
    [
        Filter(cameras=("c1",)),
        Filter(identities=("p1",)),
        Filter(after=START, before=START + timedelta(hours=1)),
        Filter(metadata=(("weather", "rain"),)),
        Filter(ids=(1, 2)),
    ],
)
def test_sqlite_answers_by_an_index(gallery, wanted):
    condition, values = wanted.condition()
    plan = gallery._tables._rows(f"EXPLAIN QUERY PLAN SELECT id FROM entries WHERE {condition} ORDER BY id", *values)
    assert any("SEARCH entries USING" in row[3] for row in plan), plan


def test_patterns_and_paths_that_no_disk_has_take_no_time(tmp_path):
    """GLOB compares every letter of one with every letter of the other, and hears of no signal meanwhile."""
    paths = {0: "a" * 4095, 1: "a" * 400_000, 2: "x/" * 2000 + "y.jpg"}
    folder = make_gallery(tmp_path / "g", len(paths), make=lambda number: replace(entry(number), path=paths[number]))

    def found(*patterns):
        with open_gallery(folder) as gallery:
            return gallery.ids_passing(Filter(paths=patterns, glob=True)).tolist()

    assert found("*" + "a" * 4000 + "b", "*a" * 2000 + "b", "*[a]" * 1000 + "b", "*?a" * 1300) == [1]
    assert found("x*" * 1000 + "y.jpg", "a*") == [1, 3]
    with pytest.raises(UsageError, match="more than 4,096 characters"):
        found("a" * 4097)


def test_a_pattern_that_is_too_long_is_refused_in_two_lines(world, monkeypatch):
    monkeypatch.chdir(world)
    outcome = sil("gallery", "remove", "--path", "*" + "a" * 5000, "--glob", "--yes")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.count("\n") == 2
    assert "more than 4,096 characters" in outcome.error
