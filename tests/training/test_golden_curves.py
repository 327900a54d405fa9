"""The first 20 losses are those that are stored; `python tests/golden/curves.py` stores them anew."""

from itertools import pairwise

import pytest
from golden.curves import CURVES, STEPS, losses, stored

TOLERANCE = 5e-3
"""Relative. With SSE or AVX2 and one thread or two, the curves lie up to 4e-4 away: Adam amplifies rounding."""


@pytest.mark.parametrize("name", CURVES)
def test_the_curve_is_the_stored_one(name, world, tmp_path) -> None:
    assert len(stored(name)) == STEPS
    assert losses(name, world / "data", tmp_path) == pytest.approx(stored(name), rel=TOLERANCE)


def test_a_change_of_the_method_would_show() -> None:
    """The stored curves themselves move by far more than the tolerance from step to step."""
    for name in CURVES:
        curve = stored(name)
        steps = [abs(after / before - 1) for before, after in pairwise(curve)]
        assert sorted(steps)[STEPS // 2] > 10 * TOLERANCE
