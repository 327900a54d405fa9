"""Which commit the working folder is at, found without git.

The folder may be a stranger's. Git runs the programs that a repository's configuration and attributes name (filters,
fsmonitor, hooks), `git status` among the rest; so its files are read here, and nothing is run.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from sil_cli.files import open_no_link

if TYPE_CHECKING:
    from pathlib import Path

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_LONGEST = 4096  # bytes of a file that holds a path, a reference or a commit
_MOST_PACKED = 16_000_000  # bytes of packed-refs, some 200,000 references
_MOST_STEPS = 5  # from reference to reference, as many as git takes


class GitState(BaseModel):
    """A repository as it was.

    Attributes:
        commit: Its hash.
        dirty: Whether files that git tracks had been changed; None where that is unknown. Earlier versions recorded it,
            by running git.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    commit: str
    dirty: bool | None = None


def git_state(folder: Path) -> GitState | None:
    """The state of the repository that `folder` lies in; None where there is none, no commit, or none that is read.

    Only plain files of a sensible size are read, and what they say is taken for a commit only where it looks like one.
    References kept as a reftable are not read.
    """
    try:
        own = _repository(folder.absolute())
        commit = _commit(own) if own is not None else None
    except (OSError, ValueError):  # ValueError: no UTF-8, or a path with a zero byte
        return None
    return GitState(commit=commit) if commit is not None else None


def _repository(folder: Path) -> Path | None:
    """Where the HEAD of `folder` is kept: the next `.git` above, or where a worktree's `.git` file points."""
    for above in (folder, *folder.parents):
        mark = above / ".git"
        if not os.path.lexists(mark):
            continue
        if mark.is_dir() and not mark.is_symlink():
            return mark
        name, _, target = _text(mark).partition(":")
        return above / target.strip() if name == "gitdir" else None
    return None


def _commit(own: Path) -> str | None:
    common = own
    if os.path.lexists(own / "commondir"):  # of a worktree, whose branches the main repository keeps
        common = own / _text(own / "commondir")
    reference = "HEAD"
    for _ in range(_MOST_STEPS):
        said = _reference(reference, own, common)
        if _COMMIT.fullmatch(said):
            return said
        mark, _, reference = said.partition(": ")
        if mark != "ref" or not reference.startswith("refs/") or ".." in reference:
            return None
    return None


def _reference(name: str, own: Path, common: Path) -> str:
    """What a reference says: a commit, `ref: ` and another, or "" where it isn't there."""
    for place in (own, common):
        if os.path.lexists(place / name):
            return _text(place / name)
    packed = common / "packed-refs"
    lines = _text(packed, _MOST_PACKED).splitlines() if os.path.lexists(packed) else []
    return next((line.removesuffix(f" {name}") for line in lines if line.endswith(f" {name}")), "")


def _text(path: Path, longest: int = _LONGEST) -> str:
    """The text of a plain file.

    Raises:
        OSError: It can't be read, or is a link, a pipe or a device.
        ValueError: It is longer, or not UTF-8.
    """
    with os.fdopen(open_no_link(path, os.O_RDONLY), "rb") as stream:
        content = stream.read(longest + 1)
    if len(content) > longest:
        raise ValueError("too long")
    return content.decode("utf-8").strip()
