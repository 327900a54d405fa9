"""How images become the input of a graph, and which output is the embedding: what it says, or the user."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from sil_cli.errors import ModelError, UsageError, did_you_mean
from sil_cli.files import sha256_of_bytes
from sil_cli.models.engines.network import ANOTHER
from sil_cli.models.record import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Architecture,
    ExportRecord,
    ForeignGraph,
    ModelRecord,
)
from sil_cli.runtime import cpu_kind
from sil_cli.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sil_cli.models.engines.network import Network
    from sil_cli.models.engines.onnx_file import Port

Colours = tuple[float, float, float]

BACKBONE = "graph"
"""What stands for the backbone of a model that is a graph."""

MOST_PARTS = 16
"""Of a person, that an embedding may consist of."""

_LARGEST_SIDE = 2048
_LARGEST_BATCH = 1024
_ANCHORS = 1000
_EMBEDS = re.compile(r"embed|feat|descriptor|re_?id|bottleneck|neck", re.IGNORECASE)
_DETECTS = re.compile(r"box|dets?$|detections?$|num_det|labels?$|anchors?|scores?$|masks?$", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class InputWish:
    """What the user says of a graph.

    Attributes:
        height: Of its input; None as the graph says.
        width: Likewise.
        mean: As in `ForeignGraph`; None for what the graph says, or ImageNet's.
        std: Likewise.
        scale: Likewise.
        bgr: Its channels are blue, green, red; None for what the graph says.
        output: Which output is the embedding.
    """

    height: int | None = None
    width: int | None = None
    mean: Colours | None = None
    std: Colours | None = None
    scale: float | None = None
    bgr: bool | None = None
    output: str | None = None


def draft_record(network: Network, wish: InputWish, notes: list[str]) -> ExportRecord:
    """The record of a graph, as far as it can be told before it computes: the embedding's dimension is not known yet.

    Args:
        network: The graph.
        wish: What the user says of it.
        notes: Gets what is assumed.

    Raises:
        UsageError: Something has to be said of the graph, or contradicts it.
        ModelError: It can't be a network that embeds people.
    """
    port = _image_input(network)
    layout, height, width = _size(network, port, wish, notes)
    batch = port.shape[0] if port.shape is not None else None
    if batch is not None and batch > _LARGEST_BATCH:
        raise ModelError(
            f"{network.name} takes {batch:,} images at once.", "Export it for any number of images, or one."
        )
    output = _embedding_output(network, wish.output, notes)
    scale, mean, std, bgr = _preparation(network, port, wish, notes)
    foreign = ForeignGraph(
        input=port.name,
        output=output.name,
        layout=layout,
        type=cast("Literal['float32', 'float16', 'float64', 'uint8']", port.type),
        batch=batch,
        bgr=bgr,
        scale=scale,
        mean=mean,
        std=std,
        data={name: sha256_of_bytes(content) for name, content in network.data.items()},
    )
    checksum = sha256_of_bytes(network.files[network.file])
    in_units = [tuple(value * scale / 255 for value in each) for each in (mean, std)]
    size = Architecture(
        backbone=BACKBONE,
        height=height,
        width=width,
        mean=cast("Colours", in_units[0]),
        std=cast("Colours", in_units[1]),
    )
    return ExportRecord(
        model=ModelRecord(architecture=size, dimension=1, fingerprint=foreign.fingerprint(checksum, height, width)),
        precision="float32",
        file=network.file,
        sha256=checksum,
        opset=network.opset,
        crops=1,
        measured_on="generated people",
        agreement={},
        cpu=cpu_kind(),
        versions={"sil": VERSION},
        foreign=foreign,
    )


def _image_input(network: Network) -> Port:
    if len(network.inputs) != 1:
        named = ", ".join(map(str, network.inputs)) or "none"
        raise ModelError(f"{network.name} has {len(network.inputs)} inputs ({named}), not one image.", ANOTHER)
    (port,) = network.inputs
    if port.type not in ("float32", "float16", "float64", "uint8"):
        raise ModelError(
            f"{network.name} takes {port}, which can't be pixels.",
            "Export it with an input of float32, float16 or uint8.",
        )
    if port.shape is not None and len(port.shape) != 4:
        raise ModelError(
            f"{network.name} takes {port}, not a batch of images.",
            "Export it with an input of 4 axes: images, channels, height and width.",
        )
    return port


def _size(network: Network, port: Port, wish: InputWish, notes: list[str]) -> tuple[Literal["NCHW", "NHWC"], int, int]:
    """Layout, height and width of the input."""
    shape = port.shape or (None,) * 4
    first, last = shape[1] in (3, None), shape[3] in (3, None)
    if not first and not last:
        raise ModelError(
            f"{network.name} takes {port}, not images of 3 channels.", "Use a network for images in colour."
        )
    layout: Literal["NCHW", "NHWC"] = "NHWC" if (last and shape[3] == 3 and shape[1] != 3) or not first else "NCHW"
    said = port.layout
    if first and last and said in ("NCHW", "NHWC"):
        layout = "NHWC" if said == "NHWC" else "NCHW"
    elif shape[1] == shape[3]:
        notes.append(f"{network.name} doesn't say where its channels are: taken as {layout}.")
    known = shape[2:] if layout == "NCHW" else shape[1:3]
    sizes = []
    for name, given, wanted in (("height", known[0], wish.height), ("width", known[1], wish.width)):
        if given is None and wanted is None:
            raise UsageError(
                f"{network.name} takes images of any {name}.",
                "Say which it was trained at, for example --height 256 --width 128.",
            )
        if given is not None and wanted not in (None, given):
            raise UsageError(
                f"{network.name} takes images of {name} {given} only, not {wanted}.", f"Leave --{name} out."
            )
        sizes.append(cast("int", given if given is not None else wanted))
    if not all(1 < side <= _LARGEST_SIDE for side in sizes):
        raise ModelError(
            f"{network.name} takes images of {sizes[0]}×{sizes[1]} pixels.",
            f"Use a network for crops of up to {_LARGEST_SIDE}×{_LARGEST_SIDE}.",
        )
    return layout, sizes[0], sizes[1]


def _embedding_output(network: Network, wanted: str | None, notes: list[str]) -> Port:
    by_name = {port.name: port for port in network.outputs}
    listed = ", ".join(map(str, network.outputs)) or "none"
    if wanted is not None:
        if wanted not in by_name:
            raise UsageError(f"{network.name} has no output {wanted}; it has {listed}.", did_you_mean(wanted, by_name))
        return by_name[wanted]
    if _is_detector(network):
        raise ModelError(f"{network.name} is a detector: it gives boxes ({listed}), not an embedding.", ANOTHER)
    vectors = [port for port in network.outputs if port.type.startswith("float") and _may_be_vector(port)]
    named = [port for port in vectors if _EMBEDS.search(port.name)]
    chosen = vectors if len(vectors) == 1 else named
    if len(network.outputs) < 2 and not vectors:
        raise ModelError(f"{network.name} gives {listed}, which is not an embedding.", ANOTHER)
    if len(chosen) != 1:
        raise UsageError(
            f"{network.name} has {len(network.outputs)} outputs: {listed}.",
            "Say which is the embedding: --output NAME.",
        )
    if len(network.outputs) > 1:
        others = ", ".join(port.name for port in network.outputs if port.name != chosen[0].name)
        notes.append(f"The output {chosen[0].name} is taken as the embedding, not {others}; --output says another.")
    return chosen[0]


def _may_be_vector(port: Port) -> bool:
    """Whether an output can be a vector of each image, or a few of its parts."""
    if port.shape is None:
        return True
    long = [size for size in port.shape[1:] if size != 1]
    return len(port.shape) > 1 and (
        len(long) == 1 or (len(long) == 2 and (long[0] or 1) <= MOST_PARTS and len(port.shape) < 4)
    )


def _is_detector(network: Network) -> bool:
    """Whether it finds people instead of describing one: by its operations, its makers' notes or its outputs."""
    if any("NonMaxSuppression" in kind or "NMS" in kind or kind == "DetectionOutput" for kind in network.kinds):
        return True
    if network.noted.get("task") in ("detect", "segment", "pose", "obb"):
        return True
    if sum(_DETECTS.search(port.name) is not None for port in network.outputs) >= 2:
        return True
    grids = [[size for size in port.shape[1:] if size != 1] for port in network.outputs if port.shape is not None]
    return bool(grids) and all(len(grid) == 2 and max(size or 0 for size in grid) >= _ANCHORS for grid in grids)


def _preparation(
    network: Network, port: Port, wish: InputWish, notes: list[str]
) -> tuple[float, Colours, Colours, bool]:
    """Scale, mean, deviation and order of channels: the user's, else the makers', else the graph's, else ImageNet's."""
    said = (wish.scale, wish.mean, wish.std)
    own = any(each is not None for each in said)
    noted = _noted(network.noted)
    bgr = wish.bgr if wish.bgr is not None else _is_bgr(network.noted)
    if port.type == "uint8":
        if own:
            raise UsageError(
                f"{network.name} takes uint8, and so prepares images itself.", "Leave --mean, --std and --scale out."
            )
        return 1.0, (0.0,) * 3, (1.0,) * 3, bgr
    if own:
        if wish.scale is None and max(wish.mean or (0.0,)) > 1.5:
            raise UsageError(
                "--mean is larger than 1, and images are divided by 255 first.", "For values in 0..255 add --scale 1."
            )
        if network.first is not None:
            notes.append(f"{network.name} normalises images itself, and now they are normalised before as well.")
        return wish.scale or 255.0, wish.mean or (0.0,) * 3, wish.std or (1.0,) * 3, bgr
    if noted is not None:
        return (*noted, bgr)
    if network.first is not None:
        factor, addend = network.first
        whole = np.abs(factor).max() < 0.5 or np.abs(addend).max() > 10
        notes.append(f"{network.name} normalises images itself; it seems to take values in 0..{255 if whole else 1}.")
        return (1.0 if whole else 255.0), (0.0,) * 3, (1.0,) * 3, bgr
    notes.append(
        f"{network.name} doesn't say how images are normalised: taken are RGB values in 0..1, less ImageNet's mean, by "
        "its deviation. Say otherwise with --mean, --std, --scale and --bgr."
    )
    return 255.0, IMAGENET_MEAN, IMAGENET_STD, bgr


def _is_bgr(noted: Mapping[str, str]) -> bool:
    reverse = noted.get("reverse_input_channels", "").lower() in ("yes", "true", "1")
    return reverse or noted.get("image.bitmappixelformat", "").lower().startswith("bgr")


def _noted(notes: Mapping[str, str]) -> tuple[float, Colours, Colours] | None:
    """What a graph's makers noted of its input: by OpenVINO's Model API, by ONNX's own words, or as mean and std."""
    ranges: dict[str, tuple[float, float]] = {
        "nominalrange_0_255": (1.0, 0.0),
        "normalized_0_1": (255.0, 0.0),
        "normalized_1_1": (127.5, 1.0),
    }
    nominal = ranges.get(notes.get("image.nominalpixelrange", "").lower())
    if nominal is not None:
        return nominal[0], (nominal[1],) * 3, (1.0,) * 3
    mean = _colours(notes.get("mean_values", notes.get("mean", "")))
    std = _colours(notes.get("scale_values", notes.get("std", "")))
    if mean is None and std is None:
        return None
    whole = "mean_values" in notes or "scale_values" in notes or max(mean or (0.0,)) > 1.5
    if _is_bgr(notes):  # as the network's channels lie
        mean, std = (each and (each[2], each[1], each[0]) for each in (mean, std))
    return (1.0 if whole else 255.0), mean or (0.0,) * 3, std or (1.0,) * 3


def _colours(text: str) -> Colours | None:
    numbers = [float(each) for each in _NUMBER.findall(text)]
    if len(numbers) == 1:
        numbers *= 3
    return (numbers[0], numbers[1], numbers[2]) if len(numbers) == 3 else None
