"""`sil import-model`."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from sil_cli.cli.command import Option
from sil_cli.errors import UsageError, quoted
from sil_cli.settings.fields import PublishedBy

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.models.download import Origin
    from sil_cli.models.engines.import_graph import GraphImportResult
    from sil_cli.models.import_model import ImportResult

EXAMPLES = """
sil import-model authors.pth --out published
sil import-model osnet_ain_x1_0_msmt17.pth --out osnet
sil import-model transreid.pth --like transreid-vit --camera mean --out transreid
sil import-model https://example.org/osnet.pth --sha256 CHECKSUM --out fetched
sil import-model net.onnx --mean 0.5 --std 0.5 --out net
sil evaluate --model published --target data/market1501
"""
GRAPH = "For a graph"
CARD = "Where it came from, for its card"
WEIGHTS = "For a file of weights"
Colours = tuple[float, float, float]
OPTIONS = (
    Option(
        "weights",
        "model.weights",
        "FILE",
        "A .safetensors or .pth file with nothing but tensors by name; an .onnx file; an OpenVINO IR's .xml; or "
        "https://… or hf://owner/name[@revision]/file of one.",
        required=True,
    ),
    Option("--out", metavar="DIR", help="The model folder to make.", kind=Path, required=True),
    Option(
        "--like",
        metavar="NAME",
        help=f"Whose code wrote it, where its names don't say: {', '.join(get_args(PublishedBy))}.",
        panel=WEIGHTS,
        kind=str,
    ),
    Option("--backbone", "model.backbone", "NAME", "Its network, where its names don't say.", WEIGHTS),
    Option("--stride", "model.last_stride", "1|2", "Stride of a ResNet's last stage.", WEIGHTS),
    Option("--pooling", "model.pooling", None, "How feature maps become vectors: {choices}.", WEIGHTS),
    Option("--neck", None, "before|after", "Which side of its last batch norm is the embedding.", WEIGHTS, str),
    Option("--camera", None, "N|mean", "Which camera to embed as, if it learnt something about each.", WEIGHTS, str),
    Option("--height", "model.height", "N", "Input height; default: what the file or its family has, or 256."),
    Option("--width", "model.width", "N", "Input width; default: what the file or its family has, or 128."),
    Option("--mean", None, "R,G,B", "Subtracted from the scaled values of red, green, blue.", kind=str),
    Option("--std", None, "R,G,B", "What they are then divided by.", kind=str),
    Option("--scale", None, "N", "What values 0..255 are divided by first; default: 255.", GRAPH, kind=float),
    Option("--bgr", help="Channels are blue, green, red.", panel=GRAPH),
    Option("--output", None, "NAME", "The output that is the embedding.", GRAPH, kind=str),
    Option("--sha256", None, "CHECKSUM", "The file's checksum, as its publisher states it.", CARD, str),
    Option("--licence", None, "NAME", "Its licence.", CARD, str),
    Option("--trained-on", None, "NAME", "A data set that it was trained on; may be repeated.", CARD, list[str]),
)


def run(current: Session) -> ImportResult | GraphImportResult:
    """Turn a published checkpoint into a model.

    Files of the paper's authors, torchreid, fast-reid, "Bag of Tricks", TransReID and CLIP-ReID are told by their
    names. What their embeddings depend on is taken from its names and shapes, and asked for where they don't tell. An
    ONNX file or an OpenVINO IR becomes a model that is computed as it is.
    """
    given = current.given
    from sil_cli.models.download import find
    from sil_cli.models.record import is_graph

    mean, std = _colours("--mean", given["mean"]), _colours("--std", given["std"], positive=True)
    origin = find(given["weights"], given["sha256"], current.reporter)
    origin = replace(
        origin,
        licence=given["licence"] or origin.licence,
        trained_on=tuple(given["trained_on"] or origin.trained_on),
    )
    path = origin.path
    graph = is_graph(path)
    _refuse_for_others(given, path, WEIGHTS if graph else GRAPH)
    if graph:
        current.settings()
        return _import_graph(current, origin, mean, std)
    settings = current.settings({"model": {"mean": mean, "std": std}})
    from sil_cli.models.families import name_some
    from sil_cli.models.import_model import ImportRequest, import_model

    request = ImportRequest(origin, given["out"], given["like"], given["neck"], given["camera"])
    result = import_model(settings, request)
    if result.family:
        current.say(f"This is {result.family}.")
    if result.assumed:
        current.say(f"Assumed, as in everything that its family has published: {', '.join(result.assumed)}.")
    if result.dropped:
        current.say(f"Left out, as no embedding needs it: {name_some(result.dropped)}.")
    for note in result.notes:
        current.reporter.warn(note)
    current.next_command(
        f"{result.backbone} with {result.dimension} dimensions in {result.model}.",
        f"sil evaluate --model {quoted(result.model)} --target DIR",
    )
    return result


def _refuse_for_others(given: dict[str, Any], path: Path, panel: str) -> None:
    """Refuse options that are for files of the other kind."""
    for option in OPTIONS:
        if option.panel == panel and given[option.name] is not None:
            kind = "weights" if panel == WEIGHTS else "graphs"
            raise UsageError(f"{option.flag} is for {kind}, which {path} is not.", f"Leave {option.flag} out.")


def _import_graph(current: Session, origin: Origin, mean: Colours | None, std: Colours | None) -> GraphImportResult:
    from sil_cli.models.engines.graph_input import InputWish
    from sil_cli.models.engines.import_graph import import_graph

    given = current.given
    if given["scale"] is not None and not (isfinite(given["scale"]) and given["scale"] > 0):
        raise UsageError(
            f"--scale is {given['scale']:g}, and has to be above 0.", "Write what values are divided by, such as 255."
        )
    wish = InputWish(
        height=given["height"],
        width=given["width"],
        mean=mean,
        std=std,
        scale=given["scale"],
        bgr=given["bgr"],
        output=given["output"],
    )
    result = import_graph(origin.path, given["out"], wish, current.reporter, origin.card())
    current.next_command(
        f"A graph with {result.dimension} dimensions in {result.model}, for {result.height}×{result.width} pixels, "
        f"computed by {' or '.join(result.engines)}.",
        f"sil evaluate --model {quoted(result.model)} --target DIR",
    )
    return result


def _colours(flag: str, text: str | None, *, positive: bool = False) -> Colours | None:
    """Three numbers, or one for all three channels."""
    if text is None:
        return None
    try:
        numbers = [float(each) for each in text.split(",")]
    except ValueError:
        numbers = []
    numbers = numbers * 3 if len(numbers) == 1 else numbers
    if len(numbers) != 3 or not all(map(isfinite, numbers)) or (positive and min(numbers) <= 0):
        kind = "numbers above 0" if positive else "numbers"
        raise UsageError(f"{flag} {text} is not three {kind}.", f"Write one for each colour: {flag} 0.485,0.456,0.406.")
    return numbers[0], numbers[1], numbers[2]
