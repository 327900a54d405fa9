"""`sil report`: one HTML page and pictures from the files that training and evaluation saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from sil_cli.defaults import model_folder
from sil_cli.errors import SilError, UsageError
from sil_cli.files import refuse_links, write_bytes, writing
from sil_cli.models.record import read_record
from sil_cli.output_checks import require_writable
from sil_cli.report.image_sections import agreement_section, map_section, rank_lists_section
from sil_cli.report.number_sections import (
    cameras_section,
    conditions_section,
    curves_section,
    headline,
    open_set_section,
    scores_section,
    training_section,
)
from sil_cli.report.pages import ReportSection, render
from sil_cli.report.projection import Projection, resolve_projection
from sil_cli.report.run_inputs import RunInputs, evaluations, read_runs
from sil_cli.results import Result
from sil_cli.runtime import resolve_device
from sil_cli.settings import refuse_outside

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from sil_cli.models.embedder import Embedder
    from sil_cli.runtime import DeviceName, Reporter
    from sil_cli.settings import Settings
    from sil_cli.settings.finding import ReportSettings

PAGE_FILE = "report.html"
REPORT_FOLDER = "report"


class ReportResult(Result):
    """The outcome of `sil report`.

    Attributes:
        page: The HTML file.
        pictures: The PNG files beside it.
        runs: The runs it shows.
        target: The data set that they were evaluated on.
        page_bytes: Size of the HTML file.
        projection: How embeddings were laid out in two dimensions.
        missing_images: Images of rank lists that could not be opened; grey tiles stand for them.
        notes: What the report could not show, and why.
    """

    page: Path
    pictures: list[Path]
    runs: list[Path]
    target: str
    page_bytes: int = Field(ge=1)
    projection: str
    missing_images: int = Field(ge=0)
    notes: list[str]


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
    runs = read_runs(folders, chosen.target, settings.data)
    require_writable(path, option="--out DIR")
    wants_models = chosen.similarity_maps or chosen.source_images
    models, notes = _open_models(runs, settings.device) if wants_models else ({}, [])
    sections = _sections(runs, models, chosen, how, reporter)
    notes = list(dict.fromkeys([*notes, *(note for section in sections for note in section.notes)]))
    for note in notes:
        reporter.warn(note)
    target = runs[0].scores.target
    content = render(
        "report.html",
        title=f"{', '.join(run.label for run in runs)} on {target}",
        target=target,
        generated=runs[0].details.record.generated,
        sections=sections,
        **headline(runs),
    ).encode()
    pictures = []
    for figure in (figure for section in sections for figure in section.figures):
        pictures.append(path.parent / f"{path.stem}-{figure.name}.png")
        write_bytes(pictures[-1], figure.png)
    # The page comes last: where there is one, everything is.
    users_own = settings.is_users_own("report.out") and path == chosen.out
    with writing(path, users_own=users_own) as stream:
        stream.write(content)
    return ReportResult(
        page=path,
        pictures=pictures,
        runs=[run.folder for run in runs],
        target=target,
        page_bytes=len(content),
        projection=how,
        missing_images=sum(len(run.images.missing) for run in runs),
        notes=notes,
    )


def _sections(
    runs: Sequence[RunInputs],
    models: dict[str, Embedder],
    chosen: ReportSettings,
    how: Projection,
    reporter: Reporter,
) -> list[ReportSection]:
    """All sections that there is something to say in, in the page's order."""
    makers: list[Callable[[], ReportSection | None]] = [
        lambda: curves_section(runs),
        lambda: scores_section(runs),
        lambda: open_set_section(runs),
        lambda: rank_lists_section(runs, chosen.queries),
        lambda: agreement_section(runs, models) if chosen.similarity_maps else None,
        lambda: map_section(runs, how, _sources(runs, models, chosen.source_images)),
        lambda: cameras_section(runs),
        lambda: training_section(runs),
        lambda: conditions_section(runs),
    ]
    sections = []
    with reporter.task("Drawing", total=len(makers), unit="sections") as task:
        for make in makers:
            section = make()
            sections += [] if section is None else [section]
            task.advance()
    return sections


def _page_path(out: Path | None, folders: Sequence[Path]) -> Path:
    if out is None:
        return (folders[0] if len(folders) == 1 else Path()) / REPORT_FOLDER / PAGE_FILE
    if out.suffix.lower() in (".html", ".htm"):
        return out
    if out.is_file():
        raise UsageError(f"{out} is a file.", "Name a folder, or a file that ends in .html.")
    return out / PAGE_FILE


def _open_models(runs: Sequence[RunInputs], device: DeviceName) -> tuple[dict[str, Embedder], list[str]]:
    """The models that are still there by their runs' labels, on the device, and why others are not."""
    models: dict[str, Embedder] = {}
    notes: list[str] = []
    for run in runs:
        try:
            read_record(run.folder)  # an imported graph has none, and nothing of it needs torch
            models[run.label] = _open_model(run, device)
        except UsageError:
            raise
        except SilError as error:
            notes.append(f"Without the model of {run.label} there are no similarity maps: {error.what}")
    return models, notes


def _open_model(run: RunInputs, device: DeviceName) -> Embedder:
    from sil_cli.report.similarity_maps import open_model

    return open_model(run, resolve_device(device))


def _sources(runs: Sequence[RunInputs], models: dict[str, Embedder], count: int) -> dict[str, dict[str, np.ndarray]]:
    if not count or not models:
        return {}
    from sil_cli.report.similarity_maps import source_embeddings

    return {
        run.label: source_embeddings(models[run.label], run, count, known=set(evaluations(run.folder)))
        for run in runs
        if run.label in models
    }
