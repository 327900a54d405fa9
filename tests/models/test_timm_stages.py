"""timm's models in stages: a style sees whole maps, once a pass, or the model is refused when it is built."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from sil_cli.errors import UsageError
from sil_cli.models.backbones import timm_net
from sil_cli.models.backbones.timm_net import MapLayout, TimmBackbone, find_layout
from sil_cli.models.embedder import Embedder, load_embedder, save_model
from sil_cli.models.record import Architecture

timm = pytest.importorskip("timm")

of_new_timm = pytest.mark.skipif(
    tuple(map(int, timm.__version__.split(".")[:3])) < (1, 0, 30), reason="older ones don't list these models' stages"
)
NET = SimpleNamespace(num_prefix_tokens=1)


def build(name: str, height: int = 64, width: int = 32) -> TimmBackbone:
    torch.manual_seed(3)
    return TimmBackbone(name, height=height, width=width)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        pytest.param(  # a list of modules, which is never called
            "coat_lite_tiny", r"stage 1 of it \(timm's 'serial_blocks1'\)", marks=of_new_timm
        ),
        ("twins_pcpvt_small", r"stage 1 of it \(timm's 'block.0'\)"),  # there is no such module
        ("hrnet_w18_small", "can't be taken in stages"),  # maps of several sizes at once
        ("tnt_s_patch16_224", "can't be taken in stages"),  # pairs of tokens
        ("volo_d1_224", "has tokens in it that are not patches"),  # a class token that timm doesn't tell of
    ],
)
def test_a_model_that_a_style_could_not_see_is_refused(name: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as raised:
        build(name)
    assert "another backbone" in raised.value.fix


@pytest.mark.parametrize(
    ("name", "grids"),
    [
        pytest.param("xcit_nano_12_p16_224", [(4, 2)] * 4, marks=of_new_timm),  # class tokens join after the last stage
        pytest.param("cait_xxs24_224", [(4, 2)] * 4, marks=of_new_timm),
        ("vit_small_patch16_dinov3", [(4, 2)] * 4),  # five prefix tokens
        ("levit_128s", [(4, 2), (2, 1), (1, 1)]),
        ("swin_tiny_patch4_window7_224", [(16, 8), (8, 4), (4, 2), (2, 1)]),
    ],
)
def test_a_style_sees_all_patches_once_and_nothing_else(name: str, grids: list[tuple[int, int]]) -> None:
    backbone = build(name).eval()
    seen: list[torch.Size] = []

    def style(features: torch.Tensor) -> torch.Tensor:
        seen.append(features.shape)
        return features

    images = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        styled = backbone(images, style=style, after_stages=range(1, backbone.stages + 1))
        torch.testing.assert_close(styled, backbone(images))
    assert [tuple(shape[2:]) for shape in seen] == grids
    assert tuple(styled.shape) == (2, backbone.channels, *grids[-1])


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("resnet18", ["layer1", "layer2", "layer3", "layer4"]),
        ("tresnet_m", ["body.layer1", "body.layer2", "body.layer3", "body.layer4"]),
        ("mobilenetv4_conv_small", ["blocks.0", "blocks.1", "blocks.2", "blocks.4"]),
        ("regnety_002", ["s1", "s2", "s3", "s4"]),
        ("vit_tiny_patch16_224", ["blocks.2", "blocks.5", "blocks.8", "blocks.11"]),
    ],
)
@torch.no_grad()
def test_the_stem_is_no_stage(name: str, modules: list[str]) -> None:
    backbone = build(name).eval()
    passed: list[str] = []
    for path in modules:
        backbone.net.get_submodule(path).register_forward_hook(lambda *_, path=path: passed.append(path))

    def style(features: torch.Tensor) -> torch.Tensor:
        passed.append("style")
        return features

    assert backbone.stages == len(modules)
    for stage in range(1, len(modules) + 1):
        passed.clear()
        backbone(torch.randn(1, 3, 64, 32), style=style, after_stages=(stage,))
        assert passed == [*modules[:stage], "style", *modules[stage:]]


def test_looking_at_a_model_leaves_it_and_the_random_state_as_they_were(monkeypatch) -> None:
    create = timm.create_model

    def with_noise(*args, **options):
        net = create(*args, **options)
        net.layer1.eval()
        net.conv1.register_forward_hook(lambda module, inputs, output: output + torch.rand_like(output))
        return net

    monkeypatch.setattr(timm, "create_model", with_noise)
    backbone = build("resnet18")
    drawn = torch.rand(1)
    torch.manual_seed(3)
    fresh = create("resnet18", pretrained=False, num_classes=0)
    assert torch.equal(drawn, torch.rand(1))
    assert backbone.net.training
    assert not any(module.training for module in backbone.net.layer1.modules())
    assert backbone.net.layer2.training
    assert not any(module._forward_hooks for name, module in backbone.net.named_modules() if name != "conv1")
    for key, value in backbone.net.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[key]), key


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 96, 8, 4), MapLayout()),
        ((1, 8, 4, 96), MapLayout(channels_last=True)),
        ((1, 32, 96), MapLayout(grid=(8, 4))),
        ((1, 33, 96), MapLayout(grid=(8, 4), prefix=1)),
        ((1, 34, 96), None),
        ((1, 31, 96), None),
        ((1, 32, 95), None),
        ((1, 95, 8, 4), None),
        ((1, 96, 32, 16), None),
        ((1, 96), None),
    ],
)
def test_a_layout_is_told_from_an_outputs_shape(shape: tuple[int, ...], expected: MapLayout | None) -> None:
    assert find_layout(torch.zeros(shape), net=NET, image=(64, 32), channels=96, reduction=8) == expected


def test_a_map_may_lack_what_convolutions_without_padding_take() -> None:
    inceptions = torch.zeros(1, 192, 60, 28)
    assert find_layout(inceptions, net=NET, image=(256, 128), channels=192, reduction=4) == MapLayout()


def test_a_list_of_maps_is_no_map() -> None:
    assert find_layout([torch.zeros(1, 96, 8, 4)], net=NET, image=(64, 32), channels=96, reduction=8) is None


def test_a_cube_is_read_as_the_network_says() -> None:
    cube, image = torch.zeros(1, 8, 8, 8), (64, 64)
    for last in (False, True):
        net = SimpleNamespace(output_fmt="NHWC" if last else "NCHW")
        assert find_layout(cube, net=net, image=image, channels=8, reduction=8) == MapLayout(channels_last=last)


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        (MapLayout(), (2, 5, 4, 2)),
        (MapLayout(channels_last=True), (2, 4, 2, 5)),
        (MapLayout(grid=(4, 2), prefix=3), (2, 11, 5)),
    ],
)
def test_a_map_goes_back_to_where_it_was(layout: MapLayout, shape: tuple[int, ...]) -> None:
    output = torch.randn(shape)
    found = layout.map_in(output)
    assert found.shape == (2, 5, 4, 2)
    assert torch.equal(layout.with_map(output, found), output)
    doubled = layout.with_map(output, found * 2)
    assert torch.equal(layout.map_in(doubled), found * 2)
    assert torch.equal(doubled[:, : layout.prefix], output[:, : layout.prefix])


def test_a_model_stored_when_the_stem_was_a_stage_embeds_as_it_did(tmp_path, monkeypatch) -> None:
    images = torch.rand(2, 3, 64, 32)
    with monkeypatch.context() as then:
        then.setattr(timm_net, "STEM_ENDS", 1)
        stored = Embedder(Architecture(backbone="timm:mobilenetv3_small_050", height=64, width=32)).eval()
        save_model(tmp_path, stored)
    with torch.no_grad():
        assert torch.equal(load_embedder(tmp_path)[0](images), stored(images))
