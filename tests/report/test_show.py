from __future__ import annotations

import shutil
from collections import Counter

import numpy as np
import pytest
from commands import sil
from PIL import Image

from sil_cli.report.identity_sheet import seen_by_most

HEADER = "path,identity,camera,split\n"


def picture(seed: int, size=(40, 80)) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (10, 5, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def prepared(empty):
    """Prepare a CSV data set: (file, identity, camera, split, seed of its picture)."""

    def make(name: str, rows) -> None:
        root = empty / f"raw-{name}"
        root.mkdir()
        for file, _, _, _, seed in rows:
            picture(seed).save(root / file)
        lines = [f"{file},{identity},{camera},{split}\n" for file, identity, camera, split, _ in rows]
        (root / "list.csv").write_text(HEADER + "".join(lines))
        outcome = sil("prepare-data", "csv", root / "list.csv", "--name", name)
        assert outcome.code == 0, outcome.err

    return make


ROWS = [
    *[(f"t{p}{c}.png", f"t{p}", f"c{c}", "train", 10 * p + c) for p in range(3) for c in (1, 2, 10)],
    *[(f"q{p}.png", f"p{p}", "c1", "query", 100 + p) for p in range(2)],
    *[(f"g{p}{c}.png", f"p{p}", f"c{c}", "gallery", 200 + 10 * p + c) for p in range(2) for c in (2, 10)],
]


def test_the_report_counts_what_is_there(prepared):
    prepared("one", ROWS)
    outcome = sil("show", "data/one", "--json")
    assert outcome.code == 0, outcome.err
    (dataset,) = outcome.document["datasets"]
    assert dataset["splits"]["train"] == {"images": 9, "identities": 3, "cameras": 3}
    assert (dataset["images"], dataset["opened"], dataset["sampled"]) == (15, 15, False)
    assert dataset["width"] == dict.fromkeys(("min", "q05", "median", "q95", "max", "mean"), 40.0)
    assert dataset["aspect"]["median"] == 2.0
    assert dataset["images_per_identity"]["gallery"]["max"] == 2.0
    assert dataset["cameras_per_identity"]["train"]["min"] == 3.0
    assert [(each["camera"], each["images"], each["identities"]) for each in dataset["cameras"]] == [
        ("c1", 5, 5),
        ("c2", 5, 5),
        ("c10", 5, 5),
    ]
    assert dataset["camera_gap"]["names"] == ["c1", "c2", "c10"]
    assert dataset["unreadable"] == []
    duplicates = outcome.document["duplicates"]
    assert (duplicates["exact"], duplicates["near"], duplicates["doubtful"]) == (0, 0, [])
    assert outcome.document["domain_gap"] is None
    with Image.open(outcome.document["sheet"]) as sheet, Image.open(outcome.document["chart"]) as chart:
        assert (sheet.format, chart.format) == ("JPEG", "PNG")


def test_brightness_and_colour_are_those_of_the_cameras_pictures(prepared, empty):
    prepared("one", ROWS[:3])
    Image.new("RGB", (40, 80), (200, 100, 0)).save(empty / "raw-one" / "t010.png")
    camera = sil("show", "data/one", "--json").document["datasets"][0]["cameras"][2]
    assert camera["colour"] == [200.0, 100.0, 0.0]
    assert camera["brightness"] == pytest.approx(0.299 * 200 + 0.587 * 100, abs=0.01)
    assert camera["contrast"] == camera["brightness_spread"] == 0.0


def test_leaks_and_wrong_labels_are_warned_of(prepared):
    planted = [("leak.png", "p0", "c2", "gallery", 12), ("twin.png", "t9", "c1", "train", 22)]
    prepared("one", [*ROWS, *planted])
    outcome = sil("show", "data/one")
    assert "1 × in training and in the test" in outcome.error
    assert "1 × one image under two cameras" in outcome.error
    assert "2 × one image under two identities" in outcome.error
    assert "leak.png" in outcome.out
    found = sil("show", "data/one", "--json").document["duplicates"]
    assert [(each["kind"], each["doubts"]) for each in found["doubtful"]] == [
        ("exact", ["train-test", "identities"]),
        ("exact", ["identities", "cameras"]),
    ]
    assert {image["path"] for each in found["doubtful"] for image in each["images"]} == {
        "t12.png",
        "leak.png",
        "t22.png",
        "twin.png",
    }
    assert found["by_doubt"]["train-test"] == 1
    assert sil("show", "data/one", "--split", "train", "--json").document["duplicates"]["by_doubt"]["train-test"] == 0


def test_unreadable_pictures_are_named_and_not_fatal(prepared, empty):
    prepared("one", ROWS)
    (empty / "raw-one" / "t01.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (empty / "raw-one" / "g02.png").unlink()
    outcome = sil("show", "data/one")
    assert outcome.code == 0
    assert "Unreadable: one/g02.png (No such file or directory)" in outcome.error
    dataset = sil("show", "data/one", "--json").document["datasets"][0]
    assert {each["path"] for each in dataset["unreadable"]} == {"g02.png", "t01.png"}
    assert dataset["opened"] == 13
    shutil.rmtree(empty / "raw-one")
    (empty / "raw-one").mkdir()
    outcome = sil("show", "data/one")
    assert outcome.code == 1
    assert "None of the images of one can be opened" in outcome.error


def test_several_data_sets_are_compared_and_share_duplicates(prepared):
    prepared("one", ROWS)
    prepared(
        "two", [(f"z{n}.png", f"z{n}", "", "train", 500 + n) for n in range(4)] + [("same.png", "s", "", "train", 12)]
    )
    document = sil("show", "--out", "both.png", "--json").document
    assert document["domain_gap"]["names"] == ["one", "two"]
    assert document["domain_gap"]["mean_distance"] > 0
    assert document["duplicates"]["by_doubt"]["data-sets"] == 1
    assert document["datasets"][1]["cameras"][0]["camera"] is None
    assert document["datasets"][1]["cameras_per_identity"] == {}
    assert document["chart"] == "both-style.png"
    shown = sil("show", "data/two", "data/one")
    assert "Style distance between data sets" in shown.out


def test_a_sample_is_drawn_by_the_seed(prepared):
    prepared("one", ROWS)
    first, again, other = (
        sil("show", "data/one", "--sample", 6, "--seed", seed, "--json").document["datasets"][0] for seed in (1, 1, 2)
    )
    assert (first["images"], first["opened"], first["sampled"]) == (15, 6, True)
    assert first == again != other
    assert "opening 6 of 15 images" in sil("show", "data/one", "--sample", 6).error


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["data/none"], 1, "is not a prepared data set"),
        (["data/one", "data/one"], 2, "Two data sets are called one"),
        (["data/one", "--out", "x.gif"], 2, "can't be written as x.gif"),
        (["data/one", "--split", "query"], 1, "has no images in its query split"),
        (["data/one", "--sample", 0], 2, "show.sample"),
        (["data/one", "--identities", -1], 2, "show.identities"),
        (["--set", "data.folder=nowhere"], 2, "no prepared data set in nowhere"),
    ],
)
def test_wrong_usage(prepared, arguments, code, says):
    prepared("one", ROWS[:9])
    outcome = sil("show", *arguments)
    assert outcome.code == code
    assert says in outcome.error


def test_the_sheet_shows_the_people_whom_most_cameras_saw():
    places = [("a", "1"), ("b", "1"), ("b", "2"), ("c", "1"), ("c", "2"), ("d", "1")]
    assert seen_by_most(places, 2, 0) == ["b", "c"]
    drawn = Counter(name for seed in range(60) for name in seen_by_most(places, 3, seed))
    assert drawn["b"] == drawn["c"] == 60
    assert drawn["a"] + drawn["d"] == 60
    assert min(drawn["a"], drawn["d"]) > 10
    assert seen_by_most(places, 99, 0) == ["a", "b", "c", "d"]
    assert seen_by_most([], 3, 0) == []
