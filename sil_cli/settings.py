"""Every setting of every command, in one validated model.

Where a value comes from, strongest first: the command's flags (also `--set KEY=VALUE`), environment variables
(`SIL_TRAIN__EPOCHS=5`), `sil.toml` in the working folder or `--config FILE`, the recipe, the defaults below.
The defaults are the paper's (arXiv 2207.03132) wherever it gives a value.
"""

from __future__ import annotations

import os
import tomllib
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from sil_cli.errors import UsageError, did_you_mean, nearest
from sil_cli.files import one_line
from sil_cli.runtime import DeviceName

CONFIG_FILE = Path("sil.toml")
ENVIRONMENT_PREFIX = "SIL_"

StyleName = Literal["none", "ubs", "dbs"]
Backbone = Literal["resnet18", "resnet50"]
Precision = Literal["auto", "float32", "bfloat16"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]


def _iso_time(value: object) -> object:
    """Read ISO 8601 alone: pydantic would take `2024` for seconds since 1970."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value


Moment = Annotated[datetime, BeforeValidator(_iso_time)]


class Section(BaseModel):
    """A group of settings: unknown keys are refused, values can't be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SyntheticSettings(Section):
    """What `sil prepare-data synthetic` draws."""

    domains: int = Field(4, ge=1, le=100, description="camera networks; the last one is left out of training")
    train_identities: int = Field(64, ge=1, le=100_000, description="people per network to learn from")
    test_identities: int = Field(36, ge=1, le=100_000, description="other people per network to search for")
    cameras: int = Field(4, ge=2, le=64, description="cameras per network")
    images_per_camera: int = Field(3, ge=2, le=1000, description="images of a person per camera that sees them")
    style_gap: float = Field(1.0, ge=0.0, le=2.0, description="strength of the networks' own styles; 0: none")
    height: int = Field(128, ge=32, le=512, description="pixels")
    width: int = Field(64, ge=16, le=512, description="pixels")
    seed: int = Field(1, ge=0, lt=2**32, description="same seed, same bytes")


class DataSettings(Section):
    """Where prepared data sets live and how raw ones are read."""

    folder: Path = Field(Path("data"), description="where data sets are prepared")
    out: Path | None = Field(None, description="where this one goes; default: in the folder above, by its name")
    cache: Path | None = Field(None, description="where decoded pixels are kept; default: in each data set's folder")
    reader: str = Field("synthetic", description="the layout of the raw data; `auto` recognises it")
    root: Path | None = Field(None, description="the raw data's folder, archive or list file")
    name: str | None = Field(None, description="the domain's name; default: the raw folder's")
    pattern: str | None = Field(None, description="reader `regex`: named groups identity, camera, split, frame")
    split: Literal["train", "test", "half"] = Field(
        "train",
        description="where the raw data has no split: all to train, all to test, or half the people each",
    )
    partition: int | None = Field(
        None, ge=1, description="which split, from 1, where a data set has several; default: its first or usual one"
    )
    labelled: bool | None = Field(None, description="reader `cuhk03`: the crops cut by hand, not the detector's")
    seed: int = Field(0, ge=0, description="draws the splits that are random")
    strict: bool = Field(False, description="counts that are not the published ones are an error")
    force: bool = Field(False, description="replace data prepared with other options")
    max_megapixels: float = Field(50.0, gt=0, description="larger images are refused as possible bombs")
    synthetic: SyntheticSettings = SyntheticSettings()


class ModelSettings(Section):
    """The network."""

    backbone: Backbone = Field("resnet50", description="torchvision's network")
    weights: str = Field("imagenet", description="`imagenet`, `none`, or a .safetensors/.pth file")
    height: int = Field(256, ge=16, le=1024, description="input height in pixels")
    width: int = Field(128, ge=16, le=1024, description="input width in pixels")
    last_stride: Literal[1, 2] = Field(1, description="stride of the last stage")
    stem_relu: bool = Field(True, description="ReLU after the first batch norm (the authors' class has none)")


class StyleSettings(Section):
    """The stylisation of the second forward pass."""

    name: StyleName = Field("ubs", description="how new feature statistics are drawn")
    after_stage: Literal[1, 2, 3, 4] = Field(1, description="the stage that the style layer follows")
    rho: float = Field(3.0, ge=0.0, description="ubs: half width of the interval, in standard deviations")
    samples: int = Field(2, ge=1, description="dbs: T, the other samples mixed in")
    concentration: float = Field(0.1, gt=0.0, description="dbs: ε of the Dirichlet distribution")
    mix: Share = Field(0.9, description="dbs: z, the weight of the Dirichlet part")
    covariance: Literal["full", "diagonal"] = Field("full", description="dbs: of the batch part")
    clamp: bool = Field(False, description="clamp drawn γ at 0 (the authors do not)")


class TrainSettings(Section):
    """Interleaved training."""

    sources: tuple[Path, ...] = Field((), description="prepared data sets to learn from")
    recipe: str | None = Field(None, description="`generated`, `paper`, or a .toml file; default: by the sources")
    run: Path | None = Field(None, description="the run folder; default: the next number in `runs`")
    runs: Path = Field(Path("runs"), description="where numbered run folders are made")
    seed: int = Field(1, ge=0, description="same seed, same run")
    epochs: Positive = Field(70, description="epochs")
    iterations: Positive = Field(200, description="iterations per epoch")
    identities: Positive = Field(16, description="P: identities per source and batch")
    instances: Positive = Field(4, description="K: images per identity and batch")
    learning_rate: float = Field(3.5e-4, gt=0.0, description="Adam's step size")
    weight_decay: float = Field(5e-4, ge=0.0, description="Adam's L2 penalty")
    warmup_epochs: int = Field(10, ge=0, description="linear warm-up")
    warmup_factor: float = Field(0.1, gt=0.0, le=1.0, description="the step size's factor at the start")
    milestones: tuple[int, ...] = Field((30, 50), description="epochs after which the step size falls")
    decay: float = Field(0.1, gt=0.0, le=1.0, description="by this factor")
    temperature: float = Field(0.05, gt=0.0, description="τ of the loss")
    momentum: float = Field(0.2, ge=0.0, lt=1.0, description="m: weight of the old prototype")
    second_pass_statistics: bool = Field(
        True,
        description="the second pass also moves batch norm's running statistics (as the authors' code does)",
    )
    flip: Share = Field(0.5, description="chance of a horizontal flip")
    pad: int = Field(10, ge=0, description="pixels of padding before the random crop")
    precision: Precision = Field("float32", description="`auto`: bfloat16 where the device is fast at it")
    select: Literal["last", "held-out"] = Field("last", description="which epoch's model is kept")
    held_out: float = Field(
        0.1,
        gt=0.0,
        lt=1.0,
        description="share of source identities kept from training when select is held-out",
    )
    resume: bool = Field(False, description="go on with an unfinished run")


class EvaluateSettings(Section):
    """Scoring a model on a data set."""

    model: Path | None = Field(None, description="a run folder; default: the newest finished one")
    target: Path | None = Field(None, description="a prepared data set; default: the one left out")
    batch: Positive = Field(128, description="images per forward pass")


class GallerySettings(Section):
    """The searchable gallery."""

    folder: Path = Field(Path("gallery"), description="where the gallery is kept")
    images: Path | None = Field(None, description="a folder of images or a prepared data set")
    model: Path | None = Field(None, description="a run folder; default: the newest finished one")
    batch: Positive = Field(128, description="images per forward pass and per commit")
    index: str | None = Field(
        None, description="`auto` (by size), `exact`, or FAISS's name of an index; default: as it was, `auto` at first"
    )


class FilterSettings(Section):
    """Which entries of the gallery may be found."""

    camera: tuple[str, ...] = Field((), description="only from these cameras")
    exclude_camera: tuple[str, ...] = Field((), description="not from these cameras")
    after: Moment | None = Field(None, description="taken at this time or later (ISO 8601; UTC where no zone is given)")
    before: Moment | None = Field(None, description="taken before this time")
    identity: tuple[str, ...] = Field((), description="only these people")
    where: tuple[str, ...] = Field((), description="KEY=VALUE of any metadata; of one key any of its values will do")


class QuerySettings(Section):
    """Searching the gallery."""

    images: tuple[Path, ...] = Field((), description="images of people to find")
    model: Path | None = Field(None, description="a run folder; default: the copy that the gallery keeps")
    top: Positive = Field(10, description="matches to list")
    sheet: Path = Field(Path("matches.jpg"), description="where the contact sheet is written")
    filter: FilterSettings = FilterSettings()


class Settings(BaseSettings):
    """All settings of all commands."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__"
    )

    device: DeviceName = Field("auto", description="where the network runs")
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    style: StyleSettings = StyleSettings()
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    gallery: GallerySettings = GallerySettings()
    query: QuerySettings = QuerySettings()


def load_settings(
    *, flags: dict[str, Any] | None = None, config: Path | None = None, recipe: dict[str, Any] | None = None
) -> Settings:
    """Resolve all settings: flags over environment over file over recipe over defaults.

    Args:
        flags: Nested values that the command line gave, `{"train": {"seed": 3}}`.
        config: A TOML file; None reads `sil.toml` in the working folder where there is one.
        recipe: Nested values of a recipe (`read_recipe`).

    Raises:
        UsageError: A file can't be read, a key is unknown or a value is out of range; says where it stands.
    """
    file = config or CONFIG_FILE
    from_file = read_toml(file) if config or file.exists() else {}
    _refuse_unknown_variables()
    flags = flags or {}

    class Layered(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            del dotenv_settings, file_secret_settings
            lower = (InitSettingsSource(settings_cls, layer) for layer in (from_file, recipe or {}))
            return (init_settings, env_settings, *lower)

    try:
        layered = Layered(**flags)
        # Layered only carries the sources; the plain class is what everyone else sees.
        return Settings.model_construct(**{name: getattr(layered, name) for name in Settings.model_fields})
    except ValidationError as error:
        origins = {str(file): from_file, "the recipe": recipe or {}, "the command line": flags}
        raise _explain(error, origins) from None
    except SettingsError as error:
        raise UsageError(
            f"An environment variable can't be read: {one_line(error)}.",
            "Lists and tables are given as JSON, for example SIL_TRAIN__MILESTONES='[3, 5]'.",
        ) from error


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        UsageError: It is missing, unreadable or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}.", "Check the path, or leave the option out.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} can't be read: {one_line(error)}.", "Correct the file.") from error


def recipe_names() -> list[str]:
    """The names of the recipes that come with this program."""
    folder = resources.files("sil_cli") / "recipes"
    return sorted(Path(file.name).stem for file in folder.iterdir() if file.name.endswith(".toml"))


def read_recipe(name: str) -> dict[str, Any]:
    """A recipe's values, by its name or by the path of a .toml file.

    Raises:
        UsageError: There is no such recipe.
    """
    if name.endswith(".toml"):
        return read_toml(Path(name))
    if name not in recipe_names():
        raise UsageError(f"There is no recipe '{name}'.", did_you_mean(name, recipe_names()))
    text = (resources.files("sil_cli") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def parse_assignment(text: str) -> dict[str, Any]:
    """Turn `train.epochs=5` into `{"train": {"epochs": 5}}`; the value is TOML, or else plain text.

    Raises:
        UsageError: There is no `=`, or the key is empty.
    """
    key, equals, raw = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise UsageError(f"--set {text} is not KEY=VALUE.", "For example: --set train.epochs=5")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw
    for part in reversed(parts):
        value = {part: value}
    assert isinstance(value, dict)  # noqa: S101 - parts is never empty
    return value


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over` put in, table by table."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def known_keys(model: type[BaseModel] = Settings, prefix: str = "") -> list[str]:
    """Every settings key in dotted form, in order."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            keys += known_keys(kind, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def _refuse_unknown_variables() -> None:
    tops = [name.upper() for name in Settings.model_fields]
    for variable in sorted(os.environ):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        key = variable.removeprefix(ENVIRONMENT_PREFIX)
        if key.split("__")[0] not in tops:
            known = [ENVIRONMENT_PREFIX + name.upper().replace(".", "__") for name in known_keys()]
            near = nearest(variable, known) or known[0]
            raise UsageError(
                f"The environment variable {variable} is not a setting.",
                f"Did you mean {near}? Unset it if not.",
            )


def _explain(error: ValidationError, origins: dict[str, dict[str, Any]]) -> UsageError:
    problem = error.errors()[0]
    path = [str(part) for part in problem["loc"]]
    key = ".".join(path)
    where = next((name for name, values in origins.items() if _holds(values, path)), "the environment")
    if problem["type"] == "extra_forbidden":
        near = nearest(key, known_keys() if len(path) > 1 else Settings.model_fields)
        fix = f"Did you mean '{near}'?" if near else f"Known sections: {', '.join(Settings.model_fields)}."
        return UsageError(f"'{key}' is not a setting (in {where}).", fix)
    message = problem["msg"][:1].lower() + problem["msg"][1:]
    return UsageError(f"{key} = {problem['input']!r} is not valid (in {where}): {message}.", "Correct the value.")


def _holds(values: Any, path: list[str]) -> bool:
    for part in path:
        if not isinstance(values, dict) or part not in values:
            return not isinstance(values, dict)
        values = values[part]
    return True
