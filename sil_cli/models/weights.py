"""Pretrained backbone weights: torchvision's, or a local file; loaded strictly and never unpickled freely."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

import safetensors.torch
import torch
from torchvision.models import get_model_weights

from sil_cli.errors import ModelError, UsageError
from sil_cli.files import one_line

if TYPE_CHECKING:
    from torch import Tensor

    from sil_cli.models.backbone import StagedResNet
    from sil_cli.models.record import BackboneName

IMAGENET = "imagenet"
NONE = "none"
WRAPPER_PREFIXES = ("module.", "backbone.")
CLASSIFIER_PREFIX = "fc."


def load_pretrained(backbone: StagedResNet, name: BackboneName, weights: str) -> None:
    """Put pretrained weights into a backbone, in place.

    Args:
        backbone: The network.
        name: Its torchvision name.
        weights: `imagenet` (torchvision's IMAGENET1K_V1, downloaded once), `none` (leave the random weights),
            or the path of a .safetensors or .pth file with torchvision's parameter names.

    Raises:
        ModelError: The weights can't be had, read, or do not fit; says which parameters.
        UsageError: The file does not exist.
    """
    if weights == NONE:
        return
    state = _from_torchvision(name) if weights == IMAGENET else read_state(Path(weights))
    source = f"torchvision's weights of {name}" if weights == IMAGENET else weights
    _load_strictly(backbone, state, source)


def read_state(path: Path) -> dict[str, Tensor]:
    """The parameters in a .safetensors file or a `torch.save`d state dict (`weights_only=True`).

    A state dict may lie under the key `state_dict` or `model`.

    Raises:
        UsageError: The file does not exist.
        ModelError: It can't be read, or holds something else than tensors.
    """
    fix = "Give a .safetensors file, or a .pth file that holds nothing but tensors by name."
    if not path.is_file():
        raise UsageError(f"There is no weights file {path}.", "Use imagenet, none, or the path of a file.")
    try:
        if path.suffix == ".safetensors":
            state: Any = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # on damaged bytes the unpickler may raise anything
        raise ModelError(f"{path} can't be read as weights: it is damaged or holds other objects.", fix) from error
    state = _unwrapped(state)
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"{path} holds no table of tensors by name.", fix)
    return state


def _from_torchvision(name: BackboneName) -> dict[str, Tensor]:
    entry = get_model_weights(name)["IMAGENET1K_V1"]
    try:
        # torch.hub announces a download on stdout, which belongs to a command's result.
        with contextlib.redirect_stdout(sys.stderr):
            state: dict[str, Tensor] = entry.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise ModelError(
            f"The ImageNet weights of {name} can't be downloaded: {one_line(error)}.",
            "Go online once, or use --weights FILE with torchvision's file, or --weights none to start from scratch.",
        ) from error
    return state


def _load_strictly(backbone: StagedResNet, state: dict[str, Tensor], source: str) -> None:
    renamed = {_plain(name): value for name, value in state.items()}
    renamed = {name: value for name, value in renamed.items() if not name.startswith(CLASSIFIER_PREFIX)}
    wanted = backbone.state_dict()
    # torchvision's older files lack these counters, which no computation here reads.
    missing = sorted(key for key in wanted.keys() - renamed.keys() if not key.endswith("num_batches_tracked"))
    unknown = sorted(renamed.keys() - wanted.keys())
    shapes = sorted(key for key in wanted.keys() & renamed.keys() if wanted[key].shape != renamed[key].shape)
    for problem, keys in (("lacks", missing), ("has unknown", unknown), ("has other shapes for", shapes)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise ModelError(
                f"{source} does not fit this backbone: it {problem} {', '.join(keys[:3])}{more}.",
                "Choose the backbone that the file was made for (model.backbone).",
            )
    backbone.load_state_dict(renamed, strict=False)


def _unwrapped(content: Any) -> Any:
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            return content[key]
    return content


def _plain(name: str) -> str:
    for prefix in WRAPPER_PREFIXES:
        name = name.removeprefix(prefix)
    return name
