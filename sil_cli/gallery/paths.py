"""Where things lie in and beside a gallery's folder."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

VECTOR_FOLDER = "vectors"
SET_ASIDE_FOLDER = "set-aside"
"""Where `repair` and writers put files of vectors that nothing explains; `compact` deletes it."""

SUPERSEDED_MARK = "superseded"
"""Lies in a gallery whose place a rebuilt one is taking."""


def rebuilding_folder(folder: Path) -> Path:
    """Where a rebuilt gallery grows; in the same parent, so that relative paths mean the same in both."""
    whole = folder.resolve()
    return whole.with_name(f".{whole.name}.rebuilding")


def delete_superseded(folder: Path) -> None:
    """Delete the gallery whose place a rebuilt one took; call it as the only writer of `folder`.

    It is renamed first: half deleted, it would be nothing that anybody knows, with people's vectors in it.
    """
    beside = rebuilding_folder(folder)
    dying = beside.with_name(f"{beside.name.removesuffix('.rebuilding')}.superseded")
    shutil.rmtree(dying, ignore_errors=True)
    if (beside / SUPERSEDED_MARK).exists():
        beside.rename(dying)
        shutil.rmtree(dying, ignore_errors=True)
    (folder / SUPERSEDED_MARK).unlink(missing_ok=True)
