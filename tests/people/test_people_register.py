"""People of a gallery: found, kept through later runs, and what somebody decides of them."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest
from clusters import clustered
from galleries import MODEL, entry, make_gallery

from sil_cli.errors import GalleryError, UsageError
from sil_cli.gallery.local.store import LocalStore
from sil_cli.gallery.people import Verdict, carried, in_order, open_people
from sil_cli.people import decisions
from sil_cli.people import find as finding
from sil_cli.people.find import find_people
from sil_cli.people.grouping import group_entries
from sil_cli.people.overview import list_people, person_in
from sil_cli.people.register import merge_people, name_person, read_register, split_person
from sil_cli.people.telling import give_verdict
from sil_cli.runtime import SilentReporter
from sil_cli.settings import load_settings

PEOPLE, COUNT, DIMENSION = 40, 400, 32
MADE = MODEL | {"dimension": DIMENSION}
ROWS, WHO, CAMERAS = clustered(COUNT, DIMENSION, people=PEOPLE, cameras=3, noise=0.4)


def seen(number):
    return entry(number, camera=f"c{CAMERAS[number]}", identity=f"p{WHO[number]}")


def settings_of(folder, **people):
    return load_settings(flags={"gallery": {"folder": str(folder)}, "people": people})


def key(number):
    return "photos", f"{number}.jpg", None


@pytest.fixture
def folder(tmp_path):
    return make_gallery(tmp_path / "g", COUNT, batch=200, make=seen, rows=ROWS, model=MADE)


def find(folder, **people):
    return find_people(settings_of(folder, **people), SilentReporter())


def register_of(folder):
    with open_people(folder) as people:
        return read_register(people)


def groups(folder):
    return {frozenset(members) for members in register_of(folder).members.values()}


def add(folder, numbers, rows):
    with LocalStore(folder).writer(MADE) as writer:
        writer.add([entry(number, camera="c1", identity=f"p{who}") for number, who in numbers], rows)


def test_people_are_found_without_labels_and_found_again_the_same(folder) -> None:
    result = find(folder)
    assert result.likeness == "chance"
    assert result.scores is not None
    assert result.scores.bcubed_f > 0.9
    assert result.founded == result.people
    before = register_of(folder)
    again = find(folder)
    assert (again.founded, again.joined) == (0, 0)
    assert register_of(folder) == before
    anew = find(folder, again=True)
    assert anew.founded == 0
    assert register_of(folder) == before
    assert sum(one.entries for one in list_people(settings_of(folder)).people) == COUNT


def test_new_entries_join_people_who_are_there_or_found_others(folder) -> None:
    find(folder)
    before = register_of(folder)
    fresh = -ROWS[WHO == 1].mean(axis=0)
    known = int(WHO[0])
    add(folder, [(900, known), (901, 99)], np.stack([ROWS[known == WHO].mean(axis=0), fresh]))
    listed = list_people(settings_of(folder))
    assert (listed.entries, listed.nobody) == (COUNT + 2, 2)
    result = find(folder)
    after = register_of(folder)
    assert (result.joined, result.founded) == (1, 1)
    assert after.person_of()[key(900)] == before.person_of()[key(0)]
    assert after.person_of()[key(901)] not in before.names
    assert {key: after.person_of()[key] for key in before.person_of()} == before.person_of()


def test_what_somebody_decided_is_not_undone(folder) -> None:
    """A name, a merge of two different people, a split and a rejection, all against the evidence."""
    find(folder)
    largest = [one.id for one in list_people(settings_of(folder)).people[:4]]
    first, second, third, fourth = map(str, largest)
    settings = settings_of(folder)
    members = register_of(folder).members
    decisions.name(settings, first, "Anna")
    merged = decisions.merge(settings, "Anna", [second], by="ann").person
    off = sorted(members[int(third)])[:2]
    new = decisions.split(settings, third, [path for _, path, _ in off], by="ann").person
    (wrong,) = sorted(members[int(fourth)])[:1]
    decisions.reject(settings, fourth, [wrong[1]], by="ann")
    decisions.confirm(settings, "Anna", [], by="ann")
    for again in (False, True, True):
        find(folder, again=again)
        register = register_of(folder)
        assert register.names[int(first)] == "Anna"
        assert int(second) not in register.names
        assert set(register.members[int(first)]) >= set(members[int(first)]) | set(members[int(second)])
        assert len(register.members[int(first)]) >= merged.entries
        assert set(off) <= set(register.members[new.id])
        assert not set(off) & set(register.members[int(third)])
        assert register.person_of()[wrong] != int(fourth)
        assert wrong in register.rejected[int(fourth)]


def test_a_merge_of_what_was_split_is_a_merge(folder) -> None:
    find(folder)
    person = list_people(settings_of(folder)).people[0].id
    before = set(register_of(folder).members[person])
    with open_people(folder, write=True) as people:
        other = split_person(people, str(person), sorted(before)[:3], by="ann")
        merge_people(people, str(person), [str(other)], by="ann")
    for again in (False, True):
        assert find(folder, again=again).contradictions == 0
        register = register_of(folder)
        assert set(register.members[person]) >= set(sorted(before)[:3])
        assert not register.rejected[person]
        assert other not in register.names
    assert set(register.members[person]) == before


def test_a_decision_that_a_verdict_stands_against_is_told_with_what_comes_of_it(folder) -> None:
    """Ben told two entries of different people apart, and called two of one person one; Ann merges and splits them."""
    find(folder)
    one, other, third = [person.id for person in list_people(settings_of(folder)).people[:3]]
    members = {person: sorted(keys) for person, keys in register_of(folder).members.items()}
    apart, alike = (members[one][0], members[other][0]), (members[third][0], members[third][-1])
    now = datetime.now(UTC)
    with open_people(folder, write=True) as people:
        said = [Verdict(*in_order(*apart), "different", "ben", now), Verdict(*in_order(*alike), "same", "ben", now)]
        people.add_verdicts(said)
    settings = settings_of(folder)
    merged = decisions.merge(settings, str(one), [str(other)], by="ann")
    parted = decisions.split(settings, str(third), [path for _, path, _ in members[third][:2]], by="ann")
    for change, answer, then in ((merged, "different", "lets one"), (parted, "same", "puts them together again")):
        ((verdict,), (line,)) = change.against, change.objections
        assert (verdict.answer, verdict.by) == (answer, "ben")
        assert then in line
        first, second = verdict.first.id, verdict.second.id
        assert line.endswith(f"sil people verdict {first} {second} withdrawn --by ben")
    assert decisions.name(settings, str(one), "Anna").against == []
    find(folder)
    person_of = register_of(folder).person_of()
    assert person_of[apart[0]] != person_of[apart[1]]
    assert person_of[alike[0]] == person_of[alike[1]]
    for verdict in (*merged.against, *parted.against):
        give_verdict(settings, str(verdict.first.id), str(verdict.second.id), "withdrawn", by="ben", why="")
    assert decisions.merge(settings, str(one), [str(person_of[apart[0]])], by="ann").against == []
    find(folder)
    person_of = register_of(folder).person_of()
    assert person_of[apart[0]] == person_of[apart[1]] == one


def test_verdicts_join_and_part_people(folder) -> None:
    find(folder)
    register = register_of(folder)
    one, other = [person.id for person in list_people(settings_of(folder)).people[:2]]
    first, second, third = (sorted(register.members[one])[0], *sorted(register.members[other])[:2])
    now = datetime.now(UTC)
    with open_people(folder, write=True) as people:
        people.add_verdicts([Verdict(first, second, "same", "ann", now)])
    find(folder)
    register = register_of(folder)
    assert register.person_of()[first] == register.person_of()[second]
    assert len(register.names) == len(set(register.person_of().values()))
    with open_people(folder, write=True) as people:
        people.add_verdicts([Verdict(first, third, "different", "ann", now)])
    find(folder)
    assert register_of(folder).person_of()[first] != register_of(folder).person_of()[third]
    with open_people(folder, write=True) as people:
        people.add_verdicts([Verdict(second, third, "same", "ben", now)])
    assert find(folder).contradictions == 1


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_gallery_of_hardly_any_entries(count, tmp_path) -> None:
    folder = make_gallery(tmp_path / "g", count, make=seen, rows=ROWS[:count], model=MADE)
    result = find(folder)
    assert (result.entries, result.people, result.alone, result.likeness) == (count, count, count, None)
    if count == 2:
        with open_people(folder, write=True) as people:
            people.add_verdicts([Verdict(key(0), key(1), "same", "", datetime.now(UTC))])
        assert find(folder).people == 1


def test_one_person_in_all_entries_and_a_thousand_people_once_each(tmp_path) -> None:
    rng = np.random.default_rng(0)
    one = rng.standard_normal(DIMENSION) + 0.02 * rng.standard_normal((COUNT, DIMENSION))
    folder = make_gallery(tmp_path / "one", COUNT, batch=200, make=seen, rows=one.astype(np.float32), model=MADE)
    assert find(folder).people >= 1  # nothing tells that it isn't a crowd in uniform
    rows = np.random.default_rng(1).standard_normal((1000, 256)).astype(np.float32)
    thousand = make_gallery(tmp_path / "many", 1000, batch=500, make=entry, rows=rows, model=MODEL | {"dimension": 256})
    assert find(thousand).people > 600


def test_entries_that_are_gone_are_no_ones(folder) -> None:
    find(folder)
    listed = list_people(settings_of(folder))
    person = listed.people[-1]
    members = register_of(folder).members[person.id]
    decisions.name(settings_of(folder), str(listed.people[0].id), "Anna")
    with LocalStore(folder).existing_writer() as writer:
        gone = [one for one, each in writer.entries(writer.ids().tolist()).items() if each.key in members]
        writer.remove(gone, "id")
    with open_people(folder) as people, LocalStore(folder).open() as gallery:
        shown, entries = person_in(gallery, people, str(person.id))
    assert (shown.entries, shown.best, entries) == (0, None, [])
    find(folder)
    assert person.id not in register_of(folder).names
    with LocalStore(folder).existing_writer() as writer:
        writer.remove(writer.ids().tolist(), "everything")
    find(folder)
    assert list(register_of(folder).names.values()) == ["Anna"]


def test_another_model_groups_anew(folder, tmp_path) -> None:
    find(folder)
    person = list_people(settings_of(folder)).people[0].id
    decisions.name(settings_of(folder), str(person), "Anna")
    other = {"fingerprint": "f" * 64, "dimension": DIMENSION}
    with LocalStore(folder).rebuilding(other) as rebuild, carried(folder, rebuild.folder):
        ids = rebuild.to_do().tolist()
        entries = rebuild.old.entries(ids)
        rebuild.new.add([entries[one] for one in ids], ROWS[::-1].copy(), ids=ids)
        rebuild.new.finish()
        rebuild.swap()
    assert read_names(folder) == ["Anna"]
    find(folder)
    assert read_names(folder) == ["Anna"]
    register = register_of(folder)
    of = Counter(WHO[COUNT - 1 - int(path.split(".")[0])] for _, path, _ in register.members[person])
    assert len(of) == 1


def read_names(folder):
    return [name for name in register_of(folder).names.values() if name]


def test_names_are_kept_as_they_are_or_refused(folder) -> None:
    find(folder)
    with open_people(folder, write=True) as people:
        one, other, *_ = read_register(people).names
        assert name_person(people, str(one), "  <script>alert(1)</script> ") == one
        assert name_person(people, "<script>alert(1)</script>", "Åsa") == one
        with pytest.raises(UsageError, match="is already named"):
            name_person(people, str(other), "Åsa")
        for wrong in ("two\nlines", "\x1b[31m", "x" * 10_000, "7", "\ud800"):
            with pytest.raises(UsageError):
                name_person(people, str(other), wrong)
        with pytest.raises(UsageError, match="There is no person"):
            name_person(people, "Åse", "Anna")
        assert name_person(people, "Åsa", "") == one
        assert not any(read_register(people).names.values())


def test_what_cannot_be_decided_changes_nothing(folder) -> None:
    find(folder)
    person = str(list_people(settings_of(folder)).people[0].id)
    settings, before = settings_of(folder), register_of(folder)
    members = [path for _, path, _ in before.members[int(person)]]
    for change in (
        lambda: decisions.merge(settings, person, [person], by="ann"),
        lambda: decisions.merge(settings, person, ["999999"], by="ann"),
        lambda: decisions.split(settings, person, members, by="ann"),
        lambda: decisions.split(settings, person, ["900.jpg"], by="ann"),
        lambda: decisions.reject(settings, person, [], by="ann"),
        lambda: decisions.confirm(settings, person, ["999999"], by="ann"),
    ):
        with pytest.raises((UsageError, GalleryError)):
            change()
    assert register_of(folder) == before


def test_what_is_decided_while_people_are_found_counts(folder, monkeypatch) -> None:
    """Somebody merges two people, and later names one, each time while a run is grouping."""
    find(folder)
    one, other = [str(person.id) for person in list_people(settings_of(folder)).people[:2]]
    decided = iter(
        [
            lambda: decisions.merge(settings_of(folder), one, [other], by="ann"),
            lambda: decisions.name(settings_of(folder), one, "Anna"),
        ]
    )

    def group(*given, **options):
        next(decided, lambda: None)()
        return group_entries(*given, **options)

    monkeypatch.setattr(finding, "group_entries", group)
    find(folder, again=True)
    register = register_of(folder)
    assert register.names[int(one)] == "Anna"
    assert int(other) not in register.names
    assert sum(map(len, register.members.values())) == COUNT


@pytest.mark.thorough
def test_a_collection_of_milvus_has_the_same_people(folder, tmp_path) -> None:
    pytest.importorskip("milvus_lite")
    from sil_cli.gallery.milvus.address import parse_address
    from sil_cli.gallery.milvus.store import MilvusStore

    address, beside = str(tmp_path / "lite.db"), tmp_path / "beside"
    beside.mkdir()
    with MilvusStore(beside, parse_address(address), patience=30.0).writer(MADE) as writer:
        writer.add([seen(number) for number in range(COUNT)], ROWS)
        writer.finish()
    settings = load_settings(flags={"gallery": {"folder": str(beside), "store": address}})
    assert find_people(settings, SilentReporter()).people == find(folder).people
    assert groups(beside) == groups(folder)
    person = str(list_people(settings).people[0].id)
    assert decisions.confirm(settings, person, [], by="ann").person.confirmed > 1
