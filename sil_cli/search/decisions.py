"""What scores mean: thresholds from the model's calibration, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.errors import GalleryError, UsageError
from sil_cli.evaluation.calibration import CALIBRATION_FILE, Calibration, Decision, read_calibration
from sil_cli.search.query_results import Thresholds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sil_cli.gallery.entry import Match

NOT_CALIBRATED = (
    "No decision: the model is not calibrated. Scores put matches in order, but don't say whether any is this person."
)


def find_calibration(folders: Sequence[Path], fingerprint: str) -> Calibration | None:
    """The first calibration in `folders`; None where there is none.

    Raises:
        ModelError: The file is damaged.
        GalleryError: It was measured on another model.
    """
    for folder in folders:
        calibration = read_calibration(folder)
        if calibration is None:
            continue
        if calibration.fingerprint != fingerprint:
            raise GalleryError(
                f"{folder / CALIBRATION_FILE} was measured on model {calibration.fingerprint[:12]}, "
                f"but the gallery was made by {fingerprint[:12]}.",
                "Run `sil calibrate` on the gallery's model, or delete the file.",
            )
        return calibration
    return None


def threshold_of(calibration: Calibration | None, min_score: float | None, *, everything: bool) -> float | None:
    """The score from which on matches are listed, or None for no limit.

    Raises:
        UsageError: All were asked for, and nothing says from where on.
    """
    if min_score is not None:
        return min_score
    if not everything:
        return None
    if calibration is None:
        raise UsageError(
            "--all needs a threshold, and the model is not calibrated.",
            "Say one with --min-score, or run `sil calibrate` and `sil index-gallery` again.",
        )
    return calibration.possible


def decide(calibration: Calibration | None, score: float) -> Decision | None:
    """What a score means; None where nothing says."""
    return None if calibration is None else calibration.decide(score)


def decide_on_best(calibration: Calibration | None, matches: Sequence[Match]) -> Decision | None:
    """What the highest score among matches means, which re-ranking may have put elsewhere than first."""
    return decide(calibration, max((match.score for match in matches), default=float("nan")))


def thresholds(calibration: Calibration | None) -> Thresholds | None:
    """The calibration as a result shows it."""
    if calibration is None:
        return None
    return Thresholds(match=calibration.match, possible=calibration.possible, made_on=calibration.made_on)


def verdict(calibration: Calibration | None, matches: Sequence[Match], at_least: float | None) -> str:
    """The decision on a query in one sentence."""
    if calibration is None:
        return NOT_CALIBRATED
    if not matches:
        if at_least is None:
            return "No match: there is no gallery entry to compare with."
        return f"No match: no gallery entry has a score of {at_least:.3f} or more."
    best = max(match.score for match in matches)
    decision = calibration.decide(best)
    if decision == "match":
        count = sum(calibration.decide(match.score) == "match" for match in matches)
        return f"Match: {count} of {len(matches)} listed have a score of {calibration.match:.3f} or more."
    if decision == "possible":
        return (
            f"Possible: the best score, {best:.3f}, lies between {calibration.possible:.3f} (possible) "
            f"and {calibration.match:.3f} (match)."
        )
    return f"No match: the best score, {best:.3f}, lies below {calibration.possible:.3f}."
