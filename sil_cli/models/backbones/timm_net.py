"""Any model of timm (an optional extra), CLIP's and DINO's image towers among them."""

from __future__ import annotations

import contextlib
import copy
import sys
import warnings
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from sil_cli.errors import ModelError, UsageError, one_line
from sil_cli.installing import extra_command
from sil_cli.models.backbones.staged import Backbone
from sil_cli.models.record import Normalisation
from sil_cli.runtime import import_quietly

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sil_cli.models.backbones.staged import Stylisation


ROOM = 5
"""By how many rows or columns a map may miss the image's over its reduction: convolutions without padding take some."""


@dataclass(frozen=True)
class MapLayout:
    """Where in an output a map (B, C, h, w) lies.

    Attributes:
        channels_last: The output is (B, h, w, C).
        grid: Rows and columns of an output (B, prefix + rows·columns, C); None when the output is a map.
        prefix: Tokens before the patches': the class token and registers.
    """

    channels_last: bool = False
    grid: tuple[int, int] | None = None
    prefix: int = 0

    def map_in(self, output: Tensor) -> Tensor:
        """The map (B, C, h, w)."""
        if self.grid is None:
            return output.permute(0, 3, 1, 2) if self.channels_last else output
        patches = output[:, self.prefix :].transpose(1, 2)
        return patches.reshape(*patches.shape[:2], *self.grid)

    def with_map(self, output: Tensor, styled: Tensor) -> Tensor:
        """The output with another map of the same shape, prefix tokens as they were."""
        if self.grid is None:
            return styled.permute(0, 2, 3, 1) if self.channels_last else styled
        positions = torch.arange(self.prefix, output.shape[1], device=output.device)
        return output.clone().index_copy_(1, positions, styled.flatten(2).transpose(1, 2))


def find_layout(
    output: object, *, net: object, image: tuple[int, int], channels: int, reduction: int
) -> MapLayout | None:
    """How an output of a timm model holds a map of so many channels, `reduction` times smaller than the image.

    Args:
        output: What one of the model's modules gave.
        net: The model, which may tell of its prefix tokens, its patches, and whether channels are last.
        image: Height and width of the images in pixels.
        channels: Of the map.
        reduction: Of the map.

    Returns:
        None when it holds none: it is no tensor, has other channels, another size, or tokens that are no patches and
        that the model doesn't tell of.
    """
    if not isinstance(output, Tensor):
        return None
    if output.ndim == 4:
        says_last = getattr(net, "output_fmt", "NCHW") == "NHWC"
        maps = [MapLayout(channels_last=last) for last in (says_last, not says_last)]
        return next((layout for layout in maps if _fits(layout.map_in(output), channels, reduction, image)), None)
    if output.ndim != 3 or output.shape[2] != channels:
        return None
    height, width = image
    # What is left over at the edges of an image is left away, or padded.
    grids = [(height // reduction, width // reduction), (-(-height // reduction), -(-width // reduction))]
    known = getattr(getattr(net, "patch_embed", None), "grid_size", None)
    for rows, columns in [tuple(known), *grids] if known is not None else grids:
        prefix = output.shape[1] - rows * columns
        if prefix in (0, int(getattr(net, "num_prefix_tokens", 0))):
            return MapLayout(grid=(rows, columns), prefix=prefix)
    return None


def _fits(found: Tensor, channels: int, reduction: int, image: tuple[int, int]) -> bool:
    sides = zip(found.shape[2:], image, strict=True)
    return found.shape[1] == channels and all(abs(side - pixels / reduction) <= ROOM for side, pixels in sides)


MOST_STAGES = 4
STEM_ENDS = 4
"""How many times smaller than the image maps are where stages begin, as those of a ResNet do. timm lists stems too."""
POOLING = ("head.", "attn_pool.")
"""timm's pooling of a map, which is not used here. That of CLIP's ResNets has positions for one map's size."""

OTHERS = "Choose another backbone: resnet50, timm:convnext_tiny and timm:vit_small_patch16_224 are some."


class _Level(NamedTuple):
    """A place where timm says that features can be had: its module, their channels, and how many times smaller."""

    module: str
    channels: int
    reduction: int


class TimmBackbone(Backbone):
    """A timm model in at most four stages, which are those that timm itself lists; a style is hooked in behind them.

    Convolutional networks give maps (B, C, h, w) as they are; transformers' tokens are laid out as maps, class and
    register tokens left aside. What each stage gives is looked at when the model is built: one whose stages a style
    could not see as whole maps, exactly once a pass, is refused.
    """

    def __init__(self, name: str, *, height: int, width: int) -> None:
        """Build it with random weights.

        Raises:
            UsageError: timm is not installed, has no such model, it can't take images of this size, or its stages or
                its result are no maps.
        """
        super().__init__()
        self.net: Any
        self.net, levels, outputs, result = _create(name, height, width)
        self._name = name
        self.stages = len(levels)
        self.channels = int(self.net.num_features)
        named = self.net.pretrained_cfg.get("classifier") or ()  # of which it may have several
        self.head_prefixes = tuple(f"{each}." for each in ([named] if isinstance(named, str) else named))
        self._stage_modules = tuple(level.module for level in levels)
        find = partial(find_layout, net=self.net, image=(height, width))
        layouts = []
        for number, (level, given) in enumerate(zip(levels, outputs, strict=True), start=1):
            layout = find(given[0], channels=level.channels, reduction=level.reduction) if len(given) == 1 else None
            if layout is None:
                raise UsageError(
                    f"timm:{name} can't be taken in stages: "
                    f"stage {number} of it (timm's '{level.module}') gives no single map of {level.channels} channels.",
                    OTHERS,
                )
            layouts.append(layout)
        layout = find(result, channels=self.channels, reduction=levels[-1].reduction)
        if layout is None:
            raise UsageError(
                f"timm:{name} can't be used: its result is not a map of {self.channels} channels, "
                "or has tokens in it that are not patches.",
                OTHERS,
            )
        self._stage_layouts, self._layout = tuple(layouts), layout

    def forward(
        self, images: Tensor, *, style: Stylisation | None = None, after_stages: Sequence[int] = (1,)
    ) -> Tensor:
        """Feature maps of images; see `Backbone.forward`."""
        with contextlib.ExitStack() as hooks:
            stages = zip(self._stage_modules, self._stage_layouts, strict=True)
            for number, (path, layout) in enumerate(stages, start=1):
                if style is not None and number in after_stages:
                    hook = partial(_restyle, style, layout)
                    hooks.callback(self.net.get_submodule(path).register_forward_hook(hook).remove)
            return self._layout.map_in(self.net.forward_features(images))

    def adapted(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A published file's parameters under timm's names and for this image size, by timm's own conversion.

        It knows, among others, the files of CLIP and DINOv2, takes a position embedding or table of relative positions
        to another grid, and leaves towers for text aside.

        Raises:
            ModelError: timm can't convert the file.
        """
        from timm.models import model_entrypoint

        family = sys.modules[model_entrypoint(self._name).__module__]
        convert = getattr(family, "checkpoint_filter_fn", lambda state, _: state)
        try:
            with warnings.catch_warnings(action="ignore"):  # torch's, of how timm interpolates
                converted = convert(dict(state), self.net)
        except Exception as error:  # whatever a function that expects other names and shapes may raise
            raise ModelError(
                f"timm can't convert these weights: {one_line(error) or type(error).__name__}.",
                "Give a file that was published for this model (model.backbone).",
            ) from error
        own = self.net.state_dict()
        unused = {key for key in own.keys() & converted.keys() if key.startswith(POOLING)}
        misfits = {key: own[key] for key in unused if own[key].shape != converted[key].shape}
        return super().adapted(converted | misfits)


def _restyle(style: Stylisation, layout: MapLayout, module: nn.Module, inputs: object, output: Tensor) -> Tensor:
    """Put a style on what a module gives."""
    del module, inputs
    return layout.with_map(output, style(layout.map_in(output)))


def timm_normalisation(name: str) -> Normalisation:
    """The normalisation with which timm's weights of a model were trained: CLIP's, for one, is not ImageNet's.

    Raises:
        UsageError: timm is not installed, or has no such model.
    """
    published = _timm_with(name).get_pretrained_cfg(name)
    if published is None:
        return Normalisation()
    return Normalisation(mean=tuple(published.mean), std=tuple(published.std))


def _timm_with(name: str) -> Any:
    """timm, which has a model of this name."""
    try:
        timm = import_quietly("timm")
    except ImportError:
        raise UsageError(
            f"The backbone timm:{name} needs timm.", f"Install it with `{extra_command('timm')}`."
        ) from None
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_')[0].split('.')[0]}*")[:3]
        listed = f" Some that it has: {', '.join(near)}." if near else ""
        raise UsageError(f"timm has no model '{name}'.", f"See timm.list_models().{listed}")
    return timm


def _create(name: str, height: int, width: int) -> tuple[Any, list[_Level], list[list[object]], object]:
    """A model, the levels that become its stages, and what each (once a call) and the whole give for one image."""
    timm = _timm_with(name)
    choices: tuple[dict[str, Any], ...] = ({"img_size": (height, width)}, {})
    for options in choices:
        try:
            net = timm.create_model(name, pretrained=False, num_classes=0, **options)
            levels = _levels(net)
            outputs, result = _try(net, levels, height, width)
        except TypeError:  # convolutional networks take no size
            continue
        except (AssertionError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"timm:{name} can't take images of {height}×{width}: {one_line(error)}.",
                "Choose model.height and model.width that its patches or windows divide.",
            ) from error
        if not levels:
            raise UsageError(f"timm:{name} does not list its stages.", "Choose a model whose features timm lists.")
        return net, levels, outputs, result
    raise UsageError(f"timm:{name} can't be built without a classifier.", "Choose another backbone.")


@torch.no_grad()
def _try(net: Any, levels: list[_Level], height: int, width: int) -> tuple[list[list[object]], object]:
    """Pass an image through a copy: some models are built for any size, and fail at the first image of a wrong one."""
    trial = copy.deepcopy(net).eval()
    modules = dict(trial.named_modules())
    outputs: list[list[object]] = [[] for _ in levels]
    for level, kept in zip(levels, outputs, strict=True):
        if level.module in modules:
            modules[level.module].register_forward_hook(lambda module, inputs, output, kept=kept: kept.append(output))
    with torch.random.fork_rng(devices=[]):
        result = trial.forward_features(torch.zeros(1, 3, height, width))
    return outputs, result


def _levels(net: Any) -> list[_Level]:
    """Where timm says that features can be had (nowhere, for a few models): evenly at most four behind the stem."""
    listed = getattr(net, "feature_info", None) or ()
    levels = [_Level(str(each["module"]), int(each["num_chs"]), int(each["reduction"])) for each in listed]
    chosen = [level for level in levels if level.reduction >= STEM_ENDS] or levels
    stages = min(MOST_STAGES, len(chosen))
    return [chosen[number * len(chosen) // stages - 1] for number in range(1, stages + 1)]
