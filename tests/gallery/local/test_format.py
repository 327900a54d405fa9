"""A gallery of the first format, as it was written then, becomes one of today."""

from __future__ import annotations

import json
import os
import sqlite3

import numpy as np
import pytest
from galleries import MODEL, entry, vectors

from sil_cli.errors import SilError
from sil_cli.gallery.filters import Filter
from sil_cli.gallery.local.segments import write_segment
from sil_cli.gallery.local.store import LocalStore
from sil_cli.gallery.stores import open_gallery
from sil_cli.locks import writer_lock
from sil_cli.similarity.distance import unit_rows

FIRST_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE segments (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    sha256 TEXT NOT NULL,
    count INTEGER NOT NULL
) STRICT;
CREATE TABLE entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL,
    path TEXT NOT NULL,
    box TEXT NOT NULL,
    identity TEXT,
    camera TEXT,
    time TEXT,
    domain TEXT,
    content_hash TEXT NOT NULL,
    segment INTEGER NOT NULL REFERENCES segments (number),
    UNIQUE (source, path, box)
) STRICT;
CREATE INDEX entries_by_content ON entries (content_hash);
CREATE INDEX entries_by_segment ON entries (segment);
"""
ROWS = unit_rows(vectors(4))


@pytest.fixture
def first(tmp_path):
    folder = tmp_path / "gallery"
    (folder / "vectors").mkdir(parents=True)
    sha256, _ = write_segment(folder / "vectors/segment-000001.faiss", np.arange(1, 5), ROWS)
    connection = sqlite3.connect(folder / "gallery.sqlite")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(FIRST_SCHEMA)
    meta = {"format": 1, "model": MODEL, "index": "exact (inner product of unit float32 vectors)"}
    connection.executemany("INSERT INTO meta VALUES (?, ?)", [(key, json.dumps(value)) for key, value in meta.items()])
    connection.execute("INSERT INTO segments VALUES (1, 'segment-000001.faiss', ?, 4)", (sha256,))
    for number in range(1, 5):
        time = f"2024-05-0{number}T12:00:00+02:00" if number < 4 else None
        row = (number, "photos", f"{number}.jpg", "", f"p{number}", "c1", time, None, f"hash{number}", 1)
        connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    connection.commit()
    connection.close()
    return folder


def check(folder):
    with open_gallery(folder) as gallery:
        assert gallery.search(ROWS, 4)[2][0].id == 3
        after = gallery.entries([2])[2].time
        assert gallery.ids_passing(Filter(after=after)).tolist() == [2, 3]
        assert gallery.requested_index() == "auto"
        assert gallery.last_id() == 4
    assert all(one.ok for one in LocalStore(folder).check())


def test_a_reader_brings_it_up_to_date(first):
    check(first)
    check(first)


def test_so_does_a_writer(first):
    with LocalStore(first).writer(MODEL) as writer:
        writer.add([entry(9, metadata={"a": "b"})], vectors(1, seed=4))
        assert writer.ids_passing(Filter(metadata=(("a", "b"),))).tolist() == [5]
        writer.remove([5], "id")
    with open_gallery(first) as gallery:
        assert len(gallery) == 4


def test_so_do_the_checks(first):
    assert all(one.ok for one in LocalStore(first).check())


def test_while_somebody_writes_a_reader_is_told_to_wait(first):
    with (
        writer_lock(first, while_held="", elsewhere=""),
        pytest.raises(SilError, match=rf"being written by process {os.getpid()}.*older version: wait"),
    ):
        open_gallery(first)


def test_where_it_cannot_be_written_it_stays_whole(first, monkeypatch):
    def refuse(*_, **__):
        raise SilError("It can't be written.", "Copy it.")

    monkeypatch.setattr("sil_cli.gallery.local.store.writer_lock", refuse)
    with pytest.raises(SilError, match="Copy it"):
        open_gallery(first)
    monkeypatch.undo()
    check(first)


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+14:00", "yesterday"])
def test_a_time_that_is_none_leaves_it_as_it_is(first, time):
    connection = sqlite3.connect(first / "gallery.sqlite")
    connection.execute("UPDATE entries SET time = ? WHERE id = 2", (time,))
    connection.commit()
    connection.close()
    for _ in range(2):
        with pytest.raises(SilError, match=r"gallery.sqlite can't be used"):
            open_gallery(first)
