"""`sil query`."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from sil_cli.cli.command import ENGINE, FILTER, GALLERY, STORE, Option
from sil_cli.cli.terminal import SIGNS, escape, print_table, print_trail, time_writer
from sil_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sil_cli.cli.session import Session
    from sil_cli.gallery.entry import Match
    from sil_cli.search.query_results import BatchResult, IdentityGroup, QueryResult, QueryResults
    from sil_cli.settings import Settings

EXAMPLES = """
sil query person.jpg
sil query frame.jpg --box 412,130,64,150 --top 20 --rerank --sheet found.jpg
sil query frame.jpg --detector person-detection.xml --person 2
sil query a.jpg b.jpg c.jpg --fuse --group camera --html person.html
sil query --id 1207 --all --gallery station --json
sil query --batch crops/today --out today.jsonl
sil query person.jpg --exclude-camera c3 --after 2024-05-01 --where weather=rain
"""
CORRECT = {True: "[green]✓[/]", False: "[red]✗[/]", None: ""}
RESULTS = "Which matches"
MANY = "Many queries"
RARE = "Less common"
WORDS = ("decision", "person", "identity", "camera", "cameras", "time", "path", "best image", "footage", " ")
LEAST_OF_MATCHES = ("box", "images", "time", "camera", " ", "identity", "by chance", "decision")
LEAST_OF_GROUPS = ("cameras", "entries", " ", "best image", "by chance", "decision")
OPTIONS = (
    Option("images", "query.images", "[IMAGE...]", "An image of the person to find."),
    Option("--box", "query.boxes", "X,Y,W,H", "The person in a larger image, in pixels; may be repeated."),
    Option(
        "--detector",
        "query.detector",
        "NAME|FILE",
        "Find the people in a larger image, and ask which one you mean: torchvision, hog, an .onnx or .xml file.",
    ),
    Option("--person", "query.person", "N", "Which of them, counted from the left; nothing is asked then."),
    Option("--id", "query.ids", "N", "The id of a gallery entry to find more like; may be repeated."),
    Option("--fuse", "query.fuse", help="All images show one person: search by their mean."),
    GALLERY,
    Option("--top", "query.top", "K", panel=RESULTS),
    Option("--all", "query.all", help="List every match and possible match, or all above --min-score.", panel=RESULTS),
    Option("--min-score", "query.min_score", "COSINE", "Leave out matches below this score.", panel=RESULTS),
    Option(
        "--group",
        "query.group",
        "identity|person|camera",
        "The best of each identity, or person whom sil people found; camera: the path through cameras and time.",
        panel=RESULTS,
    ),
    Option("--sheet", "query.sheet", "FILE", "The contact sheet, or none; default: matches.jpg.", panel=RESULTS),
    Option("--html", "query.html", "FILE", "Also write a self-contained page.", panel=RESULTS),
    Option(
        "--context",
        "query.context",
        help="On sheet and page, also show the frame around matches that sil crop cut out.",
        panel=RESULTS,
    ),
    *FILTER,
    Option(
        "--batch",
        "query.batch",
        "SOURCE",
        "Answer a folder, .csv table, list or - (paths on stdin) as JSON lines.",
        panel=MANY,
    ),
    Option("--out", "query.out", "FILE", "Where the lines go; default: stdout.", panel=MANY),
    STORE,
    Option("--rerank", "query.rerank", help="Re-rank the short list by k-reciprocal encoding.", panel=RARE),
    Option(
        "--exclude-self",
        "query.exclude_self",
        help="Leave out gallery entries from the query's own file, whatever their box.",
        panel=RARE,
    ),
    Option(
        "--model",
        "query.model",
        "RUN",
        "Refuse the gallery unless this model made it; default: its own.",
        panel=RARE,
    ),
    Option("--purpose", "query.purpose", "TEXT", panel=RARE),
    Option(
        "--blur", "query.blur", help="Blur people on sheet and page who are no match or possible match.", panel=RARE
    ),
    Option("--gap", "query.gap", "SECONDS", "Pause after which a new visit begins; default: 60.", panel=RARE),
    Option("--timezone", "gallery.timezone", "ZONE", "The time zone of the times shown; default: UTC.", panel=RARE),
    ENGINE.in_panel(RARE),
)


def run(current: Session) -> QueryResult | QueryResults | BatchResult:
    """Find the person of an image in a gallery."""
    settings = current.settings()
    if settings.query.all and current.given["top"] is not None:
        raise UsageError(
            "--all and --top don't go together.", "For the best K above a score, use --min-score S with --top K."
        )
    if settings.query.batch is None:
        return _few(current, settings)
    from sil_cli.search.batch_query import refuse_with_batch

    if current.given["sheet"] is not None:  # the settings always name one
        refuse_with_batch("--sheet")
    return _batch(current, settings)


def _few(current: Session, settings: Settings) -> QueryResult | QueryResults:
    from sil_cli.report.canvas import is_wanted
    from sil_cli.search.search import search

    if settings.query.out is not None:
        raise UsageError("--out only works with --batch.", "Use --html FILE or --sheet FILE, or --json for a document.")
    can_ask = sys.stdin.isatty() and current.messages.is_terminal and not current.common.as_json
    results = search(settings, current.reporter, partial(_ask, current) if can_ask else None)
    shown = time_writer(settings)
    for result in results.queries:
        _show(current, result, shown)
    first = results.queries[0]
    drawn = {"Contact sheet": first.sheet, "Page": first.html}
    written = ", ".join(f"{what} in {path}" for what, path in drawn.items() if path is not None)
    if written:
        current.next_command(f"{written[0]}{written[1:].replace('Page', 'page')}.")
    wanted = {"query.sheet"} if is_wanted(settings.query.sheet) else set()
    lacking = {key for key, path in (("query.sheet", first.sheet), ("query.html", first.html)) if path is None}
    current.is_complete = not any(settings.is_users_own(key) for key in lacking & {*wanted, "query.html"})
    return first if len(results.queries) == 1 else results


def _ask(current: Session, picture: Path, people: int) -> int | None:
    """Ask for the number of a person; None where the answer is none."""
    current.messages.print(
        f"{people} people were found; {escape(picture)} numbers them from the left.", highlight=False
    )
    current.messages.print(f"Whom do you mean, 1 to {people}? ", end="", highlight=False)
    answer = sys.stdin.readline().strip()
    return int(answer) if answer.isascii() and answer.isdecimal() and 1 <= int(answer) <= people else None


def _batch(current: Session, settings: Settings) -> BatchResult:
    from sil_cli.search.batch_query import query_batch

    if current.common.as_json and settings.query.out is None:
        raise UsageError(
            "--batch writes JSON lines to stdout, where --json wants a single document.",
            "Leave --json out, or write the lines to a file with --out FILE.",
        )
    result = query_batch(settings, current.reporter, sys.stdout)
    if result.failed:
        current.reporter.warn(
            f"{result.failed:,} of {result.queries:,} images could not be used; their lines in the output say why."
        )
    if result.out is not None:
        current.next_command(f"{result.queries:,} queries answered in {result.out}.")
    return result


def _show(current: Session, result: QueryResult, shown: Callable[..., str]) -> None:
    known = f", identity {result.identity}" if result.identity else ""
    fused = f" (mean of {result.fused})" if result.fused > 1 else ""
    title = escape(f"{result.query}{fused}{known}")
    if result.groups is None:
        print_table(current.out, title, _columns(result.matches, shown), left=WORDS, optional=LEAST_OF_MATCHES)
    else:
        matches = {match.id: match for match in result.matches}
        columns = {
            "rank": [str(one.rank) for one in result.groups],
            "best": [f"{one.score:.4f}" for one in result.groups],
            "decision": [SIGNS[one.decision] for one in result.groups],
            **_by_chance(result.groups),
            " ": [CORRECT[matches[one.best].correct] for one in result.groups],
            "person": [escape(one.name or ("" if one.person is None else one.person)) for one in result.groups],
            "identity": [escape(one.identity or "") for one in result.groups],
            "entries": [str(one.entries) for one in result.groups],
            "cameras": [escape(", ".join(one.cameras)) for one in result.groups],
            "best image": [escape(matches[one.best].path) for one in result.groups],
        }
        print_table(current.out, title, columns, left=WORDS, optional=LEAST_OF_GROUPS)
    if result.trail is not None:
        print_trail(current.out, result.trail, shown)
    current.say(f"  {escape(result.verdict)}")
    if result.reranking:
        current.say(f"  Re-ranked: {result.reranking}. Scores are cosines.")


def _by_chance(rows: Sequence[Match | IdentityGroup]) -> dict[str, list[str]]:
    """The column that says how many false matches are expected, where that is known of any row."""
    from sil_cli.gallery.entry import in_words

    expected = [row.expected_false_matches for row in rows]
    if all(each is None for each in expected):
        return {}
    return {"by chance": ["" if each is None else in_words(each) for each in expected]}


def _footage(matches: list[Match]) -> dict[str, list[str]]:
    """The columns that say where matches were cut out of footage, where any was."""
    from sil_cli.gallery.entry import footage_moment

    moments = [footage_moment(match) for match in matches]
    if not any(moments):
        return {}
    boxes = [match.metadata.get("frame_box", "") for match in matches]
    return {"footage": [escape(each) for each in moments], "box": [escape(each) for each in boxes]}


def _columns(matches: list[Match], shown: Callable[..., str]) -> dict[str, list[str]]:
    times = [shown(match.time) for match in matches]
    if len({time[:4] for time in times}) == 1:
        times = [time[5:] for time in times]  # the year is the same, and the table is wide
    return {
        "rank": [str(match.rank) for match in matches],
        "score": [f"{match.score:.4f}" for match in matches],
        "decision": [SIGNS[match.decision] for match in matches],
        **_by_chance(matches),
        " ": [CORRECT[match.correct] for match in matches],
        "identity": [escape(match.identity or "") for match in matches],
        "camera": [escape(match.camera or "") for match in matches],
        "time": times,
        **_footage(matches),
        "images": [str(match.images) if match.images > 1 else "" for match in matches],
        "id": [str(match.id) for match in matches],
        "path": [escape(match.path) for match in matches],
    }
