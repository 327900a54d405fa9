from __future__ import annotations

import pytest

from sil_cli.data.manifest import Skipped
from sil_cli.data.readers.market1501 import read_market1501
from sil_cli.errors import DataError

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


def test_the_name_can_be_chosen(market):
    reading = read_market1501(market, name="square")
    assert {reading.name} == {record.domain for record in reading.records} == {"square"}


def test_one_folder_too_high_or_too_deep_is_told(market):
    for wrong in (market.parent, market / "query"):
        with pytest.raises(DataError) as caught:
            read_market1501(wrong)
        assert str(market) in caught.value.fix


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
