"""One step down a loss: plain, and with the scaling that float16 needs; and how long steps are."""

import pytest
import torch

from sil_cli.settings import TrainSettings
from sil_cli.training.optimizer_step import OptimizerStep, learning_rate

RATE = 0.1


def weights() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))


def optimizer_step(weight: torch.nn.Parameter, half: torch.dtype | None) -> OptimizerStep:
    return OptimizerStep(torch.optim.SGD([weight], lr=RATE), half=half)


@pytest.mark.parametrize("half", [None, torch.bfloat16, torch.float16])
def test_a_step_is_the_optimisers_whatever_the_loss_is_scaled_by(half: torch.dtype | None) -> None:
    weight = weights()
    loss = optimizer_step(weight, half).take((weight * weight).sum())
    assert loss.item() == 14.0
    assert not loss.requires_grad
    torch.testing.assert_close(weight.detach(), torch.tensor([1.0, -2.0, 3.0]) * (1 - 2 * RATE))


def test_a_gradient_too_small_for_float16_arrives() -> None:
    """1e-6 · 0.01 is below float16's smallest number, 6e-8; without scaling it would be nothing."""
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    small = (weight.half() * 1e-6).float().sum() * 0.01
    optimizer_step(weight, torch.float16).take(small)
    assert weight.grad.item() == pytest.approx(1e-8, rel=0.1)
    plain = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer_step(plain, None).take((plain.half() * 1e-6).float().sum() * 0.01)
    assert plain.grad.item() == 0.0


def test_a_step_that_overflowed_is_left_out_and_the_factor_halved() -> None:
    weight = weights()
    down = optimizer_step(weight, torch.float16)
    before, factor = weight.detach().clone(), down.state()["scaler"]["scale"]
    down.take((weight * torch.tensor([1.0, float("inf"), 1.0])).sum())
    assert torch.equal(weight.detach(), before)
    assert down.state()["scaler"]["scale"] == factor / 2
    down.take(weight.sum())
    torch.testing.assert_close(weight.detach(), before - RATE)


def test_the_factor_is_part_of_the_state() -> None:
    weight, other = weights(), weights()
    down, again = optimizer_step(weight, torch.float16), optimizer_step(other, torch.float16)
    down.take((weight * float("inf")).sum())
    again.restore(down.state())
    assert again.state() == down.state()


PAPER = TrainSettings(learning_rate=3.5e-4, warmup_epochs=10, warmup_factor=0.1, milestones=(30, 50), decay=0.1)


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
    assert learning_rate(epoch, PAPER) == pytest.approx(expected, rel=1e-12)


def test_no_warmup_and_no_milestones_is_constant() -> None:
    plain = TrainSettings(learning_rate=1.0, warmup_epochs=0, milestones=())
    assert [learning_rate(epoch, plain) for epoch in range(3)] == [1.0, 1.0, 1.0]
