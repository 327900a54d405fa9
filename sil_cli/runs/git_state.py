"""Which commit the working folder is at."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 10


class GitState(BaseModel):
    """A repository as it was.

    Attributes:
        commit: Its hash.
        dirty: Files that git tracks were changed since.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    commit: str
    dirty: bool


def git_state(folder: Path) -> GitState | None:
    """The state of the repository that `folder` lies in; None where there is no repository, no commit or no git."""
    try:
        commit = _git(folder, "rev-parse", "--verify", "HEAD")
        changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return GitState(commit=commit, dirty=bool(changes))


def _git(folder: Path, *arguments: str) -> str:
    # A repository may name programs that git runs (fsmonitor); looking at a state must not start them, nor take locks.
    command = ["git", "-c", "core.fsmonitor=false", *arguments]
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    done = subprocess.run(  # noqa: S603 - the arguments are fixed
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=True
    )
    return done.stdout.strip()
