"""`sil gallery tune`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import GALLERY, GALLERY_ARGUMENT, STORE, Option
from sil_cli.cli.terminal import escape, print_table
from sil_cli.errors import UsageError

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.gallery.results import TuneResult

EXAMPLES = """
sil gallery tune
sil gallery tune station --recall 0.995
sil gallery tune --index IVF4096,SQ8 --index HNSW32,SQ8
"""
RECALL = 0.99
OPTIONS = (
    GALLERY_ARGUMENT,
    GALLERY,
    STORE,
    Option("--recall", metavar="R", help=f"Recall@10 to reach; default: {RECALL}.", kind=float),
    Option(
        "--index",
        metavar="FACTORY",
        help="FAISS's name of an index to compare; may be repeated. Default: by size.",
        kind=list[str],
    ),
)


def run(current: Session) -> TuneResult:
    """Measure recall and time of indexes on the gallery's own vectors, and keep the fastest that is good enough."""
    settings = current.settings()
    given = current.given
    from sil_cli.gallery.care import tune_gallery

    recall = RECALL if given["recall"] is None else given["recall"]
    if not 0.0 <= recall <= 1.0:
        raise UsageError(f"A recall of {recall} can't be reached.", "Give --recall a number from 0 to 1.")
    result = tune_gallery(settings, current.reporter, recall=recall, factories=tuple(given["index"] or ()))
    print_table(
        current.out,
        f"Indexes of {escape(result.gallery)}",
        {
            "index": [escape(one.index) + (" ✓" if one == result.chosen else "") for one in result.measured],
            "effort": [str(one.effort or "") for one in result.measured],
            "recall@10": [f"{one.recall:.4f}" for one in result.measured],
            "queries/s": [f"{one.queries_per_second:,.0f}" for one in result.measured],
            "one query, ms": [f"{one.milliseconds:.2f}" for one in result.measured],
            "against exact": [f"{one.speedup:.1f}×" for one in result.measured],
        },
        left=("index",),
    )
    current.next_command(f"{result.gallery} is searched by {result.chosen.index} from now on.")
    return result
