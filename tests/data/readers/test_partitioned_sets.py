"""PRID2011, GRID, VIPeR and QMUL-iLIDS: tested on partitions."""

from __future__ import annotations

from collections import Counter

import pytest
from scipy.io import savemat

from sil_cli.data.readers import READERS
from sil_cli.data.readers.partitioned_sets import read_grid, read_ilids, read_prid2011, read_viper
from sil_cli.errors import DataError, UsageError


def trained(reading) -> frozenset[str]:
    return frozenset(record.identity for record in reading.records if record.split == "train")


@pytest.mark.parametrize("reader", ["prid2011", "viper", "ilids"])
def test_random_partitions_are_fixed_by_number_and_seed(build, reader):
    root, read = build(reader), READERS[reader].read
    drawn = [read(root, partition=n) for n in range(1, 11)]
    assert len({trained(reading) for reading in drawn}) > 5  # of few people, the same may be drawn twice
    assert [reading.options for reading in drawn[:2]] == [{"partition": n, "seed": 0} for n in (1, 2)]
    assert read(root, partition=3) == drawn[2]
    assert trained(read(root, partition=3, seed=1)) != trained(drawn[2])
    with pytest.raises(UsageError, match="There is no partition 0"):
        read(root, partition=0)


def test_prid_has_a_gallery_of_strangers(build):
    reading = read_prid2011(build("prid2011"))
    assert Counter((record.split, record.camera, record.distractor) for record in reading.records) == {
        ("train", "a", False): 100,
        ("train", "b", False): 100,
        ("query", "a", False): 100,
        ("gallery", "b", False): 100,
        ("gallery", "b", True): 2,
    }
    (alone,) = reading.skipped
    assert alone.reason == "people whom only camera A saw: not in the protocol (2 images)"


def test_a_partition_of_prid_is_pinned(build):
    """Which people are drawn must never change: published numbers hang on it."""
    first = sorted(trained(read_prid2011(build("prid2011"))))[:8]
    assert first == ["0003", "0004", "0005", "0009", "0011", "0012", "0013", "0015"]


def test_grid_goes_by_its_own_partitions(build):
    root = build("grid")
    reading = read_grid(root, partition=3)
    assert trained(reading) == {"0003", "0004", "0005", "0006", "0007"}
    assert Counter((record.split, record.distractor) for record in reading.records) == {
        ("train", False): 10,
        ("query", False): 5,
        ("gallery", False): 5,
        ("gallery", True): 3,
    }
    probe = next(record for record in reading.records if record.path.startswith("probe/0009"))
    assert (probe.identity, probe.camera) == ("0009", "2")
    with pytest.raises(UsageError, match="numbered 1 to 10"):
        read_grid(root, partition=11)


@pytest.mark.parametrize("wrong", [[[1]], [[]], [["x"]]])
def test_partitions_of_another_file_are_told(build, wrong):
    root = build("grid")
    savemat(root / "features_and_partitions.mat", {"trainIdxAll": wrong})
    with pytest.raises(DataError, match="does not hold GRID's partition 1"):
        read_grid(root)


def test_grid_without_its_partitions_is_told(build):
    root = build("grid")
    (root / "features_and_partitions.mat").unlink()
    with pytest.raises(DataError, match=r"has no features_and_partitions\.mat\. It was unpacked in part"):
        read_grid(root)


def test_viper_has_one_image_each_side(build):
    reading = read_viper(build("viper"))
    assert len(trained(reading)) == 5
    assert Counter((record.split, record.camera) for record in reading.records) == {
        ("train", "a"): 5,
        ("train", "b"): 5,
        ("query", "a"): 5,
        ("gallery", "b"): 5,
    }
    assert reading.records[1].path == "cam_a/001_45.bmp"
    assert reading.records[1].identity == "001"


def test_ilids_has_one_random_image_each_side(build):
    reading = read_ilids(build("ilids"))
    assert len(trained(reading)) == 3
    sides = Counter((record.identity, record.split) for record in reading.records if record.split != "train")
    assert set(sides.values()) == {1}
    assert len(sides) == 2 * 4
    assert {record.camera for record in reading.records} == {None}
    files = len(list((reading.root / "Persons").iterdir()))
    (rest,) = reading.skipped
    assert rest.reason == f"of people tested, but not drawn ({files - len(reading.records)} images)"


def test_ilids_with_a_single_image_of_somebody_still_reads(build):
    root = build("ilids")
    for path in (root / "Persons").iterdir():
        if not path.stem.endswith("001"):
            path.unlink()
    assert {record.split for record in read_ilids(root).records} == {"train"}
