"""What a training is put together from: which data is refused, and that every setting arrives."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from sil_cli.data.manifest import Dataset, ImageRecord, write_dataset
from sil_cli.errors import DataError, ModelError, SilError, UsageError
from sil_cli.models.embedder import Embedder, architecture, save_model
from sil_cli.models.record import Architecture
from sil_cli.models.weights import load_pretrained
from sil_cli.runtime import SilentReporter
from sil_cli.settings import Settings, load_settings, merge
from sil_cli.training.compose import compose
from sil_cli.training.run_settings import settings_to_begin
from sil_cli.training.sources import load_sources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sil_cli.data.manifest import Split
    from sil_cli.training.loop import Training

SMALL = {
    "device": "cpu",
    "model": {"backbone": "resnet18", "weights": "none", "height": 32, "width": 16},
    "train": {"identities": 2, "instances": 2},
}


class Listening(SilentReporter):
    """Keeps what it is warned of."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def people(
    folder: Path, name: str, splits: Mapping[str, Split], cameras: Sequence[str] = ("c0", "c1"), images: str = ""
) -> Path:
    """A prepared data set with an image of each person by each camera; `images` names the folder that they lie in."""
    root = folder / "images" / (images or name)
    root.mkdir(parents=True, exist_ok=True)
    records = []
    for number, (person, split) in enumerate(splits.items()):
        for camera in cameras:
            path = f"{person}-{camera}.png"
            pixels = np.random.default_rng(number).integers(0, 256, size=(32, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / path)
            records.append(ImageRecord(path=path, identity=person, camera=camera, split=split, domain=name))
    return write_dataset(
        folder / name, records, name=name, reader="folders", reader_version=1, root=root, options={}
    ).folder


def composed(folders: Sequence[Path], flags: Mapping[str, object], reporter: SilentReporter | None = None) -> Training:
    settings = load_settings(flags=merge(SMALL, flags))
    datasets: list[Dataset] = load_sources(folders)
    return compose(settings, datasets, reporter or SilentReporter(), fresh=False)


TRAIN = dict.fromkeys(("a", "b", "c", "d"), "train")
HELD_OUT = {"train": {"select": "held-out", "held_out": 0.5}}


def test_choosing_an_epoch_by_nothing_is_refused(tmp_path) -> None:
    folders = [people(tmp_path, name, TRAIN, cameras=("c0",)) for name in ("one", "two")]
    with pytest.raises(UsageError, match="no identity held out of one, two has a match") as caught:
        composed(folders, HELD_OUT)
    assert "--select last" in caught.value.fix
    assert composed(folders, {}).images_per_iteration == 8


def test_a_source_that_says_nothing_of_an_epoch_is_warned_of(tmp_path) -> None:
    folders = [people(tmp_path, "one", TRAIN, cameras=("c0",)), people(tmp_path, "two", TRAIN)]
    listening = Listening()
    composed(folders, HELD_OUT, listening)
    told = [text for text in listening.warnings if "held out" in text]
    assert told == ["No identity held out of one has a match by a second camera: epochs are chosen without it."]


@pytest.mark.parametrize(
    ("able", "precision", "warned"), [(False, "bfloat16", 1), (True, "bfloat16", 0), (False, "auto", 0)]
)
def test_a_cpu_that_emulates_bfloat16_is_warned_of(tmp_path, monkeypatch, able, precision, warned) -> None:
    monkeypatch.setattr("sil_cli.models.precision._cpu_multiplies_bfloat16", lambda: able)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr("sil_cli.training.compose.keep_wrong_layers_in_float32", lambda *_, **__: [])
    listening = Listening()
    composed([people(tmp_path, "one", TRAIN)], {"train": {"precision": precision}}, listening)
    assert sum("emulates bfloat16" in text for text in listening.warnings) == warned


@pytest.mark.parametrize("splits", ["train", "train+test"])
def test_the_same_people_learnt_as_different_ones_are_refused(tmp_path, splits) -> None:
    sides: tuple[dict[str, Split], dict[str, Split]] = ({}, {})
    for number, person in enumerate("abcd"):
        for side in (0, 1):
            sides[side][person] = "train" if number % 2 == side else "gallery"
    folders = [people(tmp_path, name, side, images="both") for name, side in zip(("one", "two"), sides, strict=True)]
    flags = {"train": {"source_splits": splits}}
    if splits == "train":  # half of the people each
        assert [source.identities for source in composed(folders, flags).sources] == [2, 2]
        return
    with pytest.raises(UsageError, match=r"one and two share training images, [abcd]-c0.png among them"):
        composed(folders, flags)


def test_a_source_with_nothing_but_a_test_is_learnt_from_where_tests_are(tmp_path) -> None:
    tested = people(tmp_path, "tested", {"a": "gallery", "b": "query", "c": "gallery"})
    with pytest.raises(DataError, match="has no training images"):
        composed([tested], {})
    (source,) = composed([tested], {"train": {"source_splits": "train+test"}}).sources
    assert source.identity_names == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        ({"epochs": 8, "warmup_epochs": 7, "milestones": [4, 7]}, []),
        ({"epochs": 1, "warmup_epochs": 0, "milestones": []}, []),
        (
            {"epochs": 7, "warmup_epochs": 7, "milestones": [8, 7]},
            [
                "With train.epochs = 7 the warm-up of 7 does not end, and the step size does not fall after epoch "
                "7, 8: set train.warmup_epochs and train.milestones to match."
            ],
        ),
    ],
)
def test_a_schedule_beyond_the_last_epoch_is_told_once(tmp_path, schedule, told) -> None:
    datasets = load_sources([people(tmp_path, name, TRAIN) for name in ("one", "two")])
    for fresh, expected in ((True, told), (False, [])):
        listening = Listening()
        compose(load_settings(flags=merge(SMALL, {"train": schedule})), datasets, listening, fresh=fresh)
        assert [text for text in listening.warnings if "epochs" in text] == expected


ARRIVALS = {
    "interleaved": [
        ("model.last_stride", 2, "embedder.architecture.last_stride"),
        ("model.stem_relu", False, "embedder.architecture.stem_relu"),
        ("model.pooling", "gem", "embedder.architecture.pooling"),
        ("model.neck", False, "embedder.architecture.neck"),
        ("model.dimension", 24, "embedder.architecture.dimension"),
        ("model.mean", (0.1, 0.2, 0.3), "embedder.architecture.mean"),
        ("model.std", (0.4, 0.5, 0.6), "embedder.architecture.std"),
        ("style.name", "dbs", "method.style.style.style.__class__.__name__", "DirichletBatchStyle"),
        ("style.passes", "both", "method.styling.passes"),
        ("style.after_stages", (2, 3), "method.styling.after_stages"),
        ("style.probability", 0.45, "method.style.probability"),
        ("style.clamp", True, "method.style.style.__class__.__name__", "ClampedStyle"),
        ("style.samples", 3, "method.style.style.style.dirichlet.samples"),
        ("style.concentration", 0.15, "method.style.style.style.dirichlet.concentration"),
        ("style.mix", 0.65, "method.style.style.style.mix"),
        ("style.covariance", "diagonal", "method.style.style.style.batch.covariance"),
        ("train.seed", 5, "settings.seed"),
        ("train.seed", 5, "method.train.seed"),
        ("train.seed", 5, "sources.0.sampler._seed"),
        ("train.epochs", 9, "settings.epochs"),
        ("train.iterations", 7, "settings.iterations"),
        ("train.identities", 3, "sources.0.sampler.identities_per_batch"),
        ("train.instances", 2, "sources.0.sampler.instances"),
        ("train.cameras", "others", "sources.0.sampler.camera_rule"),
        ("train.single_images", "once", "sources.0.sampler.single_images"),
        ("train.learning_rate", 0.002, "settings.learning_rate"),
        ("train.learning_rate", 0.002, "optimizer_step.optimizer.defaults.lr"),
        ("train.weight_decay", 0.003, "settings.weight_decay"),
        ("train.weight_decay", 0.003, "optimizer_step.optimizer.defaults.weight_decay"),
        ("train.warmup_epochs", 3, "settings.warmup_epochs"),
        ("train.warmup_factor", 0.4, "settings.warmup_factor"),
        ("train.milestones", (4, 6), "settings.milestones"),
        ("train.decay", 0.3, "settings.decay"),
        ("train.temperature", 0.11, "method.train.temperature"),
        ("train.momentum", 0.7, "method.train.momentum"),
        ("train.prototypes", "random", "method.train.prototypes"),
        ("train.second_pass_statistics", False, "method.train.second_pass_statistics"),
        ("train.flip", 0.25, "settings.flip"),
        ("train.pad", 4, "settings.pad"),
        ("train.erasing", 0.35, "settings.erasing"),
        ("train.ema", 0.9, "settings.ema"),
        ("train.precision", "float16", "optimizer_step.half", torch.float16),
        ("train.batch_norm", "frozen", "settings.batch_norm"),
        ("train.select", "held-out", "settings.select"),
        ("train.held_out", 0.5, "sources.0.identities", 4),
        ("train.divergence", 5.0, "settings.divergence"),
        ("train.keep_checkpoints", 6, "settings.keep_checkpoints"),
    ],
    "one pass": [
        ("train.second_pass", False, "method.train.second_pass"),
        ("style.passes", "first", "method.styling.passes"),
        ("style.rho", 1.5, "method.style.rho"),
        ("style.divisor", "B-1", "method.style.correction", 1),
    ],
    "supervised": [
        ("train.method", "supervised", "method.__class__.__name__", "Supervised"),
        ("train.precision", "float16", "optimizer_step.half", torch.float16),
        ("style.name", "mixstyle", "method.style.__class__.__name__", "MixStyle"),
        ("style.passes", "first", "method.style.__class__.__name__", "MixStyle"),
        ("style.after_stages", (1, 4), "method.styling.after_stages"),
        ("style.alpha", 0.55, "method.style.alpha"),
        ("supervised.label_smoothing", 0.2, "method.settings.label_smoothing"),
        ("supervised.margin", 0.8, "method.settings.margin"),
    ],
}
"""For each kind of training: a setting, a value that is not its default, and where in the training it arrives.

The value arrives as it is, or as what stands behind the place.
"""

NOT_COMPOSED = {
    "sources",
    "source_splits",
    "protocol",
    "recipe",
    "run",
    "runs",
    "tensorboard",
    "calibrate",
    "resume",
    "export",
}
NOT_COMPOSED |= {"compile"}  # tests/training/test_compiled.py


@pytest.fixture(scope="module")
def trainings(tmp_path_factory) -> dict[str, Training]:
    """A training of each kind with all of its settings."""
    source = people(tmp_path_factory.mktemp("data"), "one", dict.fromkeys("abcdefgh", "train"))
    made = {}
    for kind, rows in ARRIVALS.items():
        flags: dict[str, dict[str, object]] = {}
        for setting, value, *_ in rows:
            section, _, key = setting.partition(".")
            flags.setdefault(section, {})[key] = value
        made[kind] = composed([source], flags)
    return made


@pytest.mark.parametrize(
    ("kind", "row"),
    [pytest.param(kind, row, id=f"{kind}: {row[0]}, {row[2]}") for kind, rows in ARRIVALS.items() for row in rows],
)
def test_every_setting_arrives(trainings, kind, row) -> None:
    setting, value, place, *expected = row
    section, _, key = setting.partition(".")
    assert getattr(getattr(Settings(), section), key) != value
    found = trainings[kind]
    for part in place.split("."):
        if isinstance(found, list):
            found = found[int(part)]
        else:
            found = found[part] if isinstance(found, dict) else getattr(found, part)
    assert found == (expected[0] if expected else value)


def test_no_setting_of_a_training_is_forgotten_above() -> None:
    told = {row[0] for rows in ARRIVALS.values() for row in rows}
    for section in ("train", "style", "supervised"):
        for key in type(getattr(Settings(), section)).model_fields:
            assert f"{section}.{key}" in told or (section == "train" and key in NOT_COMPOSED), key


def test_a_cache_that_is_a_link_in_a_strangers_data_set_is_refused(tmp_path) -> None:
    folder = people(tmp_path, "one", TRAIN)
    (tmp_path / "elsewhere").mkdir()
    (folder / "cache").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SilError, match="cache is a link"):
        composed([folder], {})
    assert not list((tmp_path / "elsewhere").iterdir())


PUBLISHED = {
    "stem_pooling": "even",
    "stem_relu": False,
    "neck_relu": True,
    "last_stride": 2,
    "pooling": "gem",
    "dimension": 24,
}


@pytest.mark.parametrize("named", ["the folder", "its weights"])
def test_a_training_goes_on_from_a_model_as_that_one_is_built(tmp_path, named):
    made = Embedder(Architecture(backbone="resnet18", height=40, width=16, interpolation="bicubic", **PUBLISHED))
    save_model(tmp_path / "published", made)
    weights = tmp_path / "published" if named == "the folder" else tmp_path / "published" / "model.safetensors"
    settings, recipe = settings_to_begin(load_settings(flags={"model": {"weights": str(weights)}}), [], None)
    assert recipe == ("adapt" if named == "the folder" else "generated")
    assert architecture(settings.model) == made.architecture
    begun = Embedder(architecture(settings.model))
    load_pretrained(begun, settings.model.weights)
    images = torch.rand(2, 3, 40, 16)
    torch.testing.assert_close(begun.eval()(images), made.eval()(images), rtol=0, atol=0)


def test_what_is_given_stands_above_the_model_that_a_training_goes_on_from(tmp_path):
    save_model(tmp_path / "published", Embedder(Architecture(backbone="resnet18", height=40, width=16)))
    flags = {"model": {"weights": str(tmp_path / "published"), "height": 48}, "train": {"recipe": "paper"}}
    settings, recipe = settings_to_begin(load_settings(flags=flags), [], None)
    assert (settings.model.height, settings.model.width, settings.model.backbone, recipe) == (
        48,
        16,
        "resnet18",
        "paper",
    )


@pytest.mark.parametrize(("key", "value"), [("weights", "imagenet"), ("backbone", "resnet18")])
def test_a_found_file_makes_no_weights_be_downloaded(tmp_path, monkeypatch, key, value) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    Path("sil.toml").write_text(f"[model]\n{key} = '{value}'\n")
    photographs = [SimpleNamespace(info=SimpleNamespace(generated=False))]
    with pytest.raises(UsageError, match=f"model.{key} = {value} was set by a file found in the working folder"):
        settings_to_begin(load_settings(), photographs, None)
    for settings in (load_settings(config=Path("sil.toml")), load_settings(flags={"model": {key: value}})):
        assert settings_to_begin(settings, photographs, None)[1] == "paper"
    weights = tmp_path / "hub/checkpoints" / f"{'resnet50-0676ba61' if key == 'weights' else 'resnet18-f37072fd'}.pth"
    weights.parent.mkdir(parents=True)
    weights.touch()
    assert settings_to_begin(load_settings(), photographs, None)[1] == "paper"


def test_a_folder_without_a_model_is_refused_as_the_first_weights(tmp_path):
    with pytest.raises(ModelError, match="holds no finished model"):
        settings_to_begin(load_settings(flags={"model": {"weights": str(tmp_path)}}), [], None)
