"""`sil gallery verify`."""

from __future__ import annotations

import typer
from rich.table import Table

from sil_cli.cli.gallery.options import GalleryArgument
from sil_cli.cli.options import (
    ConfigOption,
    DebugOption,
    DeviceOption,
    EngineOption,
    JsonOption,
    SetOption,
    StoreOption,
    common,
)
from sil_cli.cli.session import session
from sil_cli.cli.terminal import escape

EXAMPLES = """
[bold]Examples[/]

sil gallery verify

sil gallery verify station --json
"""


def command(
    gallery: GalleryArgument = None,
    store: StoreOption = None,
    engine: EngineOption = None,
    config: ConfigOption = None,
    device: DeviceOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Prove that a gallery is whole: checksums, one vector an entry, a sample embedded again. Code 1 if it isn't."""
    with session(common(config, device, assignments, as_json, debug)) as current:
        settings = current.settings({"gallery": {"folder": gallery, "store": store}, "inference": {"engine": engine}})
        from sil_cli.gallery.care import verify_gallery

        result = verify_gallery(settings, current.reporter)
        table = Table(title=f"Gallery {escape(result.gallery)}", title_justify="left", show_header=False)
        for check in result.checks:
            mark = "–" if not check.done else "[green]✓[/]" if check.ok else "[red]✗[/]"
            table.add_row(mark, check.name, escape(check.found))
        current.out.print(table)
        current.finish(result)
        if not result.ok:
            current.reporter.warn(f"{result.gallery} is damaged; {'; '.join(result.advice)}.")
            raise typer.Exit(1)
