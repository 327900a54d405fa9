"""The sections of a report that show numbers: scores, curves, pairs of images, cameras, training, conditions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_hex

from sil_cli.evaluation.histograms import BINS
from sil_cli.report.charts import HEAT, camera_chart, cmc_chart, histogram_chart, precision_recall_chart
from sil_cli.report.curves import quantities, training_curves
from sil_cli.report.figures import as_png, as_svg
from sil_cli.report.html import Html, element, join, table
from sil_cli.report.page import Picture, Section, beside, figure, figures, paragraph, tiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from sil_cli.report.report_inputs import RunInputs


CAMERAS_TEXT = (
    "mAP in percent of the queries of one camera (rows) when the gallery holds the images of one camera alone "
    "(columns). A dash: no query has a match there. Images of a person by the query's own camera don't count."
)


@dataclass(frozen=True)
class Part:
    """A section and the pictures in it, which also become files.

    Attributes:
        section: What the page shows.
        pictures: What lies beside the page.
        notes: What could not be shown, and why.
    """

    section: Section
    pictures: list[Picture] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def chart(name: str, drawn: Figure, alternative: str, caption: str) -> Picture:
    """A chart as a picture; lines and letters are sharp at any size on the page."""
    return Picture(name, as_png(drawn), (as_svg(drawn), "image/svg+xml"), alternative, caption)


def headline(runs: Sequence[RunInputs]) -> Html:
    """The scores as tiles for one run, as a table for several, and what must be said before anything else."""
    warnings = [
        paragraph(
            f"{run.label} was trained on {run.scores.target}: its numbers do not show generalisation.", kind="warning"
        )
        for run in runs
        if run.scores.trained_on_target
    ]
    if len(runs) > 1:
        return join([*warnings, _scores_table(runs)])
    (run,) = runs
    scores = run.scores
    rates = {"mAP": scores.mAP, **{f"Rank-{k}": rate for k, rate in scores.cmc.items()}, "mINP": scores.mINP}
    counts = {"queries": scores.queries, "gallery images": scores.gallery}
    shown = tiles(
        [(name, f"{100 * rate:.1f}", " %") for name, rate in rates.items()]
        + [(n, f"{c:,}", "") for n, c in counts.items()]
    )
    dropped = f"{scores.dropped_queries:,} queries have no valid match in the gallery and are left out."
    return join([*warnings, shown, paragraph(dropped, kind="note") if scores.dropped_queries else Html("")])


def _scores_table(runs: Sequence[RunInputs]) -> Html:
    ranks = sorted(set.intersection(*(set(run.scores.cmc) for run in runs)))
    names = ["mAP", *(f"Rank-{k}" for k in ranks), "mINP"]
    values = [[run.scores.mAP, *(run.scores.cmc[k] for k in ranks), run.scores.mINP] for run in runs]
    best = np.max(values, axis=0)
    rows = []
    for run, rates in zip(runs, values, strict=True):
        cells = [
            element("td", f"{100 * rate:.1f}", class_="best" if rate == top else None)
            for rate, top in zip(rates, best, strict=True)
        ]
        rows.append([run.label, *cells, f"{run.scores.queries:,}", f"{run.scores.gallery:,}"])
    head = ["run", *names, "queries", "gallery"]
    return table(head, rows, class_="numbers", caption="In percent; the best of each column is bold.")


def curves_part(runs: Sequence[RunInputs]) -> Part:
    """CMC and precision-recall curves."""
    cmc = cmc_chart([(run.label, run.details.record.cmc) for run in runs])
    precision = precision_recall_chart([(run.label, run.details.record.precision) for run in runs])
    pictures = [
        chart("cmc", cmc, "CMC curve", "CMC: the share of queries whose first right match stands at rank k or before."),
        chart(
            "precision-recall",
            precision,
            "Precision-recall curve",
            "The mean over queries of the interpolated precision at each recall.",
        ),
    ]
    return Part(
        Section("curves", "CMC, precision and recall", join([_before_rerank(runs), figures(pictures)])), pictures
    )


def _before_rerank(runs: Sequence[RunInputs]) -> Html:
    reranked = [run.label for run in runs if run.scores.conditions.get("re-ranking", "none") != "none"]
    if not reranked:
        return Html("")
    names = ", ".join(reranked)
    return paragraph(
        f"Scores of {names} are after re-ranking; all pictures here are by cosine, before it.", kind="note"
    )


def histogram_part(runs: Sequence[RunInputs]) -> Part:
    """Scores of same and different pairs, with the thresholds."""
    pictures: list[Picture] = []
    content: list[str] = []
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
        picture = chart(numbered("scores", number, runs), drawn, "Histogram of similarities", caption)
        pictures.append(picture)
        content += [run_heading(run, runs), beside(figure(picture), _threshold_text(run))]
    return Part(Section("scores", "Scores of same and different pairs", join(content)), pictures)


def _threshold_text(run: RunInputs) -> Html:
    record, calibration = run.details.record, run.calibration
    if calibration is None:
        no = "No threshold is calibrated for this model; one says which scores are a match. Set it with "
        return paragraph(no, element("code", "sil calibrate"), ".")
    first = int(np.floor((calibration.match + 1) * BINS / 2))
    rounded = first * 2 / BINS - 1
    same, different = np.array(record.same_pairs), np.array(record.different_pairs)
    shares = [counts[first:].sum() / max(1, counts.sum()) for counts in (same, different)]
    found = (
        f"On this target {100 * shares[0]:.1f} % of the pairs of one person and {100 * shares[1]:.2f} % of the pairs "
        f"of two people score {rounded:.3f} or more."
    )
    made = (
        f"Thresholds made on {calibration.made_on}: a match from {calibration.match:.3f}, a possible one from "
        f"{calibration.possible:.3f}."
    )
    rounding = "Here the threshold of a match is rounded down to a bin of the histogram, of width 0.005."
    return join([paragraph(made), paragraph(found), paragraph(rounding, kind="note")])


def cameras_part(runs: Sequence[RunInputs]) -> Part:
    """The mAP of each camera pair, as a table in colours."""
    pictures: list[Picture] = []
    content: list[str] = []
    for number, run in enumerate(runs, start=1):
        record = run.details.record
        content.append(run_heading(run, runs))
        if not record.query_cameras or not record.gallery_cameras:
            content.append(paragraph("The cameras of this target are not labelled.", kind="note"))
            continue
        drawn = camera_chart(record.query_cameras, record.gallery_cameras, record.camera_map)
        caption = "mAP by camera pair."
        pictures.append(chart(numbered("cameras", number, runs), drawn, "Heat map of mAP by camera pair", caption))
        rows = [
            [f"query {name}", *[_heat_cell(value, count) for value, count in zip(values, counts, strict=True)]]
            for name, values, counts in zip(record.query_cameras, record.camera_map, record.camera_queries, strict=True)
        ]
        text = paragraph(CAMERAS_TEXT) if number == 1 else Html("")
        content.append(beside(table(["", *record.gallery_cameras], rows, class_="heat"), text))
    return Part(Section("cameras", "mAP by camera pair", join(content)), pictures)


def _heat_cell(value: float | None, count: int) -> Html:
    if value is None:
        return element("td", "–", title="no query has a match there")
    colour = to_hex(mpl.colormaps[HEAT](value))
    ink = "#ffffff" if value > 0.55 else "#111827"
    return element("td", f"{100 * value:.0f}", style=f"background:{colour};color:{ink}", title=f"{count:,} queries")


def training_part(runs: Sequence[RunInputs]) -> Part | None:
    """Training curves of the runs that have a log; None where none has."""
    logged = [(run.label, run.history) for run in runs if quantities([run.history])]
    if not logged:
        return None
    picture = chart("training", training_curves(logged), "Training curves", "One point an epoch, from metrics.jsonl.")
    return Part(Section("training", "Training", element("div", figure(picture), class_="wide")), [picture])


def conditions_part(runs: Sequence[RunInputs]) -> Part:
    """How each model came to be and was tested, and every setting."""
    facts = [_conditions(run) for run in runs]
    names = list(dict.fromkeys(name for each in facts for name in each))
    lines = []
    for name in names:
        values = [each.get(name, "–") for each in facts]
        cells = [element("th", name, scope="row"), *[element("td", value) for value in values]]
        lines.append(element("tr", *cells, class_="differs" if len(set(values)) > 1 else None))
    head = element("tr", element("th", "", scope="col"), *[element("th", run.label, scope="col") for run in runs])
    facts_table = element("table", element("thead", head), element("tbody", *lines), class_="facts")
    note = paragraph("Rows in which the runs differ are marked.", kind="note") if len(runs) > 1 else Html("")
    settings = [
        element("details", element("summary", f"All settings of {run.label}"), element("pre", run.settings))
        for run in runs
        if run.settings
    ]
    return Part(
        Section(
            "conditions", "Conditions and settings", join([note, element("div", facts_table, class_="wide"), *settings])
        )
    )


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
    """The name of a picture of one run among several."""
    return name if len(runs) == 1 else f"{name}-{number}"


def run_heading(run: RunInputs, runs: Sequence[RunInputs]) -> Html:
    """The name of a run above its part of a section, where there are several."""
    return element("h3", run.label) if len(runs) > 1 else Html("")
