from __future__ import annotations

import io
from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from sil_cli.data import duplicates as duplicates_module
from sil_cli.data.duplicates import Duplicate, doubts_of, equal_rows, find_duplicates, similar_pairs
from sil_cli.data.manifest import ImageRecord
from sil_cli.data.measuring import look_at


def record(path="a", identity="1", camera="c1", split="train", domain="x", **rest):
    return ImageRecord(path=path, identity=identity, camera=camera, split=split, domain=domain, **rest)


def picture(seed: int) -> Image.Image:
    """Soft blotches: something that survives being stored with loss, as photographs do."""
    noise = np.random.default_rng(seed).integers(0, 256, (10, 5, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((64, 128), Image.Resampling.BICUBIC)


def stored_again(image: Image.Image, **options) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, format="JPEG", **options)
    return Image.open(stream).convert("RGB")


def found_in(records, pictures):
    looks = [look_at(each) for each in pictures]
    return find_duplicates(
        records,
        np.array([list(each.digest) for each in looks], dtype=np.uint8),
        np.array([each.dhash for each in looks], dtype=np.uint64),
        np.array([each.thumbnail for each in looks]),
    )


@pytest.mark.parametrize("far", [0, 1, 3, 4, 7])
def test_similar_pairs_are_those_that_comparing_all_with_all_finds(far):
    rng = np.random.default_rng(far)
    base = rng.integers(0, 2**64, 30, dtype=np.uint64)
    hashes = np.concatenate([base, base, np.zeros(20, np.uint64)])
    for row in range(len(hashes)):
        for bit in rng.choice(64, rng.integers(0, 6), replace=False):
            hashes[row] ^= np.uint64(1) << np.uint64(bit)
    thumbnails = rng.integers(100, 112, (80, 16, 8, 3), dtype=np.uint8)
    thumbnails[::9] += 90
    expected = [
        (one, other)
        for one, other in combinations(range(80), 2)
        if bin(int(hashes[one]) ^ int(hashes[other])).count("1") <= far
        and np.abs(thumbnails[one].astype(int) - thumbnails[other].astype(int)).mean() <= 6.0
        and np.abs(thumbnails[one].astype(int) - thumbnails[other].astype(int)).max() <= 30.0
    ]
    assert similar_pairs(hashes, thumbnails, far=far, unlike=6.0) == expected
    assert expected


def test_no_picture_and_one_picture_have_no_pairs():
    for count in (0, 1):
        assert similar_pairs(np.zeros(count, np.uint64), np.zeros((count, 16, 8, 3), np.uint8)) == []
    assert equal_rows(np.zeros((0, 16), np.uint8)) == []


def test_equal_rows_are_grouped():
    rows = np.array([[1, 2], [3, 4], [1, 2], [3, 5], [1, 2]], dtype=np.uint8)
    assert equal_rows(rows) == [[0, 2, 4], [1], [3]]


def test_copies_and_pictures_stored_again_are_found_and_others_are_not():
    originals = [picture(seed) for seed in range(60)]
    pictures = [
        *originals,
        originals[3].copy(),
        stored_again(originals[7], quality=60),
        originals[11].resize((48, 96), Image.Resampling.BILINEAR),
        stored_again(originals[3].filter(ImageFilter.GaussianBlur(0.7)), quality=80),
    ]
    records = [record(path=f"{number}.png") for number in range(len(pictures))]
    found, complete = found_in(records, pictures)
    assert complete
    assert found == [
        Duplicate("exact", (3, 60), ()),
        Duplicate("near", (3, 60, 63), ()),
        Duplicate("near", (7, 61), ()),
        Duplicate("near", (11, 62), ()),
    ]


@pytest.mark.parametrize(
    ("one", "other", "doubts"),
    [
        ({}, {}, ()),
        ({}, {"split": "gallery"}, ("train-test",)),
        ({}, {"split": "query", "identity": "2", "camera": "c2"}, ("train-test", "identities", "cameras")),
        ({"split": "query"}, {"split": "gallery"}, ()),  # evaluation ignores its own camera's image of the person
        ({"split": "query", "camera": None}, {"split": "gallery", "camera": None}, ("query-gallery",)),
        ({"split": "query"}, {"split": "gallery", "camera": None}, ("cameras", "query-gallery")),
        ({"split": "query"}, {"split": "gallery", "identity": "2"}, ("identities", "query-gallery")),
        ({"split": "query"}, {"split": "gallery", "camera": "c2", "junk": True}, ()),
        ({"split": "query", "junk": True}, {"split": "gallery", "camera": "c2"}, ()),
        ({"split": "query"}, {"split": "gallery", "camera": "c2"}, ("cameras", "query-gallery")),
        ({"identity": "2"}, {}, ("identities",)),
        ({"identity": "0", "distractor": True, "split": "gallery"}, {"split": "gallery"}, ()),
        ({"camera": None}, {"camera": None}, ()),
        ({"domain": "y", "identity": "9"}, {"split": "query"}, ("data-sets",)),
    ],
)
def test_doubts(one, other, doubts):
    assert doubts_of([record(**one), record(**other)]) == doubts


def test_those_with_doubts_come_first():
    same = picture(1)
    found, _ = found_in([record(), record(), record(), record(split="query")], [picture(0), picture(0), same, same])
    assert [duplicate.members for duplicate in found] == [(2, 3), (0, 1)]


def test_the_search_ends_where_everything_is_alike(monkeypatch):
    monkeypatch.setattr(duplicates_module, "MOST_PAIRS", 100)
    pictures = [Image.new("RGB", (64, 128), (value, 100, 100)) for value in range(100, 130)]
    found, complete = found_in([record() for _ in pictures], pictures)
    assert not complete
    assert len(found) == 100
