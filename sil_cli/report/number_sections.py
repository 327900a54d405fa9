"""The sections of a report that show numbers: scores, curves, pairs of images, cameras, training, conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sil_cli.evaluation.report_data import BINS
from sil_cli.report.charts.evaluation import (
    camera_chart,
    cmc_chart,
    heat_colour,
    histogram_chart,
    identification_chart,
    precision_recall_chart,
)
from sil_cli.report.charts.figures import as_png, as_svg
from sil_cli.report.charts.training import quantities, training_curves
from sil_cli.report.pages import PageFigure, ReportSection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from sil_cli.report.run_inputs import RunInputs


def headline(runs: Sequence[RunInputs]) -> dict[str, object]:
    """What `headline.html` shows: the rates of each run by their names, and the best of each."""
    ranks = sorted(set.intersection(*(set(run.scores.cmc) for run in runs)))
    rates = [
        {"mAP": run.scores.mAP, **{f"Rank-{k}": run.scores.cmc[k] for k in ranks}, "mINP": run.scores.mINP}
        for run in runs
    ]
    return {"runs": runs, "rates": rates, "best": {name: max(each[name] for each in rates) for name in rates[0]}}


def curves_section(runs: Sequence[RunInputs]) -> ReportSection:
    """CMC and precision-recall curves."""
    cmc = cmc_chart([(run.label, run.details.record.cmc) for run in runs])
    precision = precision_recall_chart([(run.label, run.details.record.precision) for run in runs])
    figures = [
        _chart(
            "cmc", cmc, "CMC curve", "CMC: the share of queries whose first right match stands at rank k or before."
        ),
        _chart(
            "precision-recall",
            precision,
            "Precision-recall curve",
            "The mean over queries of the interpolated precision at each recall.",
        ),
    ]
    reranked = [run.label for run in runs if run.scores.conditions.get("re-ranking", "none") != "none"]
    return ReportSection("curves", "CMC, precision and recall", {"reranked": reranked}, figures)


def scores_section(runs: Sequence[RunInputs]) -> ReportSection:
    """Scores of same and different pairs, with the thresholds."""
    figures: list[PageFigure] = []
    for number, run in enumerate(runs, start=1):
        record, calibration = run.details.record, run.calibration
        drawn = histogram_chart(
            record.same_pairs,
            record.different_pairs,
            match=calibration.match if calibration else None,
            possible=calibration.possible if calibration else None,
        )
        which = "all" if record.sampled_queries == record.queries else f"{record.sampled_queries:,} of the"
        caption = f"Cosines of all valid pairs of {which} {record.queries:,} queries with the gallery."
        figures.append(_chart(numbered("scores", number, runs), drawn, "Histogram of similarities", caption))
    values = {"runs": runs, "accepted": [_accepted(run) for run in runs]}
    return ReportSection("scores", "Scores of same and different pairs", values, figures)


def open_set_section(runs: Sequence[RunInputs]) -> ReportSection | None:
    """Who is taken for somebody and who is missed, and how far expected false matches held; None where nothing says."""
    curves = [(run.label, run.details.record.identification) for run in runs if run.details.record.identification]
    if not curves and all(run.scores.expected_false_matches is None for run in runs):
        return None
    caption = (
        "Half of the people are taken out of the gallery. Of their queries, the share for whom somebody is found above"
        " a threshold; of the others', the share whose person is not found first above it."
    )
    drawn = _chart("identification", identification_chart(curves), "FNIR over FPIR", caption) if curves else None
    return ReportSection(
        "open-set", "People who are not in the gallery", {"runs": runs}, [] if drawn is None else [drawn]
    )


def _accepted(run: RunInputs) -> dict[str, float] | None:
    """Shares of same and different pairs from the calibrated threshold up, which is rounded down to a bin."""
    record, calibration = run.details.record, run.calibration
    if calibration is None:
        return None
    first = int(np.floor((calibration.match + 1) * BINS / 2))
    same, different = np.array(record.same_pairs), np.array(record.different_pairs)
    return {
        "threshold": first * 2 / BINS - 1,
        "same": same[first:].sum() / max(1, same.sum()),
        "different": different[first:].sum() / max(1, different.sum()),
    }


def cameras_section(runs: Sequence[RunInputs]) -> ReportSection:
    """The mAP of each camera pair, as a table in colours."""
    figures: list[PageFigure] = []
    for number, record in enumerate((run.details.record for run in runs), start=1):
        if record.query_cameras and record.gallery_cameras:
            drawn = camera_chart(record.query_cameras, record.gallery_cameras, record.camera_map)
            figures.append(_chart(numbered("cameras", number, runs), drawn, "Heat map of mAP by camera pair"))
    return ReportSection("cameras", "mAP by camera pair", {"runs": runs, "heat": heat_colour}, figures)


def training_section(runs: Sequence[RunInputs]) -> ReportSection | None:
    """Training curves of the runs that have a log; None where none has."""
    logged = [(run.label, run.history) for run in runs if quantities([run.history])]
    if not logged:
        return None
    caption = "One point an epoch, from metrics.jsonl."
    figures = [_chart("training", training_curves(logged), "Training curves", caption)]
    return ReportSection("training", "Training", {}, figures)


def conditions_section(runs: Sequence[RunInputs]) -> ReportSection:
    """How each model came to be and was tested, and every setting."""
    known = [_conditions(run) for run in runs]
    facts = {name: [each.get(name, "–") for each in known] for each in known for name in each}
    return ReportSection("conditions", "Conditions and settings", {"runs": runs, "facts": facts})


def _conditions(run: RunInputs) -> dict[str, str]:
    record, facts = run.details.record, run.facts
    known = {"run": str(run.folder), "target": record.target} | run.scores.conditions
    if facts is not None:
        sources = "; ".join(f"{s.name} ({s.images:,} images, {s.identities:,} identities)" for s in facts.sources)
        known |= {
            "sources": sources,
            "style": facts.style,
            "recipe": facts.recipe,
            "seed": str(facts.seed),
            "epochs": f"{facts.epochs} ({facts.iterations:,} iterations)",
            "trained on": f"{facts.device}, {facts.precision}",
            "versions": ", ".join(f"{name} {version}" for name, version in facts.versions.items()),
        }
    known["evaluated by"] = f"sil {record.program}"
    known["model's fingerprint"] = record.fingerprint[:16]
    known["target's manifest"] = record.manifest_sha256[:16]
    return known


def numbered(name: str, number: int, runs: Sequence[RunInputs]) -> str:
    """The name of a figure of one run among several."""
    return name if len(runs) == 1 else f"{name}-{number}"


def _chart(name: str, drawn: Figure, alternative: str, caption: str = "") -> PageFigure:
    return PageFigure(name, as_png(drawn), alternative, caption, svg=as_svg(drawn))
