from __future__ import annotations

import pytest

from sil_cli.data.readers.layout import check_root
from sil_cli.data.readers.recognise import locate, recognise, recognise_all
from sil_cli.errors import DataError


def test_several_data_sets_are_all_listed_with_what_to_say(build, tmp_path):
    build("market1501", "all/a")
    build("dukemtmc", "all/b/inner")
    build("viper", "all/c")
    assert [(each.reader, each.root.name) for each in recognise_all(tmp_path / "all")] == [
        ("market1501", "a"),
        ("viper", "c"),
        ("dukemtmc", "inner"),
    ]
    with pytest.raises(DataError, match=r"holds 3 data sets: market1501 in .*; viper in .*; dukemtmc in ") as caught:
        recognise(tmp_path / "all")
    assert caught.value.fix.endswith(f"sil prepare-data market1501 {tmp_path / 'all' / 'a'}")


def test_sets_that_lie_in_one_folder_side_by_side_are_all_found(build, tmp_path):
    for tree in ("randperson", "cuhk02", "ilids", "prid2011", "cuhk_sysu", "cuhk03"):
        build(tree, "x")
    assert {each.reader for each in recognise_all(tmp_path / "x")} == {
        "randperson",
        "cuhk02",
        "ilids",
        "prid2011",
        "cuhk-sysu",
        "cuhk03",
    }


def test_cuhk03_is_found_once_with_its_images_extracted(build):
    build("cuhk03")
    root = build("cuhk03_images")
    (found,) = recognise_all(root)
    assert found.why.startswith("images_detected and images_labeled")


def test_only_labelled_crops_give_the_option(build):
    root = build("cuhk03_images")
    (root / "images_detected").rename(root / "away")
    assert recognise(root).options == {"labelled": True}


def test_what_is_missing_is_named(build):
    root = build("msmt17")
    (root / "list_val.txt").unlink()
    with pytest.raises(DataError, match=r"looks like MSMT17, but has no list_val\.txt\. It was unpacked in part"):
        recognise(root)
    root = build("market1501", "y")
    (root / "query").rename(root / "probes")
    with pytest.raises(DataError, match="looks like Market-1501 or DukeMTMC-reID, but has no query"):
        recognise(root.parent / "y")


def test_known_folders_with_other_names_are_told(build):
    root = build("market1501")
    for path in (root / "bounding_box_train").glob("*.jpg"):
        path.rename(path.with_name(f"img{path.name[5:]}"))
    with pytest.raises(DataError, match="has the folders of Market-1501 or DukeMTMC-reID, but") as caught:
        recognise(root)
    assert "regex" in caught.value.fix


def test_a_folder_per_identity_and_a_table_are_recognised(tmp_path, make_image):
    for person in ("anna", "bob"):
        make_image(tmp_path / "plain" / person / "1.jpg")
        make_image(tmp_path / "split" / "train" / person / "1.jpg")
        make_image(tmp_path / "split" / "gallery" / person / "1.jpg")
    assert (recognise(tmp_path / "plain").reader, recognise(tmp_path / "split").reader) == ("folders", "folders")
    assert recognise(tmp_path / "split").why == "a folder per identity below gallery, train, such as anna"
    (tmp_path / "plain" / "list.csv").write_text("\ufeffIdentity; path\n1;anna/1.jpg\n", encoding="utf-8")
    assert recognise(tmp_path / "plain").reader == "csv"
    (tmp_path / "plain" / "list.csv").write_text("who,where\n")
    assert recognise(tmp_path / "plain").reader == "folders"


def test_what_is_nothing_known_is_told(tmp_path, make_image):
    with pytest.raises(DataError, match=r"There is no \S+\. Check the path"):
        recognise(tmp_path / "absent")
    (tmp_path / "x" / "inner").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no images"):
        recognise(tmp_path / "x")
    make_image(tmp_path / "x" / "1.jpg")
    with pytest.raises(DataError, match=r"looks like no data set that is known here\. Known: Market-1501, .*folders"):
        recognise(tmp_path / "x")
    (tmp_path / "x" / "loop").symlink_to(tmp_path / "x")
    (tmp_path / "x" / "inner" / "Market.tar.gz").touch()
    with pytest.raises(DataError, match=r"Unpack .*inner/Market\.tar\.gz, or give it"):
        recognise(tmp_path / "x")


def test_people_with_very_many_folders_do_not_slow_it_down(tmp_path, make_image):
    for number in range(501):
        (tmp_path / "people" / f"{number}" / "deeper").mkdir(parents=True)
    make_image(tmp_path / "people" / "7" / "1.jpg")
    make_image(tmp_path / "people" / "8" / "1.jpg")
    assert recognise(tmp_path / "people").reader == "folders"


def test_after_unpacking_the_generic_readers_start_below_lone_folders(tmp_path, make_image):
    make_image(tmp_path / "out" / "crops" / "anna" / "1.jpg")
    make_image(tmp_path / "out" / "__MACOSX" / "crops" / "._1.jpg")
    assert locate("folders", tmp_path / "out") == tmp_path / "out" / "crops"
    make_image(tmp_path / "split" / "train" / "anna" / "1.jpg")
    assert locate("folders", tmp_path / "split") == tmp_path / "split"
    (tmp_path / "table" / "inner").mkdir(parents=True)
    (tmp_path / "table" / "inner" / "list.csv").touch()
    assert locate("csv", tmp_path / "table") == tmp_path / "table" / "inner"


def test_root_must_be_a_folder(tmp_path):
    (tmp_path / "x.zip").touch()
    (tmp_path / "x.txt").touch()
    for name, message in (("x.zip", "Unpack it"), ("x.txt", "is a file"), ("y", "There is no .*Check the path")):
        with pytest.raises(DataError, match=message):
            check_root(tmp_path / name)
