"""`sil gallery rebuild`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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

EXAMPLES = """
[bold]Examples[/]

sil gallery rebuild --model runs/002-ubs

sil gallery rebuild station --drop-missing
"""
SHOWN_DROPPED = 10


def command(
    gallery: GalleryArgument = None,
    store: StoreOption = None,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="RUN", help="A run folder; default: the newest finished one.")
    ] = None,
    drop_missing: Annotated[
        bool, typer.Option("--drop-missing", help="Leave entries out whose images are gone; else nothing is swapped.")
    ] = False,
    engine: EngineOption = None,
    config: ConfigOption = None,
    device: DeviceOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Embed a gallery's images by another model beside it, then put the result in its place in one step."""
    with session(common(config, device, assignments, as_json, debug)) as current:
        settings = current.settings(
            {"gallery": {"folder": gallery, "store": store, "model": model}, "inference": {"engine": engine}}
        )
        from sil_cli.gallery.rebuild import rebuild_gallery

        result = rebuild_gallery(settings, current.reporter, drop_missing=drop_missing)
        for one in result.dropped[:SHOWN_DROPPED]:
            current.reporter.warn(f"Left out: {one.path} ({one.reason})")
        if len(result.dropped) > SHOWN_DROPPED:
            current.reporter.warn(f"… and {len(result.dropped) - SHOWN_DROPPED:,} more; --json names all.")
        current.next_command(
            f"{result.gallery} has {result.entries:,} entries of model {result.model[:12]},"
            f" which took the place of {result.old_model[:12]}.",
            None,
        )
        current.finish(result)
