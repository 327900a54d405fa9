"""Several sources in one pass are as good as a pass for each: batch norm takes each of them alone."""

import contextlib

import pytest
import torch
from torch import nn

from sil_cli.models.embedder import Embedder
from sil_cli.models.record import Architecture
from sil_cli.training.apart import norms_apart

SIZES = (3, 5, 4)


def embedder(backbone: str) -> Embedder:
    torch.manual_seed(0)
    return Embedder(Architecture(backbone=backbone, height=64, width=32)).double().train()


@pytest.mark.parametrize("backbone", ["resnet18", "resnet18-ibn-a", "osnet_x0_25", "mobilenet_v3_large"])
def test_one_pass_is_a_pass_for_each(backbone) -> None:
    apart, alone = embedder(backbone), embedder(backbone)
    for model in (apart, alone):
        for module in model.modules():
            if isinstance(module, nn.Dropout):  # draws for a whole batch are others than for its parts
                module.p = 0.0
    images = torch.rand(sum(SIZES), 3, 64, 32, dtype=torch.float64)
    with norms_apart(apart, SIZES):
        found = apart(images)
    wanted = torch.cat([alone(part) for part in images.split(SIZES)])
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)
    weights = torch.rand(found.shape, dtype=found.dtype)
    for embeddings in (found, wanted):
        (embeddings * weights).sum().backward()
    for mine, theirs in zip(apart.parameters(), alone.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-7, atol=1e-8)
    for (name, mine), theirs in zip(apart.state_dict().items(), alone.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


def test_norms_are_themselves_again_afterwards() -> None:
    norm = nn.BatchNorm2d(2)
    images = torch.rand(5, 2, 3, 3)
    together = norm(images)
    with contextlib.suppress(ZeroDivisionError), norms_apart(norm, (2, 3)):
        assert not torch.allclose(norm(images), together)
        raise ZeroDivisionError
    assert torch.equal(norm(images), together)
    assert "forward" not in vars(norm)


def test_one_source_needs_nothing() -> None:
    norm = nn.BatchNorm1d(2)
    with norms_apart(norm, (4,)):
        assert "forward" not in vars(norm)
