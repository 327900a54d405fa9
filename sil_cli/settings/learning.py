"""The settings of data, of the model and of its training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from sil_cli.settings.fields import (
    Count,
    Deviation,
    Name,
    NetworkKind,
    Positive,
    Section,
    Seed,
    Share,
    Stages,
    StyleName,
    TrainPrecision,
)


class GapStrengths(Section):
    """How much generated networks differ in each respect; 0: not at all; None: as is usual for this kind of them."""

    clothes: float | None = Field(None, ge=0.0, le=1.0, description="how many people wear colours of their own network")
    colour: float | None = Field(None, ge=0.0, le=2.0, description="colour cast and response")
    exposure: float | None = Field(None, ge=0.0, le=2.0, description="brightness, contrast, tone, haze, dark corners")
    detail: float | None = Field(None, ge=0.0, le=2.0, description="blur, noise, resolution, compression")
    background: float | None = Field(
        None, ge=0.0, le=1.0, description="how many cameras see their own network's materials"
    )
    pose: float | None = Field(
        None, ge=0.0, le=2.0, description="height of cameras, ways of walking past, cut of the crops"
    )
    cameras: float | None = Field(
        None, ge=0.0, le=4.0, description="cameras of one network, in colour, exposure and detail"
    )
    images: float | None = Field(
        None, ge=0.0, le=4.0, description="images of one camera, in colour, exposure and detail"
    )


_USUAL_STRENGTHS = {"wardrobes": {"pose": 0.0}, "cameras": {"clothes": 0.0, "background": 0.7}}  # others: 1


class SyntheticSettings(Section):
    """What `sil prepare-data synthetic` draws."""

    networks: NetworkKind = Field(
        "cameras",
        description="what tells networks apart: how cameras show people, or above all what they wear (`wardrobes`)",
    )
    domains: int = Field(4, ge=1, le=100, description="camera networks; the last one is left out of training")
    train_identities: int = Field(64, ge=1, le=100_000, description="people per network to learn from")
    test_identities: int = Field(36, ge=1, le=100_000, description="other people per network to search for")
    cameras: int = Field(4, ge=2, le=64, description="cameras per network")
    images_per_camera: int = Field(3, ge=2, le=1000, description="images of a person per camera that sees them")
    style_gap: float = Field(
        1.0, ge=0.0, le=2.0, description="a factor on all that tells networks apart except clothes; 0: only clothes do"
    )
    gap: GapStrengths = GapStrengths()
    height: int = Field(128, ge=32, le=512, description="pixels")
    width: int = Field(64, ge=16, le=512, description="pixels")
    seed: Seed = Field(1, description="same seed, same bytes")

    @property
    def strengths(self) -> dict[str, float]:
        """How strong each part of the gap is: by its own setting, else by the kind of networks; then `style_gap`."""
        usual = dict.fromkeys(GapStrengths.model_fields, 1.0) | _USUAL_STRENGTHS[self.networks]
        strengths = usual | self.gap.model_dump(exclude_none=True)
        apart = {"clothes", "cameras", "images"}
        return {part: value * (1.0 if part in apart else self.style_gap) for part, value in strengths.items()}


class FootageSettings(Section):
    """What `sil prepare-data synthetic --footage` draws: films of one network's cameras."""

    enabled: bool = Field(False, description="draw films of people walking past cameras, and no crops")
    network: Count | None = Field(
        None, description="which network, from 0; default: the last one, left out of training"
    )
    seconds: float = Field(30.0, gt=0.0, le=3600.0, description="how long each camera films")
    frames_per_second: float = Field(10.0, ge=1.0, le=60.0, description="frames a second")
    people: int = Field(24, ge=1, le=10_000, description="people who walk past; none of them is in any training split")
    width: int = Field(640, ge=160, le=1920, description="pixels of a frame")
    height: int = Field(360, ge=120, le=1080, description="pixels of a frame")


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
    name: Name | None = Field(
        None, description="the domain's name; default: the data set's own, or else the raw folder's"
    )
    images: Path | None = Field(
        None,
        description="readers `csv` and `annotations`: what paths in the file are relative to; default: its folder",
    )
    pattern: str | None = Field(None, description="reader `regex`: named groups identity, camera, split, frame")
    split: Literal["train", "test", "half"] = Field(
        "train",
        description="if the raw data has no split: all for training, all for testing, or half of the people for each",
    )
    partition: Positive | None = Field(
        None, description="which split, from 1, if a data set has several; default: its first or usual one"
    )
    labelled: bool | None = Field(None, description="reader `cuhk03`: the crops drawn by hand, not the detector's")
    seed: Seed = Field(0, description="draws the splits that are random")
    strict: bool = Field(False, description="fail if counts differ from the published ones")
    force: bool = Field(False, description="replace data prepared with other options")
    max_megapixels: float = Field(50.0, gt=0, description="larger images are refused as possible decompression bombs")
    synthetic: SyntheticSettings = SyntheticSettings()
    footage: FootageSettings = FootageSettings()


class ModelSettings(Section):
    """The network."""

    backbone: str = Field(
        "resnet50",
        description="resnet18, 34, 50 or 101, each also with -ibn-a; osnet_x1_0, …; mobilenet_v3_large, …; vit_b_16; "
        "timm:NAME",
    )
    weights: str = Field(
        "imagenet",
        description="`imagenet`, `none`, a .safetensors/.pth file, or the folder of a model, which brings its settings",
    )
    height: int = Field(256, ge=16, le=1024, description="input height in pixels")
    width: int = Field(128, ge=16, le=1024, description="input width in pixels")
    interpolation: Literal["bilinear", "bicubic"] = Field(
        "bilinear", description="how images are resized to the input size (the authors' code: bicubic)"
    )
    last_stride: Literal[1, 2] = Field(
        1, description="stride of the last stage of resnet…; other backbones, timm:resnet… among them, keep their own"
    )
    stem_relu: bool = Field(
        True,
        description="ReLU after the first batch norm of resnet… (the authors' class has none); no effect on other "
        "backbones, timm:resnet… among them",
    )
    stem_pooling: Literal["padded", "ceil", "even"] = Field(
        "padded",
        description="max pooling in the stem of resnet…: 3×3 with a border, 3×3 without one, or 2×2 (published models)",
    )
    non_local: bool = Field(False, description="non-local blocks in the second and third stages of resnet…")
    patch_stride: int = Field(16, ge=1, le=16, description="of vit_…'s patches, in pixels; below 16 they overlap")
    pooling: Literal["average", "gem"] = Field("average", description="how feature maps become vectors")
    neck: bool = Field(True, description="a batch norm without a shift before the embedding")
    neck_relu: bool = Field(False, description="ReLU after it (published models)")
    dimension: int | None = Field(
        None, ge=8, le=65_536, description="length of an embedding, by a linear layer; default: the backbone's"
    )
    mean: tuple[Share, Share, Share] | None = Field(
        None, description="subtracted from RGB values in 0..1; default: what the backbone's published weights expect"
    )
    std: tuple[Deviation, Deviation, Deviation] | None = Field(
        None, description="what they are then divided by; default: what the backbone's published weights expect"
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
    divisor: Literal["B", "B-1"] = Field(
        "B",
        description="ubs, dsu and a diagonal covariance: what the squares of B deviations are divided by (the authors' "
        "code: B-1)",
    )
    covariance: Literal["full", "diagonal"] = Field("full", description="batch-style, dbs: of the batch part")
    clamp: bool = Field(False, description="clamp drawn γ at 0 (the authors do not); efdmix draws none")


class TrainSettings(Section):
    """Training."""

    method: Literal["interleaved", "supervised"] = Field(
        "interleaved", description="the paper's method, or the supervised baseline for a target with labels"
    )
    sources: tuple[Path, ...] = Field((), description="prepared data sets to learn from")
    source_splits: Literal["train", "train+test"] = Field(
        "train", description="which splits of the sources to learn from: training only, or queries and gallery too"
    )
    protocol: str | None = Field(None, description="the protocol that the run follows, for its records")
    recipe: str | None = Field(
        None,
        description="`generated`, `small`, `paper`, `paper-v1`, `supervised`, or a .toml file; default: by the sources",
    )
    run: Path | None = Field(None, description="the run folder; default: the next number in `runs`")
    runs: Path = Field(Path("runs"), description="where numbered run folders are made")
    seed: Seed = Field(1, description="same seed, same run")
    epochs: Positive = Field(70, description="epochs")
    iterations: Positive = Field(200, description="iterations per epoch")
    identities: Positive = Field(16, description="P: identities per source and batch")
    instances: Positive = Field(4, description="K: images per identity and batch")
    cameras: Literal["spread", "others"] = Field(
        "spread",
        description="the K images of an identity: `spread` evenly over cameras, or one and then `others` from other "
        "cameras than its, with repetition where they are fewer than K (the authors' code)",
    )
    single_images: Literal["repeat", "once"] = Field(
        "repeat",
        description="an identity with one image gives it K times, or `once`, which shifts later identities across the "
        "ends of batches (the authors' code)",
    )
    learning_rate: float = Field(3.5e-4, gt=0.0, description="Adam's step size")
    weight_decay: float = Field(5e-4, ge=0.0, description="Adam's L2 penalty")
    warmup_epochs: Count = Field(10, description="linear warm-up")
    warmup_factor: float = Field(0.1, gt=0.0, le=1.0, description="the step size's factor at the start")
    milestones: tuple[Count, ...] = Field((30, 50), description="epochs after which the step size falls")
    decay: float = Field(0.1, gt=0.0, le=1.0, description="the factor by which it falls")
    temperature: float = Field(0.05, gt=0.0, description="τ of the loss")
    momentum: float = Field(0.2, ge=0.0, lt=1.0, description="m: weight of the old prototype")
    prototypes: str = Field(
        "centroids", description="initial prototypes: `centroids`, `random`, or a .safetensors file (zero-shot)"
    )
    second_pass: bool = Field(True, description="false: the first pass's features update the prototypes (FB baseline)")
    second_pass_statistics: bool = Field(
        True,
        description="the second pass also moves batch norm's running statistics (as the authors' code does)",
    )
    flip: Share = Field(0.5, description="chance of a horizontal flip")
    pad: int = Field(10, ge=0, le=1024, description="pixels of padding before the random crop")
    erasing: Share = Field(0.0, description="chance of random erasing")
    ema: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="decay of a moving average of the weights, which is then the model kept; 0: none",
    )
    precision: TrainPrecision = Field(
        "float32",
        description="`auto`: bfloat16 where the device is fast at it; float16 is for GPUs that lack it",
    )
    compile: Literal["auto", "on", "off"] = Field(
        "off",
        description="torch.compile and CUDA graphs; `auto`: on a GPU, where the training is long enough for it to pay",
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
        description="share of source identities held out of training if select is held-out",
    )
    divergence: float = Field(
        2.0,
        ge=0.0,
        description="stop when three epochs in a row have a loss above this multiple of chance that does not fall; "
        "0: never",
    )
    keep_checkpoints: Positive = Field(2, description="checkpoints kept of an unfinished run, and after it")
    tensorboard: bool = Field(False, description="write the metrics for TensorBoard too")
    calibrate: bool = Field(
        True, description="measure thresholds at the end, on people of the sources who were not trained on"
    )
    export: bool = Field(True, description="export the model at the end, so that all that uses it starts at once")
    resume: bool = Field(False, description="resume an unfinished run")


class DistributedSettings(Section):
    """Several processes, started by torchrun."""

    timeout: float = Field(
        1800.0, gt=0.0, le=1e7, description="seconds that a process waits for another before giving up on it"
    )


class SupervisedSettings(Section):
    """The supervised baseline: identity loss and batch-hard triplet loss."""

    label_smoothing: float = Field(0.1, ge=0.0, lt=1.0, description="ε of the identity loss")
    margin: Annotated[float, Field(gt=0.0)] | Literal["soft"] = Field(
        0.3, description="m of the triplet loss, or `soft`: ln(1 + exp(·)) instead of max(0, m + ·)"
    )
