"""Published files are told by their names and shapes, embed as their own code does, and are refused by name otherwise.

What their own code computes is written here by hand, in a few lines of torch; docs/backbones.md has the comparison with
the code itself.
"""

from __future__ import annotations

import copy
import re
from typing import get_args

import numpy as np
import pytest
import torch
import torchvision
from commands import sil
from torch import nn
from torch.nn import functional as F

from sil_cli.models.backbones.osnet import make_osnet
from sil_cli.models.backbones.resnet import make_resnet
from sil_cli.models.embedder import load_embedder
from sil_cli.models.record import LIKE
from sil_cli.settings.fields import PublishedBy

CROPS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 3, 64, 32), dtype=np.uint8))
SIZE = ("--height", 64, "--width", 32)
IMAGENET = (torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1), torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1))


def randomised(network: nn.Module) -> nn.Module:
    """Running statistics and shifts that are no longer those of a new network."""
    generator = torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        if name.endswith("running_mean") or (name.endswith("bias") and value.ndim == 1):
            value.copy_(torch.randn(value.shape, generator=generator) * 0.2)
        elif name.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        elif name.endswith("bn3.weight"):  # or sixteen blocks would add up to more than a power of three can take
            value.mul_(0.2)
    return network.eval()


def normalised(mean=IMAGENET[0], std=IMAGENET[1]) -> torch.Tensor:
    return (CROPS.float() / 255 - mean) / std


def imported(folder, state, *options):
    """The document and the embedder of a file."""
    torch.save(state, folder / "file.pth")
    outcome = sil("import-model", folder / "file.pth", "--out", folder / "model", *options, "--json")
    assert outcome.code == 0, outcome.err
    return outcome.document, load_embedder(folder / "model")[0]


def refused(folder, state, *options) -> tuple[int, str]:
    torch.save(state, folder / "file.pth")
    outcome = sil("import-model", folder / "file.pth", "--out", folder / "model", *options)
    assert not (folder / "model").exists()
    return outcome.code, outcome.error


@torch.no_grad()
def check_equal(embedder, expected: torch.Tensor) -> None:
    cosines = (embedder(CROPS) * F.normalize(expected, dim=1)).sum(dim=1)
    assert cosines.min() > 0.99999


def norm(width: int) -> nn.BatchNorm1d:
    return randomised(nn.BatchNorm1d(width))


@torch.no_grad()
def resnet_map(network: nn.Module, *, relu: bool = True, pool: nn.Module | None = None) -> torch.Tensor:
    """The last map of torchvision's ResNet, stem by stem."""
    features = network.bn1(network.conv1(normalised()))
    features = (pool or network.maxpool)(features.relu() if relu else features)
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        features = stage(features)
    return features


def resnet(stride: int = 2, name: str = "resnet18"):
    torch.manual_seed(1)
    network = randomised(getattr(torchvision.models, name)(weights=None))
    if stride == 1:
        for module in network.layer4[0].modules():
            if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
                module.stride = (1, 1)
    return network


def without_classifier(network: nn.Module, prefix: str = "") -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": value for name, value in network.state_dict().items() if not name.startswith("fc.")}


def named(module: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": value for name, value in module.state_dict().items()}


@pytest.mark.parametrize(("prefix", "relu"), [("module.base.", True), ("module.", False)])
def test_the_authors_two_classes_have_a_relu_in_the_stem_or_none(tmp_path, prefix, relu):
    network, neck = resnet(stride=1), norm(512)
    state = without_classifier(network, prefix) | named(neck, "module.feat_bn0.")
    kept = {"state_dict": state, "epoch": 70, "best_mAP": np.float64(0.61)}
    document, embedder = imported(tmp_path, kept, *SIZE)
    check_equal(embedder, neck(resnet_map(network, relu=relu).mean(dim=(2, 3))))
    assert document["family"] == "a model of the paper's authors"
    told = document["architecture"]
    assert (told["last_stride"], told["stem_relu"], told["interpolation"]) == (1, relu, "bicubic")


@pytest.mark.parametrize("stride", [1, 2])
def test_a_stride_that_no_name_tells_is_asked_for(tmp_path, stride):
    network = resnet(stride)
    code, error = refused(tmp_path, network.state_dict(), *SIZE)
    assert code == 2
    assert "doesn't say the stride of the last stage" in error
    assert "--like torchreid (last_stride 2)" in error
    assert "--stride 1 or 2" in error
    document, embedder = imported(tmp_path, network.state_dict(), *SIZE, "--stride", stride)
    check_equal(embedder, resnet_map(network).mean(dim=(2, 3)))
    assert document["dropped"] == ["fc.bias", "fc.weight"]
    assert any("ImageNet" in note for note in document["notes"])


def test_what_its_code_has_is_taken_by_its_name(tmp_path):
    network = resnet(2)
    state = without_classifier(network) | {
        "classifier.weight": torch.zeros(702, 512),
        "classifier.bias": torch.zeros(702),
    }
    document, embedder = imported(tmp_path, state, *SIZE, "--like", "torchreid")
    check_equal(embedder, resnet_map(network).mean(dim=(2, 3)))
    assert document["dropped"] == ["classifier.bias", "classifier.weight"]
    assert any("702 classes, as many as DukeMTMC-reID" in note for note in document["notes"])
    assert any("may have learnt from DukeMTMC-reID: its authors withdrew it" in note for note in document["notes"])


@pytest.mark.parametrize("bias", [True, False])
def test_torchreids_layer_is_part_of_the_embedding(tmp_path, bias):
    network, layer = (
        resnet(1, "resnet50"),
        randomised(nn.Sequential(nn.Linear(2048, 512, bias=bias), nn.BatchNorm1d(512))),
    )
    state = without_classifier(network) | named(layer, "fc.") | {"classifier.weight": torch.zeros(751, 512)}
    document, embedder = imported(tmp_path, state, *SIZE)
    check_equal(embedder, layer(resnet_map(network).mean(dim=(2, 3))).relu())
    assert document["dimension"] == 512
    assert "last_stride 1" in document["assumed"]


@pytest.mark.parametrize("name", ["osnet_x0_25", "osnet_ibn_x1_0", "osnet_ain_x0_5"])
def test_torchreids_osnets_embed_by_their_layer(tmp_path, name):
    torch.manual_seed(1)
    backbone = randomised(make_osnet(name))
    layer = randomised(nn.Sequential(nn.Linear(backbone.channels, 512), nn.BatchNorm1d(512)))
    state = {as_torchreid(key): value for key, value in backbone.state_dict().items()} if "ain" in name else None
    state = (state or backbone.state_dict()) | named(layer, "fc.") | {"classifier.weight": torch.zeros(1041, 512)}
    document, embedder = imported(tmp_path, {"state_dict": named_all(state), "rank1": np.float32(1)}, *SIZE)
    with torch.no_grad():
        check_equal(embedder, layer(backbone(normalised()).mean(dim=(2, 3))).relu())
    assert document["backbone"] == name
    assert document["dimension"] == 512
    assert document["dropped"] == ["module.classifier.weight"]


def named_all(state):
    return {f"module.{key}": value for key, value in state.items()}


def as_torchreid(name: str) -> str:
    """A parameter of an OSNet-AIN as torchreid names it: its streams are a list, and its pooling stands apart."""
    for number, letter in enumerate("abcd"):
        name = name.replace(f".conv2{letter}.", f".conv2.{number}.layers." + ("0." if number == 0 else ""))
    return re.sub(r"^conv([23])\.2\.0\.", r"pool\1.0.", name)


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("pixels", [False, True])
def test_fast_reids_bot_pools_its_stem_without_a_border(tmp_path, reduced, pixels):
    network, neck = resnet(1), norm(128 if reduced else 512)
    weight = torch.randn(128, 512, 1, 1) / 20
    state = without_classifier(network, "backbone.") | named(neck, f"heads.bottleneck.{int(reduced)}.")
    state |= {"heads.weight": torch.zeros(751, neck.num_features)}
    state |= {"heads.bottleneck.0.weight": weight} if reduced else {}
    if pixels:
        state |= {"pixel_mean": 255 * IMAGENET[0][None], "pixel_std": 255 * IMAGENET[1][None]}
    document, embedder = imported(tmp_path, {"model": state, "iteration": 3}, *SIZE)
    pooled = resnet_map(network, pool=nn.MaxPool2d(3, 2, ceil_mode=True)).mean(dim=(2, 3))
    with torch.no_grad():
        check_equal(embedder, neck(F.linear(pooled, weight[:, :, 0, 0]) if reduced else pooled))
    assert document["family"] == "fast-reid's BoT"
    assert document["dropped"] == ["heads.weight"]


class ByHand(nn.Module):
    """A non-local block, place by place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.g, self.theta, self.phi = nn.Conv2d(width, 1, 1), nn.Conv2d(width, 1, 1), nn.Conv2d(width, 1, 1)
        self.W = nn.Sequential(nn.Conv2d(1, width, 1), nn.BatchNorm2d(width))

    def forward(self, features):
        values, own, others = (each(features).flatten(1) for each in (self.g, self.theta, self.phi))
        agreement = torch.einsum("bi,bj->bij", own, others) / values.shape[1]
        gathered = torch.einsum("bij,bj->bi", agreement, values)
        return features + self.W(gathered.view(len(features), 1, *features.shape[2:]))


@pytest.mark.parametrize("power", [None, 2.5])
def test_fast_reids_agw_and_sbs_have_non_local_blocks_and_gem(tmp_path, power):
    network, neck = resnet(1, "resnet50"), norm(2048)
    torch.manual_seed(2)
    added = {
        f"NL_{stage}.{number}": randomised(ByHand(width))
        for stage, width, count in ((2, 512, 2), (3, 1024, 3))
        for number in range(count)
    }
    state = without_classifier(network, "backbone.") | named(neck, "heads.bottleneck.0.")
    for name, block in added.items():
        state |= named(block, f"backbone.{name}.")
    if power is not None:
        state["heads.pool_layer.p"] = torch.tensor([power])
    document, embedder = imported(tmp_path, state, *SIZE)
    whole = copy.deepcopy(network)
    whole.layer2 = nn.Sequential(*network.layer2[:3], added["NL_2.0"], network.layer2[3], added["NL_2.1"])
    third = [
        step
        for number in range(6)
        for step in (network.layer3[number], *([added[f"NL_3.{number - 3}"]] if number >= 3 else []))
    ]
    whole.layer3 = nn.Sequential(*third)
    maps = resnet_map(whole, pool=nn.MaxPool2d(3, 2, ceil_mode=True))
    exponent = power or 3.0
    with torch.no_grad():
        check_equal(embedder, neck(maps.clamp(min=1e-6).pow(exponent).mean(dim=(2, 3)).pow(1 / exponent)))
    assert document["family"] == ("fast-reid's SBS" if power else "fast-reid's AGW")


def test_a_model_of_vehicles_is_told(tmp_path):
    state = without_classifier(resnet(1), "backbone.") | named(norm(512), "heads.bottleneck.0.")
    document, _ = imported(tmp_path, state | {"heads.weight": torch.zeros(575, 512)}, *SIZE)
    assert any("VeRi-776 has vehicles" in note and "may not be for people" in note for note in document["notes"])


@pytest.mark.parametrize(
    ("like", "pool"), [("bag-of-tricks", nn.MaxPool2d(3, 2, 1)), ("transreid-resnet", nn.MaxPool2d(2))]
)
def test_two_codes_with_the_same_names_are_asked_apart(tmp_path, like, pool):
    network, neck = resnet(1), norm(512)
    state = (
        without_classifier(network, "base.") | named(neck, "bottleneck.") | {"classifier.weight": torch.zeros(9, 512)}
    )
    code, error = refused(tmp_path, state, *SIZE)
    assert code == 2
    assert f"--like {like}" in error
    _, embedder = imported(tmp_path, state, *SIZE, "--like", like)
    with torch.no_grad():
        check_equal(embedder, neck(resnet_map(network, relu=False, pool=pool).mean(dim=(2, 3))))


def test_the_side_of_the_neck_can_be_chosen(tmp_path):
    network, neck = resnet(1), norm(512)
    state = without_classifier(network, "base.") | named(neck, "bottleneck.")
    document, embedder = imported(tmp_path, state, *SIZE, "--like", "bag-of-tricks", "--neck", "before")
    check_equal(embedder, resnet_map(network, relu=False).mean(dim=(2, 3)))
    assert "neck.running_mean" in document["dropped"]


def test_what_the_file_says_is_not_overridden(tmp_path):
    state = without_classifier(resnet(1), "base.") | named(norm(512), "feat_bn0.")
    code, error = refused(tmp_path, state, "--stride", 2)
    assert code == 2
    assert "has last_stride 1, by its names and shapes; 2 was given" in error


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["conv1.weight", "feature.0.fm_conv1.weight", "fc_x.0.weight"], "torchreid's MLFN"),
        (["conv.conv.weight", "fc_local.1.weight"], "torchreid's HACNN"),
        (["image_encoder.attnpool.positional_embedding", "bottleneck.weight"], "CLIP's ResNet"),
        (["backbone.conv1.0.weight", "heads.bottleneck.0.weight"], "ResNeSt"),
        (["features.denseblock1.denselayer1.norm1.weight"], "DenseNet"),
        (["layer0.conv1.weight", "layer1.0.se_module.fc1.weight"], "squeeze-and-excitation"),
    ],
)
def test_families_that_are_not_built_are_refused_by_name(tmp_path, names, told):
    code, error = refused(tmp_path, {name: torch.zeros(2, 2) for name in names})
    assert code == 1
    assert told in error
    assert "which this program can't build" in error
    assert "ONNX" in error


def test_a_file_of_nobody_says_what_it_holds(tmp_path):
    code, error = refused(tmp_path, {"stem.weight": torch.zeros(2), "tail.weight": torch.zeros(2)})
    assert code == 1
    assert "it holds stem.weight, tail.weight" in error
    assert "--backbone" in error


def test_parameters_that_no_network_has_are_named(tmp_path):
    state = (
        without_classifier(resnet(1), "base.") | named(norm(512), "feat_bn0.") | {"attention.weight": torch.zeros(2)}
    )
    code, error = refused(tmp_path, state)
    assert code == 1
    assert "it has unknown attention.weight" in error


def test_a_stem_of_any_kind_trains_from_its_file(tmp_path):
    chain = make_resnet("resnet50", ibn=False, last_stride=1, stem_relu=True, stem_pooling="ceil", non_local=True)
    assert chain(torch.zeros(1, 3, 64, 32)).shape == (1, 2048, 4, 2)
    seen = []
    chain(torch.zeros(2, 3, 64, 32), style=lambda maps: seen.append(maps.shape[1]) or maps, after_stages=(1, 2, 3, 4))
    assert seen == [256, 512, 1024, 2048]


def transformer(eps: float) -> nn.TransformerEncoder:
    """ViT-B's blocks, as torch itself computes them."""
    torch.manual_seed(3)
    block = nn.TransformerEncoderLayer(
        768, 12, 3072, dropout=0.0, activation="gelu", layer_norm_eps=eps, batch_first=True, norm_first=True
    )
    return randomised(nn.TransformerEncoder(block, 12, enable_nested_tensor=False))


BLOCK = {
    "self_attn.in_proj_": "attn.qkv.",
    "self_attn.out_proj.": "attn.proj.",
    "linear1.": "mlp.fc1.",
    "linear2.": "mlp.fc2.",
    "norm1.": "norm1.",
    "norm2.": "norm2.",
}
"""torch's names of a block's parameters, and TransReID's."""


def as_transreid(block: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    return {
        f"{prefix}{new}{name.removeprefix(old)}": value
        for name, value in block.state_dict().items()
        for old, new in BLOCK.items()
        if name.startswith(old)
    }


@pytest.mark.thorough
@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("camera", [None, "1", "mean"])
def test_transreids_vit_embeds_by_its_class_token_and_parts(tmp_path, parts, camera):
    blocks, last = transformer(1e-6).layers, randomised(nn.LayerNorm(768, eps=1e-6))
    stride, (rows, columns) = 12, (21, 10)
    patches = nn.Conv2d(3, 768, 16, stride)
    token, positions = torch.randn(1, 1, 768) / 3, torch.randn(1, 1 + rows * columns, 768) / 3
    learnt = torch.randn(6, 1, 768) / 3
    necks = [norm(768) for _ in range(5 if parts else 1)]
    state = {"base.cls_token": token, "base.pos_embed": positions, "base.fc.weight": torch.zeros(1000, 768)}
    state |= named(patches, "base.patch_embed.proj.") | named(last, "base.norm.")
    state |= {"base.sie_embed": learnt} if camera else {}
    for number, block in enumerate(blocks):
        state |= as_transreid(block, f"base.blocks.{number}.")
    for number, neck in enumerate(necks):
        state |= named(neck, f"bottleneck_{number}." if number else "bottleneck.")
    whole, part = copy.deepcopy(blocks[-1]), randomised(copy.deepcopy(blocks[0]))
    if parts:
        state |= (
            as_transreid(whole, "b1.0.") | named(last, "b1.1.") | as_transreid(part, "b2.0.") | named(last, "b2.1.")
        )
    options = ["--like", "transreid-vit", "--neck", "after", *(["--camera", camera] if camera else [])]
    if camera:
        code, error = refused(tmp_path, state, *options[:-2])
        assert code == 2
        assert "--camera N or --camera mean" in error
    document, embedder = imported(tmp_path, state, *options)
    crops = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, 3, 256, 128), dtype=np.uint8))
    with torch.no_grad():
        tokens = (
            torch.cat([token.expand(2, -1, -1), patches((crops / 255 - 0.5) / 0.5).flatten(2).mT], dim=1) + positions
        )
        if camera:
            tokens = tokens + 3 * (learnt.mean(0) if camera == "mean" else learnt[int(camera)])
        for block in blocks[:-1]:
            tokens = block(tokens)
        found = [necks[0](last(whole(tokens))[:, 0])]
        if parts:
            rolled = tokens[:, 1:].roll(-4, dims=1)
            dealt = torch.stack([rolled[:, :105], rolled[:, 105:]], dim=2).flatten(1, 2)
            for number in range(4):
                piece = torch.cat([tokens[:, :1], dealt[:, 52 * number : 52 * (number + 1)]], dim=1)
                found.append(necks[number + 1](last(part(piece))[:, 0]) / 4)
        cosines = (embedder(crops) * F.normalize(torch.cat(found, dim=1), dim=1)).sum(dim=1)
    assert cosines.min() > 0.99999
    told = document["architecture"]
    assert (told["height"], told["width"], told["patch_stride"]) == (256, 128, 12)


@pytest.mark.thorough
def test_clip_reids_vit_embeds_before_and_behind_its_projection(tmp_path):
    blocks = transformer(1e-5).layers
    for block in blocks:
        block.activation = lambda features: features * torch.sigmoid(1.702 * features)
        block.activation_relu_or_gelu = 0
    before, last = randomised(nn.LayerNorm(768)), randomised(nn.LayerNorm(768))
    patches = nn.Conv2d(3, 768, 16, 16, bias=False)
    token, positions, projection = torch.randn(768) / 3, torch.randn(129, 768) / 3, torch.randn(768, 512) / 27
    own = "image_encoder."
    state = {f"{own}class_embedding": token, f"{own}positional_embedding": positions, f"{own}proj": projection}
    state |= named(patches, f"{own}conv1.") | named(before, f"{own}ln_pre.") | named(last, f"{own}ln_post.")
    clip = {
        "norm1.": "ln_1.",
        "norm2.": "ln_2.",
        "linear1.": "mlp.c_fc.",
        "linear2.": "mlp.c_proj.",
        "self_attn.": "attn.",
    }
    for number, block in enumerate(blocks):
        for name, value in block.state_dict().items():
            old, new = next(each for each in clip.items() if name.startswith(each[0]))
            state[f"{own}transformer.resblocks.{number}.{new}{name.removeprefix(old)}"] = value
    state |= named(norm(768), "bottleneck.") | named(norm(512), "bottleneck_proj.")
    state |= {"text_encoder.ln_final.weight": torch.zeros(2), "prompt_learner.cls_ctx": torch.zeros(2)}
    document, embedder = imported(tmp_path, state)
    crops = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, 3, 256, 128), dtype=np.uint8))
    with torch.no_grad():
        tokens = torch.cat([token.expand(2, 1, -1), patches((crops / 255 - 0.5) / 0.5).flatten(2).mT], dim=1)
        tokens = before(tokens + positions)
        for block in blocks:
            tokens = block(tokens)
        found = last(tokens[:, 0])
        expected = F.normalize(torch.cat([found, found @ projection], dim=1), dim=1)
        assert (embedder(crops) * expected).sum(dim=1).min() > 0.99999
    assert document["dimension"] == 1280
    assert "mean 0.5,0.5,0.5" in document["assumed"]
    assert {"prompt_learner.cls_ctx", "text_encoder.ln_final.weight"} <= set(document["dropped"])


def test_the_names_that_the_command_line_takes_are_those_that_are_known():
    assert set(LIKE) == set(get_args(PublishedBy))
