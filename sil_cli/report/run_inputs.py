"""What a report is made from: the files that training and evaluation left in run folders."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sil_cli.data.images import MAX_PIXELS, ImageError, pixels_in
from sil_cli.data.manifest import Dataset, first_problem, is_dataset, load_dataset
from sil_cli.errors import ModelError, SilError, UsageError, quoted
from sil_cli.evaluation.calibration import Calibration, read_calibration
from sil_cli.evaluation.chance import ChanceCheck
from sil_cli.evaluation.report_data import ReportData, read_report_data
from sil_cli.evaluation.results import RESULTS_FILE
from sil_cli.files import read_bytes, read_json, require_reachable
from sil_cli.report.contact_sheet import IMAGE_SIZE
from sil_cli.runs.run_folder import FACTS_FILE, SETTINGS_FILE, RunFacts, read_facts, read_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from sil_cli.data.manifest import ImageRecord
    from sil_cli.settings import DataSettings

EVALUATION_FOLDER = "evaluation"


class SavedScores(BaseModel):
    """What a report reads of `results.json`; other versions may have put more into it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    fingerprint: str
    target: str
    queries: int
    gallery: int
    dropped_queries: int
    mAP: float = Field(ge=0.0, le=1.0)  # noqa: N815 - the field's name for it
    cmc: dict[int, float]
    mINP: float = Field(ge=0.0, le=1.0)  # noqa: N815
    trained_on_target: bool = False
    conditions: dict[str, str] = {}
    expected_false_matches: ChanceCheck | None = None


@dataclass
class Images:
    """Opens the images of a target as long as they are there, and remembers which were not.

    Attributes:
        dataset: None if the data set is missing.
        max_pixels: The most pixels of an image that is read, of this data set and of the run's sources.
        why: What is wrong with the data set, for people; empty where nothing is.
        missing: Paths that could not be opened.
    """

    dataset: Dataset | None
    max_pixels: int = MAX_PIXELS
    why: str = ""
    missing: set[str] = field(default_factory=set)
    _opened: dict[tuple[str, object], Image.Image] = field(default_factory=dict)

    def open(self, record: ImageRecord) -> Image.Image | None:
        """The image, not larger than a report shows it; None where it can't be opened."""
        key = (record.path, record.box)
        if key not in self._opened and self.dataset is not None:
            with contextlib.suppress(ImageError):
                image = self.dataset.load_image(record)
                image.thumbnail(IMAGE_SIZE)
                self._opened[key] = image
        if key not in self._opened:
            self.missing.add(record.path)
        return self._opened.get(key)


@dataclass(frozen=True)
class RunInputs:
    """The saved files of one run that was evaluated.

    Attributes:
        folder: The run.
        label: Its name on the page, unique there.
        scores: What `results.json` says.
        details: What else the evaluation kept.
        facts: What `run.json` says, where there is one.
        history: The lines of `metrics.jsonl`.
        settings: The text of `settings.toml`, where there is one.
        calibration: The thresholds of this model, where there are.
        images: Opens the target's images.
    """

    folder: Path
    label: str
    scores: SavedScores
    details: ReportData
    facts: RunFacts | None
    history: list[dict[str, object]]
    settings: str | None
    calibration: Calibration | None
    images: Images


def read_runs(folders: Sequence[Path], target: str | None, data: DataSettings) -> list[RunInputs]:
    """Read the runs of a report, all evaluated on one target.

    Args:
        folders: Run folders.
        target: The name of the target, or of the folder of one of its splits or variants (`viaduct/flip`); None for
            the target that all of them were evaluated on.
        data: Where prepared data sets are looked for besides where they were, and the most pixels of an image.

    Raises:
        SilError: A run was not evaluated, or its files can't be used.
        UsageError: The target isn't clear, or a run is named twice.
    """
    for folder in folders:
        require_reachable(folder / EVALUATION_FOLDER / RESULTS_FILE)
    resolved = [folder.resolve() for folder in folders]
    twice = next((folder for folder in resolved if resolved.count(folder) > 1), None)
    if twice is not None:
        raise UsageError(f"The run {twice.name} is named twice.", "Name each run once.")
    name = _common_target(folders, target)
    labels = [folder.name for folder in resolved]
    return [
        _read_run(folder, name, label if labels.count(label) == 1 else str(folder), data)
        for folder, label in zip(folders, labels, strict=True)
    ]


def evaluations(run: Path, *, deep: bool = False) -> list[str]:
    """The names of the targets that a run was evaluated on.

    Args:
        run: Its folder.
        deep: Also of the folders within: of a target's splits and of other ways of testing (`viaduct/flip`).
    """
    folder = run / EVALUATION_FOLDER
    found = sorted(path.parent.relative_to(folder) for path in folder.glob(f"{'**' if deep else '*'}/{RESULTS_FILE}"))
    return [path.as_posix() for path in found if path != Path()]


def _common_target(folders: Sequence[Path], target: str | None) -> str:
    targets = {folder: evaluations(folder, deep=target is not None) for folder in folders}
    for folder, names in targets.items():
        if not folder.is_dir():
            raise ModelError(f"There is no run folder {folder}.", "Name a run that `sil train` made.")
        if not names and (folder / RESULTS_FILE).is_file():
            raise ModelError(
                f"{folder} holds only results, as for embeddings from a file; a report needs images, too.",
                "Name the folder of a run that was evaluated; `sil compare` works with results alone.",
            )
        if not names or (target is not None and target not in names):
            on = f" on {target}" if target is not None else ""
            there = f" It was on: {', '.join(names)}." if names else ""
            which = " --target DIR" if target is not None else ""
            raise ModelError(
                f"{folder} was not evaluated{on} yet.{there}",
                f"Run `sil evaluate --model {quoted(folder)}{which}` first.",
            )
    if target is not None:
        return target
    common = sorted(set.intersection(*(set(names) for names in targets.values())))
    if not common:
        raise UsageError(
            "The runs were evaluated on different data sets.", "Evaluate all of them on one, with `sil evaluate`."
        )
    if len(common) > 1:
        raise UsageError(f"There are evaluations on {', '.join(common)}.", f"Choose one: --target {common[0]}")
    return common[0]


def _read_run(folder: Path, target: str, label: str, data: DataSettings) -> RunInputs:
    evaluation = folder / EVALUATION_FOLDER / target
    again = f"Run `sil evaluate --model {quoted(folder)}` again."
    try:
        scores = SavedScores.model_validate(
            read_json(evaluation / RESULTS_FILE, what="an evaluation's results", fix=again)
        )
    except ValidationError as error:
        path = evaluation / RESULTS_FILE
        raise ModelError(f"{path} is not one that this version reads ({first_problem(error)}).", again) from error
    details = read_report_data(evaluation)
    if details.record.fingerprint != scores.fingerprint:
        raise ModelError(f"The results and the report data in {evaluation} come from different models.", again)
    calibration = read_calibration(folder)
    return RunInputs(
        folder=folder,
        label=label,
        scores=scores,
        details=details,
        facts=read_facts(folder) if (folder / FACTS_FILE).is_file() else None,
        history=read_metrics(folder),
        settings=_text(folder / SETTINGS_FILE),
        calibration=calibration if calibration and calibration.fingerprint == scores.fingerprint else None,
        images=_find_images(evaluation, details, data),
    )


def _text(path: Path) -> str | None:
    return read_bytes(path).decode("utf-8", "replace") if path.is_file() else None


def _find_images(evaluation: Path, details: ReportData, data: DataSettings) -> Images:
    record = details.record
    candidates = [evaluation / record.dataset_from_here, Path(record.dataset), data.folder / record.target]
    why = f"The data set {record.target} is no longer at {record.dataset}, so its images are missing here."
    for folder in candidates:
        try:
            dataset = load_dataset(folder, max_pixels=pixels_in(data.max_megapixels)) if is_dataset(folder) else None
        except SilError as error:
            why = error.what
            continue
        if dataset is not None and dataset.name == record.target:
            same = dataset.info.manifest_sha256 == record.manifest_sha256
            changed = f"{record.target} was prepared again since the evaluation: its images may be different ones now."
            return Images(dataset, pixels_in(data.max_megapixels), "" if same else changed)
    return Images(None, pixels_in(data.max_megapixels), why)
