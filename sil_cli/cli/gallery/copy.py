"""`sil gallery copy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sil_cli.cli.options import ConfigOption, DebugOption, DeviceOption, JsonOption, SetOption, common
from sil_cli.cli.session import session

EXAMPLES = """
[bold]Examples[/]

sil gallery copy gallery milvus://db.example:19530/station

sil gallery copy milvus://db.example:19530/station backup

sil gallery copy station station.db
"""
WHERE = "A gallery's folder, milvus://HOST:PORT/COLLECTION, or a Milvus Lite file NAME.db"


def command(
    origin: Annotated[str, typer.Argument(metavar="FROM", help=f"{WHERE}.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="Likewise; made when missing.")],
    gallery: Annotated[
        Path | None,
        typer.Option("--gallery", metavar="DIR", help="The folder that keeps a collection's model; default: gallery."),
    ] = None,
    config: ConfigOption = None,
    device: DeviceOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Copy a gallery from one store to another; goes on where it was stopped, and checks what arrived."""
    with session(common(config, device, assignments, as_json, debug)) as current:
        settings = current.settings({"gallery": {"folder": gallery}})
        from sil_cli.gallery.copying import copy_gallery

        result = copy_gallery(settings, origin, target, current.reporter)
        current.next_command(
            f"{result.copied:,} entries copied, {result.there:,} were there; {result.target} holds"
            f" {result.entries:,}, {result.checked:,} of them compared.",
            f"sil query IMAGE{result.option}",
        )
        current.finish(result)
