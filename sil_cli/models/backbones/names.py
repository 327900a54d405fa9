"""The backbones' names, known without loading torch."""

from __future__ import annotations

from sil_cli.errors import UsageError, did_you_mean

IBN = "-ibn-a"
TIMM = "timm:"
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
OSNETS = ("osnet_x1_0", "osnet_x0_75", "osnet_x0_5", "osnet_x0_25")
MOBILES = ("mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0", "efficientnet_v2_s")
VIT = "vit_b_16"
NAMES = (*RESNETS, *(f"{name}{IBN}" for name in RESNETS), *OSNETS, *MOBILES, VIT)
"""All but timm's, which are `timm:` and the name of a model there."""


def check_backbone(name: str) -> None:
    """Check a backbone's name.

    Raises:
        UsageError: The name is not known.
    """
    if name not in NAMES and not (name.startswith(TIMM) and len(name) > len(TIMM)):
        raise UsageError(f"There is no backbone '{name}'.", did_you_mean(name, [*NAMES, f"{TIMM}NAME"]))
