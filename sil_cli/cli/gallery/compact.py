"""`sil gallery compact`."""

from __future__ import annotations

from sil_cli.cli.gallery.options import GalleryArgument
from sil_cli.cli.options import ConfigOption, DebugOption, DeviceOption, JsonOption, SetOption, StoreOption, common
from sil_cli.cli.session import session

EXAMPLES = """
[bold]Examples[/]

sil gallery compact

sil gallery compact station
"""


def command(
    gallery: GalleryArgument = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    device: DeviceOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Merge a gallery's files, and delete every trace of what was removed, and what `repair` set aside."""
    with session(common(config, device, assignments, as_json, debug)) as current:
        settings = current.settings({"gallery": {"folder": gallery, "store": store}})
        from sil_cli.gallery.care import compact_gallery

        result = compact_gallery(settings, current.reporter)
        sizes = ""
        if result.bytes_before is not None and result.bytes_after is not None:
            sizes = f"; from {result.bytes_before / 2**20:,.1f} to {result.bytes_after / 2**20:,.1f} MiB"
        if result.set_aside_deleted:
            files = "1 file" if result.set_aside_deleted == 1 else f"{result.set_aside_deleted:,} files"
            current.out.print(f"Deleted what had been set aside: {files}.")
        current.next_command(f"{result.gallery} holds {result.entries:,} entries{sizes}.", None)
        current.finish(result)
