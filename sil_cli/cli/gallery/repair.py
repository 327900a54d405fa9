"""`sil gallery repair`."""

from __future__ import annotations

from typing import Annotated

import typer

from sil_cli.cli.gallery.options import GalleryArgument
from sil_cli.cli.options import ConfigOption, DebugOption, DeviceOption, JsonOption, SetOption, common
from sil_cli.cli.session import session
from sil_cli.cli.terminal import escape

EXAMPLES = """
[bold]Examples[/]

sil gallery repair

sil gallery repair station --trust
"""
SHOWN_LOST = 10


def command(
    gallery: GalleryArgument = None,
    trust: Annotated[
        bool,
        typer.Option("--trust", help="Accept well-formed files of vectors that were edited, as they are now."),
    ] = False,
    config: ConfigOption = None,
    device: DeviceOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Drop what is broken in a gallery, keep all else, and say exactly what is lost and how to bring it back."""
    with session(common(config, device, assignments, as_json, debug)) as current:
        settings = current.settings({"gallery": {"folder": gallery}})
        from sil_cli.gallery.care import repair_gallery

        result = repair_gallery(settings, current.reporter, trust=trust)
        for name, what in result.files.items():
            current.out.print(escape(f"{name}: {what}"), highlight=False, soft_wrap=True)
        for path in result.set_aside:
            current.out.print(escape(f"Set aside: {path}"), highlight=False, soft_wrap=True)
        if result.set_aside:
            current.reporter.note("What is set aside holds vectors; `sil gallery compact` deletes it.")
        for lost in result.lost[:SHOWN_LOST]:
            current.reporter.warn(f"Lost: {lost.path} ({lost.reason})")
        if len(result.lost) > SHOWN_LOST:
            current.reporter.warn(f"… and {len(result.lost) - SHOWN_LOST:,} more; --json names all.")
        if result.index_rebuilt:
            current.out.print("The approximate index was damaged and is built anew.")
        if result.database_mended:
            current.out.print("The database's own indexes were damaged and are built anew.")
        mended = result.index_rebuilt or result.database_mended
        changed = mended or result.files or result.set_aside or result.lost
        outcome = f"{len(result.lost):,} entries lost, " if changed else "Nothing was broken: "
        for again in result.again[1:]:
            current.out.print(f"  Also: {escape(again)}", highlight=False, soft_wrap=True)
        current.next_command(
            f"{outcome}{result.entries:,} entries in {result.gallery}.", result.again[0] if result.again else None
        )
        current.finish(result)
