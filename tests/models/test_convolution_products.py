"""Convolutions as matrix products: the same numbers, and only where they pay."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_network import tiny_embedder
from torch import nn

from sil_cli.models.convolution_products import (
    CHANNELS,
    LEAST_PIXELS,
    MOST_PIXELS,
    ProductConv2d,
    multiply_where_quicker,
)
from sil_cli.models.embedder import Embedder
from sil_cli.models.record import Architecture

SIZES = st.integers(1, 5)


def convolved(layer: nn.Conv2d, images: torch.Tensor) -> list[torch.Tensor]:
    """The result, and the gradients of half its squared norm."""
    images = images.clone().requires_grad_()
    found = layer(images)
    return [found.detach(), *torch.autograd.grad(found, [images, *layer.parameters()], grad_outputs=found.detach())]


@settings(deadline=None)
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
    multiply_where_quicker(layer)
    assert type(layer) is ProductConv2d
    for mine, theirs in zip(convolved(layer, given_images), wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("height", "multiplied"), [(MOST_PIXELS, True), (MOST_PIXELS + 1, False)])
def test_only_small_results_are_multiplied(height, multiplied, monkeypatch) -> None:
    layer = nn.Conv2d(2, 3, 3, padding=1)
    multiply_where_quicker(layer)
    convolutions = []
    monkeypatch.setattr(nn.Conv2d, "forward", lambda self, images: convolutions.append(images) or images)
    layer(torch.zeros(1, 2, height, 1))
    assert bool(convolutions) is not multiplied


def pixelwise(
    size: tuple[int, int], stride: tuple[int, int], channels: tuple[int, int] = (5, 7), **how
) -> tuple[nn.Conv2d, torch.Tensor]:
    torch.manual_seed(0)
    maps = torch.randn(2, channels[0], *size, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    return nn.Conv2d(*channels, 1, stride=stride, **how).double(), maps


@pytest.fixture
def convolutions(monkeypatch) -> list[tuple[int, ...]]:
    """What is convolved by torch, by the shapes of the maps."""
    shapes: list[tuple[int, ...]] = []
    usual = nn.Conv2d.forward
    monkeypatch.setattr(nn.Conv2d, "forward", lambda self, maps: shapes.append(tuple(maps.shape)) or usual(self, maps))
    return shapes


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 3)])
@pytest.mark.parametrize("size", [(16, 8), (33, 17), (35, 26)])
def test_a_kernel_of_one_pixel_gives_the_same_as_a_product(size, stride, bias, monkeypatch, convolutions) -> None:
    monkeypatch.setattr("sil_cli.models.convolution_products._suits_pixelwise", lambda *_: True)
    monkeypatch.setattr("sil_cli.models.convolution_products.LEAST_PIXELS", MOST_PIXELS + 1)
    layer, maps = pixelwise(size, stride, bias=bias)
    wanted = convolved(layer, maps)
    convolutions.clear()
    multiply_where_quicker(layer)
    found = convolved(layer, maps)
    assert convolutions == []
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-11)
    assert layer(maps).is_contiguous(memory_format=torch.channels_last)  # as the layers after it are quickest


WIDE = (CHANNELS, 2 * CHANNELS)


@pytest.mark.parametrize(
    ("height", "channels", "dtype", "layout", "multiplied"),
    [
        (LEAST_PIXELS, WIDE, torch.bfloat16, torch.channels_last, True),
        (LEAST_PIXELS - 1, WIDE, torch.bfloat16, torch.channels_last, False),
        (LEAST_PIXELS, (CHANNELS // 2, CHANNELS), torch.bfloat16, torch.channels_last, False),
        (LEAST_PIXELS, (CHANNELS, CHANNELS + 8), torch.bfloat16, torch.channels_last, False),
        (LEAST_PIXELS, WIDE, torch.float16, torch.channels_last, False),
        (LEAST_PIXELS, WIDE, None, torch.channels_last, False),
        (LEAST_PIXELS, WIDE, torch.bfloat16, torch.contiguous_format, False),
    ],
)
def test_pixels_are_multiplied_where_that_is_quicker(height, channels, dtype, layout, multiplied, convolutions) -> None:
    layer, maps = pixelwise((height, 2), (1, 2), channels)
    layer, maps = layer.float(), maps.float().contiguous(memory_format=layout)
    wanted = layer(maps)
    convolutions.clear()
    multiply_where_quicker(layer)
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        found = layer(maps)
    assert bool(convolutions) is not multiplied
    assert found.dtype == (dtype or torch.float32)
    torch.testing.assert_close(found.float(), wanted, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("more", [{"groups": 2}, {"dilation": 2}, {"padding": "same"}, {"padding_mode": "reflect"}])
def test_other_convolutions_are_left_alone(more) -> None:
    layer = nn.Conv2d(2, 2, 3, **{"padding": 1} | more)
    multiply_where_quicker(layer)
    assert type(layer) is nn.Conv2d


def test_no_value_is_no_small_map() -> None:
    """What a convolution refuses stays refused, in its words."""
    layer = nn.Conv2d(2, 2, 5)
    multiply_where_quicker(layer)
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
    multiply_where_quicker(embedder)
    assert any(isinstance(each, ProductConv2d) for each in embedder.modules())
    assert list(embedder.state_dict()) == names
    torch.testing.assert_close(embedder(images), wanted, rtol=0, atol=1e-10)
    torch.testing.assert_close(copy.deepcopy(embedder)(images), wanted, rtol=0, atol=1e-10)
