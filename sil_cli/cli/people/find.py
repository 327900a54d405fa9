"""`sil people find`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import GALLERY, STORE, Option
from sil_cli.cli.terminal import escape, print_facts

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.people.find import FindResult

EXAMPLES = """
sil people find
sil people find --gallery station
sil people find --again --overlap c1+c2 --overlap c2+c3
"""
OPTIONS = (
    GALLERY,
    Option("--again", "people.again", help="Group everything again, except what somebody decided."),
    Option("--threshold", "people.threshold", "WEIGHT"),
    Option("--overlap", "people.overlap", "C1+C2", "Cameras that see the same place, or all, none; may be repeated."),
    Option("--at-once", "people.at_once", "SECONDS"),
    STORE,
)
LIKENESS = {
    "chance": "by what comes up by chance in this gallery",
    "thresholds": "by the thresholds of the model's calibration",
    None: "unknown: only what was told counts",
}


def run(current: Session) -> FindResult:
    """Group a gallery's entries into people, without labels; what was named, merged, split or confirmed stays."""
    settings = current.settings()
    from sil_cli.people.find import find_people

    result = find_people(settings, current.reporter)
    facts = {
        "gallery": escape(result.gallery),
        "entries": f"{result.entries:,}",
        "people": f"{result.people:,}, {result.alone:,} of them with one entry",
        "new": f"{result.founded:,} people; {result.joined:,} entries joined people who were there",
        "likeness": LIKENESS[result.likeness],
    }
    if result.apart:
        facts["can't be one"] = f"{result.apart:,} pairs of entries, by their frames and times"
    if result.scores is not None:
        scores = result.scores
        facts["against identities"] = (
            f"BCubed F {scores.bcubed_f:.3f} (precision {scores.bcubed_precision:.3f}, recall "
            f"{scores.bcubed_recall:.3f}), pairwise F {scores.pairwise_f:.3f}"
        )
    print_facts(current.out, "People", facts)
    for cameras, why in result.doubted.items():
        current.reporter.note(f"Nothing was concluded from the times of {cameras}: {why}.")
    if result.likeness is None and result.entries > 1:
        current.reporter.warn(
            "Nothing says how alike two entries of one person are: the gallery has fewer than 300 entries, and its "
            "model isn't calibrated. `sil calibrate` and `sil index-gallery` make it known."
        )
    if result.contradictions:
        current.reporter.warn(
            f"{result.contradictions:,} verdicts contradict others: `sil people verdicts` names them."
        )
    option = "" if not settings.is_users_own("gallery.folder") else f" --gallery {escape(result.gallery)}"
    current.next_command(f"{result.people:,} people in {escape(result.gallery)}.", f"sil people list{option}")
    return result
