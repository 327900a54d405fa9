"""`sil report`: one HTML page and pictures from the files that training and evaluation saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sil_cli
from sil_cli.defaults import model_folder
from sil_cli.errors import SilError, UsageError
from sil_cli.files import refuse_links, write_bytes, writing
from sil_cli.report.page import page
from sil_cli.report.projection import resolve_projection
from sil_cli.report.report_inputs import RunInputs, evaluations, read_runs
from sil_cli.report.report_pictures import agreement_part, map_part, rank_lists_part
from sil_cli.report.report_results import ReportResult
from sil_cli.report.report_sections import (
    Part,
    cameras_part,
    conditions_part,
    curves_part,
    headline,
    histogram_part,
    training_part,
)
from sil_cli.runtime import resolve_device
from sil_cli.settings import refuse_outside

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import torch

    from sil_cli.models.embedder import Embedder
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

PARTS = 8
PAGE_FILE = "report.html"
REPORT_FOLDER = "report"


def report(settings: Settings, reporter: Reporter) -> ReportResult:
    """Make a page of one run, or of several side by side.

    Raises:
        SilError: A run was not evaluated, or its files can't be used; nothing is written then.
    """
    chosen = settings.report
    folders = list(chosen.runs) or [model_folder(None, settings.train.runs)]
    how = resolve_projection(chosen.projection)
    path = _page_path(chosen.out, folders)
    if chosen.out is None:
        refuse_outside(settings, "report.runs")
        refuse_links(path.parent, within=folders[0] if len(folders) == 1 else Path())
    runs = read_runs(folders, chosen.target, settings.data.folder)
    device = resolve_device(settings.device)
    with reporter.task("Drawing", total=PARTS, unit="parts") as task:
        models, notes = _open_models(runs, device) if chosen.similarity_maps or chosen.source_images else ({}, [])
        makers: list[Callable[[], Part | None]] = [
            lambda: curves_part(runs),
            lambda: histogram_part(runs),
            lambda: rank_lists_part(runs, chosen.queries),
            lambda: agreement_part(runs, models, device) if chosen.similarity_maps else None,
            lambda: map_part(runs, how, _sources(runs, models, chosen.source_images, device)),
            lambda: cameras_part(runs),
            lambda: training_part(runs),
            lambda: conditions_part(runs),
        ]
        parts = []
        for make in makers:
            parts.append(make())
            task.advance()
    made = [part for part in parts if part is not None]
    notes += [note for part in made for note in part.notes]
    for note in dict.fromkeys(notes):
        reporter.warn(note)
    users_own = settings.is_users_own("report.out") and path == chosen.out
    return _write(path, runs, made, how, list(dict.fromkeys(notes)), users_own=users_own)


def _write(
    path: Path, runs: Sequence[RunInputs], parts: Sequence[Part], how: str, notes: list[str], *, users_own: bool
) -> ReportResult:
    target = runs[0].scores.target
    names = ", ".join(run.label for run in runs)
    generated = " The people are drawn, not photographed." if runs[0].details.record.generated else ""
    text = page(
        f"{names} on {target}",
        f"Person re-identification on the camera network {target}.{generated}",
        headline(runs),
        [part.section for part in parts],
        f"Made by sil {sil_cli.__version__} from saved files.",
    )
    pictures = []
    for picture in (picture for part in parts for picture in part.pictures):
        pictures.append(path.parent / f"{path.stem}-{picture.name}.png")
        write_bytes(pictures[-1], picture.png)
    # The page comes last: where there is one, everything is.
    with writing(path, users_own=users_own) as stream:
        stream.write(text.encode())
    return ReportResult(
        page=path,
        pictures=pictures,
        runs=[run.folder for run in runs],
        target=target,
        page_bytes=len(text.encode("utf-8")),
        projection=how,
        missing_images=sum(len(run.images.missing) for run in runs),
        notes=notes,
    )


def _page_path(out: Path | None, folders: Sequence[Path]) -> Path:
    if out is None:
        return (folders[0] if len(folders) == 1 else Path()) / REPORT_FOLDER / PAGE_FILE
    if out.suffix.lower() in (".html", ".htm"):
        return out
    if out.is_file():
        raise UsageError(f"{out} is a file.", "Name a folder, or a file that ends in .html.")
    return out / PAGE_FILE


def _open_models(runs: Sequence[RunInputs], device: torch.device) -> tuple[dict[str, Embedder], list[str]]:
    """The models that are still there by their runs' labels, and why others are not."""
    from sil_cli.report.report_model import open_model

    models: dict[str, Embedder] = {}
    notes: list[str] = []
    for run in runs:
        try:
            models[run.label] = open_model(run, device)
        except SilError as error:
            notes.append(f"Without the model of {run.label} there are no similarity maps: {error.what}")
    return models, notes


def _sources(
    runs: Sequence[RunInputs], models: dict[str, Embedder], count: int, device: torch.device
) -> dict[str, dict[str, np.ndarray]]:
    from sil_cli.report.report_model import source_embeddings

    return {
        run.label: source_embeddings(models[run.label], run, count, device, known=set(evaluations(run.folder)))
        for run in runs
        if count and run.label in models
    }
