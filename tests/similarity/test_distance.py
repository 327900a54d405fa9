from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sil_cli.errors import DataError
from sil_cli.similarity.distance import cosines, mean_direction, product_margin, unit_rows


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dimension", [1, 3, 64, 2049])
def test_unit_rows_have_length_one_and_keep_their_direction(dtype, dimension):
    rows = np.random.default_rng(0).standard_normal((50, dimension)).astype(dtype) * 7
    units = unit_rows(rows)
    assert units.dtype == dtype
    assert units.flags.c_contiguous
    accuracy = 8 * float(np.finfo(dtype).eps)
    assert np.linalg.norm(units.astype(np.float64), axis=1) == pytest.approx(np.ones(50), abs=accuracy)
    expected = rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    assert units == pytest.approx(expected, abs=accuracy)


@pytest.mark.parametrize(
    ("dtype", "scale"), [(np.float32, 1e-44), (np.float32, 3e38), (np.float64, 1e-320), (np.float64, 1e308)]
)
def test_lengths_neither_overflow_nor_vanish(dtype, scale):
    rows = np.array([[scale, scale], [scale, 0]], dtype=dtype)
    half = 0.5**0.5
    assert unit_rows(rows) == pytest.approx(np.array([[half, half], [1, 0]]), abs=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(dimension=st.integers(1, 400), count=st.integers(1, 300), seed=st.integers(0, 2**16))
def test_a_row_gives_the_same_bits_alone_and_among_others(dtype, dimension, count, seed):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, dimension)).astype(dtype)
    at = int(rng.integers(count))
    units = unit_rows(rows)
    assert (unit_rows(rows[at : at + 1])[0] == units[at]).all()
    scores = cosines(units[0], units)
    assert cosines(units[0], units[at : at + 1])[0] == scores[at]
    assert cosines(units[0], units[::-1])[::-1].tolist() == scores.tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dimension", [2, 17, 512, 2048])
def test_the_margin_covers_the_error_of_a_matrix_product(dtype, dimension):
    rng = np.random.default_rng(1)
    rows = unit_rows((rng.standard_normal((300, dimension)) + 1).astype(dtype))  # alike: large partial sums
    for queries in (rows[:1], rows[:37], rows):
        error = np.abs((queries @ rows.T) - np.array([cosines(one, rows) for one in queries])).max()
        assert error <= product_margin(dimension, rows.dtype) / 2


def test_unusable_rows_are_counted_and_the_first_is_named():
    rows = np.ones((10, 4), dtype=np.float32)
    rows[3, 1] = np.nan
    rows[7, 0] = -np.inf
    with pytest.raises(DataError, match=r"2 of 10 query embeddings hold NaN .* row 3\)"):
        unit_rows(rows, what="query")
    rows[[3, 7]] = 1
    rows[[5, 6]] = 0
    with pytest.raises(DataError, match=r"2 of 10 query embeddings are all zeros .* row 5\)"):
        unit_rows(rows, what="query")


@pytest.mark.parametrize("rows", [np.ones(4, np.float32), np.ones((2, 0), np.float32), np.ones((2, 3), np.int64)])
def test_what_is_no_matrix_of_floats_is_refused(rows):
    with pytest.raises(DataError, match="shape"):
        unit_rows(rows)


def test_a_single_vector_is_its_own_mean_and_opposites_have_none():
    one = np.array([[0.6, 0.8]], dtype=np.float32)
    assert mean_direction(one).tobytes() == one[0].tobytes()
    np.testing.assert_array_equal(mean_direction(np.concatenate([one, -one])), one[0])
