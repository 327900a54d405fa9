from __future__ import annotations

import pytest

from sil_cli.data.readers.msmt17 import read_msmt17
from sil_cli.errors import DataError


def test_the_lists_say_who_is_who(build):
    reading = read_msmt17(build("msmt17"))
    assert (reading.name, reading.options) == ("msmt17-v1", {"version": 1})
    found = [(r.split, r.identity, r.camera, r.path) for r in reading.records]
    assert found[0] == ("train", "0000", "1", "train/0000/0000_000_01_0303morning_0015_0.jpg")
    assert ("train", "0002", "5", "train/0002/0002_007_05_0302noon_0095_0_ex.jpg") in found
    assert {(split, identity) for split, identity, _, _ in found if split == "train"} == {
        ("train", "0000"),
        ("train", "0001"),
        ("train", "0002"),
    }
    assert [split for split, _, _, path in found if "_009_" in path] == ["train", "train"]  # list_val
    assert {(split, identity) for split, identity, _, _ in found if split != "train"} == {
        (split, identity) for split in ("query", "gallery") for identity in ("0003", "0004")
    }
    assert {camera for split, _, camera, _ in found if split == "gallery"} == {"2", "15"}


def test_version_2_is_told_by_its_folders(build):
    reading = read_msmt17(build("msmt17_v2"))
    assert (reading.name, reading.options) == ("msmt17-v2", {"version": 2})
    assert {record.path.split("/")[0] for record in reading.records} == {"mask_train_v2", "mask_test_v2"}


def test_quirks_of_lists_do_no_harm_and_nonsense_is_named(build):
    root = build("msmt17")
    lines = (root / "list_query.txt").read_text().splitlines()
    lines[0] = lines[0].replace("/", "\\") + "  "
    extra = ["", "../secret/0000_000_01_x.jpg 0", "0000/0000_000_01_0303morning_0015_0.jpg", lines[1], "0000/x.jpg 7"]
    (root / "list_query.txt").write_bytes("\r\n".join(["\ufeff" + lines[0], *lines[1:], *extra]).encode())
    reading = read_msmt17(root)
    assert len([record for record in reading.records if record.split == "query"]) == 2
    reasons = {(skip.path, skip.reason.split(", ")[0]) for skip in reading.skipped}
    assert reasons == {
        ("test/../secret/0000_000_01_x.jpg", "not there"),
        ("list_query.txt", "line 5 is not like 0000/0000_000_01_0303morning_0015_0.jpg 0"),
        ("list_query.txt", "line 7 is not like 0000/0000_000_01_0303morning_0015_0.jpg 0"),
        ("test/0001/0001_000_01_0303morning_0015_0.jpg", "named twice"),
    }


def test_images_in_no_list_are_counted_and_missing_ones_named(build, make_image):
    root = build("msmt17")
    (root / "train/0001/0001_001_02_0303morning_0015_1.jpg").unlink()
    make_image(root / "test/0009/0009_000_01_0303morning_0015_0.jpg")
    skipped = {skip.path: skip.reason for skip in read_msmt17(root).skipped}
    assert skipped == {
        "train/0001/0001_001_02_0303morning_0015_1.jpg": "not there, but in list_train.txt",
        "test/*": "in no list (1 images)",
    }


def test_a_missing_list_or_folder_is_told(build):
    root = build("msmt17")
    (root / "list_val.txt").unlink()
    with pytest.raises(DataError, match=r"has no list_val\.txt\. It was unpacked in part"):
        read_msmt17(root)
    (root / "list_val.txt").write_text("")
    (root / "test").rename(root / "tests")
    with pytest.raises(DataError, match="neither train and test"):
        read_msmt17(root)


def test_lists_of_another_version_are_told(build):
    root = build("msmt17")
    for file in root.glob("list_*.txt"):
        file.write_text(file.read_text().replace("0303morning", "0303noon").replace("0302noon", "0303noon"))
    with pytest.raises(DataError, match="of different versions"):
        read_msmt17(root)


def test_a_list_that_is_no_text_is_told(build):
    root = build("msmt17")
    (root / "list_train.txt").write_bytes(b"\xff\xfe\x00bad\xff")
    with pytest.raises(DataError, match=r"list_train\.txt can't be read"):
        read_msmt17(root)
