"""What a run is trained by: settings resolved when it begins, kept in its folder, and the same ever after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sil_cli.errors import ModelError, UsageError
from sil_cli.runs.run_folder import SETTINGS_FILE
from sil_cli.settings import Settings, load_settings, merge, read_recipe, read_toml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sil_cli.data.manifest import Dataset
    from sil_cli.data.protocol import Protocol

SECTIONS = ("model", "style", "train", "supervised")
"""The sections that decide what a run comes to."""

FREE_WHEN_RESUMING = {
    "train": ("resume", "run", "runs", "tensorboard", "keep_checkpoints", "divergence", "calibrate"),
}
"""Settings of those sections that do not."""

GENERATED_RECIPE, PHOTOGRAPHS_RECIPE = "generated", "paper"


def choose_recipe(datasets: Sequence[Dataset]) -> str:
    """The small recipe when every source is generated, the paper's when there is a photograph among them."""
    return GENERATED_RECIPE if all(dataset.info.generated for dataset in datasets) else PHOTOGRAPHS_RECIPE


def settings_to_begin(
    flags: Mapping[str, Any], config: Path | None, datasets: Sequence[Dataset], protocol: Protocol | None
) -> tuple[Settings, str]:
    """The settings of a new run, and the name of the recipe below them; which one that is may depend on the data.

    Args:
        flags: Nested values that the command line gave.
        config: The settings file, or None for `sil.toml`.
        datasets: The sources.
        protocol: What pins settings above the recipe.

    Raises:
        UsageError: A setting is wrong, or there is no such recipe.
    """
    pinned = protocol.layer if protocol else {}
    asked = load_settings(flags=dict(flags), config=config).train.recipe
    recipe = asked or pinned.get("train", {}).get("recipe") or choose_recipe(datasets)
    settings = load_settings(flags=dict(flags), config=config, recipe=merge(read_recipe(recipe), pinned))
    return settings, recipe


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
            f"{run} has lost its settings: {error.what}", "Train anew without --resume, in a new run folder."
        ) from error
    return merge(Settings().model_dump(mode="json", include=set(SECTIONS)), named)


def settings_to_go_on(kept: Mapping[str, Any], flags: Mapping[str, Any], config: Path | None, *, run: Path) -> Settings:
    """The settings of a run that goes on: its own, and of all that does not change what it comes to, those given now.

    Args:
        kept: What `kept_settings` says of it.
        flags: Nested values that the command line gave.
        config: The settings file, or None for `sil.toml`.
        run: Its folder.

    Raises:
        UsageError: A setting of the model, the style or the training was given that the run did not begin with.
    """
    refuse_other_settings(flags, load_settings(flags=dict(flags), config=config), kept, run)
    free = {section: values for section, values in flags.items() if section not in SECTIONS}
    for section, keys in FREE_WHEN_RESUMING.items():
        given = flags.get(section, {})
        free[section] = {key: given[key] for key in keys if key in given}
    own = {key: value for key, value in kept.items() if key in (*SECTIONS, "device")}
    rest = {key: value for key, value in kept.items() if key not in own}  # may be a stranger's: says nothing with force
    return load_settings(flags=merge(own, free), config=config, recipe=rest)


def refuse_other_settings(
    given: Mapping[str, Any],
    settings: Settings,
    kept: Mapping[str, Any],
    run: Path,
    fix: str = "Leave that out to go on as it began, or train anew without --resume.",
) -> None:
    """Refuse to take a run for what it is not.

    Args:
        given: Nested values, whose keys are looked at and no others.
        settings: What they were resolved to.
        kept: The settings that the run began with.
        run: Its folder.
        fix: What the user can do.

    Raises:
        UsageError: A setting of the model, the style or the training has another value than the run began with.
    """
    for section in SECTIONS:
        for key in given.get(section, {}):
            value = _plain(getattr(getattr(settings, section), key))
            then = _plain(kept.get(section, {}).get(key))
            if key not in FREE_WHEN_RESUMING.get(section, ()) and value != then:
                raise UsageError(f"{run} began with {section}.{key} = {then}, not {value}.", fix)


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
