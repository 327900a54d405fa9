"""Convolutions over few pixels as one matrix product: the same numbers, and only where they pay."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_network import tiny_embedder
from torch import nn

from sil_cli.models.embedder import Embedder
from sil_cli.models.record import Architecture
from sil_cli.models.small_maps import MOST_PIXELS, SmallMapConv2d, multiply_small_maps

SIZES = st.integers(1, 5)


def convolved(layer: nn.Conv2d, images: torch.Tensor) -> list[torch.Tensor]:
    """The result, and the gradients of half its squared norm."""
    images = images.clone().requires_grad_()
    found = layer(images)
    return [found.detach(), *torch.autograd.grad(found, [images, *layer.parameters()], grad_outputs=found.detach())]


@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    size=st.tuples(SIZES, SIZES),
    images=st.integers(1, 3),
    bias=st.booleans(),
)
def test_result_and_gradients_are_those_of_the_convolution(kernel, stride, padding, size, images, bias) -> None:
    if any(edge + 2 * around < length for edge, around, length in zip(size, padding, kernel, strict=True)):
        return  # there is no result
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, kernel, stride=stride, padding=padding, bias=bias).double()
    given_images = torch.randn(images, 2, *size, dtype=torch.float64)
    wanted = convolved(layer, given_images)
    multiply_small_maps(layer)
    assert type(layer) is SmallMapConv2d
    for mine, theirs in zip(convolved(layer, given_images), wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("height", "multiplied"), [(MOST_PIXELS, True), (MOST_PIXELS + 1, False)])
def test_only_small_results_are_multiplied(height, multiplied, monkeypatch) -> None:
    layer = nn.Conv2d(2, 3, 3, padding=1)
    multiply_small_maps(layer)
    convolutions = []
    monkeypatch.setattr(nn.Conv2d, "forward", lambda self, images: convolutions.append(images) or images)
    layer(torch.zeros(1, 2, height, 1))
    assert bool(convolutions) is not multiplied


@pytest.mark.parametrize("more", [{"groups": 2}, {"dilation": 2}, {"padding": "same"}, {"padding_mode": "reflect"}])
def test_other_convolutions_are_left_alone(more) -> None:
    layer = nn.Conv2d(2, 2, 3, **{"padding": 1} | more)
    multiply_small_maps(layer)
    assert type(layer) is nn.Conv2d


def test_no_value_is_no_small_map() -> None:
    """What a convolution refuses stays refused, in its words."""
    layer = nn.Conv2d(2, 2, 5)
    multiply_small_maps(layer)
    with pytest.raises(RuntimeError, match="Kernel size"):
        layer(torch.zeros(1, 2, 3, 3))


@pytest.mark.parametrize(
    "make", [tiny_embedder, lambda: Embedder(Architecture(backbone="resnet18", height=64, width=32))]
)
def test_a_whole_network_embeds_as_before(make) -> None:
    torch.manual_seed(0)
    embedder = make().double().eval()
    images = torch.rand(3, 3, embedder.architecture.height, embedder.architecture.width, dtype=torch.float64)
    wanted = embedder(images)
    names = list(embedder.state_dict())
    multiply_small_maps(embedder)
    assert any(isinstance(each, SmallMapConv2d) for each in embedder.modules())
    assert list(embedder.state_dict()) == names
    torch.testing.assert_close(embedder(images), wanted, rtol=0, atol=1e-10)
    torch.testing.assert_close(copy.deepcopy(embedder)(images), wanted, rtol=0, atol=1e-10)
