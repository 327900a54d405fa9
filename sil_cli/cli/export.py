"""`sil export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from sil_cli.cli.options import ConfigOption, DebugOption, DeviceOption, JsonOption, SetOption, common
from sil_cli.cli.session import session

EXAMPLES = """
[bold]Examples[/]

sil export

sil export --model runs/001-ubs --out deployed

sil export --int8 --calibrate-on data/viaduct
"""


def command(
    model: Annotated[
        Path | None, typer.Option("--model", metavar="RUN", help="A run folder; default: the newest finished one.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR|FILE.onnx", help="Where the ONNX file goes; default: the run folder."),
    ] = None,
    int8: Annotated[
        bool | None, typer.Option("--int8", help="Quantise to int8; a model of its own.", show_default=False)
    ] = None,
    calibrate_on: Annotated[
        Path | None,
        typer.Option(
            "--calibrate-on",
            metavar="IMAGES|DATASET",
            help="Crops to calibrate int8, and to compare, on; default for comparing: generated people.",
        ),
    ] = None,
    config: ConfigOption = None,
    device: DeviceOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a model as ONNX, checked against torch, for quick starts and quick CPUs."""
    with session(common(config, device, assignments, as_json, debug)) as current:
        settings = current.settings(
            {"export": {"model": model, "out": out, "int8": int8, "calibrate_on": calibrate_on}}
        )
        from sil_cli.defaults import model_option
        from sil_cli.models.engines.export import export
        from sil_cli.models.engines.export_record import described

        result = export(settings, current.reporter)
        table = Table(title=f"Cosine to torch float32 on {result.crops} crops", title_justify="left")
        for column in ("computed by", "smallest", "mean"):
            table.add_column(column, justify="left" if column == "computed by" else "right")
        for how, agreement in result.agreement.items():
            table.add_row(described(how, result.float32_front), f"{agreement.min:.6f}", f"{agreement.mean:.6f}")
        current.out.print(table)
        size = f"{result.height}×{result.width}, {result.precision}, {result.bytes / 2**20:.0f} MiB"
        beside = result.precision == "float32" and result.file.parent.resolve() == result.model.resolve()
        chosen = model_option(result.model if beside else result.file, settings.train.runs)
        current.next_command(f"{result.file} ({size}).", f"sil index-gallery{chosen}")
        current.finish(result)
