"""What a stranger's database can say that no gallery of ours does: refused in words, before memory or time is spent."""

from __future__ import annotations

import json
import shutil
import sqlite3

import faiss
import numpy as np
import pytest
from commands import sil
from galleries import MODEL, Notes, entry, make_gallery, vectors

from sil_cli.errors import GalleryError
from sil_cli.files import file_state, sha256_of_file
from sil_cli.gallery.local.segments import write_segment
from sil_cli.gallery.local.store import LocalStore
from sil_cli.gallery.stores import open_gallery
from sil_cli.similarity.distance import unit_rows

LONG = "x" * 10_000_000


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_gallery(tmp_path / "gallery")


def edit(folder, *statements, loose=None):
    """Change the database; the table `loose` takes any value meanwhile, and looks as ever afterwards."""
    connection = sqlite3.connect(folder / "gallery.sqlite", isolation_level=None)
    schema = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (loose,)).fetchone()
    if schema is not None:
        connection.execute("PRAGMA writable_schema = ON")
        lax = schema[0].replace(" STRICT,", "").replace(" STRICT", "").replace(" NOT NULL", "")
        connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (lax, loose))
        connection.close()
        connection = sqlite3.connect(folder / "gallery.sqlite", isolation_level=None)
    for statement, *values in statements:
        connection.execute(statement, values)
    if schema is not None:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (schema[0], loose))
    connection.close()


def look_at_everything(folder):
    """What reading a gallery comes to."""
    with open_gallery(folder) as gallery:
        gallery.info()
        everyone = gallery.ids().tolist()
        gallery.entries(everyone)
        gallery.members(everyone)
        gallery.known_values("camera")
        gallery.removals()
        gallery.last_id()
        gallery.search(vectors(2), 5)


def refused(folder) -> str:
    with pytest.raises(GalleryError) as caught:
        look_at_everything(folder)
    assert len(caught.value.what) < 800
    return caught.value.what


@pytest.mark.parametrize(
    "value",
    [
        *(
            "{}",
            "7",
            "[1, 2, 3]",
            '[1, 2, "a", 4]',
            "[true, 1, 1, 1]",
            "[1, 2, -3, 4]",
            "[1, 2, 3, 0]",
            "[1e999, 1, 1, 1]",
        ),
        *("[1.5, 2, 3, 4]", f"[{10**30}, 2, 3, 4]", f"[{'1' * 5000}, 2, 3, 4]", "[" * 5000, "[NaN, 1, 1, 1]", "box"),
    ],
    ids=lambda value: value[:20],
)
def test_a_box_is_four_sensible_numbers(folder, value):
    edit(folder, ("UPDATE entries SET box = ? WHERE id = 4", value))
    assert "gallery.sqlite can't be used" in refused(folder)


@pytest.mark.parametrize(
    "value",
    [
        *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-05:00", "9999-12-31T23:59:59", "0001-01-01", "yesterday"),
        *("2024-13-01", "1" * 5000),
    ],
    ids=lambda value: value[:30],
)
def test_a_time_has_a_date_in_every_zone(folder, value):
    edit(folder, ("UPDATE entries SET time = ? WHERE id = 4", value))
    assert "gallery.sqlite can't be used" in refused(folder)


def test_nor_is_such_a_time_ever_written(folder):
    from datetime import UTC, datetime

    with (
        LocalStore(folder).writer(MODEL) as writer,
        pytest.raises(GalleryError, match=r"'99.jpg' can't have the year 1"),
    ):
        writer.add([entry(99, time=datetime(1, 1, 1, tzinfo=UTC))], vectors(1))
    with open_gallery(folder) as gallery:
        assert len(gallery) == 30


@pytest.mark.parametrize(
    ("key", "value"),
    [("dimension", value) for value in (0, -1, 10**18, 2**62, 2**64, 2**17, True, 1.5, "8", None, [], {})]
    + [("fingerprint", value) for value in (None, 7, [], {})]
    + [("engine", value) for value in (7, [], {}, True)],
    ids=str,
)
def test_the_record_of_the_model(folder, key, value):
    edit(folder, ("UPDATE meta SET value = ? WHERE key = 'model'", json.dumps(MODEL | {key: value})))
    assert "the record of its model is incomplete" in refused(folder)


@pytest.mark.parametrize("value", ["[]", "null", "7", '"', "[" * 5000, "1" * 5000, "NaN", "{}", '{"a": 1}'])
@pytest.mark.parametrize("key", ["model", "format", "index"])
def test_what_is_no_record_at_all(folder, key, value):
    edit(folder, ("UPDATE meta SET value = ? WHERE key = ?", value, key))
    assert "gallery.sqlite" in refused(folder)


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("entries", "id = -1 WHERE id = 4"),
        ("entries", "id = 9223372036854775807 WHERE id = 4"),
        *(
            ("entries", f"{column} = {value} WHERE id = 4")
            for column in ("path", "source", "box")
            for value in ("NULL", "x'00ff'")
        ),
        *(("entries", f"{column} = x'ff' WHERE id = 4") for column in ("identity", "camera", "time", "domain")),
        ("entries", "path = 'a' || char(0) || 'b' WHERE id = 4"),
        *(("segments", f"count = {value}") for value in ("NULL", "-1", "'x'", "4611686018427387904", "1e999", "11")),
        *(("segments", f"{column} = NULL") for column in ("name", "sha256", "seen")),
        ("segments", "name = '../segment-000001.faiss' WHERE number = 1"),
        *(("metadata", f"{column} = x'ff'") for column in ("key", "value")),
        *(("sqlite_sequence", f"seq = {value}") for value in ("9223372036854775807", "'text'", "NULL", "-5", "1.5")),
        *(("removals", change) for change in ("time = NULL", "count = 'many'", "criterion = x'ff'")),
    ],
)
def test_cells_of_another_kind(folder, table, change):
    edit(
        folder,
        ("INSERT INTO removals VALUES ('2024-05-01', 2, 'camera')",),
        (f"UPDATE OR REPLACE {table} SET {change}",),
        loose=table,
    )
    assert "gallery" in refused(folder)


@pytest.mark.parametrize("column", ["path", "source", "identity", "box", "time"])
def test_endless_texts_are_not_read(folder, column):
    edit(folder, (f"UPDATE entries SET {column} = ? WHERE id = 4", LONG))
    assert "gallery.sqlite can't be used: " in refused(folder)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (x)",
        "CREATE VIEW mine AS SELECT 1",
        "CREATE TRIGGER mine AFTER DELETE ON entries BEGIN DELETE FROM metadata; END",
        "CREATE INDEX mine ON entries (hex(zeroblob(9)))",
        "CREATE INDEX mine ON entries (path) WHERE length(hex(zeroblob(9))) > 1",
        "ALTER TABLE entries ADD COLUMN mine TEXT AS (hex(zeroblob(99999999)))",
        "ALTER TABLE entries ADD COLUMN mine TEXT CHECK (length(mine) > 0)",
    ],
)
def test_nothing_but_our_tables(folder, statement):
    edit(folder, (statement,))
    assert "that no gallery has" in refused(folder)


def test_tables_that_are_not_strict_are_not_ours(folder):
    connection = sqlite3.connect(folder / "gallery.sqlite", isolation_level=None)
    connection.executescript("DROP TABLE removals; CREATE TABLE removals (time TEXT, count INTEGER, criterion TEXT)")
    connection.close()
    assert "a table 'removals' that no gallery has" in refused(folder)


@pytest.mark.parametrize("ids", [[-5, 2], [0, 1], [2**60, 2**61], [-(2**63), 2**63 - 1]])
def test_ids_of_vectors_that_no_entry_has(tmp_path, ids):
    folder = make_gallery(tmp_path / "g", 2)
    (path,) = (folder / "vectors").glob("segment*")
    sha256, seen = write_segment(path, np.array(ids), unit_rows(vectors(2)))
    edit(folder, ("UPDATE segments SET sha256 = ?, seen = ?", sha256, seen))
    assert "its ids are out of range" in refused(folder)
    assert [check.ok for check in LocalStore(folder).check() if "segment" in check.name] == [False]


def with_index(folder, factory="HNSW8,SQ8"):
    with LocalStore(folder).existing_writer() as writer:
        writer.refresh_index(Notes(), requested=factory)
    return next((folder / "vectors").glob("index*"))


@pytest.mark.parametrize(
    "change",
    [
        *(f"effort = {value}" for value in ("-1", "9223372036854775807", "'x'", "NULL")),
        *(f"recall = {value}" for value in ("1e999", "-1", "'x'", "NULL")),
        *(f"count = {value}" for value in ("-1", "31", "9223372036854775807")),
        *(f"last_id = {value}" for value in ("-1", "9223372036854775807")),
        "factory = x'ff'",
        "name = 'index-1.faiss'",
    ],
)
def test_the_record_of_an_index(folder, change):
    with_index(folder)
    edit(folder, (f"UPDATE indexes SET {change}",), loose="indexes")
    assert "gallery" in refused(folder)


def test_an_index_that_claims_more_than_its_file_holds_is_given_no_room(folder):
    if not hasattr(faiss, "set_deserialization_vector_byte_limit"):
        pytest.skip("this FAISS knows no such limit")
    path = with_index(folder)
    before = faiss.get_deserialization_vector_byte_limit()
    content = bytearray(path.read_bytes())
    content[-30 * 8 - 8 : -30 * 8] = (2**34).to_bytes(8, "little")  # of the map of ids, which stands last
    path.write_bytes(content)
    edit(folder, ("UPDATE indexes SET sha256 = ?, seen = ?", sha256_of_file(path), file_state(path)))
    assert f"{path} can't be read" in refused(folder)
    assert faiss.get_deserialization_vector_byte_limit() == before


def test_ids_far_apart_take_no_mask(folder):
    """A filter among entries of which one has an enormous id: 2^46 bytes would be asked for."""
    with LocalStore(folder).existing_writer() as writer:
        writer.use_up_ids(2**46)
        writer.add([entry(number, camera="c9") for number in range(40, 45)], vectors(5, seed=3))
        writer.finish()
        writer.refresh_index(Notes(), requested="HNSW8,SQ8")
        writer.remove([7], "id")
    with open_gallery(folder) as gallery:
        expected = gallery.search(vectors(3), 4, exact=True)
        assert gallery.search(vectors(3), 4) == expected
        assert max(gallery.ids()) == 2**46 + 5


def test_what_is_refused_stays_as_it_is(folder, tmp_path):
    """No command that writes touches a gallery that it can't read."""
    edit(folder, ("UPDATE entries SET box = '{}' WHERE id = 4",), ("UPDATE sqlite_sequence SET seq = 'x'",))
    before = {path: path.read_bytes() for path in (folder / "vectors").iterdir()}
    for command in (("compact", folder), ("repair", folder), ("remove", "--id", 4, "--yes", "--gallery", folder)):
        outcome = sil("gallery", *command)
        assert outcome.code == 1
        assert outcome.err.count("\n") <= 2
        assert "Unexpected" not in outcome.err
    assert {path: path.read_bytes() for path in (folder / "vectors").iterdir()} == before
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "value", [10**18, -1, 0, "x", None, [], float("nan"), "1" * 5000], ids=lambda value: str(value)[:20]
)
@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("model.json", ("architecture", "height")),
        ("model.json", ("architecture", "width")),
        ("model.json", ("architecture", "mean", 0)),
        ("model.json", ("fingerprint",)),
        ("model.json", ("format",)),
        ("calibration.json", ("match",)),
        ("calibration.json", ("fingerprint",)),
    ],
)
@pytest.mark.thorough
def test_what_is_kept_of_the_model(world, tmp_path, monkeypatch, name, keys, value):
    shutil.copytree(world / "gallery", tmp_path / "gallery")
    picture = next((world / "data").glob("*/images/query/*.jpg"))
    monkeypatch.chdir(tmp_path)
    record = json.loads((tmp_path / "gallery/model/model.json").read_text())
    calibration = {"made_on": "two networks", "same_pairs": 5, "different_pairs": 50, "thresholds": {}, "match": 0.5}
    calibration |= {"possible": 0.3, "fingerprint": record["fingerprint"]}
    document = place = {"model.json": record, "calibration.json": calibration}[name]
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    for path in (tmp_path / "gallery/model").glob("export*.json"):
        path.unlink()  # of the same model, and looked at first
    (tmp_path / "gallery/model" / name).write_text(json.dumps(document))
    outcome = sil("query", picture)
    is_a_number = keys == ("architecture", "mean", 0) and value in (10**18, -1, 0)  # of which any is possible
    assert outcome.code == 1 or is_a_number
    assert "Unexpected" not in outcome.err
    assert "Traceback" not in outcome.err
    assert len(outcome.error) < 1500
