from __future__ import annotations

import pytest

from sil_cli.data.readers.folders import read_folders
from sil_cli.errors import DataError


def tree(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def facts(reading):
    return [(record.split, record.identity, record.path) for record in reading.records]


def test_a_folder_is_an_identity(tmp_path):
    root = tree(tmp_path / "Shop 7", "Zoë/1.jpg", "Zoë/2.png", "bob/inner/3.jpg", "stray.jpg", "bob/notes.txt")
    reading = read_folders(root)
    assert reading.name == "shop-7"
    assert facts(reading) == [
        ("train", "Zoë", "Zoë/1.jpg"),
        ("train", "Zoë", "Zoë/2.png"),
        ("train", "bob", "bob/inner/3.jpg"),
    ]
    assert {skip.path: skip.reason for skip in reading.skipped} == {
        "bob/notes.txt": "not an image by its name",
        "stray.jpg": "not in an identity's folder",
    }
    assert reading.options == {"split": "train", "seed": 0}


def test_top_folders_may_be_splits(tmp_path):
    names = ["train/a/1.jpg", "query/b/2.jpg", "gallery/b/3.jpg", "extra/c/4.jpg", "train/5.jpg"]
    reading = read_folders(tree(tmp_path, *names), split="test")
    assert sorted(facts(reading)) == [
        ("gallery", "b", "gallery/b/3.jpg"),
        ("query", "b", "query/b/2.jpg"),
        ("train", "a", "train/a/1.jpg"),
    ]
    assert {skip.path: skip.reason for skip in reading.skipped} == {
        "extra/c/4.jpg": "outside the folders train, query and gallery",
        "train/5.jpg": "not in an identity's folder",
    }


def test_a_test_folder_is_divided_into_queries_and_gallery(tmp_path):
    reading = read_folders(tree(tmp_path, "Train/a/1.jpg", "Test/b/1.jpg", "Test/b/2.jpg", "Test/c/1.jpg"))
    assert sorted((split, identity) for split, identity, _ in facts(reading)) == [
        ("gallery", "b"),
        ("gallery", "c"),
        ("query", "b"),
        ("train", "a"),
    ]


def test_an_identity_may_be_called_train(tmp_path):
    reading = read_folders(tree(tmp_path, "train/1.jpg", "anna/1.jpg"), split="test")
    assert {identity for _, identity, _ in facts(reading)} == {"train", "anna"}


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="There is no folder"):
        read_folders(tmp_path / "missing")


def test_an_empty_folder_reads_as_nothing(tmp_path):
    assert read_folders(tmp_path).records == []
