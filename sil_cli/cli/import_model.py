"""`sil import-model`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sil_cli.cli.options import ConfigOption, DebugOption, DeviceOption, JsonOption, SetOption, common
from sil_cli.cli.session import session

EXAMPLES = """
[bold]Examples[/]

sil import-model authors.pth --out published

sil import-model r50_ibn_a.pth --backbone resnet50-ibn-a --out ibn

sil evaluate --model published --target data/market1501
"""


def command(
    weights: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .safetensors or .pth file with nothing but tensors by name.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The model folder to make.")],
    backbone: Annotated[
        str | None, typer.Option("--backbone", metavar="NAME", help="What network it is; default: resnet50.")
    ] = None,
    height: Annotated[int | None, typer.Option("--height", metavar="N", help="Input height; default: 256.")] = None,
    width: Annotated[int | None, typer.Option("--width", metavar="N", help="Input width; default: 128.")] = None,
    config: ConfigOption = None,
    device: DeviceOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Turn a published checkpoint into a model: torchvision's, IBN-Net's, torchreid's OSNet, the paper's authors'."""
    with session(common(config, device, assignments, as_json, debug)) as current:
        settings = current.settings(
            {"model": {"weights": str(weights), "backbone": backbone, "height": height, "width": width}}
        )
        from sil_cli.models.import_model import import_model

        result = import_model(settings, out)
        current.next_command(
            f"{result.backbone} with {result.dimension} dimensions in {result.model}.",
            f"sil evaluate --model {result.model} --target DIR",
        )
        current.finish(result)
