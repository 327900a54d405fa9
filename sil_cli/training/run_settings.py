"""What a run is trained by: settings resolved when it begins, kept in its folder, and the same ever after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sil_cli.data.manifest import is_dataset, load_dataset
from sil_cli.defaults import RECORD_FILE
from sil_cli.errors import DataError, ModelError, UsageError, quoted
from sil_cli.models.record import IMAGENET, NONE, WEIGHTS_FILE, read_record
from sil_cli.models.weights import imagenet_weights_are_here
from sil_cli.runs.run_folder import SETTINGS_FILE, source_folder
from sil_cli.settings import Settings, merge, read_recipe, read_toml, refuse_fetching, resolve
from sil_cli.settings.loading import COMMAND_LINE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sil_cli.data.manifest import Dataset
    from sil_cli.data.protocol import Protocol
    from sil_cli.runs.run_folder import RunFacts

SECTIONS = ("model", "style", "train", "supervised")
"""The sections that decide what a run comes to."""

FREE_WHEN_RESUMING = ("resume", "run", "runs", "tensorboard", "keep_checkpoints", "divergence", "calibrate", "export")
"""Settings of `train` that do not."""

GENERATED_RECIPE, PHOTOGRAPHS_RECIPE, ADAPTING_RECIPE = "generated", "paper", "adapt"


def choose_recipe(datasets: Sequence[Dataset]) -> str:
    """The small recipe when every source is generated, the paper's when there is a photograph among them."""
    return GENERATED_RECIPE if all(dataset.info.generated for dataset in datasets) else PHOTOGRAPHS_RECIPE


def settings_to_begin(
    settings: Settings, datasets: Sequence[Dataset], protocol: Protocol | None
) -> tuple[Settings, str]:
    """The settings of a new run, and the name of the recipe below them.

    Which recipe that is depends on the data, and on whether the training goes on from a model: that one's record then
    says how the network is built and fed, above the recipe and below what was given.

    Args:
        settings: What was given, above the recipe.
        datasets: The sources.
        protocol: What pins settings above the recipe.

    Raises:
        UsageError: A value of the recipe is wrong, or there is no such recipe; or weights would be downloaded because a
            file that was merely found names them.
    """
    pinned = protocol.layer if protocol else {}
    given = settings.given
    weights = given.get("model", {}).get("weights")
    model = None if weights is None else _model_of(str(weights))
    by_default = ADAPTING_RECIPE if model is not None and model == Path(str(weights)) else choose_recipe(datasets)
    recipe = settings.train.recipe or pinned.get("train", {}).get("recipe") or by_default
    layers = {"the recipe": merge(read_recipe(recipe), pinned)}
    if model is not None:
        layers[str(model / RECORD_FILE)] = {"model": _settings_of(model)}
    resolved = resolve({**layers, "what was given": given}, users_own=settings.users_own)
    if resolved.model.weights == IMAGENET and not imagenet_weights_are_here(resolved.model.backbone):
        refuse_fetching(settings, "model.weights", "model.backbone")
    return resolved, recipe


def _model_of(weights: str) -> Path | None:
    """The folder of the model of ours whose weights a training begins with; None where it begins with others."""
    named = Path(weights)
    if weights not in (IMAGENET, NONE) and named.is_dir():
        return named
    return named.parent if named.name == WEIGHTS_FILE and (named.parent / RECORD_FILE).is_file() else None


def _settings_of(model: Path) -> dict[str, Any]:
    """The settings by which a model is built and fed, for a training that goes on from it.

    Raises:
        SilError: There is no model, or it is damaged, or a graph without weights by name.
    """
    return read_record(model).architecture.model_dump(mode="json", exclude_none=True)


def settings_to_keep(settings: Settings, datasets: Sequence[Dataset], recipe: str) -> dict[str, Any]:
    """What `settings.toml` of a run holds: all that a resumed run goes by."""
    kept = settings.model_dump(
        mode="json",
        include={"device": True, **dict.fromkeys(SECTIONS, True), "calibrate": {"images", "seed", "match", "possible"}},
    )
    kept["train"] |= {"sources": [str(dataset.folder) for dataset in datasets], "recipe": recipe}
    for key in ("resume", "run"):
        del kept["train"][key]
    return kept


def kept_settings(run: Path) -> dict[str, Any]:
    """What `settings.toml` of a run says.

    Settings that it does not name had no value, or are younger than the run: they have their defaults. Taken from
    anywhere else, they would make another run of it half-way.

    Raises:
        ModelError: There is no such file, or it can't be read.
    """
    try:
        named = read_toml(run / SETTINGS_FILE)
    except UsageError as error:
        raise ModelError(
            f"{run} has lost its settings: {error.what}", "Train again without --resume, in a new run folder."
        ) from error
    return merge(Settings().model_dump(mode="json", include=set(SECTIONS)), named)


def settings_to_go_on(run: Path, settings: Settings, named: Collection[str]) -> Settings:
    """The settings of a run that goes on: its own, and of all that does not change what it comes to, those given now.

    Args:
        run: Its folder.
        settings: What is given now.
        named: The keys that the command itself gave, and not the environment or a file.

    Where its sources lie may change (`sources_to_go_on`).

    Raises:
        ModelError: The run has lost its settings.
        UsageError: The command gave a setting of the model, the style or the training that the run did not begin with.
    """
    kept = kept_settings(run)
    refuse_other_settings(settings, kept, run, keys=set(named) - {"train.sources"})
    own = {key: value for key, value in kept.items() if key in (*SECTIONS, "device")}
    rest = {key: value for key, value in kept.items() if key not in own}  # may be a stranger's: says nothing with force
    free = {key: getattr(settings.train, key) for key in FREE_WHEN_RESUMING if f"train.{key}" in named}
    changed = {"train": free} | ({"device": settings.device} if "device" in named else {})
    others = {section: values for section, values in settings.given.items() if section not in own}
    file = str(run / SETTINGS_FILE)
    layers = {f"the rest of {file}": rest, "what was given": others, file: own, COMMAND_LINE: changed}
    fixed = [f"{section}.{key}" for section in SECTIONS for key in own[section]]
    return resolve(layers, users_own=[*settings.users_own, *fixed])


def refuse_other_settings(
    settings: Settings,
    kept: Mapping[str, Any],
    run: Path,
    *,
    keys: Collection[str],
    fix: str = "Leave that out to go on as it began, or train again without --resume.",
) -> None:
    """Refuse to take a run for what it is not.

    Args:
        settings: What it is taken for.
        kept: The settings that the run began with.
        run: Its folder.
        keys: The settings to look at, in dotted form.
        fix: What the user can do.

    Raises:
        UsageError: A setting of the model, the style or the training has another value than the run began with.
    """
    for section in SECTIONS:
        for key, given in getattr(settings, section):
            value, then = _plain(given), _plain(kept.get(section, {}).get(key))
            is_free = section == "train" and key in FREE_WHEN_RESUMING
            if f"{section}.{key}" in keys and not is_free and value != then:
                raise UsageError(f"{run} began with {section}.{key} = {then}, not {value}.", fix)


def sources_to_go_on(run: Path, facts: RunFacts, named: Sequence[Path]) -> RunFacts:
    """The facts of a run that goes on, with the folders in which its sources lie now.

    Args:
        run: Its folder.
        facts: What it recorded.
        named: Folders that sources have moved to, in any order; each is known by its manifest.

    Raises:
        DataError: One of them is not a source of the run's, or a source isn't found any more.
    """
    moved = {load_dataset(folder).info.manifest_sha256: str(folder) for folder in named}
    known = {source.manifest_sha256 for source in facts.sources}
    for checksum, folder in moved.items():
        if checksum not in known:
            raise DataError(
                f"{folder} is not the data that {run} began with: its manifest differs.",
                "Name the folders that the run's sources have moved to, or train again without --resume.",
            )
    sources = []
    for source in facts.sources:
        found = moved.get(source.manifest_sha256) or str(source_folder(run, source))
        if not is_dataset(Path(found)):
            raise DataError(
                f"{run} began with {source.name} in {found}, which is not there any more.",
                f"Name where it lies now: `sil train --resume --run {quoted(run)} --source DIR`.",
            )
        sources.append(source.model_copy(update={"folder": found}))
    return facts.model_copy(update={"sources": sources})


def refuse_other_data(datasets: Sequence[Dataset], facts: RunFacts, run: Path) -> None:
    """Refuse to go on with sources that have changed.

    Raises:
        DataError: A source's manifest is not the one that the run began with, or there are more or fewer sources.
    """
    refuse_other_number(datasets, facts, run)
    for dataset, then in zip(datasets, facts.sources, strict=True):
        if dataset.info.manifest_sha256 != then.manifest_sha256:
            raise DataError(
                f"{dataset.folder} is not the data that {run} began with (its manifest has changed).",
                "Prepare it as it was, name the folder that it has moved to with --source, or train again.",
            )


def refuse_other_number(sources: Sequence[object], facts: RunFacts, run: Path) -> None:
    """Refuse to go on with more or fewer sources.

    Raises:
        DataError: There are not as many as the run began with.
    """
    if len(sources) != len(facts.sources):
        raise DataError(
            f"{run} began with {len(facts.sources)} sources, and its settings name {len(sources)}.",
            "Train again in another folder.",
        )


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
