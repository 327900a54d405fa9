"""Backbones in stages: the maps of the published networks, under the published names, with a style on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from sil_cli.errors import UsageError
from sil_cli.models.backbones import make_backbone
from sil_cli.models.backbones.names import MOBILES, NAMES, OSNETS, RESNETS, TOKEN_VITS
from sil_cli.models.backbones.osnet import OmniScaleBlock
from sil_cli.models.backbones.resnet import InstanceBatchNorm
from sil_cli.models.backbones.vit import POSITIONS, StagedViT, resized_positions
from sil_cli.models.record import Architecture
from sil_cli.settings.learning import ModelSettings

SMALL = ("resnet18", "resnet18-ibn-a", "osnet_x0_25", "mobilenet_v2", "efficientnet_b0")
TIMM = ("timm:resnet18", "timm:convnext_atto", "timm:vit_tiny_patch16_224", "timm:mobilenetv3_small_050")
SIZE = {"height": 64, "width": 32}


def thorough(name: str):
    return pytest.param(name, marks=pytest.mark.thorough)


def build(name: str, **options):
    torch.manual_seed(3)
    return make_backbone(Architecture(backbone=name, **(SIZE | options))).eval()


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 64, 32, generator=torch.Generator().manual_seed(5))


class Recording:
    """A style that keeps what it sees and doubles it."""

    def __init__(self, factor: float = 2.0) -> None:
        self.seen: list[torch.Tensor] = []
        self.factor = factor

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        self.seen.append(features.detach().clone())
        return features * self.factor


def every_other_doubled(features: torch.Tensor) -> torch.Tensor:
    """A style that no normalisation takes back."""
    factors = 1.0 + (torch.arange(features.shape[1]) % 2)
    return features * factors[:, None, None]


@pytest.mark.parametrize("name", [*SMALL, *TIMM])
@torch.no_grad()
def test_the_map_has_the_channels_that_it_says(name):
    backbone = build(name)
    maps = backbone(images())
    assert maps.shape[:2] == (2, backbone.channels)
    assert maps.shape[2] == 2 * maps.shape[3]
    assert maps.isfinite().all()


@pytest.mark.parametrize("name", [*SMALL, *TIMM])
@torch.no_grad()
def test_a_style_sits_after_the_stage_that_is_asked_for_and_nowhere_else(name):
    backbone = build(name)
    plain = backbone(images())
    shapes = []
    for stage in range(1, backbone.stages + 1):
        style = Recording(1.0)
        styled = backbone(
            images(), style=lambda features, seen=style: every_other_doubled(seen(features)), after_stages=(stage,)
        )
        assert len(style.seen) == 1
        assert style.seen[0].ndim == 4
        assert (styled - plain).abs().max() > 1e-3 * plain.abs().max()
        shapes.append(style.seen[0].shape[2])
        same = backbone(images(), style=Recording(1.0), after_stages=(stage,))
        torch.testing.assert_close(same, plain)
    assert shapes == sorted(shapes, reverse=True)
    both = Recording()
    backbone(images(), style=both, after_stages=(1, backbone.stages))
    assert len(both.seen) == 2
    torch.testing.assert_close(backbone(images()), plain)  # nothing stays hooked in


@torch.no_grad()
def test_what_a_later_stage_sees_is_what_the_style_gave():
    backbone = build("resnet18")
    first, second = Recording(3.0), Recording(1.0)

    def style(features):
        return (first if not first.seen else second)(features)

    backbone(images(), style=style, after_stages=(1, 2))
    expected = backbone.get_submodule("layer2")(first.seen[0] * 3.0)
    torch.testing.assert_close(second.seen[0], expected)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", *(thorough(name) for name in ("resnet34", "resnet101"))])
@torch.no_grad()
def test_a_resnet_is_torchvisions_to_the_last_bit(name):
    backbone = build(name, last_stride=2).train()
    torch.manual_seed(3)
    full = getattr(torchvision.models, name)(weights=None)
    drawn = {key: value for key, value in full.state_dict().items() if not key.startswith("fc.")}
    assert list(backbone.state_dict()) == list(drawn)
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, drawn[key]), key
    assert [str(layer) for layer in backbone.modules() if isinstance(layer, nn.Conv2d)] == [
        str(layer) for layer in full.modules() if isinstance(layer, nn.Conv2d)
    ]
    expected = nn.Sequential(*list(full.children())[:-2])(images())
    assert torch.equal(backbone(images()), expected)
    assert torch.equal(backbone.layer4[-1].bn2.running_var, full.layer4[-1].bn2.running_var)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name.endswith("v2_s") else ()) for name in MOBILES]
)
@torch.no_grad()
def test_a_mobile_network_is_torchvisions_and_its_stages_halve_the_map(name):
    full = getattr(torchvision.models, name)(weights=None).eval()
    backbone = build(name)
    backbone.load_state_dict(backbone.adapted(full.state_dict()))
    torch.testing.assert_close(backbone(images()), full.features(images()))
    heights = []
    for stage in range(1, 5):
        style = Recording()
        backbone(images(), style=style, after_stages=(stage,))
        heights.append(style.seen[0].shape[2])
    assert heights == [16, 8, 4, 2]


@pytest.mark.slow
@torch.no_grad()
def test_vit_is_torchvisions_at_its_own_size():
    full = torchvision.models.vit_b_16(weights=None).eval()
    backbone = make_backbone(Architecture(backbone="vit_b_16", height=224, width=224)).eval()
    backbone.load_state_dict(backbone.adapted(full.state_dict()))
    seen: list[torch.Tensor] = []
    full.encoder.register_forward_hook(lambda module, inputs, output: seen.append(output))
    batch = torch.randn(1, 3, 224, 224)
    full(batch)
    torch.testing.assert_close(backbone(batch).flatten(2).transpose(1, 2), seen[0][:, 1:])


def test_positions_are_interpolated_and_the_class_token_is_kept():
    positions = torch.arange(1 + 16.0).view(1, 17, 1)
    resized = resized_positions(positions, (8, 4))
    assert resized.shape == (1, 33, 1)
    assert resized[0, 0] == positions[0, 0]
    assert resized_positions(positions, (4, 4)) is positions
    constant = torch.full((1, 17, 2), 4.0)
    torch.testing.assert_close(resized_positions(constant, (8, 4)), torch.full((1, 33, 2), 4.0))


def test_positions_in_whole_numbers_are_left_to_who_refuses_them():
    backbone = StagedViT.__new__(StagedViT)  # without its 86 million parameters
    nn.Module.__init__(backbone)
    backbone.grid = (4, 2)
    positions = torch.ones(1, 17, 2, dtype=torch.int8)
    assert backbone.adapted({POSITIONS: positions})[POSITIONS] is positions
    assert backbone.adapted({POSITIONS: positions.float()})[POSITIONS].shape == (1, 9, 2)


def test_half_of_the_channels_are_normalised_for_each_image_alone():
    norm = InstanceBatchNorm(5)
    features = torch.randn(3, 5, 4, 2)
    with torch.no_grad():
        norm.IN.weight.fill_(2.0)
        norm.BN.bias.fill_(1.0)
        found = norm(features)
    for image in range(3):
        for channel in range(2):
            values = features[image, channel]
            expected = 2 * (values - values.mean()) / (values.var(correction=0) + 1e-5).sqrt()
            torch.testing.assert_close(found[image, channel], expected)
    for channel in range(2, 5):
        values = features[:, channel]
        expected = 1 + (values - values.mean()) / (values.var(correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(found[:, channel], expected)


def test_ibn_a_stands_in_the_first_three_stages_under_the_published_names():
    keys = set(build("resnet18-ibn-a").state_dict())
    for stage in (1, 2, 3):
        assert {f"layer{stage}.0.bn1.IN.weight", f"layer{stage}.1.bn1.BN.running_mean"} <= keys
    assert "layer4.0.bn1.weight" in keys
    assert "bn1.weight" in keys
    bottleneck = build("resnet50-ibn-a").state_dict()
    assert bottleneck["layer3.5.bn1.IN.weight"].shape == (128,)
    assert "layer1.0.bn2.weight" in bottleneck


def test_osnet_has_the_published_names_and_the_papers_size():
    state = build("osnet_x1_0").state_dict()
    for key, shape in {
        "conv1.conv.weight": (64, 3, 7, 7),
        "conv2.0.conv1.conv.weight": (64, 64, 1, 1),
        "conv2.0.conv2a.conv2.weight": (64, 1, 3, 3),
        "conv2.0.conv2d.3.bn.weight": (64,),
        "conv2.0.gate.fc1.weight": (4, 64, 1, 1),
        "conv2.0.gate.fc2.bias": (64,),
        "conv2.0.conv3.bn.weight": (256,),
        "conv2.0.downsample.conv.weight": (256, 64, 1, 1),
        "conv2.2.0.conv.weight": (256, 256, 1, 1),
        "conv4.1.conv2c.2.conv1.weight": (128, 128, 1, 1),
        "conv5.bn.running_var": (512,),
    }.items():
        assert tuple(state[key].shape) == shape, key
    assert not any(key.startswith(("conv2.1.downsample", "conv4.2")) for key in state)
    head = 512 * 512 + 512 + 2 * 512  # the fully connected layer that is left away here
    count = sum(parameter.numel() for parameter in build("osnet_x1_0").parameters()) + head
    assert 2.15e6 < count < 2.25e6  # 2.2 million (the paper's table 3)


@torch.no_grad()
def test_an_omni_scale_block_adds_four_gated_streams():
    torch.manual_seed(1)
    block = OmniScaleBlock(8, 64).eval()
    features = torch.randn(2, 8, 6, 4)
    reduced = block.conv1(features)
    total = torch.zeros_like(reduced)
    for stream in (block.conv2a, block.conv2b, block.conv2c, block.conv2d):
        scale = stream(reduced)
        hidden = (scale.mean(dim=(2, 3)) @ block.gate.fc1.weight[:, :, 0, 0].T + block.gate.fc1.bias).clamp(min=0)
        weights = torch.sigmoid(hidden @ block.gate.fc2.weight[:, :, 0, 0].T + block.gate.fc2.bias)
        total += scale * weights[:, :, None, None]
    expected = (block.conv3(total) + block.downsample(features)).clamp(min=0)
    torch.testing.assert_close(block(features), expected)


def test_last_stride_and_stem_are_settings_of_resnets():
    with torch.no_grad():
        assert build("resnet18", last_stride=1)(images()).shape[2:] == (4, 2)
        assert build("resnet18", last_stride=2)(images()).shape[2:] == (2, 1)
    assert isinstance(build("resnet18", stem_relu=False).get_submodule("relu"), nn.Identity)


@pytest.mark.parametrize("name", ["osnet_x0_25", "mobilenet_v2", "timm:resnet18"])
@torch.no_grad()
def test_other_backbones_have_neither_as_their_page_says(name):
    torch.testing.assert_close(build(name, last_stride=2, stem_relu=False)(images()), build(name)(images()))
    page = (Path(__file__).parents[2] / "docs" / "backbones.md").read_text(encoding="utf-8")
    assert "`model.last_stride` and `model.stem_relu` concern the first two rows alone" in page
    described = ModelSettings.model_fields
    for setting in ("last_stride", "stem_relu"):
        assert "other backbones, timm:resnet… among them" in str(described[setting].description)


@pytest.mark.parametrize("name", ["resnet51", "osnet", "timm:", "timm:no_such_net", "vgg16"])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(UsageError):
        build(name)


def test_a_size_that_patches_do_not_divide_is_refused():
    with pytest.raises(UsageError, match="can't take images"):
        make_backbone(Architecture(backbone="vit_b_16", height=60, width=32))


@pytest.mark.parametrize("name", ["resnet18-ibn-a", "resnet50-ibn-a"])
@torch.no_grad()
def test_images_that_leave_an_instance_norm_one_pixel_are_refused(name):
    with pytest.raises(UsageError, match="can't take images of 16×16"):
        make_backbone(Architecture(backbone=name, height=16, width=16))
    for height, width in ((17, 16), (16, 17)):
        smallest = make_backbone(Architecture(backbone=name, height=height, width=width))
        assert smallest(torch.randn(2, 3, height, width)).isfinite().all()


def test_a_timm_model_that_fails_at_such_images_is_refused_when_it_is_built():
    with pytest.raises(UsageError, match="divisible by patch size"):
        make_backbone(Architecture(backbone="timm:vit_small_patch16_dinov3", height=60, width=32))


def test_every_name_is_of_one_family():
    assert len(set(NAMES)) == len(NAMES) == 2 * len(RESNETS) + len(OSNETS) + len(MOBILES) + 1 + len(TOKEN_VITS)
