"""`sil calibrate`: the score above which two images show one person, measured on people not trained on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from sil_cli.data.labels import label_warnings, of_records
from sil_cli.data.manifest import Dataset, ImageRecord, load_dataset
from sil_cli.data.sampling import held_out_identities
from sil_cli.defaults import model_folder
from sil_cli.errors import DataError, InterruptedWorkError, SilError, UsageError, one_line, quoted
from sil_cli.evaluation.calibration import CALIBRATION_FILE, Calibration, MeasuredThresholds, write_calibration
from sil_cli.evaluation.inference_options import embed_images
from sil_cli.evaluation.open_set import FALSE_ACCEPT_RATES, PairScores, RateName, score_pairs
from sil_cli.files import require_reachable
from sil_cli.models.load import load
from sil_cli.output_checks import require_writable
from sil_cli.runs.run_folder import FACTS_FILE, SETTINGS_FILE, RunFacts, read_facts, source_folder
from sil_cli.settings import read_toml, refuse_outside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

FEWEST_PAIRS = 10  # different pairs that must make up a rate, for its threshold to mean anything


class CalibrateResult(MeasuredThresholds):
    """The outcome of `sil calibrate`; what the file itself says, and where it is.

    Attributes:
        true_accept_rates: By false accept rate, the share of pairs of one person that are accepted.
        warnings: What makes the thresholds doubtful: labels written differently within a data set.
    """

    model: Path
    calibration: Path
    true_accept_rates: dict[str, float]
    warnings: list[str] = Field(default_factory=list)


def calibrate(settings: Settings, reporter: Reporter) -> CalibrateResult:
    """Measure thresholds and write `calibration.json` beside the model.

    The people are those of the data set that is named, or else those of the run's sources that it was not trained on:
    identities that it held out, and the sources' query and gallery splits. Nobody whom the model was trained on is
    ever among them.

    Raises:
        SilError: There is no model, nobody to calibrate on, or too few.
    """
    refuse_outside(settings, "calibrate.model")
    folder = model_folder(settings.calibrate.model, settings.train.runs)
    require_reachable(folder)
    require_writable(folder, option="--model RUN, or copy the run to where it can be written")
    facts = read_facts(folder) if (folder / FACTS_FILE).is_file() else None
    datasets = _datasets(settings.calibrate.on, folder, facts, reporter)
    people = [
        (dataset, _draw(_not_trained_on(dataset, folder, facts), settings.calibrate.images, settings.calibrate.seed))
        for dataset in datasets
    ]
    people = [(dataset, records) for dataset, records in people if len({each.identity for each in records}) > 1]
    if not people:
        raise DataError(
            f"{folder} was trained on everyone in {', '.join(dataset.name for dataset in datasets)}, so thresholds "
            "measured on them would be too optimistic.",
            "Name a labelled data set with `sil calibrate --on DIR`, or `sil train --select held-out`.",
        )
    loaded = load(folder, settings, reporter, images=sum(len(records) for _, records in people), exact=True)
    scores, doubts = [], []
    for dataset, records in people:
        doubts += [f"{dataset.name}: {each}" for each in label_warnings(of_records(records))]
        sides = [(dataset, records)]
        embedded = embed_images([loaded.engine], sides, dataset.name, reporter, batch=settings.evaluate.batch)
        side = embedded.side(dataset, records)
        scores.append(score_pairs(side, side, reporter=reporter))
    for text in doubts:
        reporter.warn(text)
    pairs = scores[0]
    for more in scores[1:]:
        pairs += more
    calibration = make_calibration(
        pairs,
        fingerprint=loaded.engine.fingerprint,
        made_on=_in_words(people),
        manifests=tuple(dataset.info.manifest_sha256 for dataset, _ in people),
        match=settings.calibrate.match,
        possible=settings.calibrate.possible,
        named=settings.calibrate.on is not None,
    )
    write_calibration(folder, calibration)
    return CalibrateResult(
        model=folder,
        calibration=folder / CALIBRATION_FILE,
        true_accept_rates={name: pairs.accepted(each)[1] for name, each in calibration.thresholds.items()},
        warnings=doubts,
        **calibration.model_dump(include=set(MeasuredThresholds.model_fields)),
    )


def calibrate_after_training(settings: Settings, run: Path, reporter: Reporter) -> None:
    """Calibrate a run that has just finished, where its sources hold people that it was not trained on.

    Raises:
        InterruptedWorkError: Ctrl-C; the run itself is finished.
    """
    wanted = settings.calibrate.model_copy(update={"model": run, "on": None})
    changed = settings.model_copy(update={"calibrate": wanted}).with_users_own(["calibrate.model"])
    try:
        result = calibrate(changed, reporter)
    except InterruptedWorkError:
        raise
    except (SilError, OSError) as error:
        reporter.note(f"No thresholds were measured: {error.what if isinstance(error, SilError) else one_line(error)}")
    except KeyboardInterrupt:
        raise InterruptedWorkError(
            f"Stopped while measuring thresholds. The model in {run} is finished.",
            f"Measure them with `sil calibrate --model {quoted(run)}`.",
        ) from None
    else:
        reporter.note(f"Thresholds measured on {result.made_on}.")


def make_calibration(
    pairs: PairScores,
    *,
    fingerprint: str,
    made_on: str,
    manifests: tuple[str, ...],
    match: RateName,
    possible: RateName,
    named: bool = False,
) -> Calibration:
    """Thresholds from scores of labelled pairs, each pair counted in both directions.

    A rate that the pairs can't support falls back to the finest one that they can.

    Raises:
        DataError: The pairs support no rate at all, or none is of one person.
    """
    found = {name: pairs.threshold(rate, at_least=2 * FEWEST_PAIRS) for name, rate in FALSE_ACCEPT_RATES.items()}
    thresholds = {name: each for name, each in found.items() if each is not None}
    if not thresholds or not pairs.same_pairs:
        raise DataError(
            f"{made_on} give {pairs.same_pairs // 2} pairs of one person across cameras and "
            f"{pairs.different_pairs // 2} of different people: too few for a threshold.",
            f"At least {FEWEST_PAIRS * 100:,} pairs of different people; name a larger data set with --on DIR.",
        )
    finest = list(thresholds)[-1]
    chosen = {thresholds.get(match, thresholds[finest]), thresholds.get(possible, thresholds[finest])}
    return Calibration(
        fingerprint=fingerprint,
        made_on=made_on,
        same_pairs=pairs.same_pairs // 2,
        different_pairs=pairs.different_pairs // 2,
        thresholds=thresholds,
        match=max(chosen),
        possible=min(chosen),
        manifests=manifests,
        named=named,
    )


def _datasets(on: Path | None, folder: Path, facts: RunFacts | None, reporter: Reporter) -> list[Dataset]:
    if on is not None:
        return [load_dataset(on)]
    if facts is None:
        raise UsageError(f"{folder} does not say what it was trained on.", "Name a data set with --on DIR.")
    datasets = []
    for source in facts.sources:
        try:
            dataset = load_dataset(source_folder(folder, source))
        except SilError as error:
            reporter.warn(f"The source {source.name} can't be used: {error.what}")
            continue
        if dataset.info.manifest_sha256 != source.manifest_sha256:
            reporter.warn(f"The source {source.name} has been prepared again since then and is left out.")
            continue
        datasets.append(dataset)
    if not datasets:
        raise UsageError(f"None of the sources of {folder} exists any more.", "Name a data set with --on DIR.")
    return datasets


def _not_trained_on(dataset: Dataset, folder: Path, facts: RunFacts | None) -> list[ImageRecord]:
    """The images of known people whom the run was not trained on; all of them where it did not see the data set."""
    usable = [record for record in dataset.records if record.is_named]
    if facts is None or all(source.manifest_sha256 != dataset.info.manifest_sha256 for source in facts.sources):
        return usable
    train = read_toml(folder / SETTINGS_FILE)["train"]
    everything = train.get("source_splits") == "train+test"
    there = {record.identity for record in usable if everything or record.split == "train"}
    share = train["held_out"] if train["select"] == "held-out" else 0.0
    trained_on = there - held_out_identities(there, share, train["seed"])
    return [record for record in usable if record.identity not in trained_on]


def _draw(records: Sequence[ImageRecord], most: int, seed: int) -> list[ImageRecord]:
    """Whole people in a seeded order until there are so many images, in the manifest's order."""
    names = sorted({record.identity for record in records})
    counts = Counter(record.identity for record in records)
    order = [names[index] for index in np.random.default_rng(seed).permutation(len(names))]
    room = np.cumsum([counts[name] for name in order]) <= most
    kept = {name for name, fits in zip(order, room.tolist(), strict=True) if fits}
    return [record for record in records if record.identity in kept]


def _in_words(people: Sequence[tuple[Dataset, list[ImageRecord]]]) -> str:
    return "; ".join(
        f"{len(records):,} images of {len({each.identity for each in records}):,} people of {dataset.name}"
        for dataset, records in people
    )
