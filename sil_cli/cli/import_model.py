"""`sil import-model`."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.cli.command import Option
from sil_cli.errors import UsageError

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.models.engines.import_graph import GraphImportResult
    from sil_cli.models.import_model import ImportResult

EXAMPLES = """
[bold]Examples[/]

sil import-model authors.pth --out published

sil import-model r50_ibn_a.pth --backbone resnet50-ibn-a --out ibn

sil import-model net.onnx --mean 0.5 --std 0.5 --out net

sil evaluate --model published --target data/market1501
"""
GRAPH = "Of a graph"
OPTIONS = (
    Option(
        "weights",
        "model.weights",
        "FILE",
        "A .safetensors or .pth file with nothing but tensors by name; an .onnx file; or an OpenVINO IR's .xml.",
        required=True,
    ),
    Option("--out", metavar="DIR", help="The model folder to make.", kind=Path, required=True),
    Option("--backbone", "model.backbone", "NAME", "The network of a file of weights; default: resnet50."),
    Option("--height", "model.height", "N", "Input height; default: 256, or as a graph says."),
    Option("--width", "model.width", "N", "Input width; default: 128, or as a graph says."),
    Option("--mean", None, "R,G,B", "Subtracted from the scaled values of red, green, blue.", GRAPH, kind=str),
    Option("--std", None, "R,G,B", "What they are then divided by.", GRAPH, kind=str),
    Option("--scale", None, "N", "What values 0..255 are divided by first; default: 255.", GRAPH, kind=float),
    Option("--bgr", help="Channels are blue, green, red.", panel=GRAPH),
    Option("--output", None, "NAME", "The output that is the embedding.", GRAPH, kind=str),
)


def run(current: Session) -> ImportResult | GraphImportResult:
    """Turn a published checkpoint into a model: torchvision's, IBN-Net's, torchreid's OSNet, the paper's authors'.

    An ONNX file or an OpenVINO IR becomes a model that is computed as it is.
    """
    from sil_cli.models.record import is_graph

    settings = current.settings()
    out: Path = current.given["out"]
    if is_graph(Path(settings.model.weights)):
        return _import_graph(current, Path(settings.model.weights), out)
    of_graphs = [each.flag for each in OPTIONS if each.panel == GRAPH and current.given[each.name] is not None]
    if of_graphs:
        raise UsageError(
            f"{of_graphs[0]} is for graphs, and {settings.model.weights} is none.", f"Leave {of_graphs[0]} out."
        )
    from sil_cli.models.import_model import import_model

    result = import_model(settings, out)
    current.next_command(
        f"{result.backbone} with {result.dimension} dimensions in {result.model}.",
        f"sil evaluate --model {result.model} --target DIR",
    )
    return result


def _import_graph(current: Session, path: Path, out: Path) -> GraphImportResult:
    from sil_cli.models.engines.graph_input import InputWish
    from sil_cli.models.engines.import_graph import import_graph

    given = current.given
    if given["backbone"] is not None:
        raise UsageError(f"{path} is a graph, which has its network in it.", "Leave --backbone out.")
    if given["scale"] is not None and not (isfinite(given["scale"]) and given["scale"] > 0):
        raise UsageError(
            f"--scale is {given['scale']:g}, and has to be above 0.", "Write what values are divided by, such as 255."
        )
    wish = InputWish(
        height=given["height"],
        width=given["width"],
        mean=_colours("--mean", given["mean"]),
        std=_colours("--std", given["std"], positive=True),
        scale=given["scale"],
        bgr=given["bgr"],
        output=given["output"],
    )
    result = import_graph(path, out, wish, current.reporter)
    current.next_command(
        f"A graph with {result.dimension} dimensions in {result.model}, for {result.height}×{result.width} pixels, "
        f"computed by {' or '.join(result.engines)}.",
        f"sil evaluate --model {result.model} --target DIR",
    )
    return result


def _colours(flag: str, text: str | None, *, positive: bool = False) -> tuple[float, float, float] | None:
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
