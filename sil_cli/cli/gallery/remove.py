"""`sil gallery remove`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sil_cli.cli.filter_options import (
    FILTERS,
    AfterOption,
    BeforeOption,
    CameraOption,
    ExcludeCameraOption,
    IdentityOption,
    WhereOption,
    filter_flags,
)
from sil_cli.cli.gallery.options import GalleryOption
from sil_cli.cli.options import ConfigOption, DebugOption, DeviceOption, JsonOption, SetOption, StoreOption, common
from sil_cli.cli.session import Session, session

EXAMPLES = """
[bold]Examples[/]

sil gallery remove --identity p042

sil gallery remove --camera c3 --before 2024-05-01 --yes

sil gallery remove --path 'visitors/*' --gallery station
"""


def command(
    identifiers: Annotated[
        list[int] | None,
        typer.Option("--id", metavar="ID", help="This entry; may be repeated.", rich_help_panel=FILTERS),
    ] = None,
    identity: IdentityOption = None,
    path: Annotated[
        list[str] | None,
        typer.Option(
            "--path",
            metavar="PATTERN",
            help="Paths like 'visitors/*.jpg': below their source, from the working folder, or whole.",
            rich_help_panel=FILTERS,
        ),
    ] = None,
    camera: CameraOption = None,
    exclude_camera: ExcludeCameraOption = None,
    after: AfterOption = None,
    before: BeforeOption = None,
    where: WhereOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything.", rich_help_panel=FILTERS)] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    gallery: GalleryOption = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    device: DeviceOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Remove entries; `sil gallery compact` then deletes every trace of them. What goes meets every condition given."""
    with session(common(config, device, assignments, as_json, debug)) as current:
        chosen = filter_flags(camera, exclude_camera, after, before, identity, where)
        settings = current.settings({"gallery": {"folder": gallery, "store": store}, "query": {"filter": chosen}})
        from sil_cli.gallery.care import remove_entries

        result = remove_entries(
            settings,
            current.reporter,
            paths=tuple(path or ()),
            ids=tuple(identifiers or ()),
            everything=everything,
            confirm=lambda count, total: yes or _agreed(current, count, total),
        )
        option = f" {result.gallery}" if str(result.gallery) != "gallery" else ""
        current.next_command(
            f"{result.removed:,} entries removed, {result.entries:,} left in {result.gallery}.",
            f"sil gallery compact{option}" if result.removed else None,
        )
        current.finish(result)


def _agreed(current: Session, count: int, total: int) -> bool:
    """Ask; without somebody to ask, refuse."""
    from sil_cli.errors import UsageError

    if not sys.stdin.isatty():
        raise UsageError(
            f"{count:,} of {total:,} entries would be removed, and nobody can be asked.", "Say --yes to remove them."
        )
    current.messages.print(f"{count:,} of {total:,} entries will be removed. Go on? [y/N] ", end="", markup=False)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
