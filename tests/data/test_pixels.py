from __future__ import annotations

import json
import os

import numpy as np
import pytest
from PIL import Image

from sil_cli.data import pixel_build
from sil_cli.data.images import load_image, resize_to
from sil_cli.data.manifest import load_dataset
from sil_cli.data.pixels import open_pixels
from sil_cli.data.readers.own_images import read_folders
from sil_cli.data.walking import find_image_files
from sil_cli.errors import DataError
from sil_cli.files import TEMPORARY_MARK, writing
from sil_cli.preparation.check_images import prepare
from sil_cli.runtime import SilentReporter


class Noting(SilentReporter):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.decoded = 0

    def advance(self, count: int = 1, **facts: float | str) -> None:
        del facts
        self.decoded += count

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def dataset(tmp_path, make_image):
    for number in range(70):
        make_image(tmp_path / "raw" / f"p{number % 7}" / f"{number}.jpg", size=(20 + number, 40))
    return prepare(read_folders(tmp_path / "raw"), tmp_path / "out", reporter=SilentReporter(), workers=2)


@pytest.fixture
def opened(dataset, tmp_path):
    def call(reporter=None, **options):
        options = {"height": 32, "width": 16, "folder": tmp_path / "cache", "workers": 2, **options}
        return open_pixels(options.pop("dataset", dataset), reporter=reporter or SilentReporter(), **options)

    return call


def cache_file(tmp_path, suffix=".npy"):
    (path,) = (tmp_path / "cache").glob(f"*{suffix}")
    return path


def test_pixels_of_another_filter_have_a_cache_of_their_own(opened, dataset, tmp_path):
    usual, cubic = opened(), opened(interpolation="bicubic")
    for record, row in zip(dataset.records, cubic, strict=True):
        with Image.open(dataset.image_path(record)) as image:
            np.testing.assert_array_equal(row, image.convert("RGB").resize((16, 32), Image.Resampling.BICUBIC))
    assert (usual != cubic).any()
    np.testing.assert_array_equal(opened(), usual)
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2


def test_pixels_are_those_of_load_and_resize(opened, dataset, tmp_path):
    pixels = opened()
    assert pixels.shape == (70, 32, 16, 3)
    assert pixels.dtype == np.uint8
    for record, row in zip(dataset.records, pixels, strict=True):
        np.testing.assert_array_equal(row, resize_to(load_image(dataset.image_path(record)), 32, 16))
    assert isinstance(pixels, np.memmap)
    assert not pixels.flags.writeable
    np.testing.assert_array_equal(np.load(cache_file(tmp_path)), pixels)


def test_the_second_call_decodes_nothing(opened):
    first, second = Noting(), Noting()
    before = opened(first)
    np.testing.assert_array_equal(opened(second), before)
    assert (first.decoded, second.decoded) == (70, 0)
    assert first.notes == second.notes == []


def test_workers_do_not_change_the_bytes(opened, tmp_path):
    opened(workers=1, folder=tmp_path / "one")
    opened(workers=4, folder=tmp_path / "four")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "four").iterdir())
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "four" / name).read_bytes()


def test_positions_choose_rows_and_have_a_cache_of_their_own(opened):
    everything = opened()
    reporter = Noting()
    np.testing.assert_array_equal(opened(reporter, positions=[5, 3, 60]), everything[[5, 3, 60]])
    assert reporter.decoded == 3
    assert reporter.notes == []
    np.testing.assert_array_equal(opened(positions=[3, 5, 60]), everything[[3, 5, 60]])


def test_boxes_are_cut(opened, dataset):
    records = [dataset.records[0].model_copy(update={"box": (4, 8, 12, 24)})]
    boxed = type(dataset)(dataset.folder, dataset.info, tuple(records))
    expected = resize_to(load_image(dataset.image_path(records[0]), box=(4, 8, 12, 24)), 32, 16)
    np.testing.assert_array_equal(opened(dataset=boxed)[0], expected)


def rebuilt(opened, expected, says: str) -> None:
    reporter = Noting()
    np.testing.assert_array_equal(opened(reporter), expected)
    assert reporter.decoded == 70
    assert len(reporter.notes) == 1
    assert says in reporter.notes[0]


@pytest.mark.parametrize("keep", [0, 50, 1000, 32 * 16 * 3 * 70])
def test_a_cache_cut_short_is_built_anew(opened, tmp_path, keep):
    expected = np.array(opened())
    os.truncate(cache_file(tmp_path), keep)
    rebuilt(opened, expected, "is damaged")


@pytest.mark.parametrize("row", [0, 69])
def test_lost_blocks_are_found(opened, tmp_path, row):
    expected = np.array(opened())
    content = np.load(cache_file(tmp_path), mmap_mode="r+")
    content[row] = 0
    content.flush()
    rebuilt(opened, expected, "not what was written")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 1}', '{"format": 2}'])
def test_a_damaged_note_means_a_new_cache(opened, tmp_path, text):
    expected = np.array(opened())
    cache_file(tmp_path, ".json").write_text(text)
    rebuilt(opened, expected, "is ")


def test_a_cache_that_was_never_sealed_is_built_quietly(opened, tmp_path):
    opened()
    cache_file(tmp_path, ".json").unlink()
    reporter = Noting()
    opened(reporter)
    assert (reporter.decoded, reporter.notes) == (70, [])


def test_another_numpy_file_is_not_taken_for_it(opened, tmp_path):
    expected = np.array(opened())
    np.save(cache_file(tmp_path), np.zeros((3, 2)))
    rebuilt(opened, expected, "is damaged")
    np.save(cache_file(tmp_path), np.array([{}], dtype=object), allow_pickle=True)
    rebuilt(opened, expected, "is damaged")


def test_a_changed_image_makes_it_stale(opened, dataset, make_image):
    before = np.array(opened())
    path = dataset.image_path(dataset.records[12])
    make_image(path.with_name("other.jpg"), size=(20, 20)).replace(path)
    reporter = Noting()
    changed = (opened(reporter) != before).any(axis=(1, 2, 3))
    assert np.flatnonzero(changed).tolist() == [12]
    assert "is out of date" in reporter.notes[0]


def test_another_size_is_another_cache(opened, tmp_path):
    opened()
    assert opened(height=24).shape == (70, 24, 16, 3)
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2


def test_an_image_that_went_bad_is_named(opened, dataset, tmp_path):
    dataset.image_path(dataset.records[3]).write_text("no picture")
    with pytest.raises(DataError, match=r"can no longer be used: not an image\. .*prepare-data"):
        opened()
    assert not list((tmp_path / "cache").glob("*.npy"))
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["CACHEDIR.TAG"]
    dataset.image_path(dataset.records[3]).unlink()
    with pytest.raises(DataError, match="can no longer be used: No such file"):
        opened()


def test_too_little_room_is_told_beforehand(opened, monkeypatch):
    free = type("Usage", (), {"free": 100_000})
    monkeypatch.setattr(pixel_build.shutil, "disk_usage", lambda _: free)
    reporter = Noting()
    with pytest.raises(DataError, match=r"needs 107,520 bytes in .*, where 100,000 are free"):
        opened(reporter)
    assert reporter.decoded == 0


def test_a_folder_that_cannot_be_written_is_told(opened, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="can't be written: Not a directory"):
        opened(folder=tmp_path / "file" / "cache")


def test_no_image_is_an_error(opened):
    with pytest.raises(DataError, match="no image to decode"):
        opened(positions=[])


def test_what_a_killed_run_left_is_cleared_and_a_running_one_is_left_alone(opened, tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    left = folder / f"{TEMPORARY_MARK}0123456789abcdef.npy"
    left.touch()
    with writing(folder / "other.npy"):
        opened()
        assert not left.exists()
        assert len(list(folder.glob(f"{TEMPORARY_MARK}*"))) == 1


def test_a_cache_beside_the_images_is_not_data(opened, dataset, tmp_path):
    opened(folder=tmp_path / "raw" / "cache")
    assert find_image_files(tmp_path / "raw").skipped == []
    noted = json.loads(next((tmp_path / "raw" / "cache").glob("*.json")).read_text())
    assert noted["shape"] == [70, 32, 16, 3]


def test_the_cache_outlives_a_second_preparation(opened, dataset, tmp_path):
    opened()
    prepare(read_folders(tmp_path / "raw"), tmp_path / "out", reporter=SilentReporter(), workers=1)
    reporter = Noting()
    opened(reporter, dataset=load_dataset(tmp_path / "out"))
    assert reporter.decoded == 0


def test_the_cache_moves_with_the_data(opened, dataset, tmp_path):
    (tmp_path / "here").mkdir()
    for name in ("raw", "out"):
        (tmp_path / name).rename(tmp_path / "here" / name)
    opened(dataset=load_dataset(tmp_path / "here" / "out"), folder=tmp_path / "here" / "cache")
    (tmp_path / "here").rename(tmp_path / "there")
    reporter = Noting()
    opened(reporter, dataset=load_dataset(tmp_path / "there" / "out"), folder=tmp_path / "there" / "cache")
    assert (reporter.decoded, reporter.notes) == (0, [])
