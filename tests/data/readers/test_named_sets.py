"""Market-1501, DukeMTMC-reID, CUHK02, RandPerson and ClonedPerson: all facts in the names."""

from __future__ import annotations

import shutil
from collections import Counter

import pytest

from sil_cli.data.manifest import Skipped
from sil_cli.data.readers.named_sets import (
    read_clonedperson,
    read_cuhk02,
    read_dukemtmc,
    read_market1501,
    read_randperson,
)
from sil_cli.errors import DataError
from sil_cli.preparation.check_images import warnings_of

FILES = (
    "bounding_box_train/0002_c1s1_000451_03.jpg",
    "bounding_box_train/0002_c3s2_014562_01.jpg",
    "bounding_box_train/0007_c2s3_070952_02.jpg",
    "bounding_box_train/Thumbs.db",
    "query/0001_c1s1_001051_00.jpg",
    "bounding_box_test/-1_c1s1_000401_03.jpg",
    "bounding_box_test/-1_c3s1_000551_05.jpg",
    "bounding_box_test/0000_c1s1_000151_01.jpg",
    "bounding_box_test/0001_c6s1_011741_02.jpg",
    "gt_bbox/0001_c1s1_001051_00.jpg",
    "readme.txt",
)


@pytest.fixture
def market(tmp_path):
    root = tmp_path / "Market-1501-v15.09.15"
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_names_are_taken_apart(market):
    reading = read_market1501(market)
    assert (reading.name, reading.reader, reading.root) == ("market1501", "market1501", market)
    found = [(r.split, r.identity, r.camera, r.frame, r.distractor, r.junk) for r in reading.records]
    assert found == [
        ("train", "0002", "1", 451, False, False),
        ("train", "0002", "3", 14562, False, False),
        ("train", "0007", "2", 70952, False, False),
        ("query", "0001", "1", 1051, False, False),
        ("gallery", "0000", "1", 151, True, False),
        ("gallery", "0001", "6", 11741, False, False),
    ]
    assert reading.records[0].path == FILES[0]
    assert {record.domain for record in reading.records} == {"market1501"}


def test_junk_is_one_line_that_counts(market):
    skipped = read_market1501(market).skipped
    assert skipped == [Skipped(path="bounding_box_test/-1_*", reason="junk by its name (2 images)")]


def test_strange_files_are_named(market):
    (market / "query" / "portrait.jpg").touch()
    (market / "query" / "0000_c1s1_000151_01.jpg").touch()
    (market / "query" / "notes.txt").touch()
    reasons = {skip.path: skip.reason for skip in read_market1501(market).skipped}
    assert reasons["query/portrait.jpg"] == "not named like 0002_c1s1_000451_03.jpg"
    assert reasons["query/0000_c1s1_000151_01.jpg"] == "identity 0 (a distractor) outside the gallery"
    assert reasons["query/notes.txt"] == "not an image by its name"


def test_a_missing_folder_is_told(market, tmp_path):
    (market / "query" / "0001_c1s1_001051_00.jpg").unlink()
    (market / "query").rmdir()
    with pytest.raises(DataError, match=r"has no query\. .*in part"):
        read_market1501(market)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="Give the folder that holds bounding_box_train"):
        read_market1501(empty)
    (empty / "Market-1501-v15.09.15.zip").touch()
    with pytest.raises(DataError, match=r"Unpack Market-1501-v15\.09\.15\.zip first"):
        read_market1501(empty)


def test_duke_names_are_taken_apart_and_its_strangers_are_people(build):
    reading = read_dukemtmc(build("dukemtmc"))
    first = reading.records[0]
    assert (first.identity, first.camera, first.frame, first.split) == ("0001", "2", 46982, "train")
    stranger = next(record for record in reading.records if record.identity == "7139")
    assert (stranger.split, stranger.distractor) == ("gallery", False)


def test_rendered_people_have_a_camera_a_scene_and_are_marked_as_generated(build):
    reading = read_randperson(build("randperson"))
    first = reading.records[0]
    assert (first.identity, first.camera, first.frame) == ("000000", "s00-c00", 260)
    assert {record.camera for record in reading.records} == {"s00-c00", "s00-c01", "s10-c00", "s10-c01"}
    assert {record.split for record in reading.records} == {"train"}
    assert reading.generated
    assert reading.options == {"subset": True}


def test_all_scenes_of_randperson(build):
    reading = read_randperson(build("randperson_scenes"))
    assert reading.options == {"subset": False}
    assert reading.records[0].path == "scene00/camera0_1/000000_s00_c00_f000260.jpg"
    assert len(reading.records) == 8


def test_clonedperson_has_a_test(build):
    reading = read_clonedperson(build("clonedperson"))
    assert {record.split: record.path.rpartition("/")[0] for record in reading.records} == {
        "train": "train",
        "query": "test/query",
        "gallery": "test/gallery",
    }
    assert reading.generated


def test_names_that_differ_in_case_are_both_read_and_doubted(build, make_image):
    root = build("market1501")
    before = len(read_market1501(root).records)
    make_image(root / "bounding_box_train" / "0002_c1s1_001451_01.JPG")
    records = read_market1501(root).records
    assert len(records) == before + 1
    assert any("differ only in case" in doubt for doubt in warnings_of(records))


def test_pairs_have_people_and_cameras_of_their_own(build):
    reading = read_cuhk02(build("cuhk02"))
    assert Counter(record.split for record in reading.records) == {"train": 28, "query": 4, "gallery": 4}
    assert len({record.identity for record in reading.records}) == 9
    assert len({record.camera for record in reading.records}) == 10
    first = reading.records[0]
    assert (first.path, first.identity, first.camera) == ("Dataset/P1/cam1/001_1.png", "P1-0001", "P1-cam1")
    assert {record.camera for record in reading.records if record.split == "query"} == {"P5-cam1"}


def test_the_pairs_may_lie_right_there(build):
    root = build("cuhk02")
    for pair in sorted((root / "Dataset").iterdir()):
        pair.rename(root / pair.name)
    (root / "Dataset").rmdir()
    assert read_cuhk02(root).records[0].path == "P1/cam1/001_1.png"


def test_a_missing_pair_is_told(build):
    root = build("cuhk02")
    shutil.rmtree(root / "Dataset" / "P4" / "cam2")
    with pytest.raises(DataError, match="Give the folder that holds Dataset/P1 to Dataset/P5"):
        read_cuhk02(root)
