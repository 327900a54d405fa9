from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from data_set_trees import PER_PAIR, cuhk03_crops, pixels_of, put_cuhk03_config
from PIL import Image
from scipy.io import savemat

from sil_cli.data.readers import cuhk03 as module
from sil_cli.data.readers.cuhk03 import read_cuhk03
from sil_cli.data.readers.recognise import recognise
from sil_cli.errors import DataError, UsageError
from sil_cli.runtime import SilentReporter


class Counting(SilentReporter):
    done = 0

    def advance(self, count: int = 1, **facts: float | str) -> None:
        del facts
        self.done += count


def sides(reading) -> dict[str, str]:
    return {record.path.rpartition("/")[2]: record.split for record in reading.records}


@pytest.mark.parametrize("labelled", [False, True])
def test_the_mat_file_is_extracted_and_split_by_the_new_protocol(build, tmp_path, labelled):
    root, reporter = build("cuhk03"), Counting()
    reading = read_cuhk03(root, labelled=labelled, extract_to=tmp_path / "out", reporter=reporter)
    kind = "labeled" if labelled else "detected"
    assert reading.name == ("cuhk03-labelled" if labelled else "cuhk03-detected")
    assert reading.options == {"labelled": labelled, "partition": None}
    assert reading.root == tmp_path / "out"
    assert reporter.done == sum(PER_PAIR)
    assert not reading.skipped
    expected = {}
    for name in cuhk03_crops(kind):
        trained = name[0] == "1" and not name.startswith("1_001")
        expected[name] = "train" if trained else "query" if name[8:10] in {"01", "06"} else "gallery"
    assert sides(reading) == expected
    record = next(record for record in reading.records if record.path.endswith("2_005_2_07.png"))
    assert (record.identity, record.camera) == ("2-005", "2-2")
    for record in reading.records:
        with Image.open(reading.root / record.path) as image:
            assert np.array_equal(image, pixels_of(kind + record.path.rpartition("/")[2]))


def test_crops_are_extracted_once_for_the_same_file_and_the_bytes_are_fixed(build, tmp_path):
    root = build("cuhk03")
    first = read_cuhk03(root, extract_to=tmp_path / "a")
    made = (tmp_path / "a" / first.records[0].path).stat().st_mtime_ns
    reporter = Counting()
    assert read_cuhk03(root, extract_to=tmp_path / "a", reporter=reporter) == first
    assert reporter.done == 0
    assert (tmp_path / "a" / first.records[0].path).stat().st_mtime_ns == made
    second = read_cuhk03(root, extract_to=tmp_path / "b")
    for one, other in zip(first.records, second.records, strict=True):
        assert (first.root / one.path).read_bytes() == (second.root / other.path).read_bytes()


def test_what_is_in_the_way_is_kept_and_told(build, tmp_path):
    (tmp_path / "out" / "images_detected").mkdir(parents=True)
    with pytest.raises(DataError, match="images_detected is in the way"):
        read_cuhk03(build("cuhk03"), extract_to=tmp_path / "out")


def test_an_interrupted_extraction_leaves_nothing(build, tmp_path):
    class Interrupting(SilentReporter):
        def advance(self, count: int = 1, **facts: float | str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_cuhk03(build("cuhk03"), extract_to=tmp_path / "out", reporter=Interrupting())
    assert not list((tmp_path / "out").iterdir())


def test_without_a_place_for_the_crops_it_says_so(build):
    with pytest.raises(DataError, match="must be extracted"):
        read_cuhk03(build("cuhk03"))


@pytest.mark.parametrize("tree", ["cuhk03", "cuhk03_images"])
def test_classic_splits(build, tmp_path, tree):
    reading = read_cuhk03(build(tree), partition=2, extract_to=tmp_path / "out")
    assert reading.options == {"labelled": False, "partition": 2}
    tested = {"1-001", "1-002", "2-002"} if tree == "cuhk03" else {"1-001", "2-002"}
    assert {record.identity for record in reading.records if record.split != "train"} == tested
    assert {record.camera for record in reading.records if record.split == "query"} == {"1-1", "2-1"}
    assert {record.camera for record in reading.records if record.split == "gallery"} == {"1-2", "2-2"}
    assert len(reading.records) == len(cuhk03_crops("detected"))


def test_classic_splits_differ_and_are_twenty(build, tmp_path):
    root = build("cuhk03")
    tested = [
        frozenset(r.identity for r in reading.records if r.split == "query")
        for reading in (read_cuhk03(root, partition=n, extract_to=tmp_path / "out") for n in (1, 2, 20))
    ]
    assert tested[0] != tested[1]
    assert tested[2] == {"1-001", "1-005", "2-002"}
    with pytest.raises(UsageError, match="numbered 1 to 20"):
        read_cuhk03(root, partition=21, extract_to=tmp_path / "out")


def test_extracted_images_with_the_json_lists_of_another_machine(build):
    reading = read_cuhk03(build("cuhk03_images"), labelled=True)
    assert {record.path.split("/")[0] for record in reading.records} == {"images_labeled"}
    assert Counter(sides(reading).values()) == {"train": 72, "query": 12, "gallery": 45}
    assert not reading.skipped


def test_extracted_images_with_the_authors_lists_which_come_first(build):
    root = build("cuhk03_images")
    put_cuhk03_config(root / "cuhk03_new_protocol_config_detected.mat", "detected")
    split = sides(read_cuhk03(root))
    assert (split["1_002_1_01.png"], split["2_001_1_01.png"]) == ("train", "query")


def test_images_and_lists_that_do_not_fit_are_told(build, make_image):
    root = build("cuhk03_images")
    (root / "images_detected" / "1_002_1_02.png").unlink()
    make_image(root / "images_detected" / "5_239_1_02.png")
    skipped = {skip.path: skip.reason for skip in read_cuhk03(root).skipped}
    assert skipped == {
        "images_detected/1_002_1_02.png": "not there, but in splits_new_detected.json",
        "images_detected/*": "not in splits_new_detected.json (1 images)",
    }


def test_a_missing_list_is_told_with_where_to_get_it(build, tmp_path):
    root = build("cuhk03")
    (root / "cuhk03_new_protocol_config_detected.mat").unlink()
    with pytest.raises(DataError, match="person-re-ranking"):
        read_cuhk03(root, extract_to=tmp_path / "out")
    images = build("cuhk03_images", "y")
    (images / "splits_classic_detected.json").unlink()
    with pytest.raises(DataError, match="hold the 20 classic splits"):
        read_cuhk03(images, partition=1)


def test_file_names_may_differ_in_case(build, tmp_path):
    root = build("cuhk03")
    (root / "cuhk03_release" / "cuhk-03.mat").rename(root / "cuhk03_release" / "CUHK-03.mat")
    (root / "cuhk03_release").rename(root / "CUHK03_release")
    assert recognise(root).reader == "cuhk03"
    assert read_cuhk03(root, extract_to=tmp_path / "out").records


def test_the_release_alone_is_recognised_and_finds_lists_around_it(build, tmp_path):
    root = build("cuhk03")
    assert recognise(root / "cuhk03_release").root == root / "cuhk03_release"
    assert read_cuhk03(root / "cuhk03_release", extract_to=tmp_path / "out").records


def test_np_folders(build):
    root = build("cuhk03_np")
    reading = read_cuhk03(root, labelled=True)
    first = reading.records[0]
    assert (first.path, first.identity, first.camera) == ("labeled/bounding_box_train/0001_c1_7.png", "0001", "1")
    assert Counter(sides(reading).values()) == {"train": 4, "query": 4, "gallery": 4}
    assert read_cuhk03(root / "detected").records[0].path == "bounding_box_train/0001_c1_7.png"
    with pytest.raises(UsageError, match="new protocol only"):
        read_cuhk03(root, partition=1)


def test_np_folders_without_a_name_are_told_apart_by_their_count(build, monkeypatch):
    root = build("cuhk03_np") / "labeled"
    monkeypatch.setattr(module, "_NP_TRAINING", {"detected": 7365, "labeled": 4})
    found = recognise(root)
    assert found.options == {"labelled": True}
    assert read_cuhk03(root, **found.options).name == "cuhk03-labelled"
    with pytest.raises(DataError, match="has no detected crops, but labelled ones"):
        read_cuhk03(root)


def test_asking_for_crops_that_are_not_there(build):
    root = build("cuhk03_images")
    (root / "images_labeled").rename(root / "hidden")
    with pytest.raises(DataError, match=r"has no labelled crops, but detected ones\. Leave --labelled out"):
        read_cuhk03(root, labelled=True)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_a_mat_file_that_was_cut_short_is_told_and_leaves_nothing(build, tmp_path, share):
    root = build("cuhk03")
    mat = root / "cuhk03_release" / "cuhk-03.mat"
    content = mat.read_bytes()
    mat.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match="can't be read: it is damaged or cut short"):
        read_cuhk03(root, extract_to=tmp_path / "out")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_a_list_that_was_cut_short_is_told(build, share):
    root = build("cuhk03_images")
    put_cuhk03_config(root / "cuhk03_new_protocol_config_detected.mat", "detected")
    config = root / "cuhk03_new_protocol_config_detected.mat"
    config.write_bytes(config.read_bytes()[: int(share * config.stat().st_size)])
    with pytest.raises(DataError, match="cut short"):
        read_cuhk03(root)


@pytest.mark.parametrize("content", ["{", "[]", '[{"train": 3}]', '["x"]'])
def test_a_json_list_of_something_else_is_told(build, content):
    root = build("cuhk03_images")
    (root / "splits_new_detected.json").write_text(content)
    with pytest.raises(Exception, match=r"splits_new_detected\.json") as caught:
        read_cuhk03(root)
    assert caught.value.fix


def test_a_list_whose_numbers_lead_nowhere_is_told(build):
    root = build("cuhk03_images")
    names = np.empty((1, 1), dtype=object)
    names[0, 0] = "1_001_1_01.png"
    wrong = {"filelist": names, "train_idx": [[0]], "query_idx": [[1]], "gallery_idx": [[2]]}
    savemat(root / "cuhk03_new_protocol_config_detected.mat", wrong)
    with pytest.raises(DataError, match="not the list of CUHK03's new protocol"):
        read_cuhk03(root)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
def test_extracted_images_may_be_jpeg_though_the_lists_say_png(build, suffix):
    root = build("cuhk03_images")
    expected = sides(read_cuhk03(root))
    for path in root.rglob("*.png"):
        path.rename(path.with_suffix(suffix))
    assert recognise(root).reader == "cuhk03"
    reading = read_cuhk03(root)
    assert sides(reading) == {path.replace(".png", suffix): side for path, side in expected.items()}
    assert not any("not there" in skip.reason for skip in reading.skipped)
