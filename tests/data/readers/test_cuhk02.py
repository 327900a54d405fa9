from __future__ import annotations

import shutil
from collections import Counter

import pytest

from sil_cli.data.readers.cuhk02 import read_cuhk02
from sil_cli.errors import DataError


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
