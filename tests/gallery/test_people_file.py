"""The file of what people said of a gallery's entries: kept through everything that happens to a gallery."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import stat
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from galleries import Notes, described, make_gallery, vectors
from verdict_worker import verdict

from sil_cli.errors import GalleryError, SilError, UsageError
from sil_cli.gallery.care import compact_gallery, remove_entries, repair_gallery, verify_gallery
from sil_cli.gallery.copying import copy_gallery
from sil_cli.gallery.interface import PEOPLE_FILE
from sil_cli.gallery.local.store import LocalStore, finish_swap
from sil_cli.gallery.people import Verdict, carried, check_people, open_people
from sil_cli.settings import load_settings

WORKER = Path(__file__).with_name("verdict_worker.py")
NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
NEW = {"fingerprint": "f" * 64, "dimension": 8}


def key(number, box=None):
    return "photos", f"{number}.jpg", box


def said(first, second, answer="same", by="ann", minutes=0, **more):
    return Verdict(key(first), key(second), answer, by, NOW + timedelta(minutes=minutes), **more)


@pytest.fixture
def folder(tmp_path):
    return make_gallery(tmp_path / "g")


def settings_of(folder):
    return load_settings(flags={"gallery": {"folder": str(folder)}})


def keep(folder, *verdicts):
    with open_people(folder, write=True) as people:
        return people.add_verdicts(verdicts)


def kept(folder):
    with open_people(folder) as people:
        return people.verdicts()


def test_verdicts_are_kept_word_for_word_and_in_order(folder):
    odd = said(2, 1, "different", "<script>\nAnn", 1, why="a\x1b[31m\n" + "é" * 1900, origin="ask", probability=0.25)
    assert keep(folder, odd, said(1, 2), said(3, 4, "unsure")) == 3
    assert kept(folder) == [said(1, 2), said(3, 4, "unsure"), odd]
    assert odd.pair == (key(1), key(2))
    assert keep(folder, odd) == 0  # it is there


def test_the_latest_verdict_of_each_judge_counts_unless_it_is_withdrawn(folder):
    keep(folder, said(1, 2), said(2, 1, "different", minutes=2), said(1, 2, "unsure", "bob", minutes=1))
    with open_people(folder) as people:
        assert people.standing() == [said(1, 2, "unsure", "bob", minutes=1), said(1, 2, "different", minutes=2)]
    keep(folder, said(1, 2, "withdrawn", minutes=3))
    with open_people(folder) as people:
        assert people.standing() == [said(1, 2, "unsure", "bob", minutes=1)]
        assert len(people.verdicts()) == 4


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"answer": "maybe"}, "'maybe' is not a verdict"),
        ({"second": key(1)}, "compared with itself"),
        ({"why": "x" * 10_000}, "10,000 characters"),
        ({"by": "x" * 10_000}, "10,000 characters"),
        ({"why": "\udce9"}, "not UTF-8"),
        ({"by": "a\0b"}, "not UTF-8"),
        ({"probability": 0.0}, "probability of 0.0"),
        ({"probability": float("nan")}, "probability of nan"),
        ({"at": datetime(2024, 5, 1)}, "no time zone"),
    ],
)
def test_what_is_no_verdict_is_refused(wrong, named):
    with pytest.raises(UsageError, match=named):
        replace(said(1, 2), **wrong)


def test_nothing_was_said_where_there_is_no_file_and_reading_makes_none(folder):
    assert kept(folder) == []
    assert not (folder / PEOPLE_FILE).exists()
    (folder / PEOPLE_FILE).touch()  # as a writer leaves it that is killed at once
    assert kept(folder) == []
    with pytest.raises(GalleryError, match="No gallery was found"), open_people(folder / "none", write=True):
        pass


def test_a_transaction_counts_whole_or_not_at_all(folder):
    with open_people(folder, write=True) as people:
        with pytest.raises(UsageError), people.transaction():
            people.add_verdicts([said(1, 2), said(2, 1, "withdrawn"), said(2, 2)])
        with contextlib.suppress(KeyboardInterrupt), people.transaction():
            people.add_verdicts([said(1, 2)])
            people.add_verdicts([said(2, 3)])
            raise KeyboardInterrupt
        assert people.verdicts() == []
        people.add_verdicts([said(1, 2)])
    assert kept(folder) == [said(1, 2)]


def test_the_file_may_be_read_by_those_who_may_read_the_gallery(folder):
    (folder / "writer.lock").chmod(0o600)
    keep(folder, said(1, 2))
    assert stat.S_IMODE((folder / PEOPLE_FILE).stat().st_mode) == 0o600
    (folder / PEOPLE_FILE).unlink()
    (folder / "writer.lock").chmod(0o660)
    keep(folder, said(1, 2))
    assert stat.S_IMODE((folder / PEOPLE_FILE).stat().st_mode) == 0o660


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_a_link_in_its_place_is_neither_read_nor_written(folder, tmp_path, suffix):
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (folder / f"{PEOPLE_FILE}{suffix}").symlink_to(victim)
    for write in (False, True):
        with pytest.raises(SilError, match="is a link"), open_people(folder, write=write):
            pass
    assert victim.read_bytes() == b"mine"


def test_a_pipe_in_its_place_is_refused_at_once(folder):
    os.mkfifo(folder / PEOPLE_FILE)
    for write in (False, True):
        with pytest.raises(GalleryError, match="not a file"), open_people(folder, write=write):
            pass


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS id, i AS source FROM n"
HOSTILE = {
    "trigger": ["CREATE TRIGGER t AFTER INSERT ON verdicts BEGIN DELETE FROM verdicts; END"],
    "view": ["ALTER TABLE keys RENAME TO was", f"CREATE VIEW keys AS {ENDLESS}"],
    "check": ["DROP TABLE people", "CREATE TABLE people (id INTEGER PRIMARY KEY CHECK (abs(id) > 0)) STRICT"],
    "generated": ["ALTER TABLE keys ADD COLUMN more TEXT AS (hex(zeroblob(100000000)))"],
}
WRONG_VALUES = {
    "answer": ["UPDATE verdicts SET answer = 'maybe'"],
    "time": ["UPDATE verdicts SET time = '9999-99-99'"],
    "probability": ["UPDATE verdicts SET probability = -1"],
    "box": ["UPDATE keys SET box = '[1, 2, 0, 4]'"],
    "path": ["UPDATE keys SET path = 'a' || char(0) WHERE id < 3 AND path = '1.jpg'"],
    "reference": ["PRAGMA foreign_keys = OFF", "DELETE FROM keys WHERE id = 1"],
    "itself": ["UPDATE verdicts SET second = first"],
    "long": ["UPDATE verdicts SET reason = hex(zeroblob(5000))"],
    "format": ["UPDATE meta SET value = '99'"],
    "no format": ["DELETE FROM meta"],
    "odd format": ["UPDATE meta SET value = '[1'"],
}


@pytest.mark.parametrize("what", [*HOSTILE, *WRONG_VALUES])
def test_a_strangers_file_is_refused_in_two_lines_and_repaired(folder, what):
    keep(folder, said(1, 2), said(3, 4))
    connection = sqlite3.connect(folder / PEOPLE_FILE)
    for statement in (HOSTILE | WRONG_VALUES)[what]:
        connection.execute(statement)
    connection.commit()
    connection.close()
    with pytest.raises(GalleryError, match=PEOPLE_FILE) as refused:
        kept(folder)
    assert "\n" not in refused.value.what
    assert not check_people(folder).ok
    notes = Notes()
    result = repair_gallery(settings_of(folder), notes, trust=False)
    assert [path.name for path in result.set_aside][:1] == [PEOPLE_FILE]
    left = {"reference": 1, "path": 1, "format": 2, "no format": 2, "odd format": 2}.get(what, 0)
    assert len(kept(folder)) == left
    assert f"{left} verdicts" in notes.warnings[0]
    assert check_people(folder).ok


def test_what_can_be_read_of_a_file_with_a_broken_page_is_kept(folder):
    keep(folder, *(verdict("ann", number) for number in range(200)))
    path = folder / PEOPLE_FILE
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = b"\xff" * 4096
    path.write_bytes(content)
    notes = Notes()
    result = repair_gallery(settings_of(folder), notes, trust=False)
    assert result.set_aside[0].read_bytes() == content
    assert 0 < len(kept(folder)) < 200, notes.warnings


def test_verify_says_what_was_said_and_nothing_where_nothing_was(folder):
    names = [check.name for check in verify_gallery(settings_of(folder), Notes()).checks]
    assert PEOPLE_FILE not in names
    keep(folder, said(1, 2), said(1, 2, by="bob"))
    (check,) = [each for each in verify_gallery(settings_of(folder), Notes()).checks if each.name == PEOPLE_FILE]
    assert (check.ok, check.found) == (True, "2 verdicts of 2 people")


def test_what_was_said_of_a_removed_entry_goes_with_it_when_the_gallery_is_compacted(folder):
    secret = "Mrs Smith of flat 12"
    keep(folder, said(1, 2, why=secret), said(2, 3), said(4, 5))
    removed = remove_entries(
        settings_of(folder), Notes(), paths=("1.jpg",), ids=(), everything=False, confirm=lambda *_: True
    )
    assert removed.verdicts == 1
    assert len(kept(folder)) == 3  # until then
    compacted = compact_gallery(settings_of(folder), Notes())
    assert (compacted.verdicts_deleted, compacted.complete) == (1, True)
    assert kept(folder) == [said(2, 3), said(4, 5)]
    for path in folder.rglob("*"):
        assert path.is_dir() or secret.encode() not in path.read_bytes()
    with open_people(folder) as reader:
        assert len(reader.verdicts()) == 2
        keep(folder, said(5, 6))
        assert not compact_gallery(settings_of(folder), Notes()).complete  # while somebody looks at an older state


def rebuild(folder):
    with LocalStore(folder).rebuilding(NEW) as new:
        ids = new.to_do().tolist()
        entries = new.old.entries(ids)
        if ids:
            new.new.add([entries[one] for one in ids], vectors(len(ids)), ids=ids)
        with carried(folder, new.folder):
            new.swap()


def test_a_rebuild_carries_what_was_said(folder):
    keep(folder, said(1, 2))
    rebuild(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["gallery.sqlite", PEOPLE_FILE, "vectors", "writer.lock"]
    assert kept(folder) == [said(1, 2)]


def copied(origin, target, **gallery):
    settings = load_settings(flags={"gallery": {name: str(value) for name, value in gallery.items()}})
    return copy_gallery(settings, str(origin), str(target), Notes())


def test_a_copy_has_what_was_said_under_the_names_that_it_gives_entries(folder, tmp_path):
    keep(folder, said(1, 2), said(1, 99))  # there is no 99.jpg any more
    beside = tmp_path / "elsewhere" / "copy"
    make_gallery(beside, 3, make=lambda number: replace(described(number), source="../../g/photos"))
    mine, moved = (
        replace(one, first=("../../g/photos", *one.first[1:]), second=("../../g/photos", *one.second[1:]))
        for one in (said(0, 1, by="bob"), said(1, 2))
    )
    keep(beside, mine)
    assert copied(folder, beside).verdicts == 1
    assert kept(beside) == [mine, moved]
    assert copied(folder, beside).verdicts == 0
    assert len(kept(beside)) == 2


@pytest.mark.thorough
def test_a_collection_has_what_was_said_in_the_folder_beside_it(folder, tmp_path):
    pytest.importorskip("milvus_lite")
    keep(folder, said(1, 2), said(2, 3))
    assert copied(folder, tmp_path / "c.db", folder=tmp_path / "beside").verdicts == 2
    settings = load_settings(flags={"gallery": {"folder": str(tmp_path / "beside"), "store": str(tmp_path / "c.db")}})
    remove_entries(settings, Notes(), paths=("1.jpg",), ids=(), everything=False, confirm=lambda *_: True)
    assert compact_gallery(settings, Notes()).verdicts_deleted == 1
    assert len(kept(tmp_path / "beside")) == 1


@pytest.mark.parametrize("killed", ["before the swap", "between the renames", "before the old one is deleted"])
def test_a_rebuild_killed_anywhere_carries_what_was_said_before_and_after(folder, monkeypatch, killed):
    keep(folder, said(1, 2))
    with LocalStore(folder).rebuilding(NEW) as new:
        ids = new.to_do().tolist()
        entries = new.old.entries(ids)
        new.new.add([entries[one] for one in ids], vectors(len(ids)), ids=ids)
        with monkeypatch.context() as patched, contextlib.suppress(InterruptedError), carried(folder, new.folder):
            if killed == "between the renames":
                patched.setattr("sil_cli.gallery.local.store.rename_back", killing)
            if killed != "before the swap":
                new.swap()
            raise InterruptedError
        if killed != "before the swap":
            keep(folder, said(2, 3))
            assert len(kept(folder)) == 2
    if killed == "before the swap":
        keep(folder, said(2, 3))
        rebuild(folder)
    assert kept(folder) == [said(1, 2), said(2, 3)]


def killing(folder):
    raise InterruptedError


def test_no_verdict_is_lost_while_galleries_are_rebuilt_under_those_who_give_them(folder):
    with giving(folder, "ann") as ann, giving(folder, "bob") as bob:
        said = [ann.stdout.readline(), bob.stdout.readline()]
        for number in range(3):
            rebuild_as(folder, number)
        ann.stdin.close(), bob.stdin.close()
        said += [*ann.stdout, *bob.stdout]
    assert [ann.returncode, bob.returncode] == [0, 0]
    assert len(kept(folder)) == len(said) - 2 > 2  # each says that it has started
    finish_swap(folder)
    with open_people(folder, write=True) as people:
        assert people.problems() == []


def giving(folder, name):
    command = [sys.executable, str(WORKER), str(folder), name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def rebuild_as(folder, number):
    model = {"fingerprint": f"{number % 10}" * 64, "dimension": 8}
    with LocalStore(folder).rebuilding(model) as new:
        ids = new.to_do().tolist()
        if ids:
            new.new.add(list(new.old.entries(ids).values()), vectors(len(ids)), ids=ids)
        with carried(folder, new.folder):
            new.swap()


@pytest.mark.parametrize("times", [2, pytest.param(40, marks=pytest.mark.thorough)])
def test_killed_while_giving_verdicts_none_that_was_acknowledged_is_lost(folder, times):
    rng = random.Random(0)
    expected = 0
    for attempt in range(times):
        with giving(folder, f"judge {attempt}") as process:
            lines = [process.stdout.readline() for _ in range(rng.randrange(2, 30))]
            time.sleep(rng.random() * 0.02)
            process.kill()
            lines += process.stdout.readlines()
        acknowledged = len([line for line in lines if line.endswith("\n")]) - 1
        now = [one for one in kept(folder) if one.by == f"judge {attempt}"]
        assert acknowledged <= len(now) <= acknowledged + 1
        expected += len(now)
    assert len(kept(folder)) == expected
