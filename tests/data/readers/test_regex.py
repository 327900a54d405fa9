from __future__ import annotations

import pytest

from sil_cli.data.readers.regex import read_regex
from sil_cli.errors import UsageError


def tree(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_named_groups_become_fields(tmp_path):
    root = tree(
        tmp_path,
        "bounding_box_train/0002_c1s1_000451_03.jpg",
        "query/0005_c2.jpg",
        "val/0006_c3.jpg",
        "query/nobody.jpg",
        "query/x.txt",
    )
    pattern = r"^(?P<split>\w+)/(?P<identity>\d+)_c(?P<camera>\d+)(s\d_(?P<frame>\d+)_\d+)?"
    reading = read_regex(root, pattern=pattern, name="mine")
    found = [(r.path, r.identity, r.camera, r.split, r.frame, r.domain) for r in reading.records]
    assert found == [
        ("bounding_box_train/0002_c1s1_000451_03.jpg", "0002", "1", "train", 451, "mine"),
        ("query/0005_c2.jpg", "0005", "2", "query", None, "mine"),
    ]
    reasons = {skip.path: skip.reason for skip in reading.skipped}
    assert reasons["query/nobody.jpg"] == "the pattern doesn't match"
    assert reasons["query/x.txt"] == "not an image by its name"
    assert reasons["val/0006_c3.jpg"].startswith("split 'val' is none of train, ")
    assert reading.options["pattern"] == pattern


def test_only_the_identity_is_needed(tmp_path):
    root = tree(tmp_path, "7-1.jpg", "7-2.jpg", "8-1.jpg")
    reading = read_regex(root, pattern=r"(?P<identity>\d+)-", split="test")
    assert [(r.identity, r.camera, r.split) for r in reading.records] == [
        ("7", None, "query"),
        ("7", None, "gallery"),
        ("8", None, "gallery"),
    ]


def test_a_match_that_says_too_little_is_named(tmp_path):
    root = tree(tmp_path, "_c1.jpg", "7_f.jpg")
    reading = read_regex(root, pattern=r"(?P<identity>\d*)_(?P<frame>f|c1)")
    assert {skip.path: skip.reason for skip in reading.skipped} == {
        "_c1.jpg": "the pattern finds no identity",
        "7_f.jpg": "frame 'f' is not a whole number",
    }


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"(?P<identity>\d+", "not a regular expression"),
        (r"(\d+)_c", "no group"),
        (r"(?P<identity>\d+)_c(?P<cam>\d)", "unknown group 'cam'. Did you mean 'camera'"),
    ],
)
def test_a_wrong_pattern_is_refused(tmp_path, pattern, message):
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        read_regex(tmp_path, pattern=pattern)
