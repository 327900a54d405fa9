"""The commit that a run was started at."""

import shutil
import subprocess

import pytest

from sil_cli.runs.git_state import git_state

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@needs_git
def test_commit_and_dirt(tmp_path) -> None:
    assert git_state(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert git_state(tmp_path) is None  # nothing is committed yet
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "first")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/new").write_text("git does not track this")
    state = git_state(tmp_path / "runs")
    assert state.commit == git(tmp_path, "rev-parse", "HEAD")
    assert not state.dirty
    (tmp_path / "file").write_text("two")
    assert git_state(tmp_path).dirty


@needs_git
def test_looking_starts_no_program_of_the_repository(tmp_path) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    git(tmp_path, "config", "core.fsmonitor", str(trap))
    assert git_state(tmp_path) is not None
    assert not (tmp_path / "sprung").exists()


def test_no_git_is_fine(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) is None
