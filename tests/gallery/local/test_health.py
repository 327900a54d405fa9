from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import threading
from datetime import datetime

import numpy as np
import pytest
from galleries import MODEL, Notes, described, entry, make_gallery, vectors

from sil_cli.errors import GalleryError, SilError
from sil_cli.gallery.filters import Filter
from sil_cli.gallery.local import segments as segments_module
from sil_cli.gallery.local.segments import write_segment
from sil_cli.gallery.local.store import LocalStore
from sil_cli.gallery.local.tables import Tables
from sil_cli.gallery.stores import open_gallery
from sil_cli.similarity.distance import unit_rows


@pytest.fixture
def folder(tmp_path):
    return make_gallery(tmp_path / "g")


def wrong(folder):
    return {check.name: check.found for check in LocalStore(folder).check() if not check.ok}


def path_of(folder, number=2):
    return folder / "vectors" / f"segment-{number:06d}.faiss"


def change(folder, *statements):
    connection = sqlite3.connect(folder / "gallery.sqlite")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def rewrite(folder, number, ids, rows):
    """Another well-formed file of vectors in the place of one."""
    write_segment(path_of(folder, number), np.array(ids), rows)


def repair(folder, *, trust=False):
    with LocalStore(folder).existing_writer() as writer:
        repaired = writer.repair(Notes(), trust=trust)
        return repaired, repaired.entries


def test_a_sound_gallery_passes_every_check(folder):
    with LocalStore(folder).existing_writer() as writer:
        writer.refresh_index(Notes(), requested="IVF2,SQ8")
        writer.remove([3], "id")
    checks = LocalStore(folder).check()
    assert wrong(folder) == {}
    assert [check.name for check in checks][:2] == ["database", "segment-000001.faiss"]
    assert "9 unit vectors, one for each entry, 1 more of removed entries" in checks[1].found
    assert "29, each with a vector" in checks[4].found
    assert "IVF2,SQ8, checksum right" in checks[5].found
    repaired, left = repair(folder)
    assert (repaired.lost, repaired.files, repaired.index_rebuilt, left) == ([], {}, False, 29)


def cut(folder):
    content = path_of(folder).read_bytes()
    path_of(folder).write_bytes(content[:-100])


def flip(folder):
    content = bytearray(path_of(folder).read_bytes())
    content[200] ^= 1
    path_of(folder).write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "isn't a file of 10 vectors of 8"),
        (flip, "checksum"),
        (lambda folder: path_of(folder).unlink(), "it is missing"),
        (lambda folder: path_of(folder).write_bytes(b""), "isn't a file of 10 vectors"),
        (lambda folder: shutil.copy(path_of(folder, 1), path_of(folder)), "checksum"),
    ],
)
def test_a_broken_file_is_found_and_its_entries_are_the_only_ones_lost(folder, damage, words):
    damage(folder)
    assert list(wrong(folder)) == ["segment-000002.faiss", "entries"]
    assert wrong(folder)["entries"] == "30, but only 20 with a sound vector"
    assert words in wrong(folder)["segment-000002.faiss"]
    repaired, left = repair(folder)
    assert [one.id for one in repaired.lost] == list(range(11, 21))
    assert [one.path for one in repaired.lost] == [f"{number}.jpg" for number in range(10, 20)]
    assert all(words in one.reason for one in repaired.lost)
    assert [name for name, what in repaired.files.items() if words in what] == ["segment-000002.faiss"]
    assert left == 20
    assert wrong(folder) == {}
    with open_gallery(folder) as gallery:
        assert len(gallery.search(vectors(1), 99)[0]) == 20
    assert not path_of(folder).exists()


@pytest.mark.parametrize("moment", ["problems", "index"])  # what verify asks after it took its snapshot, and before
def test_a_sound_gallery_stays_sound_while_a_writer_merges_its_files(folder, monkeypatch, moment):
    with LocalStore(folder).existing_writer() as writer:
        writer.refresh_index(Notes(), requested="IVF2,SQ8")

    def index_more():
        with LocalStore(folder).writer(MODEL) as writer:
            writer.add([entry(100)], vectors(1, seed=100))
            writer.finish()
            writer.refresh_index(Notes(), requested="IVF3,SQ8")

    before = set(files_of(folder))
    meanwhile(monkeypatch, moment, index_more)
    checks = LocalStore(folder).check()
    assert not before & set(files_of(folder))
    assert [check for check in checks if not check.ok] == []
    names = [check.name for check in checks]
    assert set(names) >= set(files_of(folder))


def test_an_empty_gallery_is_its_own_while_its_first_vectors_come(tmp_path, monkeypatch):
    folder = make_gallery(tmp_path / "g", 0)

    def index_first():
        with LocalStore(folder).writer(MODEL) as writer:
            writer.add([entry(1)], vectors(1))

    meanwhile(monkeypatch, "problems", index_first)
    checks = LocalStore(folder).check()
    assert [check for check in checks if not check.ok] == []
    assert checks[-1].found == "1, each with a vector"


def test_a_missing_file_is_told_while_a_writer_adds(folder, monkeypatch):
    path_of(folder).unlink()

    def index_more():
        with LocalStore(folder).writer(MODEL) as writer:
            writer.add([entry(100)], vectors(1, seed=100))

    meanwhile(monkeypatch, "index", index_more)
    found = wrong(folder)
    assert found["segment-000002.faiss"] == "it is missing"
    assert found["entries"] == "31, but only 21 with a sound vector"


def meanwhile(monkeypatch, moment, work):
    """Do some work when a store is first asked for something."""
    asked = getattr(Tables, moment)

    def first(store):
        monkeypatch.setattr(Tables, moment, asked)
        answer = asked(store)
        work()
        return answer

    monkeypatch.setattr(Tables, moment, first)


def test_an_edited_file_is_lost_or_trusted(folder):
    rows = unit_rows(vectors(10, seed=77))
    rewrite(folder, 2, range(11, 21), rows)
    with pytest.raises(GalleryError, match=r"checksum.*sil gallery repair"):
        open_gallery(folder)
    repaired, left = repair(folder, trust=True)
    assert repaired.files == {"segment-000002.faiss": "trusted as it is now"}
    assert (repaired.lost, left) == ([], 30)
    assert wrong(folder) == {}
    with open_gallery(folder) as gallery:
        assert gallery.search(rows[4:5], 1)[0][0].id == 15


def test_trust_does_not_reach_what_cannot_be_searched(folder, monkeypatch):
    rows = unit_rows(vectors(10, seed=77))
    rows[3] *= 2
    rows[5] = np.nan
    ids = [11, 12, 13, 14, 15, 16, 17, 18, 18, 999]
    rewrite(folder, 2, ids, rows)
    cut_file = path_of(folder, 3)
    cut_file.write_bytes(cut_file.read_bytes() + b"more")
    repaired, left = repair(folder, trust=True)
    reasons = {one.id: one.reason.partition(": ")[2] for one in repaired.lost}
    assert {one: reasons[one] for one in reasons if one <= 20} == {
        14: "a vector that isn't of length 1",
        16: "a vector that isn't of length 1",
        18: "two vectors",
        19: "no vector",
        20: "no vector",
    }
    assert {one for one in reasons if one > 20} == set(range(21, 31))
    assert left == 15
    assert wrong(folder) == {}


def test_faiss_never_sees_a_header_that_a_stranger_wrote(folder, monkeypatch):
    """Not even under a checksum that fits: whoever can edit the files may edit the database beside them."""
    path = path_of(folder)
    content = bytearray(path.read_bytes())
    content[4:8] = (10**9).to_bytes(4, "little")  # the dimension
    path.write_bytes(content)
    change(folder, f"UPDATE segments SET sha256 = '{segments_module.sha256_of_bytes(bytes(content))}' WHERE number = 2")
    monkeypatch.setattr(segments_module.faiss, "read_index", lambda *_: pytest.fail("FAISS parsed it"))
    change(folder, "DELETE FROM entries WHERE segment = 1", "DELETE FROM segments WHERE number = 1")
    with pytest.raises(GalleryError, match="isn't a file of 10 vectors of 8"):
        open_gallery(folder)


def test_a_file_is_hashed_again_when_anything_touched_it(folder, monkeypatch):
    hashed = []
    digest = segments_module.sha256_of_bytes
    monkeypatch.setattr(segments_module, "sha256_of_bytes", lambda content: hashed.append(1) or digest(content))
    open_gallery(folder).close()
    assert hashed == []
    moved = folder.with_name("copy")
    shutil.copytree(folder, moved)
    open_gallery(moved).close()
    assert len(hashed) == 3
    flip(folder)
    with pytest.raises(GalleryError, match="checksum"):
        open_gallery(folder)


def test_a_damaged_index_is_refused_and_repaired(folder):
    with LocalStore(folder).existing_writer() as writer:
        writer.refresh_index(Notes(), requested="IVF2,SQ8")
    (path,) = (folder / "vectors").glob("index-*")
    path.write_bytes(path.read_bytes()[:-3] + b"abc")
    with pytest.raises(GalleryError, match=r"index-000001.faiss is damaged.*sil gallery repair"):
        open_gallery(folder)
    assert "checksum" in wrong(folder)["index-000001.faiss"]
    repaired, left = repair(folder)
    assert (repaired.index_rebuilt, repaired.lost, left) == (True, [], 30)
    open_gallery(folder).close()


def test_a_database_from_another_gallery_is_refused(folder, tmp_path):
    other = make_gallery(tmp_path / "other", rows=vectors(30, seed=5))
    for name in ("gallery.sqlite", "gallery.sqlite-wal", "gallery.sqlite-shm"):
        (folder / name).unlink(missing_ok=True)
    shutil.copy(other / "gallery.sqlite", folder / "gallery.sqlite")
    with pytest.raises(GalleryError, match="damaged or was replaced"):
        open_gallery(folder)
    assert set(wrong(folder)) == {"entries", *(f"segment-{number:06d}.faiss" for number in (1, 2, 3))}


def put_database(folder, other):
    for name in ("gallery.sqlite", "gallery.sqlite-wal", "gallery.sqlite-shm"):
        (folder / name).unlink(missing_ok=True)
    shutil.copy(other / "gallery.sqlite", folder / "gallery.sqlite")


def files_of(folder):
    return {path.name: path.read_bytes() for path in (folder / "vectors").iterdir()}


@pytest.mark.parametrize("count", [7, 40])
def test_no_vector_is_touched_where_the_database_is_another_gallerys(folder, tmp_path, count):
    other = make_gallery(tmp_path / "other", count, batch=99)  # fewer and larger files
    own = shutil.copytree(folder, tmp_path / "own")
    before = files_of(folder)
    put_database(folder, other)
    for write in (
        lambda: repair(folder),
        lambda: repair(folder, trust=True),
        lambda: LocalStore(folder).writer(MODEL).__enter__(),
    ):
        with pytest.raises(GalleryError, match=r"most likely belongs to another gallery.*Nothing was changed"):
            write()
        assert files_of(folder) == before
        assert not (folder / "set-aside").exists()
    put_database(folder, own)
    assert wrong(folder) == {}
    with open_gallery(folder) as gallery:
        assert len(gallery.search(vectors(1), 99)[0]) == 30
    put_database(folder, other)
    shutil.move(folder / "vectors", tmp_path / "moved")
    assert repair(folder)[1] == 0


def test_vectors_without_their_database_are_not_written_over(folder):
    before = files_of(folder)
    for name in ("gallery.sqlite", "gallery.sqlite-wal", "gallery.sqlite-shm"):
        (folder / name).unlink(missing_ok=True)
    with (
        pytest.raises(GalleryError, match=r"gallery\.sqlite is missing.*Put it back"),
        LocalStore(folder).writer(MODEL),
    ):
        pass
    (folder / "gallery.sqlite").touch()  # a database without tables
    with pytest.raises(GalleryError, match="most likely belongs to another gallery"), LocalStore(folder).writer(MODEL):
        pass
    assert files_of(folder) == before


def test_files_that_an_older_database_does_not_know_are_set_aside(folder, tmp_path):
    old = shutil.copytree(folder, tmp_path / "old")
    with LocalStore(folder).writer(MODEL) as writer:
        writer.add([entry(100)], vectors(1, seed=100))
        writer.add([entry(101)], vectors(1, seed=101))
    newer = {name: content for name, content in files_of(folder).items() if name > "segment-000003.faiss"}
    put_database(folder, old)
    with LocalStore(folder).writer(MODEL) as writer:
        writer.add([entry(200)], vectors(1, seed=200))  # takes the number of a file that was there
        assert [path.name for path in writer.set_aside] == list(newer)
    assert {path.name: path.read_bytes() for path in (folder / "set-aside").iterdir()} == newer
    shutil.copy(folder / "set-aside" / "segment-000005.faiss", folder / "vectors")
    repaired, left = repair(folder)
    assert [path.name for path in repaired.set_aside] == ["segment-000005-2.faiss"]
    assert left == 31
    assert wrong(folder) == {}
    with LocalStore(folder).existing_writer() as writer:
        assert writer.compact()
    assert not (folder / "set-aside").exists()


def test_what_repair_drops_is_set_aside(folder):
    with LocalStore(folder).existing_writer() as writer:
        writer.refresh_index(Notes(), requested="IVF2,SQ8")
    (index,) = (folder / "vectors").glob("index-*")
    index.write_bytes(b"nothing")
    flip(folder)
    edited = path_of(folder).read_bytes()
    repaired, left = repair(folder)
    assert [path.name for path in repaired.set_aside] == ["segment-000002.faiss", "index-000001.faiss"]
    assert repaired.set_aside[0].read_bytes() == edited
    assert left == 20
    assert repaired.index_rebuilt
    assert set(files_of(folder)) == {"segment-000004.faiss", "index-000002.faiss"}


def test_the_only_file_may_be_damaged_without_the_database_being_anothers(tmp_path):
    folder = make_gallery(tmp_path / "g", 10)
    for damage in (lambda: flip_first(folder), lambda: path_of(folder, 1).write_bytes(b"")):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        damage()
        shutil.copytree(folder, copy)
        repaired, left = repair(copy)
        assert (len(repaired.lost), len(repaired.set_aside), left) == (10, 1, 0)
        repaired, left = repair(copy)
        assert (repaired.set_aside, left) == ([], 0)


def flip_first(folder):
    content = bytearray(path_of(folder, 1).read_bytes())
    content[200] ^= 1
    path_of(folder, 1).write_bytes(content)


def test_leftovers_of_interrupted_writing_are_deleted_not_set_aside(folder, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    with LocalStore(folder).writer(MODEL) as writer:
        monkeypatch.setattr(writer._tables, "insert_segment", killed)
        with pytest.raises(Killed):
            writer.add([entry(100)], vectors(1))
    assert path_of(folder, 4).exists()
    with LocalStore(folder).writer(MODEL) as writer:
        assert not path_of(folder, 4).exists()
        monkeypatch.setattr(writer._files, "delete_leftovers", killed)
        with pytest.raises(Killed):
            writer.finish()
    assert set(files_of(folder)) >= {f"segment-{number:06d}.faiss" for number in (1, 2, 3, 5)}
    with LocalStore(folder).writer(MODEL) as writer:
        assert writer.set_aside == []
    assert set(files_of(folder)) == {"segment-000005.faiss"}
    assert wrong(folder) == {}


def test_entries_that_point_nowhere_are_found(folder):
    change(folder, "PRAGMA foreign_keys = OFF", "UPDATE entries SET segment = 77 WHERE id = 5")
    found = wrong(folder)
    assert "belongs to no row of segments" in found["database"]
    assert found["entries"] == "30, but 29 in files that count"


def test_entries_without_a_vector_are_counted(folder):
    columns = "source, path, box, content_hash, segment"
    change(folder, f"INSERT INTO entries ({columns}) VALUES ('photos', 'new.jpg', '', 'hash', 2)")
    assert "1 of its entries have no vector" in wrong(folder)["segment-000002.faiss"]
    assert wrong(folder)["entries"] == "31, but only 30 with a sound vector"


def test_what_is_set_aside_and_a_foreign_database_are_told(folder, tmp_path):
    (folder / "set-aside").mkdir()
    (folder / "set-aside" / "segment-000009.faiss").touch()
    (told,) = [check for check in LocalStore(folder).check() if not check.done]
    assert (told.name, told.ok) == ("set aside", True)
    assert told.found.startswith("1 in set-aside/")
    put_database(folder, make_gallery(tmp_path / "other", 7))
    assert "most likely another gallery's" in wrong(folder)["files"]


def test_a_damaged_table_index_is_repaired(folder):
    change(
        folder,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = 'CREATE INDEX entries_by_camera ON entries (domain)'"
        " WHERE name = 'entries_by_camera'",
    )
    assert "database" in wrong(folder)
    repaired, left = repair(folder)
    assert repaired.database_mended
    assert left == 30
    assert wrong(folder) == {}


# Erasure


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_removed_people_leave_no_trace_after_compact(tmp_path):
    secret = "person-of-whom-nothing-may-stay"

    def make(number):
        if number % 3:
            return described(number)
        return entry(number, identity=f"{secret}-{number}", camera=f"{secret}-c", metadata={f"{secret}-key": secret})

    folder = make_gallery(tmp_path / "g", make=make)
    units = unit_rows(vectors(30))
    with LocalStore(folder).existing_writer() as writer:
        writer.refresh_index(Notes(), requested="Flat")  # holds the vectors as they are
        gone = writer.ids_passing(Filter(metadata=((f"{secret}-key", secret),))).tolist()
        assert gone == list(range(1, 31, 3))
        assert sum(units[0].tobytes() in content for content in bytes_of(folder).values()) == 2
        assert writer.remove(gone, "metadata") == 10
        assert writer.compact()
        writer.refresh_index(Notes())
        assert writer.index.record().count == 20
        everything = bytes_of(folder)
    for files in (everything, bytes_of(folder)):
        for name, content in files.items():
            assert secret.encode() not in content, name
            for identifier in gone:
                assert units[identifier - 1].tobytes() not in content, name
    assert any(units[1].tobytes() in content for content in everything.values())  # others are still there
    with open_gallery(folder) as gallery:
        assert [(one.count, one.criterion) for one in gallery.removals()] == [(10, "metadata")]
        assert datetime.fromisoformat(gallery.removals()[0].time).tzinfo is not None
        assert len(gallery) == 20
    assert wrong(folder) == {}


def test_a_reader_keeps_a_compaction_from_being_complete_and_is_not_disturbed(folder):
    with open_gallery(folder) as reader, LocalStore(folder).existing_writer() as writer:
        assert writer.remove([1, 2], "id") == 2
        assert not writer.compact()
        assert len(reader.search(vectors(1), 99)[0]) == 30
        assert reader.search(vectors(30)[:1], 1)[0][0].id == 1
    with LocalStore(folder).existing_writer() as writer:
        assert writer.compact()


def test_removing_everything_leaves_a_gallery(folder):
    with LocalStore(folder).existing_writer() as writer:
        writer.refresh_index(Notes(), requested="IVF2,SQ8")
        assert writer.remove(writer.ids_passing(Filter()).tolist(), "everything") == 30
        assert writer.remove([1], "id") == 0
        assert writer.compact()
        writer.refresh_index(Notes())
        assert writer.index.record() is None
    assert wrong(folder) == {}
    with open_gallery(folder) as gallery:
        assert len(gallery) == 0
        with pytest.raises(GalleryError, match="is empty"):
            gallery.search(vectors(1), 3)
    with LocalStore(folder).writer(MODEL) as writer:
        writer.add([entry(1)], vectors(1))
    with open_gallery(folder) as gallery:
        assert gallery.search(vectors(1), 3)[0][0].id == 31


# What a stranger may have put into a gallery

ENDLESS = "WITH RECURSIVE one(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM one) SELECT n AS key, n AS value FROM one"


@pytest.mark.parametrize(
    ("statements", "named"),
    [
        (["ALTER TABLE meta RENAME TO was", f"CREATE VIEW meta AS {ENDLESS}"], "'was'|'meta'"),
        (["CREATE TRIGGER more AFTER DELETE ON entries BEGIN DELETE FROM entries; END"], "a trigger 'more'"),
        (["CREATE VIRTUAL TABLE more USING fts5(text)"], "a table 'more'"),
    ],
)
def test_a_database_with_more_than_our_tables_is_refused(folder, statements, named):
    change(folder, *statements)
    with pytest.raises(GalleryError, match=rf"can't be used: it has .*({named})"):
        open_gallery(folder)
    with pytest.raises(GalleryError, match="that no gallery has"), LocalStore(folder).existing_writer():
        pass


def test_a_signal_ends_a_long_query(folder):
    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with open_gallery(folder) as gallery:
            threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
            with pytest.raises(KeyboardInterrupt):
                gallery._tables._rows(f"SELECT count(*) FROM ({ENDLESS})")
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("name", ["gallery.sqlite", "vectors", "set-aside", "model"])
def test_no_link_in_a_gallery_leads_a_writer_elsewhere(folder, tmp_path, name):
    other = make_gallery(tmp_path / "other", 5)
    (other / "set-aside").mkdir()
    (other / "model").mkdir()
    before = bytes_of(other)
    if (folder / name).exists():
        (folder / name).rename(tmp_path / "moved")
    (folder / name).symlink_to(other / name)
    with pytest.raises(SilError, match=rf"{name} is a link"), LocalStore(folder).existing_writer():
        pass
    assert bytes_of(other) == before
