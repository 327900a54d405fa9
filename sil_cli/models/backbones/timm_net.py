"""Any model of timm (an optional extra), CLIP's and DINO's image towers among them."""

from __future__ import annotations

import contextlib
import sys
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from sil_cli.errors import ModelError, UsageError
from sil_cli.files import one_line
from sil_cli.models.backbones.layouts import Layout, Surroundings, layout_of
from sil_cli.models.backbones.staged import Backbone
from sil_cli.models.record import Normalisation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch.utils.hooks import RemovableHandle

    from sil_cli.models.backbones.staged import Stylisation

    Conversion = Callable[[dict[str, Tensor], nn.Module], dict[str, Tensor]]

MOST_STAGES = 4
STEM_ENDS = 4
"""How many times smaller than the image maps are where stages begin, as those of a ResNet do. timm lists stems too."""
POOLING = ("head.", "attn_pool.")
"""timm's pooling of a map, which is not used here. That of CLIP's ResNets has positions for one map's size."""

INSTALL = "Install it with `pip install sil-cli[timm]`."
OTHERS = "Choose another backbone: resnet50, timm:convnext_tiny and timm:vit_small_patch16_224 are some."


class _Level(NamedTuple):
    """A place where timm says that features can be had: its module, their channels, and how many times smaller."""

    module: str
    channels: int
    reduction: int


class _Trial(NamedTuple):
    """A model, the levels that become its stages, what each gave (once a call) for one image, and the result."""

    net: Any
    levels: list[_Level]
    given: list[list[object]]
    result: object


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
        trial = _create(name, height, width)
        self.net: Any = trial.net
        self._name = name
        self.stages = len(trial.levels)
        self.channels = int(self.net.num_features)
        self.head_prefixes = _classifiers(self.net)
        self._stage_modules = tuple(level.module for level in trial.levels)
        self._stage_layouts, self._layout = _layouts(
            name,
            trial,
            Surroundings(
                image=(height, width),
                prefix_tokens=int(getattr(self.net, "num_prefix_tokens", 0)),
                patches=getattr(getattr(self.net, "patch_embed", None), "grid_size", None),
                channels_last=getattr(self.net, "output_fmt", "NCHW") == "NHWC",
            ),
        )

    def forward(
        self, images: Tensor, *, style: Stylisation | None = None, after_stages: Sequence[int] = (1,)
    ) -> Tensor:
        """Feature maps of images; see `Backbone.forward`."""
        with self._styled(style, after_stages):
            return self._layout.map_in(self.net.forward_features(images))

    def adapted(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A published file's parameters under timm's names and for this image size, by timm's own conversion.

        It knows, among others, the files of CLIP and DINOv2, takes a position embedding or table of relative positions
        to another grid, and leaves towers for text aside.

        Raises:
            ModelError: timm can't convert the file.
        """
        try:
            with warnings.catch_warnings(action="ignore"):  # torch's, of how timm interpolates
                converted = _conversion(self._name)(dict(state), self.net)
        except Exception as error:  # whatever a function that expects other names and shapes may raise
            raise ModelError(
                f"timm can't convert these weights: {one_line(error) or type(error).__name__}.",
                "Give a file that was published for this model (model.backbone).",
            ) from error
        own = self.net.state_dict()
        unused = {key for key in own.keys() & converted.keys() if key.startswith(POOLING)}
        misfits = {key: own[key] for key in unused if own[key].shape != converted[key].shape}
        return super().adapted(converted | misfits)

    @contextlib.contextmanager
    def _styled(self, style: Stylisation | None, after_stages: Sequence[int]) -> Iterator[None]:
        """Hook a style in behind some stages for as long as one forward pass takes."""
        handles: list[RemovableHandle] = []
        if style is not None:
            stages = zip(self._stage_modules, self._stage_layouts, strict=True)
            for number, (path, layout) in enumerate(stages, start=1):
                if number in after_stages:
                    module = self.net.get_submodule(path)
                    handles.append(module.register_forward_hook(_restyling(style, layout)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _restyling(style: Stylisation, layout: Layout) -> Any:
    """A hook that puts a style on what a module gives."""

    def restyle(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        del module, inputs
        return layout.with_map(output, style(layout.map_in(output)))

    return restyle


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
        import timm
    except ImportError:
        raise UsageError(f"The backbone timm:{name} needs timm.", INSTALL) from None
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_')[0].split('.')[0]}*")[:3]
        listed = f" Some that it has: {', '.join(near)}." if near else ""
        raise UsageError(f"timm has no model '{name}'.", f"See timm.list_models().{listed}")
    return timm


def _create(name: str, height: int, width: int) -> _Trial:
    timm = _timm_with(name)
    choices: tuple[dict[str, Any], ...] = ({"img_size": (height, width)}, {})
    for options in choices:
        try:
            trial = _try(timm.create_model(name, pretrained=False, num_classes=0, **options), height, width)
        except TypeError:  # convolutional networks take no size
            continue
        except (AssertionError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"timm:{name} can't take images of {height}×{width}: {one_line(error)}.",
                "Choose model.height and model.width that its patches or windows divide.",
            ) from error
        if not trial.levels:
            raise UsageError(f"timm:{name} does not list its stages.", "Choose a model that timm lists features of.")
        return trial
    raise UsageError(f"timm:{name} can't be built without a classifier.", "Choose another backbone.")


@torch.no_grad()
def _try(net: Any, height: int, width: int) -> _Trial:
    """Pass an image through: some models are built for any size, and fail at the first image of a wrong one.

    The model's modes and torch's random state are afterwards what they were.
    """
    levels = _spread(_levels(net))
    modes = {module: module.training for module in net.modules()}
    modules = dict(net.named_modules())
    given: list[list[object]] = [[] for _ in levels]
    handles = [
        modules[level.module].register_forward_hook(lambda module, inputs, output, kept=kept: kept.append(output))
        for level, kept in zip(levels, given, strict=True)
        if level.module in modules
    ]
    try:
        with torch.random.fork_rng(devices=[]):
            result = net.eval().forward_features(torch.zeros(1, 3, height, width))
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    return _Trial(net, levels, given, result)


def _layouts(name: str, trial: _Trial, around: Surroundings) -> tuple[tuple[Layout, ...], Layout]:
    """How each stage and the result of a model hold their maps.

    Raises:
        UsageError: One of them holds none, or a stage is not passed exactly once.
    """
    stages = []
    for number, (level, given) in enumerate(zip(trial.levels, trial.given, strict=True), start=1):
        layout = None
        if len(given) == 1:
            layout = layout_of(given[0], channels=level.channels, reduction=level.reduction, around=around)
        if layout is None:
            raise UsageError(
                f"timm:{name} can't be taken in stages: "
                f"stage {number} of it (timm's '{level.module}') gives no one map of {level.channels} channels.",
                OTHERS,
            )
        stages.append(layout)
    reduction = trial.levels[-1].reduction
    layout = layout_of(trial.result, channels=int(trial.net.num_features), reduction=reduction, around=around)
    if layout is None:
        raise UsageError(
            f"timm:{name} can't be used: its result is no map of {trial.net.num_features} channels, "
            "or has tokens in it that are no patches.",
            OTHERS,
        )
    return tuple(stages), layout


def _conversion(name: str) -> Conversion:
    """What timm does to a published file of a model before loading it: nothing, or the function of its family."""
    from timm.models import model_entrypoint

    family = sys.modules[model_entrypoint(name).__module__]
    convert: Conversion | None = getattr(family, "checkpoint_filter_fn", None)
    return convert or (lambda state, _: state)


def _classifiers(net: Any) -> tuple[str, ...]:
    """What the names of a model's classifier begin with, of which it may have several."""
    named = net.pretrained_cfg.get("classifier") or ()
    return tuple(f"{name}." for name in ([named] if isinstance(named, str) else named))


def _levels(net: Any) -> list[_Level]:
    """Where timm says that features can be had: nowhere, for a few models."""
    listed = getattr(net, "feature_info", None) or ()
    return [_Level(str(each["module"]), int(each["num_chs"]), int(each["reduction"])) for each in listed]


def _spread(levels: list[_Level]) -> list[_Level]:
    """At most four of the levels behind the stem, evenly, the last among them."""
    coarse = [level for level in levels if level.reduction >= STEM_ENDS]
    chosen = coarse or levels
    count = len(chosen)
    if count <= MOST_STAGES:
        return chosen
    return [chosen[(number * count) // MOST_STAGES - 1] for number in range(1, MOST_STAGES + 1)]
