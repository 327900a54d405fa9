"""Several sources in one pass are as good as a pass for each: batch norm takes each of them alone."""

import contextlib
import copy

import pytest
import torch
from torch import nn

from sil_cli.models.embedder import Embedder
from sil_cli.models.record import Architecture
from sil_cli.training.per_domain_norm import norms_apart

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


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("part", [slice(None), slice(2, 5)], ids=["whole", "part of the channels"])
def test_writing_to_its_place_changes_no_bit(kind, layout, part) -> None:
    torch.manual_seed(0)
    maps = torch.randn(sum(SIZES), 6, 4, 2).to(kind).to(memory_format=layout)[:, part]
    gradient = torch.randn(maps.shape).to(kind).to(memory_format=layout)
    channels = maps.shape[1]
    norm = nn.BatchNorm2d(channels).to(torch.float32 if kind == torch.bfloat16 else kind)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
    theirs, mine = copy.deepcopy(norm), norm
    wanted_from, found_from = maps.detach().requires_grad_(), maps.detach().requires_grad_()
    wanted = torch.cat([theirs(stretch) for stretch in wanted_from.split(SIZES)])
    with norms_apart(mine, SIZES):
        found = mine(found_from)
    assert torch.equal(found, wanted)
    assert found.is_contiguous(memory_format=layout)
    for maps_of, result in ((wanted_from, wanted), (found_from, found)):
        result.backward(gradient)
        assert maps_of.grad is not None
    assert torch.equal(found_from.grad, wanted_from.grad)
    assert torch.equal(mine.weight.grad, theirs.weight.grad)
    assert torch.equal(mine.bias.grad, theirs.bias.grad)
    for name, value in theirs.state_dict().items():
        assert torch.equal(value, mine.state_dict()[name]), name


def test_norms_without_statistics_and_in_eval_mode_are_as_ever() -> None:
    torch.manual_seed(0)
    maps = torch.randn(sum(SIZES), 3, 4, 2)
    for norm in (
        nn.BatchNorm2d(3, track_running_stats=False),
        nn.BatchNorm2d(3, affine=False),
        nn.BatchNorm2d(3).eval(),
    ):
        wanted = torch.cat([norm(stretch) for stretch in maps.split(SIZES)])
        again = copy.deepcopy(norm)
        with norms_apart(again, SIZES):
            assert torch.equal(again(maps), wanted)
