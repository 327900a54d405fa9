"""The learning rate at the paper's epochs."""

import pytest

from sil_cli.training.schedule import learning_rate

PAPER = {"base": 3.5e-4, "warmup_epochs": 10, "warmup_factor": 0.1, "milestones": (30, 50), "decay": 0.1}


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0, 3.5e-5),
        (5, 3.5e-4 * 0.55),
        (10, 3.5e-4),
        (29, 3.5e-4),
        (30, 3.5e-5),
        (49, 3.5e-5),
        (50, 3.5e-6),
        (69, 3.5e-6),
    ],
)
def test_the_papers_schedule(epoch: int, expected: float) -> None:
    assert learning_rate(epoch, **PAPER) == pytest.approx(expected, rel=1e-12)


def test_no_warmup_and_no_milestones_is_constant() -> None:
    plain = {"base": 1.0, "warmup_epochs": 0, "warmup_factor": 0.1, "milestones": (), "decay": 0.1}
    assert [learning_rate(epoch, **plain) for epoch in range(3)] == [1.0, 1.0, 1.0]
