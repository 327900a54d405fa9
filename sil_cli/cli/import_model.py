"""`sil import-model`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.cli.command import Option

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.models.import_model import ImportResult

EXAMPLES = """
[bold]Examples[/]

sil import-model authors.pth --out published

sil import-model r50_ibn_a.pth --backbone resnet50-ibn-a --out ibn

sil evaluate --model published --target data/market1501
"""
OPTIONS = (
    Option(
        "weights",
        "model.weights",
        "FILE",
        "A .safetensors or .pth file with nothing but tensors by name.",
        required=True,
    ),
    Option("--out", metavar="DIR", help="The model folder to make.", kind=Path, required=True),
    Option("--backbone", "model.backbone", "NAME", "Its network; default: resnet50."),
    Option("--height", "model.height", "N", "Input height; default: 256."),
    Option("--width", "model.width", "N", "Input width; default: 128."),
)


def run(current: Session) -> ImportResult:
    """Turn a published checkpoint into a model: torchvision's, IBN-Net's, torchreid's OSNet, the paper's authors'."""
    settings = current.settings()
    from sil_cli.models.import_model import import_model

    result = import_model(settings, current.given["out"])
    current.next_command(
        f"{result.backbone} with {result.dimension} dimensions in {result.model}.",
        f"sil evaluate --model {result.model} --target DIR",
    )
    return result
