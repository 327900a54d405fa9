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
