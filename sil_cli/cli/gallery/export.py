"""`sil gallery export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.cli.command import FILTER, GALLERY, STORE, Option
from sil_cli.errors import UsageError, quoted

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.gallery.results import ExportResult
    from sil_cli.people.dataset import DatasetResult
    from sil_cli.settings import Settings

EXAMPLES = """
sil gallery export gallery.npz
sil gallery export station.parquet --gallery station --camera c3
sil gallery export table.csv
sil gallery export samples.json
sil gallery export --dataset data/site
"""
OPTIONS = (
    Option(
        "out",
        metavar="[FILE]",
        help="A .npz, .csv (with .npy beside) or .parquet file; for annotation tools COCO's .json, CVAT's .xml or "
        "FiftyOne's samples.json.",
        kind=Path,
    ),
    Option(
        "--dataset",
        metavar="DIR",
        help="Instead, write the people who are confirmed as a prepared data set, to train on.",
        kind=Path,
    ),
    Option("--found", help="With --dataset: also those whom `sil people find` put together and nobody confirmed."),
    *FILTER,
    GALLERY,
    STORE,
)


def run(current: Session) -> ExportResult | DatasetResult:
    """Write embeddings and metadata for other programs, or people to train on."""
    settings = current.settings()
    out, dataset = current.given["out"], current.given["dataset"]
    if (out is None) == (dataset is None):
        raise UsageError("One output is needed.", "Name a FILE, or a folder with --dataset DIR.")
    if dataset is None and current.given["found"]:
        raise UsageError("--found only works with --dataset.", "Add --dataset DIR.")
    if dataset is not None:
        return _export_dataset(current, settings, dataset)
    from sil_cli.gallery.export import export_gallery

    result = export_gallery(settings, out, current.reporter)
    files = " and ".join(str(path) for path in result.files)
    current.next_command(f"{result.entries:,} entries written to {files}.")
    return result


def _export_dataset(current: Session, settings: Settings, out: Path) -> DatasetResult:
    from sil_cli.people.dataset import export_dataset

    if settings.query.filter != type(settings.query.filter)():
        raise UsageError(
            "--dataset can't be combined with a filter.",
            "Leave it out: a data set has people whole, from every camera.",
        )
    result = export_dataset(settings, out, current.reporter, found=bool(current.given["found"]))
    for line in result.contradictions:
        current.reporter.warn(f"Left out, as these can't all be right: {line}.")
    current.name_first([f"Left out: {each.path} ({each.reason})" for each in result.skipped])
    current.next_command(
        f"{result.people:,} people in {result.images:,} images by {result.cameras:,} cameras are in {result.dataset}.",
        f"sil train --source {quoted(result.dataset)} --weights RUN",
    )
    return result
