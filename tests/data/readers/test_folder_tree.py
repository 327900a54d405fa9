from __future__ import annotations

import pytest

from sil_cli.data.readers.folder_tree import is_camera, split_of
from sil_cli.data.readers.own_images import read_folders
from sil_cli.data.readers.recognise import recognise
from sil_cli.errors import DataError


def read(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return read_folders(root)


def facts(reading):
    return sorted((record.split, record.identity, record.camera) for record in reading.records)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *dict.fromkeys(
            ["train", "TRAIN", "image_train", "TrainSet", "training images", "bounding_box_train"], "train"
        ).items(),
        *dict.fromkeys(["query", "image_query", "probe", "test_query", "QuerySet"], "query").items(),
        *dict.fromkeys(["gallery", "test-gallery", "bounding_box_test"], "gallery").items(),
        *dict.fromkeys(["test", "image_test", "bbox_test", "testset"], "test").items(),
        *dict.fromkeys(
            ["anna", "train_all", "multi-query", "traina", "test person 2", "", "é train", "query gallery"]
        ).items(),
    ],
)
def test_splits_by_what_folders_are_called(name, split):
    assert split_of(name) == split


@pytest.mark.parametrize(
    ("name", "camera"),
    [
        *dict.fromkeys(
            ["cam1", "c1", "C01", "camera_02", "Camera 3", "CCTV-4", "cam_a", "front-cam", "c1s2"], True
        ).items(),
        *dict.fromkeys(["cameron", "camila", "carla", "c", "1", "0001", "cc1", "scene1"], False).items(),
    ],
)
def test_cameras_by_what_folders_are_called(name, camera):
    assert is_camera(name) is camera


@pytest.mark.parametrize(
    ("train", "query", "gallery"),
    [
        ("train", "query", "gallery"),
        ("TRAIN", "Query", "GALLERY"),
        ("image_train", "image_query", "image_test"),
        ("train", "probe", "test"),
        ("trainset", "test/query", "test/gallery"),
        ("sets/mine/train", "sets/mine/query", "sets/mine/gallery"),
        ("bbox_train", "query", "bbox_test"),
    ],
)
def test_images_directly_in_splits_are_read_by_their_names_or_refused(tmp_path, train, query, gallery):
    named = ["0001_c001_01.jpg", "0002_c1s1_000451_03.jpg", "p2-cam3.jpg"]
    paths = [f"{folder}/{name}" for folder, name in zip((train, query, gallery), named, strict=True)]
    reading = read(tmp_path / "named", paths)
    assert facts(reading) == [("gallery", "p2", "3"), ("query", "0002", "1"), ("train", "0001", "001")]
    assert reading.skipped == []
    assert "read as IDENTITY_cCAMERA" in reading.warnings[0]
    for odd in ("a.jpg", "IMG_2041.jpg", "anna 1.jpg", "0001.jpg"):
        with pytest.raises(DataError, match=r"that is a split .*, not a person, and names such as") as caught:
            read(tmp_path / odd, [f"{folder}/{odd}" for folder in (train, query, gallery)])
        assert "sil prepare-data regex" in caught.value.fix
    recognised = recognise(tmp_path / "named") if "test/" not in query else None
    assert recognised is None or recognised.reader == "folders"


def test_folders_of_people_below_any_spelling_of_the_splits(tmp_path):
    people = ["image_train/a/1.jpg", "image_query/b/1.jpg", "image_test/b/2.jpg", "val/c/1.jpg"]
    reading = read(tmp_path / "x", [f"mine/{path}" for path in people])
    assert facts(reading) == [("gallery", "b", None), ("query", "b", None), ("train", "a", None)]
    assert [skip.reason for skip in reading.skipped] == ["outside the folders train, query and gallery"]
    assert recognise(tmp_path / "x").root == tmp_path / "x" / "mine"


def test_junk_and_distractors_keep_market_s_meaning_where_images_lie_in_the_splits(tmp_path):
    names = ["query/0007_c1_1.jpg", "gallery/0007_c2_1.jpg", "gallery/-1_c2_1.jpg", "gallery/0000_c2_1.jpg"]
    reading = read(tmp_path, [*names, *(f"gallery/000{n}_c3_1.jpg" for n in range(1, 9)), "gallery/odd.jpg"])
    assert {skip.path: skip.reason for skip in reading.skipped} == {
        "gallery/-1_c2_1.jpg": "junk by its name",
        "gallery/odd.jpg": "not named like 0002_c1_000451.jpg",
    }
    assert [record.identity for record in reading.records if record.distractor] == ["0000"]


def test_a_query_folder_of_files_beside_folders_of_people_is_not_lost(tmp_path):
    reading = read(tmp_path / "x", ["train/0001/a.jpg", "query/0002_c1.jpg", "gallery/0002_c2.jpg"])
    assert facts(reading) == [("gallery", "0002", "2"), ("query", "0002", "1"), ("train", "0001", None)]
    with pytest.raises(DataError, match="images directly in query"):
        read(tmp_path / "y", ["train/a/1.jpg", "query/x.jpg", "gallery/b/1.jpg"])


def test_several_sets_or_divided_people_are_refused(tmp_path):
    for name, tops in (("sets", ("one", "two")), ("people", ("0001", "0002", "0003"))):
        with pytest.raises(DataError, match=f"has gallery, query inside of {tops[0]}, {tops[1]}"):
            read(tmp_path / name, [f"{top}/{split}/1.jpg" for top in tops for split in ("query", "gallery")])


@pytest.mark.parametrize(
    ("one", "two"), [("cam1", "cam2"), ("c1", "c2"), ("camera_01", "camera_02"), ("CCTV-1", "CCTV-2")]
)
def test_folders_of_cameras_are_no_people(tmp_path, one, two):
    expected = [("train", "anna", one), ("train", "anna", two), ("train", "bob", two)]
    outside = read(tmp_path / "x", [f"{one}/anna/1.jpg", f"{two}/anna/1.jpg", f"{two}/bob/1.jpg"])
    inside = read(tmp_path / "y", [f"anna/{one}/1.jpg", f"anna/{two}/1.jpg", f"bob/{two}/1.jpg"])
    for reading in (outside, inside):
        assert facts(reading) == expected
        assert reading.warnings == [
            f"{one}, {two} are taken for cameras: 2 cameras, 2 people, 1 of them seen by several."
        ]
    below = read(tmp_path / "z", [f"query/{one}/anna/1.jpg", f"gallery/{two}/anna/1.jpg"])
    assert facts(below) == [("gallery", "anna", two), ("query", "anna", one)]
    with pytest.raises(DataError, match=f"{one}, {two} are named as cameras are, and no folder"):
        read(tmp_path / "files", [f"{one}/1.jpg", f"{two}/2.jpg"])


def test_names_say_the_camera_where_all_of_them_do(tmp_path):
    names = ["anna/c1_01.jpg", "anna/c2_01.jpg", "bob/c2_02.jpg", "bob/c1_09.jpg"]
    reading = read(tmp_path / "x", names)
    assert facts(reading) == [
        ("train", "anna", "1"),
        ("train", "anna", "2"),
        ("train", "bob", "1"),
        ("train", "bob", "2"),
    ]
    assert reading.warnings == ["cameras are read from the names: c1_01.jpg is camera 1 (2 cameras)."]
    numbered = read(tmp_path / "y", ["anna/c1_.jpg", "anna/c2_.jpg", "bob/c3_.jpg"])  # a number of its own each
    partly = read(tmp_path / "z", [*names, "bob/other.jpg"])
    for reading in (numbered, partly):
        assert {record.camera for record in reading.records} == {None}
        assert reading.warnings == []
