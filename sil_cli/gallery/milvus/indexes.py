"""The kinds of index that a collection may have: those that can also be searched through to the end.

An inverted file searched in all of its cells looks at every row that a filter keeps, so it can be exact. A graph
(HNSW, DiskANN) can't: under a filter that keeps little it finds too few or the wrong ones, and nothing tells. Nor can
the inverted file of Milvus Lite 3.2: searched in all of its cells it found 98.75 % of the best ten among 5,000 vectors,
and 95.75 % of them under a filter that keeps half.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sil_cli.errors import GalleryError
from sil_cli.gallery.interface import AUTOMATIC, EXACT

_MOST_CELLS = 65_536
_INVERTED = re.compile(r"IVF(\d+),(Flat|SQ8)")


@dataclass(frozen=True)
class IndexKind:
    """A kind of index.

    Attributes:
        type: Milvus's name of it.
        cells: Of an inverted file; 0 where there are none and every search is exact.
    """

    type: str
    cells: int = 0

    def building(self) -> dict[str, int]:
        """Milvus's parameters to build it."""
        return {"nlist": self.cells} if self.cells else {}

    def searching(self, probed: int) -> dict[str, int]:
        """Milvus's parameters to search in so many cells."""
        return {"nprobe": max(1, min(probed, self.cells))} if self.cells else {}

    def efforts(self) -> list[int]:
        """Numbers of cells to try, each about half as much more than the one before."""
        efforts = [1]
        while efforts[-1] < self.cells:
            efforts.append(min(self.cells, max(efforts[-1] + 1, round(efforts[-1] * 1.5))))
        return efforts

    def __str__(self) -> str:
        """As a user would write it."""
        names = {"FLAT": EXACT, "IVF_FLAT": f"IVF{self.cells},Flat", "IVF_SQ8": f"IVF{self.cells},SQ8"}
        return names[self.type]


def index_kind(requested: str, *, lite: bool) -> IndexKind:
    """The index that is requested.

    Args:
        requested: `auto` or `exact`, which mean the same here, `IVFn,Flat` or `IVFn,SQ8`. Milvus 2.3 searches what it
            has not indexed yet through an index of its own of 16 cells, where an inverted file is asked for: right
            after 50,000 entries were added, recall@10 was 0.77. So such an index is nobody's default.
        lite: In a Milvus Lite file, which can only be searched exactly.

    Raises:
        GalleryError: It is another.
    """
    if requested in (EXACT, AUTOMATIC):
        return IndexKind("FLAT")
    if lite:
        raise GalleryError(
            f"A Milvus Lite file can't have the index '{requested}', with which filters could miss matches.",
            "Use auto or exact.",
        )
    found = _INVERTED.fullmatch(requested)
    if found is None or len(found[1]) > len(str(_MOST_CELLS)) or not 1 <= int(found[1]) <= _MOST_CELLS:
        raise GalleryError(
            f"A collection of Milvus can't have the index '{requested}', with which filters could miss matches.",
            "Use auto, exact, or an inverted file such as IVF1024,Flat or IVF4096,SQ8.",
        )
    return IndexKind("IVF_FLAT" if found[2] == "Flat" else "IVF_SQ8", int(found[1]))
