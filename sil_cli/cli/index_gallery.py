"""`sil index-gallery`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import ENGINE, GALLERY, STORE, Option
from sil_cli.cli.terminal import escape, print_facts
from sil_cli.errors import quoted

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.gallery.results import IndexResult

EXAMPLES = """
sil index-gallery
sil index-gallery crops/2024-05-01 --gallery station --pattern '(?P<camera>c\\d+)_(?P<time>\\d{8}T\\d{6})'
sil index-gallery crops.csv --tracklets named --timezone Europe/Berlin
find crops -newer last-run -name '*.jpg' | sil index-gallery -
sil index-gallery data/market1501 --model runs/001-dbs --gallery market
sil index-gallery crops --index IVF1024,SQ8
torchrun --nproc-per-node 4 -m sil_cli index-gallery crops
sil index-gallery crops --store milvus://db.example:19530/station
"""
READING = "Metadata of the images"
OPTIONS = (
    Option(
        "images",
        "gallery.images",
        "[SOURCE...]",
        "Folders of crops, prepared data sets, .csv tables, lists of paths, images, or - for paths on stdin; "
        "default: the data set left out.",
    ),
    Option("--model", "gallery.model", "RUN"),
    GALLERY,
    Option(
        "--pattern",
        "gallery.pattern",
        "REGEX",
        "Matched in each path: groups identity, camera, time, tracklet; others become columns.",
        panel=READING,
    ),
    Option(
        "--time-format",
        "gallery.time_format",
        "FORMAT",
        "auto (all that can be read in one way), epoch, epoch-ms, or like %d.%m.%Y-%H%M%S.",
        panel=READING,
    ),
    Option(
        "--timezone",
        "gallery.timezone",
        "ZONE",
        "Of times that don't name one: Europe/Berlin, local; default: UTC.",
        panel=READING,
    ),
    Option("--exif", "gallery.exif", panel=READING),
    Option(
        "--tracklets",
        "gallery.tracklets",
        "named|folder",
        "One entry for all images of a tracklet: their mean.",
        panel=READING,
    ),
    Option(
        "--root",
        "gallery.root",
        "DIR",
        "Paths in tables and lists are relative to it; default: the table's folder.",
        panel=READING,
    ),
    Option("--prune", "gallery.prune"),
    Option("--keep-days", "gallery.keep_days", "DAYS"),
    ENGINE,
    Option(
        "--index",
        "gallery.index",
        "auto|exact|FACTORY",
        "How to search: by size, exactly, or FAISS's name of an index.",
    ),
    STORE,
)


def run(current: Session) -> IndexResult | None:
    """Embed crops and store them where they can be searched; what is already there is skipped."""
    settings = current.settings()
    from sil_cli.gallery.index import index_distributed

    result = index_distributed(settings, current.reporter, current.launch)
    if result is None:  # the first process tells
        return None
    counts = {
        "described again": result.described,
        "became part of a tracklet": result.absorbed,
        "files missing": len(result.gone),
        "of these removed": result.pruned,
        "removed for their age": result.expired,
        "left out for their age": result.too_old,
    }
    print_facts(
        current.out,
        "Gallery",
        {
            "folder": escape(result.gallery),
            "added, replaced, unchanged": f"{result.added:,}, {result.replaced:,}, {result.unchanged:,}",
            **{name: f"{count:,}" for name, count in counts.items() if count},
            "failed": f"{len(result.failed):,}",
            "entries in all": f"{result.total:,}",
            "index": f"{result.index}, {result.dimension} dimensions",
            "model": result.model[:12] + ("" if result.calibrated else ", not calibrated"),
            "decisions": _decisions(result),
        },
    )
    current.name_first([f"Not indexed: {each.path} ({each.reason})" for each in result.failed])
    if result.gone and not result.pruned:
        current.reporter.warn(
            f"The files of {len(result.gone):,} entries are missing, such as {result.gone[0]}; --prune removes them."
        )
    current.next_command(
        f"{result.total:,} crops can be searched in {result.gallery}.",
        f"sil query {quoted(result.example or 'IMAGE')}{result.option}",
    )
    return result


def _decisions(result: IndexResult) -> str:
    """What says whether a match is one."""
    if result.chance is not None:
        low, high = result.chance.factor
        return f"by what comes up by chance, within a factor of {low:.2g} to {high:.2g} by the sample"
    return "by the model's thresholds: too few entries to tell what comes up by chance" if result.calibrated else "none"
