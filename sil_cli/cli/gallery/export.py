"""`sil gallery export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.cli.command import FILTER, GALLERY, STORE, Option

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.gallery.results import ExportResult

EXAMPLES = """
[bold]Examples[/]

sil gallery export gallery.npz

sil gallery export station.parquet --gallery station --camera c3

sil gallery export table.csv
"""
OPTIONS = (
    Option("out", metavar="FILE", help="A .npz, .csv (with .npy beside) or .parquet file.", kind=Path, required=True),
    *FILTER,
    GALLERY,
    STORE,
)


def run(current: Session) -> ExportResult:
    """Write embeddings and metadata for other programs."""
    settings = current.settings()
    from sil_cli.gallery.export import export_gallery

    result = export_gallery(settings, current.given["out"], current.reporter)
    files = " and ".join(str(path) for path in result.files)
    current.next_command(f"{result.entries:,} entries written to {files}.")
    return result
