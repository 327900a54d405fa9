"""`sil calibrate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import GALLERY, STORE, Option
from sil_cli.cli.terminal import escape, print_facts, print_table
from sil_cli.errors import UsageError

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.evaluation.calibrate import CalibrateResult
    from sil_cli.gallery.chance import CalibrateGalleryResult
    from sil_cli.settings import Settings

PAIRS = {
    "cameras": "of different cameras",
    "times": "ten minutes apart, since cameras aren't known",
    "all": "of any two, since neither cameras nor times are known",
}
EXAMPLES = """
[bold]Examples[/]

sil calibrate

sil calibrate --model runs/001-dbs --on data/office

sil calibrate --set calibrate.match=1e-4

sil calibrate --gallery station
"""
OPTIONS = (Option("--model", "calibrate.model", "RUN"), Option("--on", "calibrate.on", "DIR"), GALLERY, STORE)


def run(current: Session) -> CalibrateResult | CalibrateGalleryResult:
    """Measure from which score on images count as one person: on labelled people, or by chance in a gallery."""
    settings = current.settings()
    if current.given["gallery"] is not None or current.given["store"] is not None:
        return _by_gallery(current, settings)
    from sil_cli.evaluation.calibrate import calibrate

    result = calibrate(settings, current.reporter)
    meanings = {result.match: "match", result.possible: "possible"}
    print_table(
        current.out,
        f"Thresholds of {escape(result.model)}",
        {
            "false accept rate": list(result.thresholds),
            "score from": [f"{each:.4f}" for each in result.thresholds.values()],
            "true accept rate": [f"{result.true_accept_rates[name]:.3f}" for name in result.thresholds],
            "": [meanings.get(each, "") for each in result.thresholds.values()],
        },
    )
    current.say(
        f"From {result.same_pairs:,} pairs of one person and {result.different_pairs:,} of different people: "
        f"{escape(result.made_on)}."
    )
    current.next_command(f"Thresholds in {result.calibration}.")
    return result


def _by_gallery(current: Session, settings: Settings) -> CalibrateGalleryResult:
    from sil_cli.gallery.chance import calibrate_gallery

    if current.given["model"] is not None or current.given["on"] is not None:
        raise UsageError(
            "--gallery takes neither --model nor --on.", "A gallery is calibrated by its own entries, without labels."
        )
    result = calibrate_gallery(settings, current.reporter)
    chance = result.chance
    low, high = chance.factor
    facts = {
        "entries": f"{chance.entries:,}",
        "pairs": f"{chance.pairs:,}, {PAIRS[chance.pairs_from]}",
        "mates of each, left out": f"{chance.mates:.1f}",
        "off by the sample alone": f"{low:.2g} to {high:.2g} times, in 90 % of samples",
    }
    print_facts(current.out, "What comes up by chance", facts)
    current.next_command(f"Queries of {result.gallery} say how many false matches are expected.", "sil query IMAGE")
    return result
