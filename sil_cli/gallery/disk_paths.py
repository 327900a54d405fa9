"""Entries that are named by where their files lie on the disk, rather than by their paths below their sources."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from sil_cli.gallery.ingest.source_paths import Placing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sil_cli.gallery.filters import Filter

_WILD = re.compile(r"[*?\[]")


def with_disk_paths(wanted: Filter, gallery: Path, sources: Sequence[str]) -> list[Filter]:
    """Filters one of which an entry must pass, so that a path may also be one from the working folder or a whole one.

    Args:
        wanted: Its `paths` are matched as they are, and as paths on the disk, whether the files are still there or not.
        gallery: The gallery's folder, which sources are relative to.
        sources: The gallery's.
    """
    alternatives = [wanted]
    if not wanted.paths:
        return alternatives
    placing = Placing(gallery, sources)
    whole = sorted({pattern for path in wanted.paths for pattern in _whole_patterns(path)})
    others = tuple((key, value) for key, value in wanted.metadata if key != "source")
    named = {value for key, value in wanted.metadata if key == "source"}
    for source in sources:
        if named and source not in named:
            continue
        root = os.path.join(placing.root_of(source), "")  # noqa: PTH118 -- with a slash at its end
        below = tuple(dict.fromkeys(rest for pattern in whole for rest in _below(pattern, root)))
        if below:
            alternatives.append(replace(wanted, paths=below, metadata=(*others, ("source", source))))
    return alternatives


def _whole_patterns(path: str) -> set[str]:
    """A path as whole patterns: as written, and with links in its folder followed; the name of a file is no pattern."""
    wild = None if os.path.lexists(path) else _WILD.search(path)
    cut = path.rfind("/", 0, wild.start() if wild else len(path)) + 1
    rest = path[cut:] if wild else _literally(path[cut:])
    folders = (os.path.abspath(path[:cut] or "."), os.path.realpath(path[:cut] or "."))  # noqa: PTH100
    return {_literally(os.path.join(folder, "")) + rest for folder in folders}  # noqa: PTH118


def _literally(text: str) -> str:
    """A pattern that nothing but this text matches."""
    return _WILD.sub(lambda found: f"[{found[0]}]", text)


def _below(pattern: str, root: str) -> Iterator[str]:
    """What is left of a whole pattern below a folder that its beginning matches; a `*` may reach into the folder."""
    for cut in range(1, len(pattern) + 1):
        if fnmatchcase(root, pattern[:cut]):
            yield pattern[cut:]
            if pattern[cut - 1] == "*":
                yield pattern[cut - 1 :]
