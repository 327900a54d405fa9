from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sil_cli.data.manifest import (
    INFO_FILE,
    MANIFEST_FILE,
    ImageRecord,
    Skipped,
    SplitCounts,
    count_splits,
    find_records,
    is_dataset,
    load_dataset,
    write_dataset,
)
from sil_cli.errors import DataError, SilError
from sil_cli.files import sha256_of_bytes

RECORDS = (
    ImageRecord(path="a/1.jpg", identity="a", camera="1", split="train", domain="d", frame=7),
    ImageRecord(path="Ünï/名.jpg", identity="b", split="query", domain="d", box=(1, 2, 30, 40)),
    ImageRecord(
        path="c.jpg", identity="b", camera="2", split="gallery", domain="d", time=datetime(2024, 5, 1, tzinfo=UTC)
    ),
    ImageRecord(path="d.jpg", identity="0", camera="3", split="gallery", domain="d", distractor=True),
)


def write(folder, root, records=RECORDS, **fields):
    root.mkdir(parents=True, exist_ok=True)
    facts = {"name": "d", "reader": "csv", "reader_version": 1, "options": {"split": "train"}, **fields}
    return write_dataset(folder, records, root=root, **facts)


def test_what_is_written_is_loaded(tmp_path):
    skipped = [Skipped(path="x.jpg", reason="cut short")]
    written = write(tmp_path / "out", tmp_path / "raw", skipped=skipped, generated=True)
    loaded = load_dataset(tmp_path / "out")
    assert loaded == written
    assert loaded.records == RECORDS
    assert loaded.info.skipped == skipped
    assert loaded.info.generated
    assert loaded.image_path(loaded.records[0]) == tmp_path / "raw" / "a" / "1.jpg"
    assert [record.path for record in loaded.of_split("gallery")] == ["c.jpg", "d.jpg"]


def test_a_line_a_record_that_others_can_read(tmp_path):
    write(tmp_path / "out", tmp_path / "raw")
    lines = (tmp_path / "out" / MANIFEST_FILE).read_text(encoding="utf-8").splitlines()
    first = {"path": "a/1.jpg", "identity": "a", "camera": "1", "split": "train", "domain": "d", "frame": 7}
    assert json.loads(lines[0]) == first
    assert len(lines) == len(RECORDS)
    assert "名" in lines[1]


def test_same_input_same_bytes(tmp_path):
    for out in ("one", "two"):
        write(tmp_path / out, tmp_path / "raw")
    for name in (MANIFEST_FILE, INFO_FILE):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_counts_leave_distractors_and_junk_out_of_identities():
    counts = count_splits([*RECORDS, RECORDS[0].model_copy(update={"identity": "x", "junk": True})])
    assert counts == {
        "train": SplitCounts(images=2, identities=1, cameras=1),
        "query": SplitCounts(images=1, identities=1, cameras=0),
        "gallery": SplitCounts(images=2, identities=1, cameras=2),
    }


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a\\b", "", "..", "a\0b"])
def test_a_path_that_leaves_the_root_is_refused(path):
    with pytest.raises(ValidationError):
        ImageRecord(path=path, identity="a", split="train", domain="d")


@given(st.text(min_size=1))
def test_a_record_never_leads_out_of_its_root(path):
    try:
        record = ImageRecord(path=path, identity="a", split="train", domain="d")
    except ValidationError:
        return
    depth = 0
    for part in record.path.split("/"):
        depth += -1 if part == ".." else 0 if part in ("", ".") else 1
        assert depth >= 0
    assert not record.path.startswith("/")


def test_a_data_set_moves_with_its_images(tmp_path):
    write(tmp_path / "here" / "out", tmp_path / "here" / "raw")
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert load_dataset(tmp_path / "there" / "out").root == tmp_path / "there" / "raw"
    assert "here" not in (tmp_path / "there" / "out" / INFO_FILE).read_text()


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "a/b", "..", "nul", "a\nb", ".git", "x" * 200])
def test_a_name_that_is_a_path_is_refused(tmp_path, name):
    write(tmp_path / "out", tmp_path / "raw")
    info = json.loads((tmp_path / "out" / INFO_FILE).read_text())
    (tmp_path / "out" / INFO_FILE).write_text(json.dumps(info | {"name": name}))
    with pytest.raises(DataError, match=r"dataset\.json is not valid: name: must (be|not) "):
        load_dataset(tmp_path / "out")


def test_images_left_behind_are_told(tmp_path):
    write(tmp_path / "out", tmp_path / "raw")
    (tmp_path / "raw").rmdir()
    with pytest.raises(DataError, match=r"no longer at .*raw\. .*prepare-data csv NEW_ROOT"):
        load_dataset(tmp_path / "out")


def test_a_manifest_edited_by_hand_is_refused(tmp_path):
    write(tmp_path / "out", tmp_path / "raw")
    manifest = tmp_path / "out" / MANIFEST_FILE
    content = manifest.read_bytes()
    for edited in (content.replace(b'"a"', b'"b"'), content[:-1], content[: len(content) // 2], b""):
        manifest.write_bytes(edited)
        with pytest.raises(DataError, match=r"checksum differs\). Run `sil prepare-data` again"):
            load_dataset(tmp_path / "out")
    manifest.unlink()
    with pytest.raises(DataError, match="No such file"):
        load_dataset(tmp_path / "out")


def test_a_forged_manifest_does_not_lead_out_of_its_root(tmp_path):
    dataset = write(tmp_path / "out", tmp_path / "raw", records=RECORDS[:1])
    forged = (tmp_path / "out" / MANIFEST_FILE).read_bytes().replace(b"a/1.jpg", b"../../x")
    (tmp_path / "out" / MANIFEST_FILE).write_bytes(forged)
    info = json.loads((tmp_path / "out" / INFO_FILE).read_text())
    info["manifest_sha256"] = sha256_of_bytes(forged)
    assert info["manifest_sha256"] != dataset.info.manifest_sha256
    (tmp_path / "out" / INFO_FILE).write_text(json.dumps(info))
    with pytest.raises(DataError, match=r"line 1: path: .*relative to the data set's root"):
        load_dataset(tmp_path / "out")


def test_what_is_no_data_set_is_told(tmp_path):
    assert not is_dataset(tmp_path)
    with pytest.raises(DataError, match="not a prepared data set"):
        load_dataset(tmp_path)
    (tmp_path / INFO_FILE).write_text("{")
    with pytest.raises(SilError, match="can't be read as what was prepared"):
        load_dataset(tmp_path)
    (tmp_path / INFO_FILE).write_text('{"format": 9}')
    with pytest.raises(DataError, match="is not valid"):
        load_dataset(tmp_path)


class TestFindingRecords:
    @pytest.fixture
    def folder(self, tmp_path):
        """A data set whose images are made up but for their names."""
        write(tmp_path / "out", tmp_path / "out" / "raw")
        return tmp_path / "out"

    def found(self, folder, *names):
        return [
            [record.path for record in some] for some in find_records(folder, [folder / one for one in names]).values()
        ]

    @pytest.mark.parametrize("others", [0, 20], ids=["few", "many"])
    def test_a_name_is_found_as_it_is_spelt_and_no_other(self, tmp_path, others):
        names = ['q"uote.jpg', "tab\t.jpg", "Zoë.jpg", "名/a.jpg", "a.jpg", "b/a.jpg", "p-a.jpg"]
        records = [ImageRecord(path=name, identity="a.jpg", split="query", domain="d") for name in names]
        write(tmp_path / "out", tmp_path / "raw", records)
        root = tmp_path / "raw"
        wanted = [root / name for name in [*names, *(f"none{number}.jpg" for number in range(others))]]
        found = find_records(tmp_path / "out", wanted)
        assert [[record.path for record in found[image]] for image in wanted] == [[name] for name in names] + [
            []
        ] * others

    def test_all_boxes_of_an_image_are_found(self, tmp_path):
        boxes = [(0, 0, 8, 16), (9, 0, 8, 16)]
        records = [ImageRecord(path="f.jpg", identity=str(box), split="query", domain="d", box=box) for box in boxes]
        write(tmp_path / "out", tmp_path / "raw", [*records, RECORDS[0]])
        image = tmp_path / "raw" / "f.jpg"
        assert find_records(tmp_path / "out", [image]) == {image: records}

    def test_composed_and_decomposed_letters_are_the_same_name(self, tmp_path):
        records = [
            ImageRecord(path=path, identity=path, split="query", domain="d")
            for path in ("Zoe\u0308.jpg", "Zo\u00eb2.jpg")
        ]
        write(tmp_path / "out", tmp_path / "raw", records)
        wanted = [tmp_path / "raw" / name for name in ("Zo\u00eb.jpg", "Zoe\u03082.jpg")]
        assert list(find_records(tmp_path / "out", wanted).values()) == [[record] for record in records]

    def test_links_lead_to_the_image_and_may_be_what_the_record_names(self, folder):
        (folder / "raw" / "a").mkdir(parents=True)
        (folder / "raw" / "a" / "1.jpg").touch()
        (folder.parent / "stored.jpg").touch()
        (folder / "raw" / "c.jpg").symlink_to(folder.parent / "stored.jpg")
        (folder.parent / "alias").symlink_to(folder)
        (folder.parent / "one.jpg").symlink_to(folder / "raw" / "a" / "1.jpg")
        names = ["raw/c.jpg", "../alias/raw/c.jpg", "../one.jpg", "raw/../raw/a/1.jpg", "../stored.jpg"]
        assert self.found(folder, *names) == [["c.jpg"], ["c.jpg"], ["a/1.jpg"], ["a/1.jpg"], []]

    def test_what_can_not_be_read_knows_nobody(self, folder):
        assert self.found(folder, "raw/a/1.jpg") == [["a/1.jpg"]]
        (folder / MANIFEST_FILE).write_bytes(b"")
        assert self.found(folder, "raw/a/1.jpg") == []
        (folder / MANIFEST_FILE).write_bytes(b'{"path":"a/1.jpg"')
        assert self.found(folder, "raw/a/1.jpg") == []
        (folder / INFO_FILE).write_text("{}")
        assert self.found(folder, "raw/a/1.jpg") == []

    def test_other_records_are_not_even_parsed(self, folder):
        lines = (folder / MANIFEST_FILE).read_bytes().splitlines(keepends=True)
        (folder / MANIFEST_FILE).write_bytes(b"".join([b'{"path":"z.jpg", damaged\n', *lines]))
        assert self.found(folder, "raw/a/1.jpg") == [["a/1.jpg"]]
