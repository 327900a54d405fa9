from __future__ import annotations

import pytest

from sil_cli.data.readers.motchallenge import read_motchallenge
from sil_cli.data.readers.recognise import recognise
from sil_cli.errors import DataError
from sil_cli.preparation.check_images import prepare
from sil_cli.runtime import SilentReporter

BOXES = """1,1,11,21,20,40,1,1,0.9
1,2,31.4,20.6,20,40,1,1,1
2,1,12,21,20,40,1,1,0.3
2,2,31,21,20,40,1,1,0.29
2,3,1,1,20,40,0,1,1
2,4,1,1,20,40,1,3,1
9,1,1,1,20,40,1,1,1
"""


@pytest.fixture
def sequence(make_image):
    def make(folder, boxes=BOXES, frames="img1"):
        for number in (1, 2):
            make_image(folder / frames / f"{number:06d}.jpg", size=(80, 80))
        (folder / "gt").mkdir(parents=True)
        (folder / "gt" / "gt.txt").write_text(boxes)
        return folder

    return make


def facts(reading):
    return [(r.path, r.identity, r.camera, r.split, r.frame, r.box) for r in reading.records]


def test_people_are_boxes_in_the_frames_of_their_sequence(tmp_path, sequence):
    for name in ("MOT17-02-DPM", "MOT17-02-FRCNN", "MOT17-04-SDP"):
        sequence(tmp_path / "MOT17" / "train" / name)
    found = recognise(tmp_path / "MOT17")
    assert (found.reader, found.root) == ("motchallenge", tmp_path / "MOT17" / "train")
    reading = read_motchallenge(found.root)
    first, second = "MOT17-02-DPM/img1/000001.jpg", "MOT17-02-DPM/img1/000002.jpg"
    assert facts(reading)[:3] == [
        (first, "MOT17-02-0001", "MOT17-02", "train", 1, (10, 20, 20, 40)),
        (first, "MOT17-02-0002", "MOT17-02", "train", 1, (30, 20, 20, 40)),
        (second, "MOT17-02-0001", "MOT17-02", "train", 2, (11, 20, 20, 40)),
    ]
    assert [record.identity for record in reading.records[3:]] == ["MOT17-04-0001", "MOT17-04-0002", "MOT17-04-0001"]
    assert {skip.path: skip.reason for skip in reading.skipped}["MOT17-02-FRCNN/"] == "the frames of MOT17-02-DPM"
    reasons = [skip.reason for skip in reading.skipped if skip.path.startswith("MOT17-04")]
    left_out = "no pedestrian, to be ignored, or hardly visible (3 images)"
    assert reasons == [left_out, "not there, but in gt/gt.txt (1 images)"]
    dataset = prepare(reading, tmp_path / "out", reporter=SilentReporter(), workers=1)
    assert len(dataset.records) == 6


def test_a_single_sequence_of_mot15_with_frames_elsewhere(tmp_path, sequence):
    folder = sequence(tmp_path / "ADL-Rundle-6", "1,7,1,1,20,40,1,-1,-1,-1\n1,7,1,1,20,40,1,-1,-1,-1\n", "frames")
    (folder / "seqinfo.ini").write_text("[Sequence]\nname=x\nimDir=frames\nframeRate=30\n")
    record = ("frames/000001.jpg", "ADL-Rundle-6-0007", "ADL-Rundle-6", "train", 1, (0, 0, 20, 40))
    assert facts(read_motchallenge(folder)) == [record]


@pytest.mark.parametrize("boxes", ["1,1,a,1,20,40\n", "1,1\n", "1,1,1e999,1,20,40,1,1,1\n"])
def test_boxes_of_another_kind_are_told(tmp_path, sequence, boxes):
    with pytest.raises(DataError, match=r"gt\.txt, line 1, is not as MOTChallenge writes boxes"):
        read_motchallenge(sequence(tmp_path / "x", boxes))


def test_the_frames_folder_stays_within_the_sequence(tmp_path, sequence):
    folder = sequence(tmp_path / "x")
    (folder / "seqinfo.ini").write_text("[Sequence]\nimDir=../../etc\n")
    assert read_motchallenge(folder).records[0].path == "img1/000001.jpg"
