"""DukeMTMC-reID, RandPerson and ClonedPerson: all facts in the names."""

from __future__ import annotations

from sil_cli.data.prepare import doubts
from sil_cli.data.readers.dukemtmc import read_dukemtmc
from sil_cli.data.readers.market1501 import read_market1501
from sil_cli.data.readers.rendered import read_clonedperson, read_randperson


def test_duke_names_are_taken_apart_and_its_strangers_are_people(build):
    reading = read_dukemtmc(build("dukemtmc"))
    first = reading.records[0]
    assert (first.identity, first.camera, first.frame, first.split) == ("0001", "2", 46982, "train")
    stranger = next(record for record in reading.records if record.identity == "7139")
    assert (stranger.split, stranger.distractor) == ("gallery", False)


def test_rendered_people_have_a_camera_a_scene_and_are_marked_as_generated(build):
    reading = read_randperson(build("randperson"))
    first = reading.records[0]
    assert (first.identity, first.camera, first.frame) == ("000000", "s00-c00", 260)
    assert {record.camera for record in reading.records} == {"s00-c00", "s00-c01", "s10-c00", "s10-c01"}
    assert {record.split for record in reading.records} == {"train"}
    assert reading.generated
    assert reading.options == {"subset": True}


def test_all_scenes_of_randperson(build):
    reading = read_randperson(build("randperson_scenes"))
    assert reading.options == {"subset": False}
    assert reading.records[0].path == "scene00/camera0_1/000000_s00_c00_f000260.jpg"
    assert len(reading.records) == 8


def test_clonedperson_has_a_test(build):
    reading = read_clonedperson(build("clonedperson"))
    assert {record.split: record.path.rpartition("/")[0] for record in reading.records} == {
        "train": "train",
        "query": "test/query",
        "gallery": "test/gallery",
    }
    assert reading.generated


def test_names_that_differ_in_case_are_both_read_and_doubted(build, make_image):
    root = build("market1501")
    before = len(read_market1501(root).records)
    make_image(root / "bounding_box_train" / "0002_c1s1_001451_01.JPG")
    records = read_market1501(root).records
    assert len(records) == before + 1
    assert any("differ only in case" in doubt for doubt in doubts(records))
