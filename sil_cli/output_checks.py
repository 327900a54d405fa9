"""What a command writes must not be what it reads: the only copy of a photograph may be at stake."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from sil_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


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


def state_of(path: Path) -> os.stat_result | None:
    """What lies at a path; None where nothing can be looked at."""
    try:
        return path.stat()
    except (OSError, ValueError):
        return None
