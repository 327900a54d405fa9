"""`sil query`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from sil_cli.cli.filter_options import (
    AfterOption,
    BeforeOption,
    CameraOption,
    ExcludeCameraOption,
    IdentityOption,
    WhereOption,
    filter_flags,
)
from sil_cli.cli.options import ConfigOption, DebugOption, DeviceOption, JsonOption, SetOption, common
from sil_cli.cli.session import Session, session

if TYPE_CHECKING:
    from sil_cli.workflows.results import FoundMatch, QueryResult

EXAMPLES = """
[bold]Examples[/]

sil query person.jpg

sil query person.jpg --top 20 --sheet found.jpg

sil query a.jpg b.jpg --gallery station --json

sil query person.jpg --exclude-camera c3 --after 2024-05-01 --where weather=rain
"""
CORRECT = {True: "[green]✓[/]", False: "[red]✗[/]", None: ""}


def command(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="A picture of the person to find.")],
    gallery: Annotated[
        Path | None, typer.Option("--gallery", metavar="DIR", help="The gallery; default: gallery.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="RUN", help="Refuse any other model; default: the gallery's own.")
    ] = None,
    top: Annotated[int | None, typer.Option("--top", metavar="K", help="Matches to list; default: 10.")] = None,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE", help="The contact sheet; default: matches.jpg.")
    ] = None,
    camera: CameraOption = None,
    exclude_camera: ExcludeCameraOption = None,
    after: AfterOption = None,
    before: BeforeOption = None,
    identity: IdentityOption = None,
    where: WhereOption = None,
    config: ConfigOption = None,
    device: DeviceOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Find the person of a picture in a gallery."""
    with session(common(config, device, assignments, as_json, debug)) as current:
        chosen = filter_flags(camera, exclude_camera, after, before, identity, where)
        settings = current.settings(
            {
                "query": {"images": tuple(images), "model": model, "top": top, "sheet": sheet, "filter": chosen},
                "gallery": {"folder": gallery},
            }
        )
        from sil_cli.workflows.search import search

        results = search(settings, current.reporter)
        for result in results.queries:
            _show(current, result)
        first = results.queries[0]
        current.next_command(f"Contact sheet in {first.sheet}.", None)
        current.finish(first if len(results.queries) == 1 else results)


def _show(current: Session, result: QueryResult) -> None:
    known = f", identity {result.identity}" if result.identity else ""
    table = Table(title=f"{result.image}{known}", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    columns = _columns(result.matches)
    for name in columns:
        table.add_column(name, justify="right" if name in ("rank", "score") else "left", overflow="fold")
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*cells)
    current.out.print(table)


def _columns(matches: list[FoundMatch]) -> dict[str, list[str]]:
    """The table's columns by name, those left out of which nothing is known."""
    columns = {
        "rank": [str(match.rank) for match in matches],
        "score": [f"{match.score:.4f}" for match in matches],
        " ": [CORRECT[match.correct] for match in matches],
        "identity": [match.identity or "" for match in matches],
        "camera": [match.camera or "" for match in matches],
        "time": [(match.time or "")[:16].replace("T", " ") for match in matches],
        "path": [escape(match.path) for match in matches],
    }
    return {name: cells for name, cells in columns.items() if any(cells)}
