"""Any model of timm (an optional extra), CLIP's and DINO's image towers among them."""

from __future__ import annotations

import contextlib
import sys
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sil_cli.errors import ModelError, UsageError
from sil_cli.files import one_line
from sil_cli.models.backbones.staged import Backbone
from sil_cli.models.record import Normalisation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch.utils.hooks import RemovableHandle

    from sil_cli.models.backbones.staged import Stylisation

    Conversion = Callable[[dict[str, Tensor], nn.Module], dict[str, Tensor]]

MOST_STAGES = 4
POOLING = ("head.", "attn_pool.")
"""timm's pooling of a map, which is not used here. That of CLIP's ResNets has positions for one map's size."""

INSTALL = "Install it with `pip install sil-cli[timm]`."


class TimmBackbone(Backbone):
    """A timm model in at most four stages, which are those that timm itself lists; a style is hooked in behind them.

    Convolutional networks give maps (B, C, h, w) as they are; transformers' tokens are laid out as maps, class and
    register tokens left aside.
    """

    def __init__(self, name: str, *, height: int, width: int) -> None:
        """Build it with random weights.

        Raises:
            UsageError: timm is not installed, has no such model, or it can't take images of this size.
        """
        super().__init__()
        self.net: Any = _create(name, height, width)
        self._name = name
        modules = [str(entry["module"]) for entry in self.net.feature_info]
        self._stage_modules = _spread(modules)
        self.stages = len(self._stage_modules)
        self.channels = int(self.net.num_features)
        self.head_prefixes = _classifiers(self.net)
        self._prefix_tokens = int(getattr(self.net, "num_prefix_tokens", 0))
        self._channels_last = getattr(self.net, "output_fmt", "NCHW") == "NHWC"
        patches = getattr(self.net, "patch_embed", None)
        self._grid: tuple[int, int] | None = getattr(patches, "grid_size", None)

    def forward(
        self, images: Tensor, *, style: Stylisation | None = None, after_stages: Sequence[int] = (1,)
    ) -> Tensor:
        """Feature maps of images; see `Backbone.forward`."""
        with self._styled(style, after_stages):
            return self._as_map(self.net.forward_features(images))

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
            for number, path in enumerate(self._stage_modules, start=1):
                if number in after_stages:
                    module = self.net.get_submodule(path)
                    handles.append(module.register_forward_hook(self._hook(style)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, style: Stylisation) -> Any:
        def restyle(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
            del module, inputs
            styled = style(self._as_map(output))
            if output.ndim == 3:
                tokens = styled.flatten(2).transpose(1, 2)
                return output.clone().index_copy_(1, self._patch_positions(output), tokens)
            return styled.permute(0, 2, 3, 1) if self._channels_last else styled

        return restyle

    def _patch_positions(self, tokens: Tensor) -> Tensor:
        return torch.arange(self._prefix_tokens, tokens.shape[1], device=tokens.device)

    def _as_map(self, output: Tensor) -> Tensor:
        if output.ndim == 4:
            return output.permute(0, 3, 1, 2) if self._channels_last else output
        patches = output[:, self._prefix_tokens :].transpose(1, 2)
        return patches.reshape(*patches.shape[:2], *(self._grid or (-1, 1)))


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


def _create(name: str, height: int, width: int) -> Any:
    timm = _timm_with(name)
    choices: tuple[dict[str, Any], ...] = ({"img_size": (height, width)}, {})
    for options in choices:
        try:
            net: Any = timm.create_model(name, pretrained=False, num_classes=0, **options)
            _try(net, height, width)
        except TypeError:  # convolutional networks take no size
            continue
        except (AssertionError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"timm:{name} can't take images of {height}×{width}: {one_line(error)}.",
                "Choose model.height and model.width that its patches or windows divide.",
            ) from error
        if not getattr(net, "feature_info", None):
            raise UsageError(f"timm:{name} does not list its stages.", "Choose a model that timm lists features of.")
        return net
    raise UsageError(f"timm:{name} can't be built without a classifier.", "Choose another backbone.")


@torch.no_grad()
def _try(net: Any, height: int, width: int) -> None:
    """Pass an image through: some models are built for any size, and fail at the first image of a wrong one."""
    net.eval().forward_features(torch.zeros(1, 3, height, width))
    net.train()


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


def _spread(modules: list[str]) -> list[str]:
    """At most four of the modules, evenly, the last among them."""
    if len(modules) <= MOST_STAGES:
        return modules
    count = len(modules)
    return [modules[(number * count) // MOST_STAGES - 1] for number in range(1, MOST_STAGES + 1)]
