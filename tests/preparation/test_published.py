from __future__ import annotations

import pytest

from sil_cli.data.manifest import ImageRecord
from sil_cli.data.readers import READERS
from sil_cli.preparation.published import PUBLISHED, ComparedCount, compare, publication


def records(split: str, images: int, identities: int, *, first: int = 0, distractors: int = 0, cameras: int = 6):
    return [
        ImageRecord(
            path=f"{split}/{number}.jpg",
            identity="0" if number < distractors else f"{first + number % identities + 1}",
            camera=f"{number % cameras}",
            split=split,
            domain="d",
            distractor=number < distractors,
        )
        for number in range(images)
    ]


def market(train: int = 12_936, gallery: int = 15_913, distractors: int = 2_798):
    return [
        *records("train", train, 751, first=1000),
        *records("query", 3_368, 750),
        *records("gallery", gallery, 750, distractors=distractors),
    ]


@pytest.fixture(scope="module")
def whole_market():
    return market()


def test_the_published_counts_agree_with_themselves(whole_market):
    found = compare("market1501", {}, whole_market)
    assert len(found) == 9
    assert all(each.found == each.expected and each.cause is None for each in found)


def test_junk_that_is_marked_is_not_counted(whole_market):
    junk = [
        record.model_copy(update={"junk": True, "path": f"{record.path}.junk"})
        for record in whole_market
        if record.split == "query"
    ]
    assert all(each.found == each.expected for each in compare("market1501", {}, [*whole_market, *junk]))


def differences(*args, **options) -> list[ComparedCount]:
    return [each for each in compare(*args, **options) if each.found != each.expected]


@pytest.mark.parametrize(
    ("found", "left_out", "cause"),
    [
        (market(gallery=19_732, distractors=6_617), 0, "the 3,819 junk images (identity -1) are counted"),
        (market(gallery=13_115, distractors=0), 0, "the 2,798 distractors (identity 0) are missing"),
        (market(train=12_930), 6, "images that were left out, which the list of them names"),
        (market(train=12_930), 5, "unpacked in part, or another edition of the data set"),
        (market(train=12_940), 0, "something else lies there too, or images are doubled"),
    ],
)
def test_a_difference_has_a_likely_cause(found, left_out, cause):
    (one,) = differences("market1501", {}, found, left_out=left_out)
    assert (one.what, one.cause) == ("images", cause)


def test_an_empty_split_is_told(whole_market):
    found = differences("market1501", {}, [record for record in whole_market if record.split != "query"])
    assert [(each.split, each.what, each.found) for each in found] == [
        ("query", "images", 0),
        ("query", "identities", 0),
        ("query", "cameras", 0),
    ]
    assert {each.cause for each in found} == {"nothing of it was found: a folder or list is empty"}


def test_train_without_val_is_told():
    found = differences("msmt17", {"version": 1}, records("train", 30_248, 1_041, cameras=15))
    assert found[0].cause == "list_val.txt is empty: the field trains on list_train and list_val"


def test_labelled_crops_under_the_name_of_detected_ones_are_told():
    options = {"labelled": False, "partition": None}
    found = [
        *records("train", 7_368, 767, first=1000),
        *records("query", 1_400, 700),
        *records("gallery", 5_328, 700),
    ]
    assert [each.cause for each in differences("cuhk03", options, found)] == [
        "that is the count of the labelled crops by the new protocol"
    ] * 2
    assert not differences("cuhk03", {"labelled": True, "partition": None}, found)


def test_classic_splits_have_counts_of_their_own():
    found = publication("cuhk03", {"labelled": True, "partition": 3})
    assert found is not None
    assert [identities for _, identities, _ in found.expected.values()] == [1_367, 100, 100]


def test_nothing_is_compared_where_nothing_was_published():
    assert compare("folders", {"split": "train"}, records("train", 3, 1)) == []


def test_every_published_set_has_its_counts_and_adds_up():
    known = {name for name, reader in READERS.items() if reader.layout} - {"motchallenge"}  # a format of many sets
    assert {each.reader for each in PUBLISHED} == known
    for each in PUBLISHED:
        assert each.source
        splits = dict(each.expected)
        together, *_ = splits.pop("all", (None, None, None))
        parts = [images for images, _, _ in splits.values()]
        if together and parts and None not in parts:
            assert sum(parts) == together
