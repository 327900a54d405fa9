"""Looking at outputs before any work: they must not be what is read, and it must be possible to write them."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.errors import SilError, UsageError, one_line
from sil_cli.files import TEMPORARY_MARK

if TYPE_CHECKING:
    from collections.abc import Iterable


def refuse_overwriting(out: Path | None, inputs: Iterable[Path], *, option: str) -> None:
    """Refuse an output that is one of the files to be read, by whatever name or link; call it before any work.

    Args:
        out: Where is to be written; None, or what is no file yet, overwrites nothing.
        inputs: What is to be read; missing files are reported by whoever reads them.
        option: The one that names `out`.

    Raises:
        UsageError: It is one of them.
    """
    written = state_of(out) if out is not None else None
    if written is None or not stat.S_ISREG(written.st_mode):
        return
    for path in inputs:
        read = state_of(path)
        if read is not None and os.path.samestat(written, read):
            raise UsageError(
                f"{option} {out} would be written over {path}, which is to be read.",
                f"Name another file with {option} FILE.",
            )


def require_writable(out: Path, *, option: str) -> None:
    """Refuse an output that can't be written; call it before long work.

    An empty file is made, and removed again, where the output will lie: no other way tells of read-only file systems
    and of rights alike. What can't be replaced, such as a pipe or /dev/null, is left alone. A disk that fills up
    meanwhile is not foreseen.

    Args:
        out: A file, or a folder for files; what does not exist yet is made later.
        option: The one that names another place.

    Raises:
        SilError: It can't be written.
    """
    there = state_of(out)
    if there is not None and not (stat.S_ISREG(there.st_mode) or stat.S_ISDIR(there.st_mode)):
        return
    whole = Path(os.path.realpath(out))
    place = next(each for each in (whole, *whole.parents) if os.path.lexists(each))
    try:
        handle, name = tempfile.mkstemp(prefix=TEMPORARY_MARK, dir=place.parent if whole.is_file() else place)
        os.close(handle)
        Path(name).unlink()
    except OSError as error:
        raise SilError(f"{out} can't be written: {one_line(error)}.", f"Name another place with {option}.") from error


def state_of(path: Path) -> os.stat_result | None:
    """What lies at a path; None where nothing can be looked at."""
    try:
        return path.stat()
    except (OSError, ValueError):
        return None
