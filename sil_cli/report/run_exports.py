"""A run for other programs: a folder for the Hugging Face Hub, and MLflow's folder of runs; nothing is sent."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sil_cli.defaults import RECORD_FILE, model_folder
from sil_cli.errors import SilError, UsageError, visible
from sil_cli.evaluation.calibration import CALIBRATION_FILE
from sil_cli.evaluation.results import RESULTS_FILE
from sil_cli.files import copy_file, make_own_folder, parse_toml, read_json, read_text, staging_folder, write_text
from sil_cli.models.record import WEIGHTS_FILE, ModelCard, ModelRecord, read_record
from sil_cli.report.run_inputs import EVALUATION_FOLDER, SavedScores, evaluations
from sil_cli.results import Result
from sil_cli.runs.run_folder import FACTS_FILE, METRICS_FILE, SETTINGS_FILE, RunFacts, read_facts, read_metrics

if TYPE_CHECKING:
    from sil_cli.settings import Settings

CARD_FILE = "README.md"
EXPERIMENT = "sil"
_AGAIN = "Evaluate the run again."
_NOT_FOR_MLFLOW = re.compile(r"[^\w\-. /]")
_LONGEST_PARAMETER = 6000  # characters that MLflow takes


class HubFolderResult(Result):
    """The outcome of `sil export --to hf`.

    Attributes:
        model: What was exported.
        folder: Where it went.
        files: In it.
        evaluations: The data sets whose figures the card has.
        warnings: What whoever uses the model should know, as the card says it.
    """

    model: Path
    folder: Path
    files: list[Path]
    evaluations: list[str]
    warnings: list[str]


def export_hub_folder(settings: Settings, licence: str | None) -> HubFolderResult:
    """Write a model's weights, its record, its thresholds and a card as the Hugging Face Hub takes them.

    Args:
        settings: `export.model` and `export.out`.
        licence: For the card, as the Hub abbreviates it ("mit"); None for an imported model's own.

    Raises:
        UsageError: No folder is named, or it is the model's own.
        ModelError: There is no model, or only a graph.
    """
    run = model_folder(settings.export.model, settings.train.runs)
    folder = settings.export.out
    if folder is None or folder.resolve() == run.resolve():
        raise UsageError("A folder of its own is needed.", "Name a new one with --out DIR.")
    record = read_record(run)
    facts = read_facts(run) if (run / FACTS_FILE).is_file() else None
    scores = _scores(run, record.fingerprint)
    trained_on = [each.name for each in facts.sources] if facts else list(record.card.trained_on if record.card else ())
    licence = licence or (record.card.licence if record.card else None)
    origin = record.card or ModelCard(source=str(run), sha256=record.fingerprint, trained_on=tuple(trained_on))
    warnings = origin.warnings
    names = [WEIGHTS_FILE, RECORD_FILE, *([CALIBRATION_FILE] if (run / CALIBRATION_FILE).is_file() else [])]
    make_own_folder(folder)
    for name in names:
        copy_file(run / name, folder / name)
    about: dict[str, Any] = {
        "library_name": "sil-cli",
        **({"license": licence} if licence else {}),
        "tags": ["person-re-identification", "image-feature-extraction", record.architecture.backbone],
        "datasets": trained_on,
    }
    name = run.resolve().name
    if scores:
        about["model-index"] = [{"name": name, "results": [_as_index(*each) for each in scores.items()]}]
    write_text(folder / CARD_FILE, _card(name, about, record, facts, scores, warnings))
    files = [folder / name for name in (*names, CARD_FILE)]
    return HubFolderResult(model=run, folder=folder, files=files, evaluations=list(scores), warnings=warnings)


def _scores(run: Path, fingerprint: str | None) -> dict[str, SavedScores]:
    """What evaluations of a run came to, by the data set's name; only of the model of this fingerprint."""
    found = {}
    for name in evaluations(run, deep=True):
        path = run / EVALUATION_FOLDER / name / RESULTS_FILE
        with_values = read_json(path, what="an evaluation's results", fix=_AGAIN)
        try:
            scores = SavedScores.model_validate(with_values)
        except ValueError as error:
            raise SilError(f"{path} is not one that this version reads.", _AGAIN) from error
        if fingerprint in (None, scores.fingerprint):
            found[name] = scores
    return found


def _figures(scores: SavedScores) -> dict[str, float]:
    ranks = {f"Rank-{rank}": share for rank, share in scores.cmc.items()}
    return {"mAP": scores.mAP, **ranks, "mINP": scores.mINP}


def _as_index(name: str, scores: SavedScores) -> dict[str, Any]:
    return {
        "task": {"type": "image-feature-extraction", "name": "Person re-identification"},
        "dataset": {"type": name, "name": name},
        "metrics": [
            {"type": figure.lower(), "name": figure, "value": round(value, 4)}
            for figure, value in _figures(scores).items()
        ],
    }


def _card(
    name: str,
    about: dict[str, Any],
    record: ModelRecord,
    facts: RunFacts | None,
    scores: dict[str, SavedScores],
    warnings: list[str],
) -> str:
    front = "\n".join(f"{key}: {json.dumps(value, ensure_ascii=True)}" for key, value in about.items())  # JSON is YAML
    size = record.architecture
    learnt = ", ".join(map(_plain, about["datasets"])) or "unknown data"
    how = f", with the recipe `{_plain(facts.recipe)}`, seed {facts.seed}" if facts else ""
    rows = [
        f"| {_plain(target)} | {_figure(each.mAP)} | {_figure(each.cmc.get(1))} | {each.queries:,} | "
        f"{'yes' if each.trained_on_target else 'no'} |"
        for target, each in scores.items()
    ]
    figures = ["| data set | mAP | Rank-1 | queries | learnt from it |", "|---|---|---|---|---|", *rows]
    return "\n".join(
        [
            "---",
            front,
            "---",
            "",
            f"# {_plain(name)}",
            "",
            f"Turns an image of a person into {record.dimension} numbers; images of one person come out alike. "
            f"{size.backbone}, for images of {size.height}×{size.width} pixels, trained on {learnt}{how}.",
            "",
            "## Figures",
            "",
            *(figures if rows else ["It was not evaluated."]),
            "",
            "## Use",
            "",
            "    hf download OWNER/NAME --local-dir model",
            "    sil index-gallery images --model model",
            "",
            "or `sil import-model hf://OWNER/NAME/model.safetensors --out model`. The fingerprint of the model is",
            f"`{record.fingerprint}`.",
            "",
            "## What it is for, and what not",
            "",
            "For finding a person again among images of cameras whose operator may do so. A score is a likeness of",
            "looks, mostly of clothes, on one occasion; it proves nobody's identity, and no decision about a person",
            "should rest on it alone. On cameras unlike those above it finds less. Whether it works equally well for",
            "all people was not measured.",
            *(["", "## Warnings", "", *(f"- {_plain(each)}" for each in warnings)] if warnings else []),
            "",
            "## Licence",
            "",
            _plain(about.get("license", "None is stated: ask whoever published it before you use it.")),
            "",
        ]
    )


def _figure(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _plain(text: str) -> str:
    """A name for a card: on one line, and without what Markdown would take for its own."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", visible(text))


class TrackedRun(Result):
    """A run as it went into MLflow's folder.

    Attributes:
        run: Its folder.
        tracked: Its folder there.
        metrics: How many values were written.
    """

    run: Path
    tracked: Path
    metrics: int


class TrackingResult(Result):
    """The outcome of `sil report --to mlflow`; `store` is MLflow's folder."""

    store: Path
    runs: list[TrackedRun]


def track_in_mlflow(settings: Settings) -> TrackingResult:
    """Write settings, metrics and results of runs into MLflow's folder of runs (its file store), each run once.

    A run that is there already is replaced, for its number there is made of its folder's name and facts.

    Args:
        settings: `report.runs` and `report.out`.

    Raises:
        ModelError: A run isn't one, or can't be read.
    """
    store = settings.report.out or Path("mlruns")
    folders = list(settings.report.runs) or [model_folder(None, settings.train.runs)]
    number = str(int(hashlib.sha256(EXPERIMENT.encode()).hexdigest()[:12], 16))
    experiment = make_own_folder(store, number)
    tracked = [_track(run, experiment) for run in folders]
    begin = min(_moment(run) for run in folders)
    facts = {
        "artifact_location": experiment.resolve().as_uri(),
        "creation_time": begin,
        "experiment_id": number,
        "last_update_time": max(_moment(run) for run in folders),
        "lifecycle_stage": "active",
        "name": EXPERIMENT,
    }
    write_text(experiment / "meta.yaml", _as_yaml(facts))
    return TrackingResult(store=store, runs=tracked)


def _track(run: Path, experiment: Path) -> TrackedRun:
    facts = read_facts(run)
    name = run.resolve().name
    began = {key: value for key, value in facts.model_dump(mode="json").items() if key in ("recipe", "sources", "seed")}
    identifier = hashlib.sha256(json.dumps([name, began]).encode()).hexdigest()[:32]
    moment = _moment(run)
    metrics: dict[str, list[str]] = {}
    for line in read_metrics(run):
        epoch = line.get("epoch", 0)
        for key, value in line.items():
            if key != "epoch" and isinstance(value, int | float) and isinstance(epoch, int):
                metrics.setdefault(f"train/{key}", []).append(f"{moment} {value} {epoch}")
    for target, scores in _scores(run, None).items():
        for figure, value in _figures(scores).items():
            metrics[f"evaluation/{target}/{figure}"] = [f"{moment} {value} {facts.epochs}"]
    settings = parse_toml(read_text(run / SETTINGS_FILE)) if (run / SETTINGS_FILE).is_file() else {}
    with staging_folder(experiment) as staging:
        made = staging / identifier
        for key, lines in metrics.items():
            write_text(_below(made / "metrics", key), "\n".join(lines) + "\n")
        for key, value in _flat(settings).items():
            write_text(_below(made / "params", key), value[:_LONGEST_PARAMETER])
        tags = {"mlflow.runName": name, "mlflow.source.name": "sil train", "sil.device": facts.device}
        for key, value in tags.items():
            write_text(_below(made / "tags", key), value)
        (made / "artifacts").mkdir()
        about = {
            "artifact_uri": (experiment / identifier / "artifacts").resolve().as_uri(),
            "end_time": moment,
            "entry_point_name": "",
            "experiment_id": experiment.name,
            "lifecycle_stage": "active",
            "run_id": identifier,
            "run_name": name,
            "run_uuid": identifier,
            "source_name": "",
            "source_type": 4,
            "source_version": "",
            "start_time": moment,
            "status": 3,
            "tags": [],
            "user_id": "",
        }
        write_text(made / "meta.yaml", _as_yaml(about))
        final = experiment / identifier
        if final.exists():
            shutil.rmtree(final)
        made.rename(final)
    return TrackedRun(run=run, tracked=final, metrics=sum(map(len, metrics.values())))


def _moment(run: Path) -> int:
    """When a run's last epoch was written, in milliseconds since 1970."""
    path = run / METRICS_FILE
    return int((path if path.exists() else run / FACTS_FILE).stat().st_mtime * 1000)


def _below(folder: Path, key: str) -> Path:
    """The file of a metric or parameter: slashes in its name are folders, and nothing leads upwards."""
    parts = [part for part in _NOT_FOR_MLFLOW.sub("_", key).split("/") if part.strip(". ")]
    return folder.joinpath(*parts)


def _flat(values: Mapping[str, Any], within: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{within}{key}.")
        else:
            flat[f"{within}{key}"] = value if isinstance(value, str) else json.dumps(value, default=str)
    return flat


def _as_yaml(facts: Mapping[str, Any]) -> str:
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in facts.items())
