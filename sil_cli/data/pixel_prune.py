"""Removing pixel caches that nothing can use any more, without taking one from under a running process.

A process that has mapped a cache keeps its pages when the file's name goes, and one that was about to open it finds
none and builds it; so nothing has to be asked before a finished cache goes. An unfinished one is left alone while the
process that builds it lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING

from sil_cli.data.pixel_build import BUILDING_SUFFIX, JOURNAL_SUFFIX, remove_unfinished
from sil_cli.files import TEMPORARY_MARK, open_no_link, parse_json, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sil_cli.data.manifest import Dataset

UNUSED_AFTER = 30 * 24 * 3600.0
"""Seconds after which a cache of another size, or of a manifest that may live on elsewhere, is taken for forgotten."""

_ABANDONED_AFTER = 3600.0
"""Seconds after which a temporary file that nobody has written to was left by a killed run."""


def prune(dataset: Dataset, folder: Path, *, keep: Path) -> tuple[int, int]:
    """Remove the caches of a data set that are of no use.

    In the data set's own folder that is every cache of another manifest: that manifest is gone. In a folder that data
    sets share, and for caches of another size, it is those that nobody has opened for `UNUSED_AFTER`.

    Args:
        dataset: Its caches alone are looked at, told by the name in their `.json`.
        folder: Where caches are kept.
        keep: The cache in use.

    Returns:
        How many were removed, and how many bytes that freed.
    """
    own = folder.resolve().is_relative_to(dataset.folder.resolve())
    removed, freed = 0, 0
    for target in _targets(folder):
        if target == keep:
            continue
        gone = 0
        with contextlib.suppress(OSError):
            if _is_useless(target.with_suffix(".json"), dataset, own=own):
                gone += _remove(target)
            gone += _remove_if_dead(target, dataset, own=own)
        removed, freed = removed + bool(gone), freed + gone
    _clear_temporary(folder)
    return removed, freed


def mark_used(target: Path) -> None:
    """Note that a cache was opened just now, in the time of its `.json`."""
    with contextlib.suppress(OSError):  # it may be on a disk that can only be read
        os.utime(target.with_suffix(".json"), follow_symlinks=False)


def _targets(folder: Path) -> Iterator[Path]:
    """The names of all caches, finished or not."""
    seen = set()
    for suffix in (".json", JOURNAL_SUFFIX):
        for path in sorted(folder.glob(f"*{suffix}")):
            seen.add(path.with_name(path.name.removesuffix(suffix) + ".npy"))
    yield from sorted(seen)


def _is_useless(note: Path, dataset: Dataset, *, own: bool) -> bool:
    """Whether a finished cache is this data set's and can't be used, or is forgotten."""
    try:
        facts = parse_json(read_text(note))
    except (OSError, ValueError):
        return False
    if not isinstance(facts, dict) or facts.get("domain") != dataset.name or "shape" not in facts:
        return False
    forgotten = time.time() - note.stat().st_mtime > UNUSED_AFTER
    return forgotten or (own and facts.get("manifest_sha256") != dataset.info.manifest_sha256)


def _remove(target: Path) -> int:
    """Unlink a finished cache: its `.json` first, so that none is ever half there."""
    target.with_suffix(".json").unlink(missing_ok=True)
    size = target.stat().st_size if target.exists() else 0
    target.unlink(missing_ok=True)
    return size


def _remove_if_dead(target: Path, dataset: Dataset, *, own: bool) -> int:
    """Remove an unfinished cache that can't be gone on with and that nobody builds; returns the bytes freed."""
    journal, file = target.with_suffix(JOURNAL_SUFFIX), target.with_suffix(BUILDING_SUFFIX)
    try:
        facts = parse_json(read_text(journal).partition("\n")[0])["facts"]
        mine = facts["domain"] == dataset.name
        current = facts["manifest_sha256"] == dataset.info.manifest_sha256
    except (OSError, ValueError, LookupError, TypeError):
        return 0
    forgotten = time.time() - journal.stat().st_mtime > UNUSED_AFTER
    if not mine or not (forgotten or (own and not current)):
        return 0
    with os.fdopen(open_no_link(file, os.O_RDONLY), "rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        return remove_unfinished(target)


def _clear_temporary(folder: Path) -> None:
    """Delete what killed runs left half written; a run under way touches its file all the time."""
    for partial in folder.glob(f"{TEMPORARY_MARK}*"):
        with contextlib.suppress(OSError):
            if time.time() - partial.stat().st_mtime > _ABANDONED_AFTER:
                partial.unlink()
