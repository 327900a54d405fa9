"""What all backbones share: images in, a feature map out, and styles after some stages on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Stylisation = Callable[[Tensor], Tensor]


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

    def forward(
        self, images: Tensor, *, style: Stylisation | None = None, after_stages: Sequence[int] = (1,)
    ) -> Tensor:
        """Feature maps of images; see `Backbone.forward`."""
        features = images
        for name in self._order:
            features = self.get_submodule(name)(features)
            if style is not None and self._stage_after.get(name) in after_stages:
                features = style(features)
        return features
