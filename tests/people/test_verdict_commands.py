"""`sil people verdict`, `verdicts` and `sil gallery export --dataset`, from outside."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from commands import sil
from pins.making import copy_of_fixtures

from sil_cli.data.manifest import load_dataset
from sil_cli.gallery.people import Membership, Verdict, open_people
from sil_cli.gallery.stores import open_gallery
from sil_cli.models.record import read_record

NOW = datetime(2024, 5, 1, tzinfo=UTC)
TINY = ("--set=train.epochs=1", "--set=train.iterations=1", "--set=train.identities=2")
HOSTILE = "<script>alert(1)</script>\n\x1b[31m"


@pytest.fixture
def here(empty):
    """A folder with a gallery in it."""
    return copy_of_fixtures(empty)


def entries():
    with open_gallery("gallery") as gallery:
        return gallery.entries(gallery.ids().tolist())


def people():
    """The ids of each person's entries, those of most first."""
    found = {}
    for number, entry in entries().items():
        found.setdefault(entry.identity, []).append(number)
    return sorted(found.values(), key=len, reverse=True)


def test_entries_are_named_by_id_or_by_any_way_to_write_their_path(here):
    entry = entries()[2]
    for name in ("2", entry.path, str(entry.file(Path("gallery"))), str(entry.file(Path("gallery")).resolve())):
        outcome = sil("people", "verdict", 1, name, "YES", "--by", "ann", "--json")
        assert outcome.code == 0, outcome.err
        assert outcome.document["verdict"]["second"]["id"] == 2
    assert outcome.document["counting"] == 1  # the same person said so four times


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ((1, 1, "same"), "compared with itself"),
        ((1, 2, "perhaps"), "'perhaps' is not a verdict"),
        ((1, 999, "same"), "no entry 999"),
        ((1, 9 * 10**30, "same"), "no entry 9"),
        ((1, "none.jpg", "same"), "no entry 'none.jpg'"),
        ((1, "x" * 10_000, "same"), "no entry 'xxx"),
        ((1, 2, "same", "--why", "x" * 10_000), "10,000 characters"),
        ((1, 2, "same", "--by", "x" * 10_000), "10,000 characters"),
    ],
)
def test_a_verdict_on_nothing_is_refused(here, words, named):
    outcome = sil("people", "verdict", *words)
    assert outcome.code == 2
    assert named in outcome.error
    assert not Path("gallery/people.sqlite").exists()


def test_a_removed_entry_can_be_judged_no_more_and_its_verdicts_are_said_to_be_gone(here):
    for second in (2, 3):
        assert sil("people", "verdict", 1, second, "different", "--by", "ann").code == 0
    removed = sil("gallery", "remove", "--id", 2, "--yes")
    assert "1 verdict" in removed.out
    assert "no entry 2" in sil("people", "verdict", 1, 2, "same").error
    listed = sil("people", "verdicts", "--json").document
    assert (listed["gone"], [each["second"]["id"] for each in listed["verdicts"]]) == (1, [None, 3])
    assert "Deleted what people had said of removed entries: 1 verdict." in sil("gallery", "compact").out
    assert len(sil("people", "verdicts", "--json").document["verdicts"]) == 1


def test_what_people_write_is_shown_harmless_and_comes_back_to_the_letter(here):
    assert sil("people", "verdict", 1, 2, "same", "--by", HOSTILE, "--why", f"=1+1 {HOSTILE}").code == 0
    shown = sil("people", "verdicts", "--out", "verdicts.csv")
    assert "\x1b" not in shown.out + shown.err
    content = Path("verdicts.csv").read_text()
    assert "\x1b" not in content
    before = sil("people", "verdicts", "--json").document["verdicts"]
    assert (before[0]["by"], before[0]["why"]) == (HOSTILE, f"=1+1 {HOSTILE}")
    Path("gallery/people.sqlite").unlink()
    added = sil("people", "verdicts", "--add", "verdicts.csv", "--json").document
    assert (added["added"], added["verdicts"]) == (1, before)
    assert sil("people", "verdicts", "--add", "verdicts.csv", "--json").document["added"] == 0


def test_a_table_made_by_hand_is_read_and_its_wrong_lines_are_named(here):
    path = entries()[2].path
    write(("first_path", "second_path", "answer", "by"), ("1", path, "Can't tell", "bob"), ("1", "3", "", "bob"))
    for expected in (1, 0):  # a second time nothing is new, though the lines say no time
        assert sil("people", "verdicts", "--add", "table.csv", "--json").document["added"] == expected
    for wrong, named in (
        (("1", "3", "maybe so"), "is not a verdict"),
        (("1", "none.jpg", "same"), "no entry 'none.jpg'"),
    ):
        write(("first_path", "second_path", "answer"), ("1", "3", "same"), wrong)
        outcome = sil("people", "verdicts", "--add", "table.csv")
        assert (outcome.code, "table.csv, line 3: " in outcome.error, named in outcome.error) == (1, True, True)
    assert len(sil("people", "verdicts", "--json").document["verdicts"]) == 1  # all of a table or nothing
    assert "no column 'answer'" in sil("people", "verdicts", "--add", str(write(("first_path", "second_path")))).error


def write(*rows):
    with Path("table.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return Path("table.csv")


def test_contradictions_are_named_with_those_who_said_so(here):
    for first, second, answer, by in ((1, 2, "same", "ann"), (2, 3, "same", "bob"), (1, 3, "different", "eve")):
        last = sil("people", "verdict", first, second, answer, "--by", by)
    assert "1 verdict contradicts others" in last.error
    told = sil("people", "verdicts").error
    assert all(name in told for name in ("ann", "bob", "eve", "can't all be right"))


def tell_apart(*groups):
    """Verdicts that join the entries of each group."""
    known = entries()
    with open_people(Path("gallery"), write=True) as kept:
        for group in groups:
            pairs = [(known[a].key, known[b].key) for a, b in pairwise(group)]
            kept.add_verdicts([Verdict(*pair, "same", "ann", NOW) for pair in pairs])


def test_confirmed_people_become_a_data_set_that_a_model_is_adapted_on(here):
    first, second, third = people()[:3]
    tell_apart(first, second, third)
    known = entries()
    with open_people(Path("gallery"), write=True) as kept:
        a, b = known[third[0]].key, known[third[-1]].key
        kept.add_verdicts([Verdict(a, b, "different", "bob", NOW)])
    outcome = sil("gallery", "export", "--dataset", "site", "--json")
    assert outcome.code == 0, outcome.err
    document = outcome.document
    assert (document["people"], document["images"]) == (2, len(first) + len(second))
    assert len(document["contradictions"]) == 1
    dataset = load_dataset(Path("site"))
    assert dataset.info.generated  # as the gallery's sources are
    by_person = {}
    for record in dataset.records:
        by_person.setdefault(record.identity, []).append(record)
        assert dataset.image_path(record).is_file()
    assert sorted(map(len, by_person.values())) == sorted([len(first), len(second)])
    assert {record.camera for record in dataset.records} == {known[one].camera for one in (*first, *second)}
    run = Path("runs/finished")
    adapted = sil("train", "--source", "site", "--weights", run, "--run", "adapted", *TINY, "--json")
    assert adapted.code == 0, adapted.err
    assert adapted.document["recipe"] == "adapt"
    assert read_record(Path("adapted")).architecture == read_record(run).architecture


def test_named_and_confirmed_people_become_a_data_set_and_with_found_all_who_were_found(here):
    first, second, third = people()[:3]
    known = entries()
    with open_people(Path("gallery"), write=True) as kept:
        for group, state in ((first, "confirmed"), (second, "confirmed"), (third, "found")):
            person = kept.add_person("</ Ann" if group is first else "")
            kept.put_members([Membership(known[one].key, person, state, 0.5) for one in group])
        pair = known[second[0]].key, known[second[-1]].key
        kept.add_verdicts([Verdict(*pair, "different", "bob", NOW)])
    alone = sil("gallery", "export", "--dataset", "site")
    assert "Verdicts confirm 1 people" in alone.error  # the second is in pieces, the third was only found
    outcome = sil("gallery", "export", "--dataset", "site", "--found", "--json")
    assert outcome.code == 0, outcome.err
    identities = [record.identity for record in load_dataset(Path("site")).records]
    assert sorted(map(identities.count, set(identities))) == sorted([len(first), len(third)])
    assert "1 </ Ann" in identities or "2 </ Ann" in identities
    assert sil("gallery", "export", "a.csv", "--found").code == 2


def test_export_needs_one_output_and_people_and_replaces_nothing_of_others(here):
    assert sil("gallery", "export").code == 2
    assert sil("gallery", "export", "a.csv", "--dataset", "site").code == 2
    assert "Verdicts confirm 0 people" in sil("gallery", "export", "--dataset", "site").error
    assert not Path("site").exists()
    tell_apart(*people()[:2])
    Path("other").mkdir()
    Path("other/mine.txt").write_text("mine")
    assert "is in the way" in sil("gallery", "export", "--dataset", "other").error
    assert "combined with a filter" in sil("gallery", "export", "--dataset", "site", "--camera", "c1").error
    for _ in range(2):  # its own it replaces
        assert sil("gallery", "export", "--dataset", "site").code == 0
