"""Networks compiled for training on a GPU: torch.compile fuses what lies between convolutions, CUDA graphs launch it.

Without either, a GPU waits: for memory, since batch norm, ReLU and additions each read and write whole maps, and for
the CPU, which names some 2,900 kernels an iteration of a ResNet-50.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from typing import TYPE_CHECKING

import torch

from sil_cli.models.backbones.staged import StagedChain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sil_cli.models.backbones.staged import Backbone

VARIANTS = 8
"""With and without gradients, sources apart and together, running statistics moving or not."""


def obstacle_to_compiling(backbone: Backbone, device: torch.device) -> str | None:
    """Why a network can't be compiled for a device, or is not worth it; None where it can."""
    if device.type != "cuda":
        return f"it is for CUDA devices; on a {device.type.upper()} the step would be slower"
    if not isinstance(backbone, StagedChain):
        return "it is for ResNets, OSNets, MobileNets and EfficientNets"
    if importlib.util.find_spec("triton") is None:
        return "torch has no Triton here"
    if not any(shutil.which(name) for name in (os.environ.get("CC"), "gcc", "clang") if name):
        return "Triton finds no C compiler here (CC, gcc or clang)"
    return None


def compile_backbone(backbone: Backbone, after_stages: Sequence[int]) -> None:
    """Compile what lies between styles, for train mode; `obstacle_to_compiling` has none.

    The first iteration compiles, which takes a minute or two.

    Args:
        backbone: On its device, in its memory format; from now on its parameters stay where they are.
        after_stages: The stages that a style follows.
    """
    assert isinstance(backbone, StagedChain)  # noqa: S101
    parts = backbone.compile_between(after_stages, mode="reduce-overhead")
    # All parts count against one limit, past which torch would silently run what it has not compiled yet.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, VARIANTS * parts)
