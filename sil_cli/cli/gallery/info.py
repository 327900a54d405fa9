"""`sil gallery info`."""

from __future__ import annotations

from rich.table import Table

from sil_cli.cli.gallery.options import GalleryArgument
from sil_cli.cli.options import ConfigOption, DebugOption, DeviceOption, JsonOption, SetOption, StoreOption, common
from sil_cli.cli.session import session
from sil_cli.cli.terminal import escape

EXAMPLES = """
[bold]Examples[/]

sil gallery info

sil gallery info station --json
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
    """Say what a gallery holds, how it is searched, and what was removed from it."""
    with session(common(config, device, assignments, as_json, debug)) as current:
        settings = current.settings({"gallery": {"folder": gallery, "store": store}})
        from sil_cli.gallery.care import gallery_info

        result = gallery_info(settings)
        name = result.gallery if result.store is None else result.store
        table = Table(title=f"Gallery {escape(name)}", title_justify="left", show_header=False)
        table.add_row("entries", f"{result.entries:,}")
        if result.store is not None:
            table.add_row("model's folder", escape(result.gallery))
        if result.identities is not None and result.cameras is not None:
            table.add_row("identities, cameras", f"{result.identities:,}, {result.cameras:,}")
        if result.earliest is not None:
            table.add_row("taken", f"{result.earliest} to {result.latest}")
        if result.metadata:
            table.add_row("metadata", escape(", ".join(result.metadata)))
        table.add_row("index", f"{escape(result.index)} (wished: {escape(result.wished_index)})")
        table.add_row(
            "embeddings", f"{result.dimension} dimensions, {result.files} {'file' if result.files == 1 else 'files'}"
        )
        if result.bytes is not None:
            table.add_row("size", f"{result.bytes / 2**20:,.1f} MiB")
        table.add_row("model", result.model[:12])
        for removal in result.removals:
            when = removal.time[:16].replace("T", " ")
            table.add_row("removed", f"{when}: {removal.count:,} by {escape(removal.criterion)}")
        current.out.print(table)
        current.finish(result)
