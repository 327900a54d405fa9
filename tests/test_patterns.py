from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from commands import sil
from hypothesis import given, settings
from hypothesis import strategies as st

from sil_cli.errors import UsageError
from sil_cli.patterns import PathPattern

ENDLESS = r"(?P<identity>(?:a|aa)+)$"


def test_what_groups_match_is_found() -> None:
    pattern = PathPattern(r"(?P<identity>\d+)_c(?P<camera>\d)(?P<rest>x)?", example="")
    assert pattern.groups == ("identity", "camera", "rest")
    assert pattern.search("a/0012_c3.jpg") == {"identity": "0012", "camera": "3", "rest": None}
    assert pattern.search("a.jpg") is None


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(?P<a>", "unterminated"),
        ("(" * 5000, "nested too deeply"),
        ("a{99999999999}", "repetition number is too large"),
        ("[^/" * 1000, "unterminated character set"),
    ],
)
def test_what_is_none_is_told(pattern, why) -> None:
    with pytest.raises(UsageError, match="is not a regular expression: .*" + why) as caught:
        PathPattern(pattern, example="(x)")
    assert caught.value.fix == "For example: '(x)'."
    assert len(caught.value.what) < 400


def search_in_a_thread(pattern: PathPattern, path: str) -> list:
    found = []

    def search() -> None:
        try:
            found.append(pattern.search(path))
        except UsageError as error:
            found.append(error)

    thread = threading.Thread(target=search)
    thread.start()
    thread.join()
    return found


@pytest.mark.parametrize(
    ("pattern", "path"),
    [(ENDLESS, "a" * 80 + ".jpg"), pytest.param(r"(.*?,){25}P", "1," * 60, marks=pytest.mark.thorough)],
)
def test_what_searches_without_end_is_ended_in_every_thread(pattern, path) -> None:
    with pytest.raises(UsageError, match=r"was still searching in .* after a second") as caught:
        PathPattern(pattern, example="").search(path)
    assert pattern in caught.value.what
    (error,) = search_in_a_thread(PathPattern(pattern, example=""), path)
    assert str(error) == str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [(r"(a+)+$", "a" * 60 + "!"), (r"^(([a-z])+.)+[A-Z]([a-z])+$", "a" * 90), ("a*" * 30 + "b", "a" * 60)],
)
def test_what_would_keep_pythons_own_busy_for_ever_is_found_at_once(pattern, path) -> None:
    assert PathPattern(pattern, example="").search(path) is None


@pytest.mark.parametrize("pattern", ["(?R)", "(?P<a>x(?&a)?)", "(?1)(a)", "(?:abc){e<=8}(?<=a+)"])
def test_only_what_python_knows_is_a_pattern(pattern) -> None:
    with pytest.raises(UsageError, match="is not a regular expression"):
        PathPattern(pattern, example="")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [*"ab/._", r"\d", r"\w", ".", "[^/]", "(?P<x>a|b)", "(a)", "a?", "b*?", "a+", "^", "$", "(?i)", "|"]
        ),
        max_size=8,
    ).map("".join),
    st.text("aAbB/._12ё\n", max_size=12),
)
def test_what_is_found_is_what_python_finds(pattern, path) -> None:
    try:
        expected = re.search(pattern, path)
    except re.error:
        return
    found = PathPattern(pattern, example="").search(path)
    assert found == (expected.groupdict() if expected else None)


@pytest.mark.parametrize("command", ["prepare-data", "index-gallery"])
def test_commands_end_in_two_lines(world, make_image, tmp_path, monkeypatch, command) -> None:
    monkeypatch.chdir(world)
    make_image(tmp_path / "crops" / f"{'a' * 80}!.jpg")
    words = {
        "prepare-data": ("regex", tmp_path / "crops", "--out", tmp_path / "out"),
        "index-gallery": (tmp_path / "crops", "--gallery", tmp_path / "gallery", "--set", "gallery.export=false"),
    }
    outcome = sil(command, *words[command], "--pattern", ENDLESS.replace("$", "[.]"))
    assert (outcome.code, outcome.out) == (2, "")
    assert "was still searching in " + "a" * 80 + "!.jpg after a second" in outcome.error
    assert not Path(tmp_path / "out/manifest.jsonl").exists()
