"""Random tests of evaluation, and its rules word by word."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import strategies as st

from sil_cli.evaluation.pairs import EmbeddingSet
from sil_cli.similarity.distance import unit_rows


def slow_score(metric: str, left: np.ndarray, right: np.ndarray) -> float:
    if metric == "cosine":
        return (left.astype(np.float64) * right.astype(np.float64)).sum()
    return -np.square(left.astype(np.float64) - right.astype(np.float64)).sum()


def slow_pairs(query: EmbeddingSet, gallery: EmbeddingSet, metric: str) -> dict[int, list[tuple[float, int, bool]]]:
    """For each query that isn't junk: (score, gallery position, same person) of every pair that counts."""
    listed = {}
    left, right = query.embeddings, gallery.embeddings
    if metric == "cosine":
        left, right = unit_rows(left), unit_rows(right)
    for q in range(len(query)):
        if query.junk is not None and query.junk[q]:
            continue
        listed[q] = []
        for g in range(len(gallery)):
            if gallery.junk is not None and gallery.junk[g]:
                continue
            if query.keys is not None and gallery.keys is not None and query.keys[q] == gallery.keys[g]:
                continue
            same = query.identities[q] == gallery.identities[g]
            if same and query.cameras[q] is not None and query.cameras[q] == gallery.cameras[g]:
                continue
            listed[q].append((slow_score(metric, left[q], right[g]), g, bool(same)))
    return listed


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dimension = draw(st.sampled_from([1, 2, 3, 16]))
    identities = draw(st.integers(1, 4))
    cameras = draw(st.sampled_from([0, 1, 3]))
    values = draw(st.sampled_from(["ties", "few", "smooth", "near"]))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    junk_share = draw(st.sampled_from([0.0, 0.3, 1.0]))
    shared, numbered = draw(st.booleans()), draw(st.booleans())
    pool = rng.standard_normal((3, dimension))

    def side(count):
        if values == "ties":
            rows = rng.integers(1, 3, size=(count, dimension)).astype(np.float64)
        elif values == "few":
            rows = pool[rng.integers(3, size=count)]
        else:
            rows = rng.standard_normal((count, dimension))
            if values == "near":  # scores that a float32 product can't tell apart
                rows = 1 + rows * 1e-5
        names = rng.integers(identities, size=count)
        names = names if numbered else [f"p{one}" for one in names]
        seen_by = [f"c{one}" if cameras else None for one in rng.integers(max(cameras, 1), size=count)]
        seen_by = [None if rng.random() < 0.1 else one for one in seen_by]
        junk = (rng.random(count) < junk_share).tolist()
        keys = [f"k{one}" for one in rng.integers(20, size=count)]
        return EmbeddingSet(rows.astype(dtype), names, seen_by, junk, keys if shared else None)

    gallery = side(draw(st.integers(1, 40)))
    query = dataclasses.replace(side(draw(st.integers(1, 6))), junk=None)
    return query, gallery
