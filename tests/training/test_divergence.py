"""What counts as a diverged loss, and as a number."""

import pytest
import torch

from sil_cli.training.divergence import first_not_finite, has_diverged


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([9.0, 9.5, 9.9], True),
        ([1.0, 9.0, 9.0, 9.0], True),
        ([9.0, 9.5, 8.95], True),  # hardly lower than three epochs ago
        ([9.0, 9.0], False),  # too early to say
        ([9.0, 8.0, 7.0], False),  # it falls
        ([9.0, 3.9, 9.0], False),  # one was near chance
        ([4.0, 4.0, 4.0], False),  # twice chance is not above twice chance
        ([9.0, 9.0, 9.0, 2.0, 1.0], False),  # that was long ago
        ([], False),
    ],
)
def test_three_epochs_far_above_chance_that_do_not_fall(losses, expected) -> None:
    assert has_diverged(losses, chance=2.0, factor=2.0) is expected
    assert not has_diverged(losses, chance=2.0, factor=0.0)


def test_the_first_tensor_that_is_not_finite_is_named() -> None:
    whole = {"count": torch.tensor(3), "weight": torch.ones(2, 2), "empty": torch.ones(0)}
    assert first_not_finite({}) is None
    assert first_not_finite({"count": torch.tensor(3)}) is None
    assert first_not_finite(whole) is None
    broken = torch.tensor([1.0, float("inf")])
    assert first_not_finite(whole | {"mean": broken, "later": broken * 0}) == "mean"
