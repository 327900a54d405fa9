"""Images are normalised as the backbone's published weights want it, unless the settings say otherwise."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from sil_cli.errors import UsageError
from sil_cli.models.embedder import architecture
from sil_cli.models.record import IMAGENET_MEAN, IMAGENET_STD
from sil_cli.settings import ModelSettings

CLIP = "timm:vit_base_patch16_clip_224"


@pytest.mark.parametrize("backbone", ["resnet50", "osnet_x1_0", "vit_b_16", "timm:resnet18"])
def test_most_backbones_want_imagenets(backbone) -> None:
    made = architecture(ModelSettings(backbone=backbone))
    assert (made.mean, made.std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_clips_tower_wants_clips() -> None:
    """The figures of OpenAI's CLIP, `_transform` in its clip.py."""
    made = architecture(ModelSettings(backbone=CLIP))
    assert made.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    assert made.std == pytest.approx((0.26862954, 0.26130258, 0.27577711))


def test_the_settings_go_before() -> None:
    made = architecture(ModelSettings(backbone=CLIP, mean=(0.5, 0.4, 0.3)))
    assert made.mean == (0.5, 0.4, 0.3)
    assert made.std == pytest.approx((0.26862954, 0.26130258, 0.27577711))


@pytest.mark.parametrize("std", [(0.2, 0.2), (0.2, 0.2, 0.0), (0.2, 0.2, float("nan"))])
def test_impossible_numbers_are_refused(std) -> None:
    with pytest.raises(ValidationError):
        ModelSettings(std=std)


def test_an_unknown_model_is_told() -> None:
    with pytest.raises(UsageError, match="timm has no model 'vit_nonsense'"):
        architecture(ModelSettings(backbone="timm:vit_nonsense"))
