"""`sil report`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sil_cli.cli.options import ConfigOption, DebugOption, DeviceOption, JsonOption, SetOption, common
from sil_cli.cli.session import session

EXAMPLES = """
[bold]Examples[/]

sil report

sil report runs/001-none runs/002-ubs --out comparison

sil report runs/001-ubs --target viaduct --out viaduct.html --no-similarity-maps
"""


class ProjectionName(StrEnum):
    """How embeddings are laid out in two dimensions."""

    auto = "auto"
    pca = "pca"
    tsne = "tsne"


def command(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUN...]", help="Run folders, side by side; default: the newest finished one."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="NAME",
            help="The data set that they were evaluated on, or one of its splits or variants: viaduct/flip.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR|FILE.html", help="Where the page goes; default: `report` in the run folder."
        ),
    ] = None,
    queries: Annotated[
        int | None, typer.Option("--queries", metavar="N", help="Best, typical and worst queries to show, N of each.")
    ] = None,
    projection: Annotated[
        ProjectionName | None,
        typer.Option("--projection", metavar="auto|pca|tsne", help="How embeddings are laid out in two dimensions."),
    ] = None,
    similarity_maps: Annotated[
        bool | None,
        typer.Option("--similarity-maps/--no-similarity-maps", help="Show where images agree; runs the model."),
    ] = None,
    config: ConfigOption = None,
    device: DeviceOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show an evaluation in pictures: one self-contained HTML page, and PNG files beside it."""
    with session(common(config, device, assignments, as_json, debug)) as current:
        flags = {
            "runs": runs or None,
            "target": target,
            "out": out,
            "queries": queries,
            "projection": projection.value if projection else None,
            "similarity_maps": similarity_maps,
        }
        settings = current.settings({"report": flags})
        from sil_cli.report.report import report

        result = report(settings, current.reporter)
        size = f"{result.page_bytes / 1e6:.1f} MB"
        current.next_command(f"{result.page} ({size}) and {len(result.pictures)} pictures beside it.", None)
        current.finish(result)
