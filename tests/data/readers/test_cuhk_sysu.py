from __future__ import annotations

import pytest
from data_set_trees import SYSU_BOXES, put_person_mat
from scipy.io import savemat

from sil_cli.data.readers.cuhk_sysu import read_cuhk_sysu
from sil_cli.errors import DataError
from sil_cli.preparation.check_images import prepare
from sil_cli.runtime import SilentReporter


@pytest.mark.parametrize(
    ("tree", "layout", "people"),
    [
        ("cuhk_sysu", "cropped_images", ["00001", "00077", "11422"]),
        ("cuhk_sysu_hard", "cropped_image", ["00001", "00077", "00934"]),
        ("cuhk_sysu_market", "bounding_box_train", ["00001", "00077", "11422"]),
    ],
)
def test_crops_in_three_layouts_are_all_training_images_without_a_camera(build, tree, layout, people):
    reading = read_cuhk_sysu(build(tree))
    assert reading.options == {"layout": layout}
    assert sorted({record.identity for record in reading.records}) == people
    assert len(reading.records) == 6
    assert {(record.split, record.camera) for record in reading.records} == {("train", None)}


def test_people_are_cut_out_of_the_frames_as_the_authors_do_it(build, tmp_path):
    reading = read_cuhk_sysu(build("cuhk_sysu_frames"))
    found = [(record.identity, record.path, record.box) for record in reading.records]
    assert found == [
        ("00001", "Image/SSM/s1.jpg", (2, 4, 21, 41)),
        ("00001", "Image/SSM/s2.jpg", (0, 0, 21, 41)),
        ("00077", "Image/SSM/s1.jpg", (29, 1, 16, 51)),
        ("00077", "Image/SSM/s3.jpg", (9, 9, 91, 91)),
        ("00077", "Image/SSM/s2.jpg", (24, 2, 19, 45)),
    ]
    dataset = prepare(reading, tmp_path / "out", reporter=SilentReporter(), workers=1)
    assert len(dataset.records) == 5  # the box over the frame's edge is cut to it


def test_a_frame_that_is_missing_and_a_box_given_twice_are_told(build):
    root = build("cuhk_sysu_frames")
    (root / "Image/SSM/s3.jpg").unlink()
    put_person_mat(root / "annotation" / "Person.mat", {**SYSU_BOXES, 78: SYSU_BOXES[1]})
    skipped = {skip.path: skip.reason for skip in read_cuhk_sysu(root).skipped}
    assert skipped == {
        "Image/SSM/s3.jpg": "not there, but in annotation/Person.mat",
        "annotation/Person.mat": "a box that was given to somebody already (2 images)",
    }


def test_an_annotation_of_something_else_is_told(build):
    root = build("cuhk_sysu_frames")
    savemat(root / "annotation" / "Person.mat", {"Person": [[1, 2]]})
    with pytest.raises(DataError, match="is not CUHK-SYSU's annotation of persons"):
        read_cuhk_sysu(root)


def test_a_damaged_annotation_is_told(build):
    root = build("cuhk_sysu_frames")
    path = root / "annotation" / "Person.mat"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"Person\.mat can't be read: it is damaged or cut short"):
        read_cuhk_sysu(root)


def test_market_1501_is_not_taken_for_it(build):
    with pytest.raises(DataError, match="is not CUHK-SYSU"):
        read_cuhk_sysu(build("market1501"))
