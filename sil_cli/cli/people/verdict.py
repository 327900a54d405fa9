"""`sil people verdict`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import BY, GALLERY, STORE, Option
from sil_cli.cli.terminal import escape

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.people.telling import VerdictResult

EXAMPLES = """
sil people verdict 12 407 same
sil people verdict c1/0012.jpg c3/0407.jpg different --why 'another bag'
sil people verdict 12 407 withdrawn --by ann
"""
OPTIONS = (
    Option("first", metavar="FIRST", help="An entry: its id, or its path.", kind=str, required=True),
    Option("second", metavar="SECOND", help="Another one.", kind=str, required=True),
    Option(
        "answer",
        metavar="ANSWER",
        help="same, different, unsure (can't be told), or withdrawn (what you said before no longer counts).",
        kind=str,
        required=True,
    ),
    Option("--why", metavar="TEXT", help="Your reason.", kind=str),
    BY,
    GALLERY,
    STORE,
)
MEANS = {
    "same": "{} and {} show one person",
    "different": "{} and {} show two people",
    "unsure": "nobody can tell whether {} and {} show one person",
    "withdrawn": "what was said of {} and {} no longer counts",
}


def run(current: Session) -> VerdictResult:
    """Say whether two entries of a gallery show one person; your latest word on a pair counts."""
    settings = current.settings()
    given = current.given
    from sil_cli.people.telling import give_verdict

    result = give_verdict(
        settings, given["first"], given["second"], given["answer"], by=given["by"], why=given["why"] or ""
    )
    verdict = result.verdict
    paths = (escape(each.path) for each in (verdict.first, verdict.second))
    by = f" (by {escape(verdict.by)})" if verdict.by else ""
    current.say(f"Recorded: {MEANS[verdict.answer].format(*paths)}{by}.")
    if result.contradictions:
        count = result.contradictions
        contradict = "1 verdict contradicts others" if count == 1 else f"{count:,} verdicts contradict others"
        current.reporter.warn(f"{contradict}; `sil people verdicts` says which.")
    counting = "1 verdict that counts" if result.counting == 1 else f"{result.counting:,} verdicts that count"
    current.next_command(f"{result.gallery} has {counting}.")
    return result
