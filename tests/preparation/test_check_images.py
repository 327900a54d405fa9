from __future__ import annotations

import os
import shutil
import threading
import time

import pytest
from PIL import Image

from sil_cli.data.manifest import INFO_FILE, MANIFEST_FILE, ImageRecord, Skipped, load_dataset
from sil_cli.data.readers import READERS
from sil_cli.data.readers.own_images import read_folders
from sil_cli.data.reading import Reading
from sil_cli.errors import DataError
from sil_cli.preparation import check_images as prepare_module
from sil_cli.preparation.check_images import prepare, warnings_of
from sil_cli.runtime import SilentReporter


class Noting(SilentReporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.done = 0

    def advance(self, count: int = 1, **facts: float | str) -> None:
        del facts
        self.done += count

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def record(path: str = "a/1.jpg", identity: str = "a", split: str = "train", **fields) -> ImageRecord:
    return ImageRecord(path=path, identity=identity, split=split, domain="d", **fields)


@pytest.fixture
def raw(tmp_path, make_image):
    root = tmp_path / "raw"
    for person in ("anna", "bob"):
        for number in range(40):
            make_image(root / person / f"{number:02d}.jpg")
    return root


def test_what_cannot_be_used_is_named_and_the_rest_kept_in_order(raw, tmp_path, make_image):
    (raw / "anna" / "05.jpg").write_text("no picture")
    cut = raw / "anna" / "07.jpg"
    cut.write_bytes(cut.read_bytes()[:400])
    make_image(raw / "bob" / "00.jpg", size=(1, 1))
    reading = read_folders(raw)
    reporter = Noting()
    dataset = prepare(reading, tmp_path / "out", reporter=reporter, workers=3)
    skipped = {skip.path: skip.reason for skip in dataset.info.skipped}
    assert skipped == {
        "anna/05.jpg": "not an image",
        "anna/07.jpg": "cut short",
        "bob/00.jpg": "1×1 pixels, too small to show a person",
    }
    assert [r.path for r in dataset.records] == [r.path for r in reading.records if r.path not in skipped]
    assert reporter.done == 80
    loaded = load_dataset(tmp_path / "out")
    assert loaded.records == dataset.records
    assert loaded.root == raw
    assert (loaded.info.reader, loaded.info.reader_version) == ("folders", 2)


def test_same_input_same_bytes_whatever_the_workers_and_again_in_place(raw, tmp_path):
    written = []
    for out, workers in ((tmp_path / "one", 1), (tmp_path / "four", 4), (raw, 2), (raw, 2)):
        prepare(read_folders(raw), out, reporter=SilentReporter(), workers=workers)
        written.append((out / MANIFEST_FILE).read_bytes())
        assert load_dataset(out).info.skipped == []
    assert len(set(written)) == 1


@pytest.mark.filterwarnings("default:Corrupt EXIF data")
def test_odd_tags_make_no_noise(tmp_path, make_image, recwarn):
    make_image(tmp_path / "raw" / "a" / "1.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    dataset = prepare(read_folders(tmp_path / "raw"), tmp_path / "out", reporter=SilentReporter(), workers=1)
    assert len(dataset.records) == 1
    assert not recwarn.list


def test_boxes_and_the_limit_of_pixels_are_applied(tmp_path, make_image):
    make_image(tmp_path / "x.png", size=(64, 64))
    make_image(tmp_path / "y.png", size=(65, 64))
    records = [record("x.png", box=(0, 0, 32, 32)), record("x.png", box=(60, 0, 32, 32)), record("y.png")]
    reading = Reading("d", "test", tmp_path, records)
    dataset = prepare(reading, tmp_path / "out", reporter=SilentReporter(), workers=1, max_pixels=64 * 64)
    assert [r.box for r in dataset.records] == [(0, 0, 32, 32)]
    assert [skip.path for skip in dataset.info.skipped] == ["x.png", "y.png"]


def test_nothing_left_is_an_error_that_says_why(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="There are no images in"):
        prepare(read_folders(tmp_path), tmp_path / "out", reporter=SilentReporter(), workers=1)
    (tmp_path / "a" / "1.jpg").write_text("no picture")
    with pytest.raises(DataError, match=r"1 left out, such as a/1\.jpg \(not an image\)"):
        prepare(read_folders(tmp_path), tmp_path / "out", reporter=SilentReporter(), workers=1)
    assert not (tmp_path / "out" / INFO_FILE).exists()


def test_an_image_twice_is_refused(tmp_path):
    reading = Reading("d", "test", tmp_path, [record(), record()])
    with pytest.raises(DataError, match=r"a/1\.jpg twice"):
        prepare(reading, tmp_path / "out", reporter=SilentReporter(), workers=1)


def test_a_folder_that_cannot_be_written_is_told_before_the_work(raw, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    reporter = Noting()
    with pytest.raises(DataError, match=r"file/out can't be written: Not a directory\. .*--out"):
        prepare(read_folders(raw), tmp_path / "file" / "out", reporter=reporter, workers=1)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(DataError, match="can't be written: Permission denied"):
        prepare(read_folders(raw), tmp_path / "out", reporter=reporter, workers=1)
    assert reporter.done == 0


def test_a_full_disk_is_told(raw, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepare_module, "write_dataset", full)
    with pytest.raises(DataError, match="can't be written: No space left on device"):
        prepare(read_folders(raw), tmp_path / "out", reporter=SilentReporter(), workers=1)


def test_ctrl_c_ends_promptly_and_writes_nothing(raw, tmp_path, monkeypatch):
    opened = []

    def slow(path, **_):
        opened.append(path)
        time.sleep(0.005)
        return Image.new("RGB", (8, 8))

    class Interrupting(SilentReporter):
        def advance(self, count: int = 1, **facts: float | str) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(prepare_module, "load_image", slow)
    records = [record(f"{number}.jpg") for number in range(2000)]
    with pytest.raises(KeyboardInterrupt):
        prepare(Reading("d", "t", raw, records), tmp_path / "out", reporter=Interrupting(), workers=2)
    assert len(opened) < 150
    assert not list((tmp_path / "out").iterdir())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sil-images")]


def test_doubts_about_the_data_are_spoken():
    fine = [
        record("1", "a", camera="1"),
        record("2", "b", "query", camera="1"),
        record("3", "b", "gallery", camera="2"),
        record("4", "0", "gallery", camera="2", distractor=True),
    ]
    assert warnings_of(fine) == []
    cases = {
        "no camera is known": [record()],
        "no gallery to search": [fine[1]],
        "a gallery but no query": [fine[2]],
        "1 of 2 query identities are not in the gallery": [*fine, record("5", "c", "query", camera="1")],
        "1 identities are both trained on and tested": [*fine, record("5", "b", camera="1")],
        "2 file names differ only in case": [record("A.jpg", camera="1"), record("a.jpg", camera="1")],
    }
    for expected, records in cases.items():
        (doubt,) = warnings_of(records)
        assert expected in doubt


def test_doubts_reach_the_reporter(raw, tmp_path):
    reporter = Noting()
    prepare(read_folders(raw, name="mine"), tmp_path / "out", reporter=reporter, workers=1)
    assert [warning.split(",")[0] for warning in reporter.warnings] == ["mine: no camera is known"]


def test_what_the_reader_left_out_stays_left_out(tmp_path, make_image):
    make_image(tmp_path / "x.png")
    reading = Reading("d", "t", tmp_path, [record("x.png")], [Skipped(path="z", reason="junk")])
    dataset = prepare(reading, tmp_path / "out", reporter=SilentReporter(), workers=1)
    assert dataset.info.skipped == [Skipped(path="z", reason="junk")]


def test_every_reader_is_described_on_one_line():
    assert {"market1501", "folders", "regex", "csv"} < set(READERS)
    for reader in READERS.values():
        assert 20 < len(reader.description) < 100
        assert "\n" not in reader.description


def test_queries_whose_file_lies_in_the_gallery_too_are_said(tmp_path, make_image):
    for path in ("query/a/1.jpg", "query/b/2.jpg", "gallery/a/3.jpg", "gallery/b/4.jpg"):
        make_image(tmp_path / "raw" / path)
    assert "copy" not in " ".join(prepared(tmp_path).warnings)
    shutil.copy(tmp_path / "raw/query/a/1.jpg", tmp_path / "raw/gallery/a/again.jpg")
    told = "1 queries have a copy in the gallery (query/a/1.jpg is gallery/a/again.jpg)"
    assert told in " ".join(prepared(tmp_path).warnings)


def test_copies_that_evaluation_ignores_are_no_trouble(tmp_path, make_image):
    for path in (
        "query/a/c1_1",
        "query/b/c2_2",
        "gallery/a/c1_3",
        "gallery/a/c2_4",
        "gallery/b/c1_5",
        "gallery/b/c2_6",
    ):
        make_image(tmp_path / "raw" / f"{path}.jpg")
    shutil.copy(tmp_path / "raw/query/a/c1_1.jpg", tmp_path / "raw/gallery/a/c1_9.jpg")
    assert "copy" not in " ".join(prepared(tmp_path).warnings)
    shutil.copy(tmp_path / "raw/query/a/c1_1.jpg", tmp_path / "raw/gallery/a/c2_9.jpg")
    assert "1 queries have a copy" in " ".join(prepared(tmp_path).warnings)


def prepared(tmp_path):
    reporter = Noting()
    prepare(read_folders(tmp_path / "raw"), tmp_path / "out", reporter=reporter, workers=1)
    return reporter
