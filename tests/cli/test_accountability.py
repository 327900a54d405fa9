"""A gallery's policy, its log and its retention, from outside."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from commands import sil
from PIL import Image
from pins.making import copy_of_fixtures

from sil_cli.files import sha256_of_file
from sil_cli.gallery.accountability.commands import expired_ids, is_too_old
from sil_cli.gallery.accountability.log import append, os_user
from sil_cli.gallery.people import open_people
from sil_cli.gallery.results import Policy
from sil_cli.gallery.stores import gallery_store, open_gallery
from sil_cli.settings import load_settings

QUERY = "data/orchard/images/query/0005_c1_01.jpg"
NOW = datetime(2024, 3, 5, tzinfo=UTC)
DAYS = (datetime.now(UTC) - datetime(2024, 3, 4, 12, tzinfo=UTC)) / timedelta(days=1)
"""Until now from a moment at which about half of the fixtures' images had been taken."""


@pytest.fixture
def world(empty) -> Path:
    return copy_of_fixtures(empty)


def log(*more):
    return sil("gallery", "log", "--json", *more).document


@pytest.mark.thorough
def test_a_plain_gallery_is_not_logged_and_asks_for_nothing(world) -> None:
    assert sil("query", QUERY).code == 0
    assert sil("gallery", "log", "--verify").code == 0
    assert {path.name for path in Path("gallery").iterdir()}.isdisjoint({"access.jsonl", "access.head", "policy.json"})


@pytest.mark.thorough
def test_what_a_gallery_is_for_is_kept_and_shown(world) -> None:
    changed = sil("gallery", "policy", "--purpose", "Thefts <b>", "--legal-basis", "Art. 6(1)(f)", "--json").document
    assert changed["changed"] == ["purpose", "legal_basis"]
    assert sil("gallery", "info", "--json").document["policy"]["purpose"] == "Thefts <b>"
    assert "Art. 6(1)(f)" in sil("gallery", "info").out
    assert not Path("gallery/access.jsonl").exists()


def test_searches_removals_and_exports_are_logged_where_the_gallery_says_so(world) -> None:
    sil("gallery", "policy", "--log", "--require-purpose")
    refused = sil("query", QUERY)
    assert refused.code == 2
    assert "--purpose" in refused.error
    sil("query", QUERY, "--purpose", "case 7", "--camera", "c1", "--sheet", "none")
    sil("query", "--id", "1", "--purpose", "case 8", "--sheet", "none")
    sil("query", "--batch", "data/orchard", "--purpose", "case 9", "--out", "lines.jsonl")
    sil("gallery", "export", "all.csv")
    sil("gallery", "remove", "--id", "1", "--yes")
    document = log("--all", "--verify")
    assert document["ok"]
    lines = document["lines"]
    assert [line["event"] for line in lines] == ["policy", "search", "search", "search", "export", "removal"]
    first = lines[1]["details"]
    assert first["purpose"] == "case 7"
    assert first["filter"] == {"camera": ["c1"]}
    assert first["searches"][0]["images"] == [{"sha256": sha256_of_file(Path(QUERY)), "box": None}]
    shown = open_gallery("gallery").entries(first["searches"][0]["shown"])
    assert {entry.camera for entry in shown.values()} == {"c1"}
    assert lines[2]["details"]["searches"][0]["entries"] == [1]
    assert len(lines[3]["details"]["searches"]) == len(Path("lines.jsonl").read_text().splitlines())
    assert lines[5]["details"] == {"why": "id", "entries": [1]}
    assert str(world) not in json.dumps(lines)


def test_what_is_decided_of_people_and_taken_out_is_logged_with_who_did_it(world) -> None:
    sil("gallery", "policy", "--log")
    for words in (
        ("people", "verdict", 1, 2, "same", "--by", "ben"),
        ("people", "verdicts", "--out", "verdicts.csv"),
        ("people", "verdicts", "--add", "verdicts.csv"),
        ("people", "find"),
        ("people", "confirm", 1, 1, 2, "--by", "ben"),
        ("people", "name", 1, "Ann"),
        ("people", "split", "Ann", 2, "--by", "ben"),
        ("people", "merge", "Ann", 2, "--by", "ben"),
        ("people", "reject", "Ann", 2, "--by", "ben"),
        ("people", "export", "people.csv"),
        ("gallery", "export", "all.npz"),
    ):
        outcome = sil(*words)
        assert outcome.code == 0, (words, outcome.err)
    assert sil("people", "merge", "Ann", "Ann").code == 2
    document = log("--all", "--verify")
    assert document["ok"]
    lines = document["lines"][1:]
    assert {line["by"] for line in lines} == {os_user()}
    told = [(line["event"], line["details"].get("did") or line["details"].get("of")) for line in lines]
    assert told == [
        ("verdict", None),
        ("export", "verdicts"),
        ("verdict", None),
        *(("people", did) for did in ("find", "confirm", "name", "split", "merge", "reject")),
        ("export", "people"),
        ("export", None),
    ]
    assert lines[0]["details"] == {"first": 1, "second": 2, "answer": "same", "why": "", "judge": "ben"}
    merged = next(line["details"] for line in lines if line["details"].get("did") == "merge")
    assert (merged["person"], len(merged["others"]), merged["judge"]) == (1, 1, "ben")


def test_nothing_is_decided_of_people_where_the_log_was_tampered_with(world) -> None:
    sil("gallery", "policy", "--log")
    sil("people", "verdict", 1, 2, "same")
    path = Path("gallery/access.jsonl")
    path.write_bytes(path.read_bytes()[:-40])
    for words in (("verdict", 1, 3, "same"), ("find",), ("export", "people.csv")):
        assert sil("people", *words).code == 1, words
    assert not Path("people.csv").exists()
    with open_people(Path("gallery")) as people:
        assert len(people.verdicts()) == 1
        assert people.names() == {}


def test_lines_of_the_log_that_are_too_old_are_cut_off_but_what_sheets_still_show_whom(world) -> None:
    sil("gallery", "policy", "--log", "--keep-days", "36000", "--log-keep-days", "1e-9")
    sil("query", QUERY, "--sheet", "kept.jpg")
    sil("query", QUERY, "--sheet", "gone.jpg")
    Path("gone.jpg").unlink()
    assert sil("gallery", "expire", "--dry-run", "--json").document["cut"] == 0
    assert sil("gallery", "expire", "--json").document["cut"] == 5
    document = log("--all", "--verify")
    assert (document["ok"], document["cut"]) == (True, 5)
    assert [line["event"] for line in document["lines"]] == ["drawing", "cut"]
    assert document["lines"][0]["details"]["file"].endswith("kept.jpg")
    changed = sil("gallery", "policy", "--log-keep-days", "0", "--json").document
    assert changed["changed"] == ["log_keep_days"]
    assert sil("gallery", "expire", "--json").document["cut"] == 0
    sil("gallery", "policy", "--keep-days", "1")
    sil("gallery", "expire")
    assert not Path("kept.jpg").exists()


def test_a_log_that_was_changed_ends_verifying_with_code_1_and_nothing_more_is_shown(world) -> None:
    sil("gallery", "policy", "--log")
    sil("query", QUERY, "--sheet", "none")
    path = Path("gallery/access.jsonl")
    path.write_text(path.read_text().replace('"search"', '"picnic"'))
    outcome = sil("gallery", "log", "--verify")
    assert outcome.code == 1
    assert "line 2: its content" in outcome.error
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    assert "line 2 is missing: 2 were written, 1 are there" in sil("gallery", "log", "--verify").error
    refused = sil("query", QUERY, "--json")
    assert refused.code == 1
    assert "matches" not in refused.document
    for name in ("access.jsonl", "access.head"):
        Path("gallery", name).unlink()
    assert sil("gallery", "log", "--verify").code == 1
    assert "is missing" in sil("query", QUERY).error
    assert sil("gallery", "policy", "--log").code == 0
    assert sil("query", QUERY).code == 0


@pytest.mark.thorough
def test_policy_and_log_go_with_a_rebuilt_gallery_and_a_copy_begins_its_own_log(world) -> None:
    sil("gallery", "policy", "--log", "--purpose", "hall 3")
    before = log("--all")["lines"]
    assert sil("gallery", "rebuild", "--model", "gallery/model").code == 0
    assert sil("gallery", "copy", "gallery", "other").code == 0
    lines = log("--all", "--verify")["lines"]
    assert lines[: len(before)] == before
    assert [line["event"] for line in lines] == ["policy", "export"]
    assert sil("gallery", "policy", "other", "--json").document["policy"]["purpose"] == "hall 3"
    assert sil("gallery", "log", "other", "--verify", "--json").document["total"] == 1


def test_what_is_too_old_goes_with_every_trace_of_it(world) -> None:
    sil("gallery", "policy", "--log")
    sil("query", QUERY, "--html", "page.html")
    sil("query", QUERY, "--html", "young.html", "--sheet", "young.jpg", "--after", "2024-03-04T12:00")
    times = {one: entry.time for one, entry in open_gallery("gallery").entries(range(1, 40)).items()}
    border = datetime.now(UTC) - timedelta(days=DAYS)
    old = {one for one, time in times.items() if time < border}
    assert 0 < len(old) < len(times)
    dry = sil("gallery", "expire", "--keep-days", DAYS, "--dry-run", "--json").document
    assert (dry["expired"], dry["entries"]) == (len(old), len(times))
    done = sil("gallery", "expire", "--keep-days", DAYS, "--json").document
    assert (done["expired"], done["entries"], done["complete"]) == (len(old), len(times) - len(old), True)
    assert set(open_gallery("gallery").ids().tolist()) == set(times) - old
    assert {path.name for path in Path.cwd().glob("*.*")} == {"young.html", "young.jpg"}
    assert sil("gallery", "verify").code == 0
    assert log("--all")["lines"][-1]["details"] == {"why": "retention", "entries": sorted(old)}
    again = sil("index-gallery", "data/orchard", "--model", "gallery/model", "--keep-days", DAYS, "--json").document
    assert again["total"] == len(times) - len(old)
    assert again["too_old"] >= len(old)


@pytest.mark.thorough
def test_each_camera_may_have_its_own_limit(world) -> None:
    policy = Policy(keep_days=30, camera_keep_days={"c1": 1, "c9": 90})
    entries = open_gallery("gallery").entries(range(1, 40))
    for now in (NOW + timedelta(hours=12), NOW + timedelta(days=29, hours=16), NOW + timedelta(days=90)):
        with gallery_store(load_settings()).existing_writer() as writer:
            found = expired_ids(writer, policy, now)
        days = {"c1": 1, "c2": 30}
        assert found == [one for one, each in entries.items() if each.time < now - timedelta(days=days[each.camera])]
        assert found == [one for one, each in entries.items() if is_too_old(each, policy, now)]


@pytest.mark.thorough
@pytest.mark.parametrize("value", ["c1", "=3", "c1=", "c1=-1", "c1=nan", "c1=1e9"])
def test_a_limit_that_makes_no_sense_is_refused(value, world) -> None:
    for command in (["policy"], ["expire"]):
        outcome = sil("gallery", *command, "--keep-camera", value)
        assert outcome.code == 2
        assert "CAMERA=DAYS" in outcome.error


@pytest.mark.parametrize("text", ["", "[]", '{"log": "x"}', '{"keep_days": NaN}', '{"purpos": 1}', "x" * 300_000])
@pytest.mark.thorough
def test_a_policy_that_a_stranger_wrote_is_refused_in_two_lines(text, world) -> None:
    Path("gallery/policy.json").write_text(text)
    for words in (["query", QUERY], ["gallery", "info"], ["gallery", "expire"]):
        outcome = sil(*words)
        assert outcome.code == 1
        assert "policy.json" in outcome.error


def test_a_stranger_s_log_can_t_have_files_deleted_that_this_program_did_not_draw(world) -> None:
    thesis = Path("thesis.txt").absolute()
    thesis.write_text("mine")
    for path in (thesis, Path("/dev/null"), Path("data")):
        sha256 = sha256_of_file(path) if path.is_file() else ""
        append(Path("gallery"), "drawing", "ann", {"file": str(path), "sha256": sha256, "shown": [10**6]})
    append(Path("gallery"), "drawing", "ann", {"file": "a\0b", "sha256": 3, "shown": "all"})
    assert sil("gallery", "compact").code == 0
    assert thesis.read_text() == "mine"


def test_people_nobody_asked_for_are_blurred(world) -> None:
    def colours(*options) -> int:
        assert sil("query", QUERY, "--sheet", "sheet.png", "--top", "3", *options).code == 0
        image = Image.open("sheet.png").convert("RGB")
        return len(image.crop((image.width // 2, 0, image.width, image.height)).getcolors(2**24))

    assert colours("--blur") < colours() / 3


@pytest.mark.thorough
def test_a_log_is_its_owner_s_alone(world) -> None:
    before = os.umask(0o022)
    try:
        sil("gallery", "policy", "--log")
    finally:
        os.umask(before)
    for name in ("access.jsonl", "access.head", "policy.json"):
        assert Path("gallery", name).stat().st_mode & 0o777 == 0o600
