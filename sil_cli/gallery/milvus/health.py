"""Whether a gallery on Milvus is what it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sil_cli.gallery.local.health import Check
from sil_cli.gallery.milvus.expressions import EVERYTHING
from sil_cli.gallery.milvus.rows import KEY_FIELDS, VECTOR, candidate_ids, key_of

if TYPE_CHECKING:
    from sil_cli.gallery.milvus.generation import Generation

_NORM_ERROR = 1e-3


def check_generation(generation: Generation) -> list[Check]:
    """Look at every row: its id against its name, its vector, and that no name comes twice."""
    collection = generation.collection
    seen: set[tuple[int, int]] = set()
    rows = misplaced = doubled = bad = 0
    example = None
    for part in collection.parts(EVERYTHING, [*KEY_FIELDS, VECTOR]):
        vectors = np.array([row[VECTOR] for row in part], dtype=np.float64)
        good = np.abs(np.sqrt((vectors * vectors).sum(axis=1)) - 1.0) < _NORM_ERROR  # NaN compares false
        for row, is_unit in zip(part, good.tolist(), strict=True):
            candidates = candidate_ids(key_of(row))
            wrong = row["id"] not in candidates
            again = candidates in seen
            seen.add(candidates)
            rows, misplaced, doubled, bad = rows + 1, misplaced + wrong, doubled + again, bad + (not is_unit)
            if example is None and (wrong or again or not is_unit):
                example = row["id"]
    count = collection.count()
    such = f", such as entry {example}"
    index = collection.index_state()
    kind, _, _ = generation.index()
    built = str(index.get("index_type", "none"))
    return [
        Check("layout", True, f"collection {collection.name}, {collection.dimension} dimensions"),
        Check(
            "ids",
            not misplaced and not doubled,
            f"{misplaced:,} don't follow from their rows, {doubled:,} rows come twice{such}"
            if misplaced or doubled
            else "each follows from its row",
        ),
        Check("vectors", not bad, f"{bad:,} are not of length 1{such}" if bad else f"{rows:,} of length 1"),
        Check("entries", count == rows, f"{count:,} counted, {rows:,} read"),
        Check("index", built == kind.type, f"{built}, wished {kind}"),
    ]
