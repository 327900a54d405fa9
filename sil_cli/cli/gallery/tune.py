"""`sil gallery tune`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from sil_cli.cli.gallery.options import GalleryArgument
from sil_cli.cli.options import ConfigOption, DebugOption, DeviceOption, JsonOption, SetOption, common
from sil_cli.cli.session import session
from sil_cli.cli.terminal import escape

EXAMPLES = """
[bold]Examples[/]

sil gallery tune

sil gallery tune station --recall 0.995

sil gallery tune --index IVF4096,SQ8 --index HNSW32,SQ8
"""


def command(
    gallery: GalleryArgument = None,
    recall: Annotated[
        float, typer.Option("--recall", metavar="R", min=0.0, max=1.0, help="Recall@10 to reach.")
    ] = 0.99,
    index: Annotated[
        list[str] | None,
        typer.Option(
            "--index", metavar="FACTORY", help="FAISS's name of an index to compare; may be repeated. Default: by size."
        ),
    ] = None,
    config: ConfigOption = None,
    device: DeviceOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure recall and time of indexes on the gallery's own vectors, and keep the quickest that is good enough."""
    with session(common(config, device, assignments, as_json, debug)) as current:
        settings = current.settings({"gallery": {"folder": gallery}})
        from sil_cli.gallery.care import tune_gallery

        result = tune_gallery(settings, current.reporter, recall=recall, factories=tuple(index or ()))
        table = Table(title=f"Gallery {escape(result.gallery)}", title_justify="left")
        for column in ("index", "effort", "recall@10", "queries/s", "one query, ms", "against exact"):
            table.add_column(column, justify="left" if column == "index" else "right")
        for one in result.measured:
            chosen = one == result.chosen
            cells = [
                f"[bold]{escape(one.index)} ✓[/]" if chosen else escape(one.index),
                str(one.effort or ""),
                f"{one.recall:.4f}",
                f"{one.queries_per_second:,.0f}",
                f"{one.milliseconds:.2f}",
                f"{one.speedup:.1f}×",
            ]
            table.add_row(*cells)
        current.out.print(table)
        current.next_command(f"{result.gallery} is searched by {result.chosen.index} from now on.", None)
        current.finish(result)
