"""timm's models with the files that are published for them, CLIP's and DINOv2's among them, at another image size."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from sil_cli.errors import ModelError
from sil_cli.models.embedder import Embedder
from sil_cli.models.record import Architecture
from sil_cli.models.weights import load_pretrained

pytestmark = pytest.mark.thorough

timm = pytest.importorskip("timm")

CLIP, DINO = "vit_xsmall_patch16_clip_224", "vit_small_patch14_dinov2"
OPENAI = (
    ("patch_embed.proj", "conv1"),
    ("cls_token", "class_embedding"),
    ("pos_embed", "positional_embedding"),
    ("norm_pre", "ln_pre"),
    ("attn.qkv.", "attn.in_proj_"),
    ("attn.proj", "attn.out_proj"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
    ("norm1", "ln_1"),
    ("norm2", "ln_2"),
    ("blocks.", "transformer.resblocks."),
)


def published(name: str, **options) -> dict[str, torch.Tensor]:
    """What a file of timm's holds: at the model's own image size, with its classifier."""
    torch.manual_seed(7)
    net = timm.create_model(name, pretrained=False, **options)
    return {
        key: torch.randn_like(value) if value.is_floating_point() else value for key, value in net.state_dict().items()
    }


def as_openai_names_it(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A CLIP image tower's file as its authors name the parameters, with some of the tower for text."""
    renamed = {}
    for name, value in state.items():
        if name.startswith("head."):
            continue
        new = "ln_post" + name.removeprefix("norm") if name.startswith("norm.") else name
        for ours, theirs in OPENAI:
            new = new.replace(ours, theirs)
        renamed[f"visual.{new}"] = value[0] if new == "positional_embedding" else value
    renamed["visual.class_embedding"] = state["cls_token"][0, 0]
    renamed["visual.proj"] = torch.zeros(state["norm.weight"].numel(), 384)
    text = ("transformer.resblocks.0.ln_1.weight", "token_embedding.weight", "ln_final.bias", "logit_scale")
    return renamed | {name: torch.zeros(3) for name in text}


def loaded(path, name: str, height: int = 64, width: int = 32) -> Embedder:
    torch.manual_seed(8)
    embedder = Embedder(Architecture(backbone=f"timm:{name}", height=height, width=width))
    load_pretrained(embedder, str(path))
    return embedder.eval()


def on_another_grid(positions: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """(n², C) of a square grid, bicubically on another one."""
    side = round(len(positions) ** 0.5)
    square = positions.T.reshape(1, -1, side, side)
    return F.interpolate(square, size=grid, mode="bicubic", antialias=True)[0].flatten(1).T


@pytest.mark.parametrize("half", [False, True])
def test_clips_own_file_loads_at_another_size(tmp_path, half: bool) -> None:
    state = published(CLIP)
    theirs = as_openai_names_it(state)
    torch.save({name: value.half() if half else value for name, value in theirs.items()}, tmp_path / "clip.pt")
    net = loaded(tmp_path / "clip.pt", CLIP).backbone.net
    near = {"rtol": 1e-3, "atol": 1e-3} if half else {"rtol": 0.0, "atol": 0.0}
    found = net.state_dict()
    for name in found.keys() - {"pos_embed"}:
        torch.testing.assert_close(found[name], state[name], **near, msg=name)
    positions = state["pos_embed"][0]
    expected = torch.cat([positions[:1], on_another_grid(positions[1:], (4, 2))])
    torch.testing.assert_close(net.pos_embed[0], expected, rtol=1e-3, atol=2e-3 if half else 1e-5)


def test_at_the_published_size_a_tower_is_timms(tmp_path) -> None:
    torch.manual_seed(9)
    net = timm.create_model(CLIP, pretrained=False).eval()
    torch.save(as_openai_names_it(net.state_dict()), tmp_path / "clip.pt")
    embedder = loaded(tmp_path / "clip.pt", CLIP, 224, 224)
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        tokens = net.forward_features(images)[0, 1:]
        maps = embedder.backbone(images)[0]
    torch.testing.assert_close(maps.flatten(1).T, tokens)


def test_dinov2s_own_file_loads(tmp_path) -> None:
    state = published(DINO, num_classes=0)
    torch.save(state | {"mask_token": torch.zeros(1, 384)}, tmp_path / "dino.pth")
    net = loaded(tmp_path / "dino.pth", DINO, 56, 28).backbone.net
    assert torch.equal(net.patch_embed.proj.weight, state["patch_embed.proj.weight"])
    expected = on_another_grid(state["pos_embed"][0, 1:], (4, 2))
    torch.testing.assert_close(net.pos_embed[0, 1:], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "height", "width"),
    [
        ("vit_tiny_patch16_224", 64, 32),
        ("eva02_tiny_patch14_224", 56, 28),
        ("swin_tiny_patch4_window7_224", 256, 128),
        ("resnet50_clip", 64, 32),
    ],
)
def test_a_file_of_another_image_size_loads(tmp_path, name: str, height: int, width: int) -> None:
    state = published(name)
    torch.save(state, tmp_path / "timm.pth")
    embedder = loaded(tmp_path / "timm.pth", name, height, width)
    same = [
        torch.equal(value, state[key])
        for key, value in embedder.backbone.net.state_dict().items()
        if key in state and value.shape == state[key].shape
    ]
    assert all(same)
    assert len(same) > 0.8 * len(state)


def test_timms_download_fits_another_image_size(monkeypatch) -> None:
    create = timm.create_model
    state = published("vit_tiny_patch16_224", num_classes=0)

    def downloaded(name, *, pretrained, **options):
        net = create(name, pretrained=False, **options)
        if pretrained:
            net.load_state_dict(state)
        return net

    monkeypatch.setattr(timm, "create_model", downloaded)
    net = loaded("imagenet", "vit_tiny_patch16_224").backbone.net
    assert torch.equal(net.blocks[3].attn.qkv.weight, state["blocks.3.attn.qkv.weight"])


def test_what_timm_can_not_convert_is_told(tmp_path) -> None:
    torch.save(published(CLIP) | {"pos_embed": torch.zeros(3)}, tmp_path / "odd.pth")
    with pytest.raises(ModelError, match="timm can't convert these weights"):
        loaded(tmp_path / "odd.pth", CLIP)


def test_another_models_file_is_refused_by_name(tmp_path) -> None:
    torch.save(published("resnet18"), tmp_path / "resnet.pth")
    with pytest.raises(ModelError, match=r"does not fit this model: it lacks net\.blocks\.0"):
        loaded(tmp_path / "resnet.pth", CLIP)
