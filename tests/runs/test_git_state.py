"""The commit that a run was started at."""

import os
import shutil
import subprocess

import pytest

from sil_cli.runs.git_state import GitState, git_state

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git(folder, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@needs_git
def test_commit(tmp_path) -> None:
    assert git_state(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert git_state(tmp_path) is None  # nothing is committed yet
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")
    (tmp_path / "runs").mkdir()
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_state(tmp_path / "runs") == GitState(commit=commit, dirty=None)
    git(tmp_path, "pack-refs", "--all")
    assert git_state(tmp_path).commit == commit
    git(tmp_path, "checkout", "-q", "--detach")
    assert git_state(tmp_path).commit == commit


@needs_git
def test_commit_of_a_worktree(tmp_path) -> None:
    main, beside = tmp_path / "main", tmp_path / "beside"
    main.mkdir()
    git(main, "init", "-q")
    git(main, "commit", "-q", "--allow-empty", "-m", "first")
    git(main, "worktree", "add", "-q", "-b", "other/name", str(beside))
    git(beside, "commit", "-q", "--allow-empty", "-m", "second")
    assert git_state(beside).commit == git(beside, "rev-parse", "HEAD") != git_state(main).commit
    git(main, "pack-refs", "--all")
    assert git_state(beside).commit == git(beside, "rev-parse", "HEAD")


@needs_git
@pytest.mark.parametrize("trap_in", ["filter", "fsmonitor"])
def test_looking_starts_no_program_of_the_repository(tmp_path, trap_in) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-q", "-m", "first")
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\ncat\n")
    trap.chmod(0o755)
    if trap_in == "filter":
        (tmp_path / ".gitattributes").write_text("* filter=x\n")
        git(tmp_path, "config", "filter.x.clean", str(trap))
        (tmp_path / "file").write_text("two")  # git status hashes what has changed, through its filter
    else:
        git(tmp_path, "config", "core.fsmonitor", str(trap))
    assert git_state(tmp_path) is not None
    assert not (tmp_path / "sprung").exists()


def repository(folder, head: str = f"{COMMIT}\n"):
    (folder / ".git").mkdir()
    (folder / ".git/HEAD").write_text(head)
    return folder / ".git"


def test_git_need_not_be_installed(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    repository(tmp_path)
    assert git_state(tmp_path).commit == COMMIT


@pytest.mark.parametrize(
    "head",
    [
        "root:x:0:0\n",
        COMMIT[:-1],
        f"{COMMIT} and more",
        "ref: refs/heads/../../../secret",
        "ref: /etc/passwd",
        "ref: HEAD",
        "ref: refs/heads/a\0b",
        "ref: refs/heads/again",
        "0" * 5000,
    ],
)
def test_what_is_no_commit_is_not_kept(tmp_path, head) -> None:
    (tmp_path / "secret").write_text(COMMIT)
    own = repository(tmp_path, head)
    (own / "refs/heads").mkdir(parents=True)
    (own / "refs/heads/again").write_text("ref: refs/heads/again\n")
    assert git_state(tmp_path) is None


def test_links_pipes_and_what_is_endless_are_not_read(tmp_path) -> None:
    (tmp_path / "secret").write_text(COMMIT)
    for number, name in enumerate(["HEAD", "packed-refs", "commondir", "refs/heads/main"]):
        for kind in ("link", "pipe", "endless", "folder"):
            folder = tmp_path / f"{number}-{kind}"
            folder.mkdir()
            own = repository(folder, "ref: refs/heads/main\n")
            (own / "refs/heads").mkdir(parents=True)
            (own / name).unlink(missing_ok=True)
            if kind == "link":
                (own / name).symlink_to(tmp_path / "secret")
            elif kind == "pipe":
                os.mkfifo(own / name)
            elif kind == "endless":
                (own / name).symlink_to("/dev/zero")
            else:
                (own / name).mkdir()
            assert git_state(folder) is None, (name, kind)


@pytest.mark.parametrize("kind", ["link", "pipe", "sparse", "nowhere", "zero"])
def test_a_hostile_git_file_is_left_alone(tmp_path, kind) -> None:
    mark = tmp_path / ".git"
    if kind == "link":
        mark.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(mark)
    elif kind == "sparse":
        with mark.open("wb") as stream:
            stream.truncate(2**40)
    else:
        mark.write_text({"nowhere": "gitdir: /dev\n", "zero": "gitdir: a\0b\n"}[kind])
    assert git_state(tmp_path) is None


def test_runs_of_earlier_versions_say_whether_files_were_changed() -> None:
    assert GitState.model_validate({"commit": COMMIT, "dirty": True}).dirty is True
