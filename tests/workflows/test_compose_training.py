"""What a training is put together from: which data is refused, and that every setting arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from sil_cli.data.manifest import Dataset, ImageRecord, write_dataset
from sil_cli.errors import DataError, UsageError
from sil_cli.runtime import SilentReporter
from sil_cli.settings import load_settings, merge
from sil_cli.workflows.compose_training import compose, load_sources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

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
