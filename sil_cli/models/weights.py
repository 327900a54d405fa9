"""Pretrained backbone weights: torchvision's, or a local file; loaded strictly and never unpickled freely."""

from __future__ import annotations

import contextlib
import logging
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError

from sil_cli.errors import ModelError, UsageError, one_line
from sil_cli.models.backbones.names import IBN, NAMES, OSNETS, RESNETS, TIMM, TOKEN_VITS
from sil_cli.models.families import BACKBONE, NECK, WRAPPERS, name_some, recognise, twice
from sil_cli.models.record import IMAGENET, NONE, WEIGHTS_FILE, is_graph, read_record
from sil_cli.runs.weight_file import read_state
from sil_cli.runtime import import_quietly

if TYPE_CHECKING:
    from torch import Tensor

    from sil_cli.models.embedder import Embedder

_UNPUBLISHED = (*OSNETS, *TOKEN_VITS, *(name for name in NAMES if name.endswith(IBN)))
"""Of these torchvision has no ImageNet weights."""

TOLD = (*RESNETS, *(f"{name}{IBN}" for name in RESNETS), *OSNETS, *TOKEN_VITS)
"""Backbones whose published files are told apart by their names."""


def load_pretrained(embedder: Embedder, weights: str) -> tuple[str, ...]:
    """Put pretrained weights into an embedder, in place.

    A file of a backbone leaves the neck as it is; one of a whole model (this program's, the paper's authors') brings
    its neck along. A published classifier is left out. Everything else must fit.

    Args:
        embedder: The model.
        weights: `imagenet` (torchvision's or timm's, downloaded once), `none` (leave the random weights), or the path
            of a .safetensors or .pth file with the published parameter names, or of a folder with a model of ours.

    Returns:
        The names of the file's parameters that were left out.

    Raises:
        ModelError: The weights can't be had, read, or do not fit; says which parameters.
        UsageError: The file does not exist, or there are no ImageNet weights for this backbone.
    """
    if weights == NONE:
        return ()
    if weights != IMAGENET and is_graph(Path(weights)):
        raise ModelError(
            f"{weights} is a graph: it has no weights by name, and can't be trained further.",
            f"Use it as it is, with `sil import-model {shlex.quote(weights)} --out DIR`; or name what it was made of.",
        )
    if Path(weights).is_dir():
        read_record(Path(weights))  # says what it is, where it isn't one
        weights = str(Path(weights) / WEIGHTS_FILE)
    name = embedder.architecture.backbone
    state = _of_imagenet(name) if weights == IMAGENET else read_state(Path(weights))
    source = f"{IMAGENET} for {name}" if weights == IMAGENET else weights
    published = recognise(source, state) if name in TOLD and weights != IMAGENET else None
    if published is not None and published.backbone == name:
        wanted = embedder.state_dict().keys()
        own = {key: value for key, value in published.state.items() if key in wanted or key.startswith("backbone.")}
        dropped = [*published.dropped, *(key for key in published.state if key not in own)]
    else:
        own, dropped = _own_names(embedder, state, source)
    load_strictly(embedder, own, source)
    return tuple(dropped)


def _of_imagenet(name: str) -> dict[str, Tensor]:
    """The published ImageNet weights of a backbone, downloaded once.

    Raises:
        UsageError: None are published where they could be had.
        ModelError: They can't be downloaded.
    """
    if name in _UNPUBLISHED:
        raise UsageError(
            f"torchvision has no ImageNet weights of {name}.",
            "Get its authors' file and name it with --weights FILE, or start from scratch with --weights none.",
        )
    try:
        # torch.hub announces a download on stdout, which belongs to a command's result.
        with contextlib.redirect_stdout(sys.stderr):
            if name.startswith(TIMM):
                return _of_timm(name.removeprefix(TIMM))
            from torchvision.models import get_model_weights

            entry = get_model_weights(name)["IMAGENET1K_V1"]
            state: dict[str, Tensor] = entry.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise ModelError(
            f"The ImageNet weights of {name} can't be downloaded: {one_line(error)}.",
            "Connect to the internet once, or use --weights FILE with the published file, or --weights none to start "
            "from scratch.",
        ) from error
    return state


def imagenet_weights_are_here(name: str) -> bool:
    """Whether torchvision's ImageNet weights of a backbone have been downloaded; of timm's that can't be told."""
    if name.startswith(TIMM) or name in _UNPUBLISHED:
        return False
    from torch import hub
    from torchvision.models import get_model_weights

    file = Path(get_model_weights(name)["IMAGENET1K_V1"].url).name
    return (Path(hub.get_dir()) / "checkpoints" / file).is_file()


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


def load_strictly(embedder: Embedder, own: dict[str, Tensor], source: str) -> None:
    """Load parameters under this program's names, all of the backbone's or all of the model's.

    Raises:
        ModelError: Some are missing, unknown, of another shape, or no finite numbers; names the first.
    """
    wanted = embedder.state_dict()
    if all(key.startswith("backbone.") for key in own):
        wanted = {key: value for key, value in wanted.items() if key.startswith("backbone.")}
    # Older files lack these counters, which no computation here reads.
    missing = sorted(key for key in wanted.keys() - own.keys() if not key.endswith("num_batches_tracked"))
    unknown = sorted(own.keys() - wanted.keys())
    shapes = sorted(key for key in wanted.keys() & own.keys() if wanted[key].shape != own[key].shape)
    for problem, keys in (("lacks", missing), ("has unknown", unknown), ("has other shapes for", shapes)):
        if keys:
            shown = name_some([key.removeprefix("backbone.") for key in keys])
            raise ModelError(
                f"{source} does not fit this model: it {problem} {shown}.",
                "Choose the backbone that the file was made for (model.backbone).",
            )
    _check_numbers(own, wanted, source)
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


def _own_names(embedder: Embedder, state: dict[str, Tensor], source: str) -> tuple[dict[str, Tensor], list[str]]:
    """A file's parameters under this program's names, `backbone.…`, `neck.…` and so on; and which it has beside them.

    Raises:
        ModelError: Two names become one, as in a file of a network and of its moving average.
    """
    found: dict[tuple[str, str], str] = {}
    for name in state:
        place = _place(name)
        if place in found:
            raise twice(source, place[1], found[place], name)
        found[place] = name
    own = {f"{part}{short}": state[name] for (part, short), name in found.items() if part != "backbone."}
    backbone = {short: state[name] for (part, short), name in found.items() if part == "backbone."}
    heads = embedder.backbone.head_prefixes
    if any(part == "neck." for part, _ in found):  # beside its backbone such a file has classifiers, which are not used
        heads = (*heads, "classifier", "fc.")
        backbone = {short: value for short, value in backbone.items() if not short.startswith(heads)}
    dropped = [
        name for (part, short), name in found.items() if part == "backbone." and short.startswith(heads or ("\0",))
    ]
    prefix = "backbone.net." if embedder.architecture.backbone.startswith(TIMM) else "backbone."
    named = {f"{prefix}{short}": value for short, value in embedder.backbone.adapted(backbone).items()}
    return own | named, dropped


def _place(name: str) -> tuple[str, str]:
    """To which part of an embedder a file's parameter belongs, and what it is called there."""
    plain = WRAPPERS.sub("", name, count=1)
    if NECK.match(plain):
        return "neck.", NECK.sub("", plain, count=1)
    if plain.startswith(("pool.", "projection.")):
        return "", plain
    return "backbone.", BACKBONE.sub("", plain, count=1)
