"""What all backbones share: images in, a feature map out, and styles after some stages on the way."""

from __future__ import annotations

import importlib.util
import os
import shutil
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Stylisation = Callable[[Tensor], Tensor]
    Step = tuple[nn.Module, int | None]  # a module, and the number of the stage that it ends


class Backbone(nn.Module):
    """A network without its classifier, run stage by stage.

    Attributes:
        channels: Channels of the output map.
        stages: How many stages a style can follow, counted from 1.
        head_prefixes: What the names of a published file's parameters begin with that belong to its classifier.
    """

    channels: int
    stages: int
    head_prefixes: tuple[str, ...] = ()

    def forward(
        self, images: Tensor, *, style: Stylisation | None = None, after_stages: Sequence[int] = (1,)
    ) -> Tensor:
        """Feature maps of images.

        Args:
            images: (B, 3, H, W), normalised.
            style: Applied to the output of some stages, (B, C, h, w); None leaves features as they are.
            after_stages: Which stages, from 1.

        Returns:
            (B, channels, h, w).
        """
        raise NotImplementedError

    def adapted(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A published file's parameters in this network's shapes and without its classifier's."""
        return {name: value for name, value in state.items() if not name.startswith(self.head_prefixes or ("\0",))}


class StagedChain(Backbone):
    """Modules one after another, some of which end a stage."""

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        *,
        order: Sequence[str],
        ends: Sequence[str],
        channels: int,
        head_prefixes: tuple[str, ...],
    ) -> None:
        """Take modules over under their published names.

        Args:
            modules: Direct children by name.
            order: What is run, in order: children, or modules within them by dotted names.
            ends: Those of them that end a stage.
            channels: Channels of the last one's output.
            head_prefixes: Of the published file's classifier.
        """
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.channels = channels
        self.stages = len(ends)
        self.head_prefixes = head_prefixes
        self._order = tuple(order)
        self._stage_after = {name: number for number, name in enumerate(ends, start=1)}
        self._compiled: tuple[Step, ...] | None = None  # modules that nobody else names, so no parameters of this one

    def forward(
        self, images: Tensor, *, style: Stylisation | None = None, after_stages: Sequence[int] = (1,)
    ) -> Tensor:
        """Feature maps of images; see `Backbone.forward`."""
        features = images
        for module, stage in self._steps():
            features = module(features)
            if style is not None and stage in after_stages:
                features = style(features)
        return features

    def compile_between(self, after_stages: Sequence[int], **how: Any) -> int:
        """Let torch.compile make one of all that lies between styles, in train mode; results stay, to rounding.

        Args:
            after_stages: The stages that a style follows from now on.
            how: What torch.compile is to know.

        Returns:
            How many parts that makes.
        """
        stretches: list[tuple[list[nn.Module], int | None]] = [([], None)]
        for module, stage in self._steps():
            stretches[-1] = ([*stretches[-1][0], module], stage)
            if stage in after_stages:
                stretches.append(([], None))
        parts = [(_Stretch(*modules), stage) for modules, stage in stretches if modules]
        for module, _ in parts:
            module.compile(dynamic=False, **how)
        self._compiled = tuple(parts)
        return len(parts)

    def _steps(self) -> Sequence[Step]:
        """What is run, in order, each with the stage that it ends."""
        if self._compiled is not None and self.training:  # in eval mode batches have other sizes, and few are seen
            return self._compiled
        return [(self.get_submodule(name), self._stage_after.get(name)) for name in self._order]


class _Stretch(nn.Sequential):
    """Modules one after another, by a function of ours: torch before 2.14 compiles none of its own as a whole."""

    def forward(self, features: Tensor) -> Tensor:
        for module in self:
            features = module(features)
        return features


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

    torch.compile fuses what lies between convolutions, CUDA graphs launch it. Without either, a GPU waits: for memory,
    since batch norm, ReLU and additions each read and write whole maps, and for the CPU, which names some 2,900
    kernels an iteration of a ResNet-50.

    The first iteration compiles, which takes a minute or two.

    Args:
        backbone: On its device, in its memory format; from now on its parameters stay where they are.
        after_stages: The stages that a style follows.
    """
    assert isinstance(backbone, StagedChain)  # noqa: S101
    parts = backbone.compile_between(after_stages, mode="reduce-overhead")
    # All parts count against one limit, past which torch would silently run what it has not compiled yet.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, VARIANTS * parts)
