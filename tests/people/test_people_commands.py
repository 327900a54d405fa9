"""`sil people` from the outside: what it prints, what it refuses, and several processes at once."""

from __future__ import annotations

import csv
import io
import json
import shlex
import shutil
import signal
import subprocess
import time
from datetime import timedelta

import pytest
from clusters import clustered
from commands import sil, start_sil
from galleries import MODEL, START, entry, make_gallery
from PIL import Image

from sil_cli.gallery.people import open_people
from sil_cli.people.register import read_register

COUNT, DIMENSION = 320, 32
ROWS, WHO, CAMERAS = clustered(COUNT, DIMENSION, people=25, cameras=3, noise=0.3)


def seen(number):
    return entry(
        number, camera=f"c{CAMERAS[number]}", identity=f"p{WHO[number]}", time=START + timedelta(minutes=number)
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people") / "g"
    make_gallery(folder, COUNT, batch=160, make=seen, rows=ROWS, model=MODEL | {"dimension": DIMENSION})
    (folder.parent / "photos").mkdir()
    outcome = sil("people", "find", "--gallery", folder, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.document["scores"]["bcubed_f"] > 0.9
    return folder


def size_of(sheet):
    with Image.open(sheet) as image:
        return image.size


def people_of(folder):
    with open_people(folder) as people:
        return read_register(people)


def test_the_group_alone_finds_people_and_its_help_names_the_others(found) -> None:
    assert "People" in sil("people", "--gallery", found).out
    assert "confirm" in sil("people", "--help").out
    assert sil("people", "find", "--gallery", found, "--overlap", "c1+c2", "--json").document["founded"] == 0


def test_a_person_is_listed_named_shown_and_exported(found, tmp_path) -> None:
    gallery = ("--gallery", found)
    person = sil("people", "list", *gallery, "--json").document["people"][0]
    name = "<script>alert('Ann')</script>"
    assert sil("people", "name", person["id"], name, *gallery).code == 0
    listed = sil("people", "list", *gallery)
    assert name in listed.out
    for number in person["cameras"]:
        assert number in listed.out
    Image.new("RGB", (40, 80), "navy").save(found / "0.png")
    sheet, page = tmp_path / "sheet.png", tmp_path / "page.html"
    shown = sil("people", "show", name, *gallery, "--sheet", sheet, "--html", page, "--json").document
    assert shown["person"]["name"] == name
    assert len(shown["shown"]) == person["entries"] == sum(len(visit["ids"]) for visit in shown["trail"])
    assert size_of(sheet)[0] > 300
    assert "<script>" not in page.read_text()
    assert "Path through the network" in sil("people", "show", name, *gallery, "--sheet", "none").out
    table, tree = tmp_path / "people.csv", tmp_path / "people.json"
    sil("people", "export", table, *gallery)
    rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"))))
    assert len(rows) == COUNT
    assert sum(row["name"] == name for row in rows) == person["entries"]
    sil("people", "export", tree, *gallery)
    assert [row["id"] for row in json.loads(tree.read_text())] == [int(row["id"]) for row in rows]
    assert sil("people", "export", tmp_path / "people.txt", *gallery).code == 2
    sil("people", "name", name, "", *gallery)


def test_a_query_groups_its_matches_by_person_and_names_them(found) -> None:
    gallery = ("--gallery", found, "--sheet", "none")
    register = people_of(found)
    person = max(register.members, key=lambda one: len(register.members[one]))
    sil("people", "name", person, "Ann", "--gallery", found)
    shown = sil("people", "show", "Ann", *gallery, "--json").document["shown"]
    result = sil("query", "--id", shown[0]["id"], "--group", "person", "--top", 3, *gallery, "--json").document
    first, *others = result["groups"]
    assert (first["person"], first["name"]) == (person, "Ann")
    assert first["entries"] == len(shown) - 1
    assert len({group["person"] for group in others} | {person}) == 3
    assert result["matches"][0]["person_name"] == "Ann"
    assert "Ann" in sil("query", "--id", shown[0]["id"], "--group", "person", "--top", 3, *gallery).out
    assert sil("query", "--id", 1, "--top", 3, *gallery, "--json").document["matches"][0]["person"] is None
    sil("people", "name", "Ann", "", "--gallery", found)


@pytest.mark.parametrize(
    "words",
    [
        ("show", "nobody"),
        ("show", "999999999999999999999"),
        ("name", "1", "two\nlines"),
        ("name", "1", "x" * 10_000),
        ("name", "1", "12"),
        ("merge", "1", "1"),
        ("split", "1", "no-such.jpg"),
        ("confirm", "1", "999999"),
        ("show", "1", "--sheet", "sheet.txt"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(found, words) -> None:
    before = people_of(found)
    outcome = sil("people", *words, "--gallery", found)
    assert outcome.code in (1, 2)
    assert len(outcome.err.strip().splitlines()) == 2
    assert people_of(found) == before


def test_a_merge_says_at_once_which_verdict_stands_against_it(found, tmp_path) -> None:
    gallery = shutil.copytree(found, tmp_path / "g")
    one, other = list(people_of(gallery).names)[:2]
    paths = [sorted(key[1] for key in people_of(gallery).members[person])[0] for person in (one, other)]
    assert sil("people", "verdict", *paths, "different", "--by", "ben o'hara", "--gallery", gallery).code == 0
    merged = sil("people", "merge", one, other, "--by", "ann", "--gallery", gallery)
    assert merged.code == 0, merged.err
    assert "ben o'hara said that" in merged.error
    assert "are different people, so the next `sil people find` lets one of them go" in merged.error
    command = merged.error.partition("If that is wrong: ")[2].splitlines()[0]
    words = shlex.split(command)
    assert words[-2:] == ["--by", "ben o'hara"]
    assert sil(*words[1:], "--gallery", gallery).code == 0
    sil("people", "find", "--gallery", gallery)
    assert people_of(gallery).person_of()["photos", paths[1], None] == one


def test_two_processes_name_at_once(found) -> None:
    people = list(people_of(found).names)[:4]
    running = [
        start_sil("people", "name", person, f"name of {person}", "--gallery", found, cwd=found.parent)
        for person in people
    ]
    assert [one.wait(60) for one in running] == [0] * 4
    assert [people_of(found).names[person] for person in people] == [f"name of {person}" for person in people]
    for one in running:
        one.communicate()


@pytest.mark.thorough
def test_a_kill_at_any_moment_leaves_all_people_or_none(tmp_path) -> None:
    folder = tmp_path / "g"
    make_gallery(folder, COUNT, batch=160, make=seen, rows=ROWS, model=MODEL | {"dimension": DIMENSION})
    for delay in (0.3, 0.6, 0.9, 1.2, 1.5):
        running = start_sil("people", "find", "--gallery", folder, cwd=tmp_path)
        time.sleep(delay)
        running.send_signal(signal.SIGKILL)
        running.wait()
        running.communicate()
        register = people_of(folder)
        assert len(register.person_of()) in (0, COUNT)
    assert sil("people", "find", "--gallery", folder).code == 0
    assert len(people_of(folder).person_of()) == COUNT
    assert isinstance(running, subprocess.Popen)
