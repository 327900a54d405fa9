from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest
from commands import sil

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


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        (ENDLESS, "a" * 80 + ".jpg"),
        pytest.param(r"(a+)+$", "a" * 60 + "!", marks=pytest.mark.thorough),
        pytest.param(r"(.*?,){25}P", "1," * 60, marks=pytest.mark.thorough),
        pytest.param(r"^(([a-z])+.)+[A-Z]([a-z])+$", "a" * 90, marks=pytest.mark.thorough),
    ],
)
def test_what_searches_without_end_is_ended(pattern, path) -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(UsageError, match=r"was still searching in .* after a second") as caught:
        PathPattern(pattern, example="").search(path)
    assert pattern in caught.value.what
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_another_timer_goes_on() -> None:
    signal.setitimer(signal.ITIMER_REAL, 1000)
    try:
        PathPattern("x", example="").search("x")
        assert 900 < signal.getitimer(signal.ITIMER_REAL)[0] <= 1000
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def test_threads_can_search_too() -> None:
    found = []
    thread = threading.Thread(target=lambda: found.append(PathPattern("(?P<a>.)", example="").search("xy")))
    thread.start()
    thread.join()
    assert found == [{"a": "x"}]


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
