"""Pretrained backbone weights: torchvision's, or a local file; loaded strictly and never unpickled freely."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

import safetensors.torch
import torch
from torchvision.models import get_model_weights

from sil_cli.errors import ModelError, UsageError
from sil_cli.files import one_line
from sil_cli.models.backbones.names import IBN, NAMES, OSNETS, TIMM
from sil_cli.runtime import import_quietly

if TYPE_CHECKING:
    from torch import Tensor

    from sil_cli.models.embedder import Embedder

IMAGENET = "imagenet"
NONE = "none"
WRAPPERS = re.compile(r"(?:(?:module|model)\.)*")
"""What DataParallel and training loops put before every name."""

BACKBONE = re.compile(r"(?:(?:backbone|base|net|module|model)\.)*")
"""What re-identification code calls the backbone within its model: this program, the paper's authors, timm here."""

NECK = re.compile(r"(?:(?:neck|feat_bn0|bottleneck)\.)+")
"""What it calls the batch norm before the embedding: this program, the paper's authors, "Bag of Tricks"."""


def load_pretrained(embedder: Embedder, weights: str) -> None:
    """Put pretrained weights into an embedder, in place.

    A file of a backbone leaves the neck as it is; one of a whole model (this program's, the paper's authors') brings
    its neck along. A published classifier is left out. Everything else must fit.

    Args:
        embedder: The model.
        weights: `imagenet` (torchvision's or timm's, downloaded once), `none` (leave the random weights), or the path
            of a .safetensors or .pth file with the published parameter names.

    Raises:
        ModelError: The weights can't be had, read, or do not fit; says which parameters.
        UsageError: The file does not exist, or there are no ImageNet weights for this backbone.
    """
    if weights == NONE:
        return
    name = embedder.architecture.backbone
    state = _of_imagenet(name) if weights == IMAGENET else read_state(Path(weights))
    source = f"{IMAGENET} for {name}" if weights == IMAGENET else weights
    _load_strictly(embedder, state, source)


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
        if "TorchScript" in str(error):
            raise ModelError(
                f"{path} is a TorchScript program, as OpenAI published CLIP; programs in files are not run here.",
                "If you trust it, save torch.jit.load(FILE).state_dict() with safetensors, and name that file.",
            ) from error
        raise ModelError(f"{path} can't be read as weights: it is damaged or holds other objects.", fix) from error
    state = _unwrapped(state)
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"{path} does not hold a table of tensors by name.", fix)
    return state


def _of_imagenet(name: str) -> dict[str, Tensor]:
    """The published ImageNet weights of a backbone, downloaded once.

    Raises:
        UsageError: None are published where they could be had.
        ModelError: They can't be downloaded.
    """
    if name in (*OSNETS, *(each for each in NAMES if each.endswith(IBN))):
        raise UsageError(
            f"torchvision has no ImageNet weights of {name}.",
            "Get its authors' file and name it with --weights FILE, or start from scratch with --weights none.",
        )
    try:
        # torch.hub announces a download on stdout, which belongs to a command's result.
        with contextlib.redirect_stdout(sys.stderr):
            if name.startswith(TIMM):
                return _of_timm(name.removeprefix(TIMM))
            entry = get_model_weights(name)["IMAGENET1K_V1"]
            state: dict[str, Tensor] = entry.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise ModelError(
            f"The ImageNet weights of {name} can't be downloaded: {one_line(error)}.",
            "Connect to the internet once, or use --weights FILE with the published file, or --weights none to start "
            "from scratch.",
        ) from error
    return state


def _of_timm(name: str) -> dict[str, Tensor]:
    timm = import_quietly("timm")
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)  # offline it tells each of its twelve attempts
    try:
        state: dict[str, Tensor] = timm.create_model(name, pretrained=True, num_classes=0).state_dict()
    finally:
        hub.setLevel(level)
    return state


def _load_strictly(embedder: Embedder, state: dict[str, Tensor], source: str) -> None:
    own = _own_names(embedder, state, source)
    wanted = embedder.state_dict()
    if all(key.startswith("backbone.") for key in own):
        wanted = {key: value for key, value in wanted.items() if key.startswith("backbone.")}
    _check_numbers(own, wanted, source)
    # Older files lack these counters, which no computation here reads.
    missing = sorted(key for key in wanted.keys() - own.keys() if not key.endswith("num_batches_tracked"))
    unknown = sorted(own.keys() - wanted.keys())
    shapes = sorted(key for key in wanted.keys() & own.keys() if wanted[key].shape != own[key].shape)
    for problem, keys in (("lacks", missing), ("has unknown", unknown), ("has other shapes for", shapes)):
        if keys:
            shown = [key.removeprefix("backbone.") for key in keys[:3]]
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise ModelError(
                f"{source} does not fit this model: it {problem} {', '.join(shown)}{more}.",
                "Choose the backbone that the file was made for (model.backbone).",
            )
    embedder.load_state_dict(own, strict=False)


def _check_numbers(own: dict[str, Tensor], wanted: dict[str, Tensor], source: str) -> None:
    """Check that what becomes a floating parameter holds floating, finite numbers.

    Raises:
        ModelError: One doesn't; names the first.
    """
    for key, value in own.items():
        if key not in wanted or not wanted[key].is_floating_point():
            continue
        if not value.is_floating_point():
            kind = str(value.dtype).removeprefix("torch.")
            raise ModelError(
                f"{source} holds values of type {kind} for {key.removeprefix('backbone.')}, not floating-point.",
                "Give the weights as they were before quantisation.",
            )
        if not value.float().isfinite().all():  # as the parameters are; float8 can't be asked
            raise ModelError(
                f"{source} holds NaN or infinite values for {key.removeprefix('backbone.')}.",
                "Give another file: the training that wrote this one had diverged, or the file is damaged.",
            )


def _own_names(embedder: Embedder, state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """A file's parameters under this program's names: `backbone.…`, `neck.…` and what else the model has.

    Raises:
        ModelError: Two names become one, as in a file of a network and of its moving average.
    """
    found: dict[tuple[str, str], str] = {}
    for name in state:
        place = _place(name)
        if place in found:
            raise ModelError(
                f"{source} holds {place[1]} twice, as {found[place]} and as {name}.",
                "Give a file that holds one network.",
            )
        found[place] = name
    own = {f"{part}{short}": state[name] for (part, short), name in found.items() if part != "backbone."}
    backbone = {short: state[name] for (part, short), name in found.items() if part == "backbone."}
    if any(part == "neck." for part, _ in found):  # beside its backbone such a file has classifiers, which are not used
        backbone = {short: value for short, value in backbone.items() if not short.startswith(("classifier", "fc."))}
    prefix = "backbone.net." if embedder.architecture.backbone.startswith(TIMM) else "backbone."
    return own | {f"{prefix}{short}": value for short, value in embedder.backbone.adapted(backbone).items()}


def _place(name: str) -> tuple[str, str]:
    """To which part of an embedder a file's parameter belongs, and what it is called there."""
    plain = WRAPPERS.sub("", name, count=1)
    if NECK.match(plain):
        return "neck.", NECK.sub("", plain, count=1)
    if plain.startswith(("pool.", "projection.")):
        return "", plain
    return "backbone.", BACKBONE.sub("", plain, count=1)


def _unwrapped(content: Any) -> Any:
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            return content[key]
    return content
