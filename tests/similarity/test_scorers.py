"""Products stay within their bound of the exact scores, which depend on the two rows alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sil_cli.errors import DataError
from sil_cli.similarity.scorers import make_scorer


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["cosine", "euclidean"]),
    st.sampled_from([np.float32, np.float64]),
    st.integers(1, 600),
    st.sampled_from([0.0, 1.0, 30.0]),
    st.sampled_from([1e-30, 1.0, 1e20]),
    st.integers(0, 2**16),
)
def test_a_product_is_within_its_error_of_the_exact_scores(metric, dtype, dimension, offset, scale, seed):
    rng = np.random.default_rng(seed)
    one, other = (((rng.standard_normal((count, dimension)) + offset) * scale).astype(dtype) for count in (3, 20))
    scorer = make_scorer(metric, one, other)
    queries, gallery = scorer.operand(one), scorer.operand(other)
    exact = np.array([scorer.exact(row, gallery.rows) for row in queries.rows])
    low, high = scorer.limits
    assert ((exact >= low * (1 + 1e-6)) & (exact <= high + 1e-6)).all()
    for left, right in ((queries, gallery), (queries.widened, gallery.widened)):
        scores, errors = scorer.product(left, right)
        assert (np.abs(scores.astype(np.float64) - exact) <= errors[:, None]).all()
        assert (errors <= 1e-3 * abs(low)).all()  # a bound that says nothing would pass too


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_exact_scores_are_the_plain_sums(metric):
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal((1, 70)), rng.standard_normal((5, 70))
    scorer = make_scorer(metric, one, other)
    found = scorer.exact(scorer.operand(one).rows[0], scorer.operand(other).rows)
    if metric == "cosine":
        expected = [(one[0] @ row) / np.linalg.norm(one[0]) / np.linalg.norm(row) for row in other]
    else:
        expected = [-sum((a - b) ** 2 for a, b in zip(one[0], row, strict=True)) for row in other]
    assert found == pytest.approx(np.array(expected), abs=1e-12)


def test_zero_rows_have_no_cosine():
    rows = np.array([[0.0, 0.0], [1.0, 0.0]])
    make_scorer("euclidean", rows, rows)
    with pytest.raises(DataError, match="1 of 2 query embeddings are all zeros"):
        make_scorer("cosine", rows, rows)
