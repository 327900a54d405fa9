"""What holds for every reader, on a faithful tree of its own."""

from __future__ import annotations

import inspect
from collections import Counter

import pytest

from sil_cli.data.manifest import load_dataset
from sil_cli.data.readers import READERS
from sil_cli.data.readers.recognise import locate, recognise, recognise_all
from sil_cli.errors import DataError
from sil_cli.preparation.check_images import prepare
from sil_cli.runtime import SilentReporter


@pytest.fixture
def read(tmp_path):
    def reading_of(reader, root, **options):
        if "extract_to" in READERS[reader].takes:
            options["extract_to"] = tmp_path / "extracted"
        return READERS[reader].read(root, **options)

    return reading_of


def test_every_image_of_a_clean_tree_is_read_and_opens(tree, read, tmp_path):
    reader, root = tree
    reading = read(reader, root)
    dataset = prepare(reading, tmp_path / "out", reporter=SilentReporter(), workers=2)
    assert len(dataset.records) == len(reading.records) > 0
    reasons = {skip.reason.split(" (")[0] for skip in dataset.info.skipped}
    assert reasons <= {"junk by its name", "people whom only camera A saw: not in the protocol", "not in any"} | {
        "of people tested, but not drawn"
    }
    assert load_dataset(tmp_path / "out").info.reader == reading.reader == reader
    assert {record.domain for record in dataset.records} == {reading.name}
    assert not any(option in READERS[reader].takes and option == "extract_to" for option in reading.options)


def test_train_and_test_never_share_an_identity(tree, read):
    reading = read(*tree)
    splits = {}
    for record in reading.records:
        if not record.distractor:
            splits.setdefault(record.identity, set()).add(record.split)
    assert not [identity for identity, found in splits.items() if "train" in found and len(found) > 1]
    queries = {record.identity for record in reading.records if record.split == "query"}
    assert queries <= {record.identity for record in reading.records if record.split == "gallery"}
    assert not {record.identity for record in reading.records if record.distractor} & queries


def test_reading_twice_gives_the_same(tree, read):
    assert read(*tree) == read(*tree)


def test_the_name_can_be_chosen(tree, read):
    reading = read(*tree, name="mine")
    assert {reading.name} == {record.domain for record in reading.records} == {"mine"}


def test_auto_recognises_it_whatever_the_folder_is_called(tree, read):
    reader, root = tree
    found = recognise(root)
    assert (found.reader, found.root) == (reader, root)
    assert any(word in found.why for word in ("named", "names", "beside", "each with", "cuhk-03.mat", "Person.mat"))
    assert read(found.reader, found.root, **found.options).records
    assert locate(reader, root) == root


def test_auto_and_locate_find_it_below(tree):
    reader, root = tree
    assert recognise(root.parent).root == root
    assert locate(reader, root.parent) == root


def test_a_folder_too_high_or_too_deep_is_told_with_the_right_one(tree, read):
    reader, root = tree
    inner = next(path for path in sorted(root.rglob("*")) if path.is_dir() and path.parent == root)
    for wrong in (root.parent, inner):
        if any(each.root == wrong for each in recognise_all(wrong)):
            continue  # such as cuhk03_release, which can be read by itself
        with pytest.raises(DataError) as caught:
            read(reader, wrong)
        assert str(root) in caught.value.fix


def test_auto_says_that_a_part_is_a_part(tree):
    _, root = tree
    inner = next(path for path in sorted(root.rglob("*")) if path.is_dir() and path.parent == root)
    if recognise_all(inner):
        return
    with pytest.raises(DataError, match="is only a part of") as caught:
        recognise(inner)
    assert str(root) in caught.value.fix


def test_a_zip_that_was_not_unpacked_is_named(tree, tmp_path):
    reader, _ = tree
    folder = tmp_path / "packed"
    folder.mkdir()
    (folder / "data set.zip").touch()
    with pytest.raises(DataError, match=r"Unpack data set\.zip first"):
        READERS[reader].read(folder)
    with pytest.raises(DataError, match=r"Unpack .*data set\.zip, or give it"):
        recognise(folder)


def test_corrupt_images_and_strangers_are_named_and_the_rest_kept(tree, read, tmp_path):
    reader, root = tree
    reading = read(reader, root)
    victim = reading.root / reading.records[0].path
    victim.write_bytes(victim.read_bytes()[:60])
    (victim.parent / "notes.txt").write_text("x")
    (victim.parent / "Jürgen ✓.JPG").write_text("no picture")
    loop = victim.parent / "loop"
    loop.symlink_to(victim.parent)
    dataset = prepare(read(reader, root), tmp_path / "out", reporter=SilentReporter(), workers=1)
    named = Counter(skip.path.rpartition("/")[2] for skip in dataset.info.skipped)
    assert named["notes.txt"] == named["loop"] == 1
    assert named[victim.name] == sum(record.path == reading.records[0].path for record in reading.records)
    strangers = [skip for skip in dataset.info.skipped if skip.path.endswith("Jürgen ✓.JPG")]
    counted = [skip for skip in dataset.info.skipped if skip.path.endswith("*") and "in no list" in skip.reason]
    assert strangers or counted or "frames" in str(reading.options)
    assert len(dataset.records) == len(reading.records) - named[victim.name]


def test_every_reader_is_documented():
    for name, reader in READERS.items():
        assert reader.description
        documented = inspect.getdoc(reader.read) or ""
        assert all(f"    {option}:" in documented for option in reader.takes), name
        assert reader.takes >= {"name"}


def test_only_the_withdrawn_set_has_a_notice():
    assert [name for name, reader in READERS.items() if reader.notice] == ["dukemtmc"]
    assert "withdrawn by its authors" in str(READERS["dukemtmc"].notice)
