"""Every setting of every command, in one validated model.

Where a value comes from, strongest first: the command's flags (also `--set KEY=VALUE`), environment variables
(`SIL_TRAIN__EPOCHS=5`), `sil.toml` in the working folder or `--config FILE`, the recipe, the defaults below.
The defaults are the paper's (arXiv 2207.03132) wherever it gives a value.
"""

from __future__ import annotations

import os
import re
import tomllib
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from sil_cli.errors import UsageError, did_you_mean, nearest
from sil_cli.files import one_line
from sil_cli.runtime import DeviceName

CONFIG_FILE = Path("sil.toml")
ENVIRONMENT_PREFIX = "SIL_"
NOT_SETTINGS = ("SIL_MILVUS_TOKEN", "SIL_TEST_MILVUS")
"""Variables of our own that no settings file may hold: a secret, and where tests find a server."""


StyleName = Literal["none", "mixstyle", "dsu", "efdmix", "dir-mixstyle", "batch-style", "dbs", "ubs"]
Precision = Literal["auto", "float32", "bfloat16"]
TrainPrecision = Literal["auto", "float32", "bfloat16", "float16"]
EngineName = Literal["auto", "torch", "onnxruntime", "openvino"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
Stages = Annotated[
    tuple[Positive, ...],
    Field(min_length=1),
    BeforeValidator(lambda value: [value] if isinstance(value, int) else value),
]


_TIMES = "write a time as 2024, 2024-05, 2024-05-01, 2024-05-01T08:30 or 2024-05-01T08:30+02:00"


def _iso_time(value: object) -> object:
    """Read ISO 8601, of which a year or a month alone is its first moment; pydantic takes numbers for seconds."""
    if isinstance(value, bool | float):
        raise ValueError(_TIMES)
    if not isinstance(value, str | int):
        return value
    text = str(value)
    if re.fullmatch(r"[0-9]{4}(-[0-9]{2})?", text):
        text = f"{text}-01-01"[:10]
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(_TIMES) from None


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
    check_cache: bool = Field(False, description="compare the whole pixel cache with its checksums, not a sample of it")
    reader: str = Field("synthetic", description="the layout of the raw data; `auto` recognises it")
    root: Path | None = Field(None, description="the raw data's folder, archive or list file")
    protocol: str | None = Field(
        None, description="prepare what this protocol needs: `p1`, `p3-market1501`, … or a .toml file"
    )
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

    backbone: str = Field(
        "resnet50",
        description="resnet18, 34, 50 or 101, each also with -ibn-a; osnet_x1_0, …; mobilenet_v3_large, …; vit_b_16; "
        "timm:NAME",
    )
    weights: str = Field("imagenet", description="`imagenet`, `none`, or a .safetensors/.pth file")
    height: int = Field(256, ge=16, le=1024, description="input height in pixels")
    width: int = Field(128, ge=16, le=1024, description="input width in pixels")
    last_stride: Literal[1, 2] = Field(1, description="stride of the last stage")
    stem_relu: bool = Field(True, description="ReLU after the first batch norm (the authors' class has none)")
    pooling: Literal["average", "gem"] = Field("average", description="how feature maps become vectors")
    neck: bool = Field(True, description="a batch norm without a shift before the embedding")
    dimension: int | None = Field(
        None, ge=8, le=65_536, description="length of an embedding, by a linear layer; default: the backbone's"
    )


class StyleSettings(Section):
    """The stylisation of feature maps while training."""

    name: StyleName = Field("ubs", description="how new feature statistics are drawn")
    passes: Literal["first", "second", "both"] = Field("second", description="the forward pass that is stylised")
    after_stages: Stages = Field((1,), description="the stage, or a list of stages, that the style layer follows")
    probability: Share = Field(1.0, description="chance that a batch is stylised at all")
    alpha: float = Field(0.1, gt=0.0, description="mixstyle, efdmix: α of λ ~ Beta(α, α)")
    rho: float = Field(3.0, ge=0.0, description="ubs: half width of the interval, in standard deviations")
    samples: Positive = Field(2, description="dir-mixstyle, dbs: T, the other samples mixed in")
    concentration: float = Field(0.1, gt=0.0, description="dir-mixstyle, dbs: ε of the Dirichlet distribution")
    mix: Share | Literal["random"] = Field(
        0.9, description="dbs: z, the weight of the Dirichlet part; `random`: uniform for each sample"
    )
    covariance: Literal["full", "diagonal"] = Field("full", description="batch-style, dbs: of the batch part")
    clamp: bool = Field(False, description="clamp drawn γ at 0 (the authors do not)")


class TrainSettings(Section):
    """Training."""

    method: Literal["interleaved", "supervised"] = Field(
        "interleaved", description="the paper's, or the supervised baseline for a target that has labels"
    )
    sources: tuple[Path, ...] = Field((), description="prepared data sets to learn from")
    source_splits: Literal["train", "train+test"] = Field(
        "train", description="what of the sources is learnt from: their training splits, or queries and gallery too"
    )
    protocol: str | None = Field(None, description="the name of the protocol that the run follows, for its records")
    recipe: str | None = Field(
        None, description="`generated`, `paper`, `supervised`, or a .toml file; default: by the sources"
    )
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
    prototypes: str = Field(
        "centroids", description="where prototypes begin: `centroids`, `random`, or a .safetensors file (zero-shot)"
    )
    second_pass: bool = Field(True, description="false: the first pass's features update the prototypes (FB baseline)")
    second_pass_statistics: bool = Field(
        True,
        description="the second pass also moves batch norm's running statistics (as the authors' code does)",
    )
    flip: Share = Field(0.5, description="chance of a horizontal flip")
    pad: int = Field(10, ge=0, description="pixels of padding before the random crop")
    erasing: Share = Field(0.0, description="chance of random erasing")
    ema: float = Field(0.0, ge=0.0, lt=1.0, description="decay of a moving average of the weights, then kept; 0: none")
    precision: TrainPrecision = Field(
        "float32",
        description="`auto`: bfloat16 where the device is fast at it; float16 is for GPUs that lack it",
    )
    batch_norm: Literal["per-process", "synchronised", "frozen"] = Field(
        "per-process",
        description="what batch norm normalises by: each process's part of a batch, all of it, or the first weights' "
        "statistics",
    )
    select: Literal["last", "held-out"] = Field("last", description="which epoch's model is kept")
    held_out: float = Field(
        0.1,
        gt=0.0,
        lt=1.0,
        description="share of source identities kept from training when select is held-out",
    )
    divergence: float = Field(
        2.0,
        ge=0.0,
        description="stop when three epochs' losses lie above so many times chance and do not fall; 0: never",
    )
    keep_checkpoints: Positive = Field(2, description="checkpoints kept of an unfinished run, and after it")
    tensorboard: bool = Field(False, description="write the metrics for TensorBoard too")
    calibrate: bool = Field(True, description="measure thresholds at the end, on people of the sources not learnt")
    resume: bool = Field(False, description="go on with an unfinished run")


class DistributedSettings(Section):
    """Several processes, started by torchrun."""

    timeout: float = Field(
        1800.0, gt=0.0, description="seconds that a process waits for another before it takes it for hung"
    )


class SupervisedSettings(Section):
    """The supervised baseline: identity loss and batch-hard triplet loss."""

    label_smoothing: float = Field(0.1, ge=0.0, lt=1.0, description="ε of the identity loss")
    margin: Annotated[float, Field(gt=0.0)] | Literal["soft"] = Field(
        0.3, description="m of the triplet loss, or `soft`: ln(1 + exp(·)) instead of max(0, m + ·)"
    )


class InferenceSettings(Section):
    """How embeddings are computed."""

    engine: EngineName = Field(
        "auto", description="`auto`: the quickest that is installed and exported, torch on an accelerator"
    )
    precision: Precision = Field(
        "auto",
        description="`auto`: bfloat16 where the export measured a cosine of 0.9999 to float32; evaluating, float32",
    )


class ExportSettings(Section):
    """Writing a model as ONNX."""

    model: Path | None = Field(None, description="a run folder; default: the newest finished one")
    out: Path | None = Field(None, description="a folder or an .onnx file; default: the run folder")
    int8: bool = Field(False, description="quantise to int8, a model of its own")
    calibrate_on: Path | None = Field(
        None, description="crops for int8's ranges, and to compare with torch on; default: generated people"
    )


class EvaluateSettings(Section):
    """Scoring a model on a data set."""

    model: Path | None = Field(None, description="a run folder; default: the newest finished one")
    target: Path | None = Field(None, description="a prepared data set; default: the one left out")
    batch: Positive = Field(128, description="images per forward pass")
    embeddings: Path | None = Field(None, description="an .npz file of any project's embeddings, instead of a model")
    metric: Literal["cosine", "euclidean"] = Field("cosine", description="what is near")
    save_embeddings: Path | None = Field(None, description="an .npz file to write the embeddings to")
    out: Path | None = Field(None, description="where results go; default: into the run, or beside the embeddings")
    fused: tuple[Path, ...] = Field((), description="further models; similarity is the mean of all models'")
    flip: bool = Field(False, description="embed each image and its mirror, and take the mean")
    height: int | None = Field(None, ge=16, le=1024, description="input height; default: the trained one")
    width: int | None = Field(None, ge=16, le=1024, description="input width; default: the trained one")
    tracklets: bool = Field(False, description="the mean of the queries of one identity and camera is one query")
    expand_queries: int = Field(0, ge=0, description="draw each query towards so many gallery images")
    augment_gallery: int = Field(0, ge=0, description="draw each gallery image towards so many others")
    expansion_alpha: float = Field(3.0, ge=0.0, description="of both: similarity^α is a neighbour's weight; 0: mean")
    rerank: bool = Field(False, description="re-rank by k-reciprocal encoding")


class CompareSettings(Section):
    """Comparing two models on one target."""

    target: str | None = Field(None, description="the target's name; default: the one that both were evaluated on")
    changed: int = Field(5, ge=0, description="queries to name that got better most, and as many that got worse")


class CalibrateSettings(Section):
    """Measuring from which score on two pictures show one person."""

    model: Path | None = Field(None, description="a run folder; default: the newest finished one")
    on: Path | None = Field(
        None, description="a labelled, prepared data set; default: people of the sources not learnt"
    )
    images: int = Field(3000, ge=2, description="at most so many images of each data set, whole people")
    seed: int = Field(0, ge=0, description="draws the people where there are more")
    match: Literal["1e-2", "1e-3", "1e-4"] = Field("1e-3", description="false accept rate from which on it is a match")
    possible: Literal["1e-2", "1e-3", "1e-4"] = Field("1e-2", description="false accept rate of a possible match")


class BenchmarkSettings(Section):
    """Running whole protocols."""

    methods: tuple[str, ...] = Field((), description="what to compare, the baseline first; default: the recipe")
    seeds: tuple[int, ...] = Field((1,), min_length=1, description="every case is trained once with each")
    out: Path = Field(Path("benchmarks"), description="where runs and tables go")


class RerankSettings(Section):
    """k-reciprocal re-ranking, in evaluation and in queries; the defaults are its authors' (CVPR 2017)."""

    k1: Positive = Field(20, description="neighbours that are looked at")
    k2: Positive = Field(6, description="neighbours whose encodings are averaged; 1: none")
    weight: Share = Field(0.3, description="λ: weight of the original distance beside the Jaccard distance")


class GallerySettings(Section):
    """The searchable gallery."""

    folder: Path = Field(Path("gallery"), description="where the gallery is kept")
    store: str | None = Field(
        None,
        description="milvus://HOST:PORT/COLLECTION or a Milvus Lite file NAME.db; default: the folder itself",
    )
    patience: float = Field(
        120.0, gt=0.0, le=3600.0, description="seconds to go on trying while a Milvus server doesn't answer"
    )
    images: tuple[Path, ...] = Field(
        (), description="folders, prepared data sets, .csv tables, lists of paths, or - for a stream of paths"
    )
    root: Path | None = Field(None, description="paths in tables and lists are relative to it, and tables stay in it")
    pattern: str | None = Field(
        None, description="named groups identity, camera, time, tracklet, … searched for in each path"
    )
    time_format: str = Field("auto", description="`auto`, `epoch`, `epoch-ms`, or a strptime pattern")
    timezone: str = Field("UTC", description="zone of times that don't say theirs, and of times shown; or `local`")
    exif: bool = Field(False, description="take time and camera from EXIF tags where nothing else says them")
    tracklets: Literal["off", "named", "folder"] = Field(
        "off", description="one entry for all images of a tracklet: by its name, or by folder"
    )
    prune: bool = Field(False, description="remove entries whose files have gone")
    model: Path | None = Field(None, description="a run folder; default: the newest finished one")
    batch: Positive = Field(128, description="images per forward pass and per commit")
    export: bool = Field(True, description="export the model where it is not and can be, so that queries start at once")
    index: str | None = Field(
        None, description="`auto` (by size), `exact`, or FAISS's name of an index; default: as it was, `auto` at first"
    )


class FilterSettings(Section):
    """Which entries of the gallery may be found."""

    camera: tuple[str, ...] = Field((), description="only from these cameras")
    exclude_camera: tuple[str, ...] = Field((), description="not from these cameras")
    after: Moment | None = Field(
        None, description="taken then or later (ISO 8601; a time without a zone is of `gallery.timezone`)"
    )
    before: Moment | None = Field(None, description="taken before this time")
    identity: tuple[str, ...] = Field((), description="only these people")
    where: tuple[str, ...] = Field((), description="KEY=VALUE of any metadata; of one key any of its values will do")


class QuerySettings(Section):
    """Searching the gallery."""

    images: tuple[Path, ...] = Field((), description="images of people to find")
    ids: tuple[int, ...] = Field((), description="gallery entries to find more of")
    boxes: tuple[str, ...] = Field((), description="left,top,width,height in pixels: the person in a larger image")
    fuse: bool = Field(False, description="all images show one person: search by their mean")
    batch: Path | None = Field(None, description="a source of many queries, answered as JSON lines")
    out: Path | None = Field(None, description="where the JSON lines go; default: standard output")
    model: Path | None = Field(None, description="a run folder; default: the copy that the gallery keeps")
    top: Positive = Field(10, description="matches to list")
    all: bool = Field(False, description="list all from the threshold of `possible` on, or from min_score on")
    min_score: float | None = Field(None, ge=-1.0, le=1.0, description="list no match below this cosine")
    exclude_self: bool = Field(False, description="leave out gallery entries made of the very file of the query")
    group: Literal["none", "identity", "camera"] = Field(
        "none", description="`identity`: the best of each; `camera`: the trail through cameras and time"
    )
    gap: float = Field(60.0, ge=0.0, description="seconds without a picture after which a new sighting begins")
    sheet: Path = Field(Path("matches.jpg"), description="where the contact sheet is written")
    rerank: bool = Field(False, description="re-rank the short list by k-reciprocal encoding")
    shortlist: Positive = Field(200, description="matches that are re-ranked among each other")
    html: Path | None = Field(None, description="where a page with the matches is written")
    filter: FilterSettings = FilterSettings()


class ShowSettings(Section):
    """Looking at prepared data."""

    datasets: tuple[Path, ...] = Field((), description="prepared data sets; default: all in the data folder")
    split: Literal["train", "query", "gallery"] | None = Field(None, description="only this split's pictures")
    identities: Positive = Field(8, description="people on the sheet, of each data set")
    sample: Positive = Field(
        200_000, description="pictures to open of each data set, drawn by the seed; all where it has no more"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="draws the people on the sheet and the sample")
    sheet: Path = Field(Path("show.jpg"), description="the contact sheet; the style chart lies beside it")


class ReportSettings(Section):
    """The page of pictures."""

    runs: tuple[Path, ...] = Field((), description="run folders; default: the newest finished one")
    target: str | None = Field(None, description="a target's name; default: the one they were all evaluated on")
    out: Path | None = Field(None, description="a folder or an .html file; default: `report` in the run folder")
    queries: int = Field(3, ge=1, le=20, description="best, typical and worst queries to show, so many of each")
    projection: Literal["auto", "pca", "tsne"] = Field(
        "auto", description="map of embeddings; `auto`: t-SNE where scikit-learn is installed"
    )
    similarity_maps: bool = Field(True, description="show where images agree; runs the model on a few images")
    source_images: int = Field(
        150, ge=0, le=1000, description="images of each source to embed for the map by domain; 0: none"
    )


class Settings(BaseModel):
    """All settings of all commands."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: DeviceName = Field("auto", description="where the network runs")
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    style: StyleSettings = StyleSettings()
    train: TrainSettings = TrainSettings()
    supervised: SupervisedSettings = SupervisedSettings()
    distributed: DistributedSettings = DistributedSettings()
    inference: InferenceSettings = InferenceSettings()
    export: ExportSettings = ExportSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    benchmark: BenchmarkSettings = BenchmarkSettings()
    compare: CompareSettings = CompareSettings()
    calibrate: CalibrateSettings = CalibrateSettings()
    rerank: RerankSettings = RerankSettings()
    gallery: GallerySettings = GallerySettings()
    query: QuerySettings = QuerySettings()
    show: ShowSettings = ShowSettings()
    report: ReportSettings = ReportSettings()


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
    values = recipe or {}
    for layer in (from_file, _from_environment(), flags):
        values = merge(values, layer)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        origins = {str(file): from_file, "the recipe": recipe or {}, "the command line": flags}
        raise _explain(error, origins) from None


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


def _from_environment() -> dict[str, Any]:
    """What variables say, not yet validated."""
    if not any(name.upper().startswith(ENVIRONMENT_PREFIX) for name in os.environ):
        return {}
    from pydantic_settings import (  # 0.07 s, which most commands go without
        BaseSettings,
        EnvSettingsSource,
        SettingsConfigDict,
        SettingsError,
    )

    class Variables(Settings, BaseSettings):
        model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__")

    try:
        return EnvSettingsSource(Variables)()
    except SettingsError as error:
        raise UsageError(
            f"An environment variable can't be read: {one_line(error)}.",
            "Lists and tables are given as JSON, for example SIL_TRAIN__MILESTONES='[3, 5]'.",
        ) from error


def _refuse_unknown_variables() -> None:
    tops = [name.upper() for name in Settings.model_fields]
    for variable in sorted(os.environ):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in NOT_SETTINGS:
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
    key = _key_of(path)
    same = [each for each in error.errors() if _key_of([str(part) for part in each["loc"]]) == key]
    message = ", or ".join(each["msg"][:1].lower() + each["msg"][1:] for each in same)
    choices = [word for each in same for word in re.findall(r"'([^']+)'", each.get("ctx", {}).get("expected", ""))]
    fix = did_you_mean(str(problem["input"]), choices) if choices else "Correct the value."
    return UsageError(f"{key} = {problem['input']!r} is not valid (in {where}): {message}.", fix)


def _key_of(path: list[str]) -> str:
    """The setting that a path leads into; what follows its key names an element, or one of several kinds."""
    known = known_keys()
    prefixes = [".".join(path[:length]) for length in range(1, len(path) + 1)]
    return next((prefix for prefix in prefixes if prefix in known), prefixes[-1])


def _holds(values: Any, path: list[str]) -> bool:
    for part in path:
        if not isinstance(values, dict) or part not in values:
            return not isinstance(values, dict)
        values = values[part]
    return True
