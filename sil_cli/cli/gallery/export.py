"""`sil gallery export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sil_cli.cli.filter_options import (
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
from sil_cli.cli.session import session

EXAMPLES = """
[bold]Examples[/]

sil gallery export gallery.npz

sil gallery export station.parquet --gallery station --camera c3

sil gallery export table.csv
"""


def command(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="A .npz, .csv (with .npy beside) or .parquet file.")],
    camera: CameraOption = None,
    exclude_camera: ExcludeCameraOption = None,
    after: AfterOption = None,
    before: BeforeOption = None,
    identity: IdentityOption = None,
    where: WhereOption = None,
    gallery: GalleryOption = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    device: DeviceOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write embeddings and metadata for other programs."""
    with session(common(config, device, assignments, as_json, debug)) as current:
        chosen = filter_flags(camera, exclude_camera, after, before, identity, where)
        settings = current.settings({"gallery": {"folder": gallery, "store": store}, "query": {"filter": chosen}})
        from sil_cli.gallery.export import export_gallery

        result = export_gallery(settings, out, current.reporter)
        files = " and ".join(str(path) for path in result.files)
        current.next_command(f"{result.entries:,} entries written to {files}.", None)
        current.finish(result)
