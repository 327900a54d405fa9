"""The sections of a report that show people: rank lists, where images agree, maps of embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sil_cli.errors import SilError
from sil_cli.evaluation.report_data import read_report_data
from sil_cli.report.canvas import as_png
from sil_cli.report.charts import figures as charts
from sil_cli.report.charts.evaluation import map_chart
from sil_cli.report.contact_sheet import IMAGE_SIZE, contact_sheet
from sil_cli.report.image_rows import image_rows
from sil_cli.report.number_sections import numbered
from sil_cli.report.pages import PageFigure, ReportSection
from sil_cli.report.projection import project
from sil_cli.report.rank_lists import choose, sheet_row
from sil_cli.report.run_inputs import EVALUATION_FOLDER, evaluations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sil_cli.models.embedder import Embedder
    from sil_cli.report.projection import Projection
    from sil_cli.report.run_inputs import RunInputs
    from sil_cli.report.similarity_maps import MatchMaps

IDENTITIES_SHOWN, CAMERAS_SHOWN, DOMAINS_SHOWN = 14, 16, 16
OF_A_DOMAIN = 300


def rank_lists_section(runs: Sequence[RunInputs], count: int) -> ReportSection:
    """The best, typical and worst queries with their first matches."""
    chosen = [choose(run.details, count) for run in runs]
    sheets: list[PageFigure] = []
    warnings: list[list[str]] = []
    for number, (run, kinds) in enumerate(zip(runs, chosen, strict=True), start=1):
        for kind, lists in kinds.items():
            if lists:
                sheet = contact_sheet([sheet_row(one, run.images.open) for one in lists])
                name = numbered(f"rank-lists-{kind}", number, runs)
                sheets.append(PageFigure(name, as_png(sheet), f"{kind.capitalize()} queries"))
        warnings.append([run.images.why] if run.images.why else [])
        if run.images.missing and run.images.dataset is not None:
            missing = len(run.images.missing)
            warnings[-1].append(f"{missing:,} images can't be opened; grey tiles stand for them.")
    values = {"runs": runs, "chosen": chosen, "warnings": warnings}
    return ReportSection("rank-lists", "Rank lists", values, sheets, [note for each in warnings for note in each])


def agreement_section(runs: Sequence[RunInputs], models: Mapping[str, Embedder]) -> ReportSection:
    """Where a query and its first matches agree, for a best, a typical and a worst query."""
    groups: list[dict[str, list[MatchMaps]]] = []
    sheets: list[PageFigure] = []
    notes: list[str] = []
    for number, run in enumerate(runs, start=1):
        groups.append({})
        if run.images.dataset is None or run.label not in models:
            continue
        from sil_cli.report.similarity_maps import map_matches

        try:
            for kind, lists in choose(run.details, 1).items():
                pairs = [m for one in lists for m in map_matches(models[run.label], one, run.images.dataset)]
                if pairs:
                    groups[-1][kind] = pairs
        except SilError as error:
            notes.append(error.what)
        rows = [(kind, [half for pair in pairs for half in pair.overlays]) for kind, pairs in groups[-1].items()]
        if rows:
            sheet = image_rows(rows, tile=IMAGE_SIZE)
            sheets.append(PageFigure(numbered("similarity-maps", number, runs), as_png(sheet), "Similarity maps"))
    return ReportSection("agreement", "Where images agree", {"runs": runs, "groups": groups}, sheets, notes)


def map_section(
    runs: Sequence[RunInputs], how: Projection, sources: Mapping[str, Mapping[str, np.ndarray]]
) -> ReportSection:
    """Embeddings in two dimensions, coloured by identity, by camera and by domain.

    Args:
        runs: The runs.
        how: How they are laid out.
        sources: For the label of a run, embeddings of its sources by their names.
    """
    maps = []
    for number, run in enumerate(runs, start=1):
        suffix = numbered("", number, runs)
        maps.append([*_target_maps(run, how, suffix), *_domain_map(run, how, sources.get(run.label, {}), suffix)])
    values = {"runs": runs, "maps": maps, "projection": how}
    return ReportSection("map", "Map of embeddings", values, [figure for each in maps for figure in each])


def _target_maps(run: RunInputs, how: Projection, suffix: str) -> list[PageFigure]:
    arrays, images = run.details.arrays, run.details.record.images
    records = [images[row] for row in arrays.sample_image.tolist()]
    points = project(arrays.sample_embedding, how)
    people = [None if record.distractor else record.identity for record in records]
    cameras = [record.camera for record in records]
    each = f"{len(records):,} images of {run.scores.target}"
    maps = [_map(f"map-identity{suffix}", points, people, IDENTITIES_SHOWN, "identities", f"By identity: {each}.")]
    if any(camera is not None for camera in cameras):
        maps.append(_map(f"map-camera{suffix}", points, cameras, CAMERAS_SHOWN, "cameras", f"By camera: {each}."))
    return maps


def _domain_map(run: RunInputs, how: Projection, sources: Mapping[str, np.ndarray], suffix: str) -> list[PageFigure]:
    domains = {run.scores.target: run.details.arrays.sample_embedding} | _other_evaluations(run) | dict(sources)
    if len(domains) < 2:
        return []
    rng = np.random.default_rng(0)
    drawn = {
        name: rows[np.sort(rng.choice(len(rows), min(OF_A_DOMAIN, len(rows)), replace=False))]
        for name, rows in domains.items()
    }
    points = project(np.concatenate([rows.astype(np.float32) for rows in drawn.values()]), how)
    names: list[str | None] = [name for name, rows in drawn.items() for _ in rows]
    caption = f"By domain: the target {run.scores.target} beside {', '.join(list(drawn)[1:])}."
    return [_map(f"map-domain{suffix}", points, names, DOMAINS_SHOWN, "domains", caption)]


def _other_evaluations(run: RunInputs) -> dict[str, np.ndarray]:
    """Samples of the other targets that the same model was evaluated on."""
    others: dict[str, np.ndarray] = {}
    for target in evaluations(run.folder):
        try:
            details = read_report_data(run.folder / EVALUATION_FOLDER / target)
        except SilError:
            continue
        if target != run.scores.target and details.record.fingerprint == run.scores.fingerprint:
            others[target] = details.arrays.sample_embedding
    return others


def _map(name: str, points: np.ndarray, groups: Sequence[str | None], most: int, what: str, caption: str) -> PageFigure:
    png = charts.as_png(map_chart(points, groups, most=most, what=what))
    return PageFigure(name, png, f"Map of embeddings, {what} in colours", caption)
