"""`sil query`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from sil_cli.cli.filter_options import (
    AfterOption,
    BeforeOption,
    CameraOption,
    ExcludeCameraOption,
    IdentityOption,
    WhereOption,
    filter_flags,
)
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
from sil_cli.cli.session import Session, session
from sil_cli.cli.terminal import escape
from sil_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import JustifyMethod

    from sil_cli.query.query_results import FoundMatch, FoundSighting, QueryResult
    from sil_cli.settings import Settings

EXAMPLES = """
[bold]Examples[/]

sil query person.jpg

sil query frame.jpg --box 412,130,64,150 --top 20 --rerank --sheet found.jpg

sil query a.jpg b.jpg c.jpg --fuse --group camera --html person.html

sil query --id 1207 --all --gallery station --json

sil query --batch crops/today --out today.jsonl

sil query person.jpg --exclude-camera c3 --after 2024-05-01 --where weather=rain
"""
CORRECT = {True: "[green]✓[/]", False: "[red]✗[/]", None: ""}
SIGNS = {"match": "● match", "possible": "◐ possible", "no match": "○ no match", None: ""}
MANY = "Many queries"
NUMBERS = ("rank", "score", "best", "images", "entries", "id")
FOLDED = ("path", "best image", "cameras", "identity", "camera")
FOLDED_FROM = 12
LEAST_OF_MATCHES = ("images", "time", "camera", " ", "identity", "decision")
LEAST_OF_GROUPS = ("cameras", "entries", " ", "best image", "decision")
LEAST_OF_TRAIL = ("note", "after", "for", "images", "decision")


class Group(StrEnum):
    """How matches are gathered."""

    none = "none"
    identity = "identity"
    camera = "camera"


def command(
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="[IMAGE...]", help="A picture of the person to find.")
    ] = None,
    boxes: Annotated[
        list[str] | None,
        typer.Option("--box", metavar="X,Y,W,H", help="The person in a larger image, in pixels; may be repeated."),
    ] = None,
    ids: Annotated[
        list[int] | None, typer.Option("--id", metavar="N", help="A gallery entry to find more of; may be repeated.")
    ] = None,
    fuse: Annotated[
        bool | None, typer.Option("--fuse", help="All pictures show one person: search by the mean.")
    ] = None,
    gallery: Annotated[
        Path | None, typer.Option("--gallery", metavar="DIR", help="The gallery; default: gallery.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="RUN", help="Refuse the gallery unless this model made it; default: its own."),
    ] = None,
    top: Annotated[int | None, typer.Option("--top", metavar="K", help="Matches to list; default: 10.")] = None,
    everything: Annotated[
        bool | None, typer.Option("--all", help="List all from the calibrated threshold or --min-score on.")
    ] = None,
    min_score: Annotated[
        float | None, typer.Option("--min-score", metavar="COSINE", help="List no match below this score.")
    ] = None,
    exclude_self: Annotated[
        bool | None,
        typer.Option("--exclude-self", help="Leave out gallery entries of the query's very file, of any box."),
    ] = None,
    group: Annotated[
        Group | None,
        typer.Option(
            "--group",
            metavar="identity|camera",
            help="identity: the best of each; camera: the person's path through cameras and time.",
        ),
    ] = None,
    gap: Annotated[
        float | None,
        typer.Option("--gap", metavar="SECONDS", help="Pause after which a new sighting begins; default: 60."),
    ] = None,
    timezone: Annotated[
        str | None, typer.Option("--timezone", metavar="ZONE", help="In which times are shown; default: UTC.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE", help="The contact sheet; default: matches.jpg.")
    ] = None,
    rerank: Annotated[bool, typer.Option("--rerank", help="Re-rank the short list by k-reciprocal encoding.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page that holds everything, too.")
    ] = None,
    batch: Annotated[
        Path | None,
        typer.Option(
            "--batch",
            metavar="SOURCE",
            help="Answer a folder, .csv table, list or - (paths on stdin) as JSON lines.",
            rich_help_panel=MANY,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Where the lines go; default: stdout.", rich_help_panel=MANY),
    ] = None,
    store: StoreOption = None,
    engine: EngineOption = None,
    camera: CameraOption = None,
    exclude_camera: ExcludeCameraOption = None,
    after: AfterOption = None,
    before: BeforeOption = None,
    identity: IdentityOption = None,
    where: WhereOption = None,
    config: ConfigOption = None,
    device: DeviceOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Find the person of a picture in a gallery."""
    flags = {
        "images": tuple(images) if images else None,
        "boxes": tuple(boxes) if boxes else None,
        "ids": tuple(ids) if ids else None,
        "fuse": fuse,
        "batch": batch,
        "out": out,
        "model": model,
        "top": top,
        "all": everything,
        "min_score": min_score,
        "exclude_self": exclude_self,
        "rerank": rerank or None,
        "group": group.value if group else None,
        "gap": gap,
        "sheet": sheet,
        "html": html,
        "filter": filter_flags(camera, exclude_camera, after, before, identity, where),
    }
    with session(common(config, device, assignments, as_json, debug)) as current:
        settings = current.settings(
            {
                "query": flags,
                "gallery": {"folder": gallery, "store": store, "timezone": timezone},
                "inference": {"engine": engine},
            }
        )
        if settings.query.all and top is not None:
            raise UsageError(
                "--all and --top don't go together.", "The best K from a score on are --min-score S with --top K."
            )
        if settings.query.batch is not None:
            from sil_cli.query.batch_query import refuse_with_batch

            if sheet is not None:  # the settings always name one
                refuse_with_batch("--sheet")
            _batch(current, settings)
        else:
            _few(current, settings)


def _few(current: Session, settings: Settings) -> None:
    from sil_cli.gallery.ingest.times import find_zone
    from sil_cli.query.search import search

    if settings.query.out is not None:
        raise UsageError("--out is where --batch writes.", "Say --html FILE or --sheet FILE, or --json for a document.")
    results = search(settings, current.reporter)
    zone = find_zone(settings.gallery.timezone)

    def shown(time: str | None, length: int = 16) -> str:
        if time is None:
            return ""
        moment = datetime.fromisoformat(time)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return moment.astimezone(zone).isoformat(sep=" ")[:length]

    for result in results.queries:
        _show(current, result, shown)
    first = results.queries[0]
    page = f", page in {first.html}" if first.html else ""
    current.next_command(f"Contact sheet in {first.sheet}{page}.", None)
    current.finish(first if len(results.queries) == 1 else results)


def _batch(current: Session, settings: Settings) -> None:
    from sil_cli.query.batch_query import query_batch

    if current.common.as_json and settings.query.out is None:
        raise UsageError(
            "--batch writes JSON lines to stdout, where --json wants a single document.",
            "Leave --json out, or name a file for the lines with --out FILE.",
        )
    result = query_batch(settings, current.reporter, sys.stdout)
    if result.failed:
        current.reporter.warn(f"{result.failed:,} of {result.queries:,} images could not be used; their lines say why.")
    if result.out is not None:
        current.next_command(f"{result.queries:,} queries answered in {result.out}.", None)
    current.finish(result)


def _show(current: Session, result: QueryResult, shown: Any) -> None:
    known = f", identity {result.identity}" if result.identity else ""
    fused = f" (mean of {result.fused})" if result.fused > 1 else ""
    title = escape(f"{result.query}{fused}{known}")
    if result.groups is not None:
        matches = {match.id: match for match in result.matches}
        columns: dict[str, list[str]] = {
            "rank": [str(one.rank) for one in result.groups],
            "best": [f"{one.score:.4f}" for one in result.groups],
            "decision": [SIGNS[one.decision] for one in result.groups],
            " ": [CORRECT[matches[one.best].correct] for one in result.groups],
            "identity": [escape(one.identity or "") for one in result.groups],
            "entries": [str(one.entries) for one in result.groups],
            "cameras": [escape(", ".join(one.cameras)) for one in result.groups],
            "best image": [escape(matches[one.best].path) for one in result.groups],
        }
    else:
        columns = _columns(result.matches, shown)
    _print_table(current, title, columns, LEAST_OF_MATCHES if result.groups is None else LEAST_OF_GROUPS)
    if result.trail is not None:
        _print_trail(current, result, shown)
    current.out.print(f"  {escape(result.verdict)}", highlight=False, soft_wrap=True)
    if result.reranking:
        current.out.print(f"  Re-ranked: {result.reranking}. Scores are cosines.", highlight=False, soft_wrap=True)


def _print_trail(current: Session, result: QueryResult, shown: Any) -> None:
    from sil_cli.query.trajectory_drawing import duration

    trail = result.trail or []
    columns = {
        "camera": [escape(one.camera) for one in trail],
        "from": [shown(one.start, 19) or "unknown" for one in trail],
        "for": [_length(one) for one in trail],
        "after": [duration(one.seconds_after) if one.seconds_after is not None else "" for one in trail],
        "images": [str(one.images) for one in trail],
        "best": [f"{one.score:.4f}" for one in trail],
        "decision": [SIGNS[one.decision] for one in trail],
        "note": ["elsewhere at once" if one.at_once else "" for one in trail],
    }
    _print_table(current, "Path through the network", columns, LEAST_OF_TRAIL)


def _length(sighting: FoundSighting) -> str:
    """How long a sighting lasts; nothing for a single moment."""
    from sil_cli.query.trajectory_drawing import duration

    if sighting.start is None or sighting.end is None or sighting.start == sighting.end:
        return ""
    return duration((datetime.fromisoformat(sighting.end) - datetime.fromisoformat(sighting.start)).total_seconds())


def _print_table(current: Session, title: str, columns: Mapping[str, Sequence[str]], least: Sequence[str]) -> None:
    """A table of the columns of which something is known; only names and paths are folded, and nothing is cut.

    Args:
        current: Says how wide the terminal is.
        title: Above the table.
        columns: Cells by the column's name.
        least: Columns to leave out, the first ones first, until the terminal is wide enough for the rest.
    """
    kept = {name: cells for name, cells in columns.items() if any(cells)}
    widths = {name: _width(name, cells) for name, cells in kept.items()}
    left_out = []
    for name in least:
        if _table_width(widths) <= current.out.width:
            break
        if name in kept:
            left_out.append(name)
            del kept[name], widths[name]
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    if _table_width(widths) > current.out.width:  # even so: better that the terminal breaks lines than that we cut them
        table.width = _table_width(widths)
    for name in kept:
        justify: JustifyMethod = "right" if name in NUMBERS else "left"
        if name in FOLDED:
            table.add_column(name, justify=justify, overflow="fold")
        else:
            table.add_column(name, justify=justify, no_wrap=True, min_width=widths[name])
    for cells in zip(*kept.values(), strict=True):
        table.add_row(*cells)
    current.out.print(table, crop=False)
    if left_out:
        names = ", ".join(name.strip() or "whether it is right" for name in left_out)
        current.out.print(f"  This terminal has no room for: {names}. --json has all.", highlight=False, soft_wrap=True)


def _table_width(widths: Mapping[str, int]) -> int:
    """The characters of a table's line: two blanks lie between columns, and one before them all."""
    return sum(widths.values()) + 2 * len(widths) + 1


def _width(name: str, cells: Sequence[str]) -> int:
    """The characters that a column needs; of names and paths, so many that folding them makes sense."""
    longest = max(len(name), *(Text.from_markup(cell, emoji=False).cell_len for cell in cells))
    return min(longest, FOLDED_FROM) if name in FOLDED else longest


def _columns(matches: list[FoundMatch], shown: Any) -> dict[str, list[str]]:
    times = [shown(match.time) for match in matches]
    if len({time[:4] for time in times}) == 1:
        times = [time[5:] for time in times]  # the year is the same, and the table is wide
    return {
        "rank": [str(match.rank) for match in matches],
        "score": [f"{match.score:.4f}" for match in matches],
        "decision": [SIGNS[match.decision] for match in matches],
        " ": [CORRECT[match.correct] for match in matches],
        "identity": [escape(match.identity or "") for match in matches],
        "camera": [escape(match.camera or "") for match in matches],
        "time": times,
        "images": [str(match.images) if match.images > 1 else "" for match in matches],
        "id": [str(match.id) for match in matches],
        "path": [escape(match.path) for match in matches],
    }
