"""The backbones' names, known without loading torch."""

from __future__ import annotations

from sil_cli.errors import UsageError, did_you_mean

IBN = "-ibn-a"
TIMM = "timm:"
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
WIDTHS = ("x1_0", "x0_75", "x0_5", "x0_25")
OSNETS = (*(f"osnet_{width}" for width in WIDTHS), "osnet_ibn_x1_0", *(f"osnet_ain_{width}" for width in WIDTHS))
MOBILES = ("mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0", "efficientnet_v2_s")
VIT = "vit_b_16"
TOKEN_VITS = ("transreid_vit_b_16", "transreid_jpm_vit_b_16", "clip_reid_vit_b_16")
"""Forms of it whose embedding is that of the class token."""
NAMES = (*RESNETS, *(f"{name}{IBN}" for name in RESNETS), *OSNETS, *MOBILES, VIT, *TOKEN_VITS)
"""All but timm's, which are `timm:` and the name of a model there."""


def check_backbone(name: str) -> None:
    """Check a backbone's name.

    Raises:
        UsageError: The name is not known.
    """
    if name not in NAMES and not (name.startswith(TIMM) and len(name) > len(TIMM)):
        raise UsageError(f"There is no backbone '{name}'.", did_you_mean(name, [*NAMES, f"{TIMM}NAME"]))
