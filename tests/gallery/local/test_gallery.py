from __future__ import annotations

import errno
import json
import os
import socket
import sqlite3
import subprocess
from datetime import UTC, datetime

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sil_cli.errors import DataError, GalleryError, SilError
from sil_cli.gallery.entry import GalleryEntry
from sil_cli.gallery.filters import Filter
from sil_cli.gallery.local import segments as segments_module
from sil_cli.gallery.local import vector_files
from sil_cli.gallery.local.store import LocalStore
from sil_cli.gallery.stores import open_gallery
from sil_cli.similarity.distance import unit_rows

MODEL = {"fingerprint": "0123456789abcdef" * 4, "dimension": 8, "backbone": "resnet18"}


def entry(number: int, **known) -> GalleryEntry:
    return GalleryEntry(path=f"{number}.jpg", content_hash=f"hash{number}", source="photos", **known)


def vectors(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, MODEL["dimension"])).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    """A gallery of 30 images in three unmerged batches."""
    folder = tmp_path / "gallery"
    rows = vectors(30)
    with LocalStore(folder).writer(MODEL) as writer:
        for start in (0, 10, 20):
            writer.add([entry(number) for number in range(start, start + 10)], rows[start : start + 10])
    return folder


def segment_files(folder):
    return sorted(path.name for path in (folder / "vectors").iterdir())


def remove(writer, source, paths):
    where = Filter(paths=tuple(paths), metadata=(("source", source),))
    return writer.remove(writer.ids_passing(where).tolist(), "path")


def paths_found(folder, query, k, **options):
    with open_gallery(folder) as gallery:
        return [[match.path for match in matches] for matches in gallery.search(query, k, **options)]


@pytest.mark.parametrize("merged", [False, True])
def test_search_is_exact_and_ranked(folder, merged):
    if merged:
        with LocalStore(folder).writer(MODEL) as writer:
            writer.finish()
    queries = vectors(5, seed=1)
    scores = unit_rows(queries).astype(float) @ unit_rows(vectors(30)).astype(float).T
    with open_gallery(folder) as gallery:
        assert len(gallery) == 30
        found = gallery.search(queries, 4)
    for row, matches in zip(scores, found, strict=True):
        assert [match.path for match in matches] == [f"{at}.jpg" for at in np.argsort(-row)[:4]]
        assert [match.score for match in matches] == pytest.approx(np.sort(row)[::-1][:4], abs=1e-12)
        assert [match.rank for match in matches] == [1, 2, 3, 4]


def test_metadata_comes_back_as_it_was_given(tmp_path):
    given_entry = GalleryEntry(
        path="ä/☃.jpg",
        content_hash="h",
        source="s",
        identity="p1",
        camera="c2",
        time=datetime(2024, 5, 1, 12, 30, tzinfo=UTC),
        domain="airport",
        box=(1, 2, 30, 40),
    )
    with LocalStore(tmp_path / "g").writer(MODEL) as writer:
        writer.add([given_entry], vectors(1))
        assert writer.existing([given_entry.key, ("s", "other", None)]) == {given_entry.key: (1, given_entry)}
        assert writer.existing([("t", *given_entry.key[1:])]) == {}
    with open_gallery(tmp_path / "g") as gallery:
        match = gallery.search(vectors(1), 1)[0][0]
        assert gallery.model == MODEL
    for name in ("path", "source", "identity", "camera", "time", "domain", "box"):
        assert getattr(match, name) == getattr(given_entry, name)
    assert match.score == pytest.approx(1.0, abs=1e-6)
    assert match.score <= 1.0


@settings(max_examples=30, deadline=None)
@given(kinds=st.integers(1, 6), k=st.integers(1, 40), queries=st.integers(1, 30), seed=st.integers(0, 999))
def test_ties_stand_in_the_order_of_ids_however_many(tmp_path_factory, kinds, k, queries, seed):
    """Few different vectors, many times each: every cut falls into a tie."""
    folder = tmp_path_factory.mktemp("ties") / "g"
    pool = vectors(kinds, seed)
    rows = pool[np.random.default_rng(seed).integers(kinds, size=36)]
    with LocalStore(folder).writer(MODEL) as writer:
        writer.add([entry(number) for number in range(20)], rows[:20])
        writer.add([entry(number) for number in range(20, 36)], rows[20:])
    asked = vectors(queries, seed + 1)
    units, asked_units = unit_rows(rows).astype(float), unit_rows(asked).astype(float)
    with open_gallery(folder) as gallery:
        for query, matches in zip(asked_units, gallery.search(asked, k), strict=True):
            order = sorted(range(36), key=lambda at: (-(units[at] * query).sum(), at))
            assert [match.id for match in matches] == [at + 1 for at in order[:k]]
        assert gallery.search(asked[:1], k)[0] == gallery.search(asked, k)[0]


def test_chosen_and_excluded_ids(folder):
    with open_gallery(folder) as gallery:
        everything = gallery.search(vectors(2, seed=3), 99)
        assert [len(matches) for matches in everything] == [30, 30]
        chosen = tuple(match.id for match in everything[0][10:20])
        kept = gallery.search(vectors(2, seed=3), 5, where=Filter(ids=(*chosen, 999)))
        assert [match.id for match in kept[0]] == [match.id for match in everything[0][10:15]]
        assert gallery.search(vectors(1), 5, where=Filter(ids=(999,))) == [[]]
        best = [{matches[0].id, matches[1].id} for matches in everything]
        without = gallery.search(vectors(2, seed=3), 3, exclude=best)
        for matches, complete in zip(without, everything, strict=True):
            assert [match.id for match in matches] == [match.id for match in complete[2:5]]
            assert [match.rank for match in matches] == [1, 2, 3]
        many = [{match.id for match in everything[0][:25]}, set()]
        left = gallery.search(vectors(2, seed=3), 4, exclude=many)
        assert [match.id for match in left[0]] == [match.id for match in everything[0][25:29]]
        assert [match.id for match in left[1]] == [match.id for match in everything[1][:4]]
        assert gallery.ids_of_content("hash4") == {5}
        assert gallery.ids_of_content("unknown") == frozenset()


def test_replaced_and_removed_entries_are_found_no_more(folder):
    old, new = vectors(30), vectors(1, seed=9)
    with LocalStore(folder).writer(MODEL) as writer:
        writer.add([GalleryEntry("3.jpg", "changed", "photos")], new)
        assert writer.existing([entry(3).key])[entry(3).key][1].content_hash == "changed"
        assert remove(writer, "photos", ["4.jpg", "5.jpg", "nobody.jpg"]) == 2
        assert len(writer) == 28
    for merged in (False, True):
        assert paths_found(folder, new, 1) == [["3.jpg"]]
        assert len(paths_found(folder, old[4:5], 99)[0]) == 28
        assert "4.jpg" not in paths_found(folder, old[4:5], 99)[0]
        with open_gallery(folder) as gallery:
            assert gallery.search(old[3:4], 1)[0][0].score < 0.99
        if not merged:
            with LocalStore(folder).writer(MODEL) as writer:
                writer.finish()
    stored = faiss.read_index(str(folder / "vectors" / segment_files(folder)[0]))
    assert stored.ntotal == 28  # dead vectors are gone from the disk
    assert isinstance(stored, faiss.IndexIDMap2)


def test_the_same_path_of_another_source_or_box_is_another_entry(tmp_path):
    entries = [
        GalleryEntry("1.jpg", "h", "a"),
        GalleryEntry("1.jpg", "h", "b"),
        GalleryEntry("1.jpg", "h", "b", box=(0, 0, 5, 5)),
    ]
    with LocalStore(tmp_path / "g").writer(MODEL) as writer:
        writer.add(entries, vectors(3))
        assert len(writer) == 3
        assert remove(writer, "b", ["1.jpg"]) == 2
        with pytest.raises(GalleryError, match=r"1.jpg' appears 2 times"):
            writer.add(entries[:1] * 2, vectors(2))
        assert len(writer) == 1


def test_ids_are_never_used_twice(folder):
    with LocalStore(folder).writer(MODEL) as writer:
        remove(writer, "photos", [f"{number}.jpg" for number in range(30)])
        writer.finish()
        assert segment_files(folder) == []
        writer.add([entry(99)], vectors(1))
    with open_gallery(folder) as gallery:
        assert gallery.search(vectors(1), 1)[0][0].id == 31


def test_merging_respects_the_size_of_a_file(folder, monkeypatch):
    monkeypatch.setattr(vector_files, "SEGMENT_BYTES", 15 * 4 * MODEL["dimension"])
    before = paths_found(folder, vectors(3, seed=5), 30)
    with LocalStore(folder).writer(MODEL) as writer:
        writer.finish()
        assert len(segment_files(folder)) == 3  # 10 of 15 is full enough to be left alone
        for number in range(40, 60):
            writer.add([entry(number)], vectors(1, seed=number))
        remove(writer, "photos", [f"{number}.jpg" for number in range(40, 60)])
        remove(writer, "photos", ["0.jpg"])
        writer.finish()
        assert len(segment_files(folder)) == 3
    without = [[path for path in paths if path != "0.jpg"] for paths in before]
    assert paths_found(folder, vectors(3, seed=5), 30) == without


def test_an_empty_gallery_and_senseless_queries(tmp_path, folder):
    with LocalStore(tmp_path / "empty").writer(MODEL) as writer:
        writer.add([], np.empty((0, 8)))
        writer.finish()
    with open_gallery(tmp_path / "empty") as gallery, pytest.raises(GalleryError, match="is empty"):
        gallery.search(vectors(1), 5)
    with open_gallery(folder) as gallery:
        with pytest.raises(GalleryError, match="0 matches"):
            gallery.search(vectors(1), 0)
        with pytest.raises(GalleryError, match="8 dimensions"):
            gallery.search(np.ones((1, 9)), 5)
        with pytest.raises(DataError, match="1 of 1 query"):
            gallery.search(np.full((1, 8), np.nan), 5)
        assert gallery.search(np.empty((0, 8)), 5) == []


def test_a_refused_batch_leaves_nothing(folder):
    with LocalStore(folder).writer(MODEL) as writer:
        with pytest.raises(DataError, match="1 of 2 gallery"):
            writer.add([entry(40), entry(41)], np.stack([np.ones(8), np.zeros(8)]))
        with pytest.raises(GalleryError, match=r"2 images were given .*\(1, 8\)"):
            writer.add([entry(40), entry(41)], vectors(1))
        with pytest.raises(GalleryError, match="not UTF-8"):
            writer.add([GalleryEntry(os.fsdecode(b"\xff.jpg"), "h", "photos")], vectors(1))
        assert len(writer) == 30
    assert len(segment_files(folder)) == 3


def test_another_model_is_refused_by_reader_and_writer(folder):
    other = MODEL | {"fingerprint": "f" * 64}
    with open_gallery(folder) as gallery:
        gallery.require_model(MODEL["fingerprint"])
        with pytest.raises(GalleryError, match=r"0123456789ab, not by ffffffffffff\. .*--gallery DIR"):
            gallery.require_model(other["fingerprint"])
    with pytest.raises(GalleryError, match="not by ffffffffffff"), LocalStore(folder).writer(other):
        pass


def test_a_second_writer_is_told_who_is_writing(folder):
    with LocalStore(folder).writer(MODEL):
        words = f"process {os.getpid()} on {socket.gethostname()} since 20"
        with pytest.raises(SilError, match=words), LocalStore(folder).writer(MODEL):
            pass
    with LocalStore(folder).writer(MODEL) as writer:
        assert len(writer) == 30


def test_readers_see_a_snapshot_and_are_not_blocked(folder):
    with LocalStore(folder).writer(MODEL) as writer, open_gallery(folder) as before:
        with writer._tables.transaction():
            writer._tables.delete_ids([1])
            assert len(paths_found(folder, vectors(1), 99)[0]) == 30  # opened amid a transaction
        writer.finish()
        assert len(before.search(vectors(1), 99)[0]) == 30  # opened before it
        assert len(paths_found(folder, vectors(1), 99)[0]) == 29


def test_a_reader_looks_again_when_files_are_merged_away_under_it(folder, monkeypatch):
    read = vector_files.read_segment
    merges = []

    def merge_first(path, **facts):
        if not merges:
            merges.append(path)
            with LocalStore(folder).writer(MODEL) as writer:
                writer.finish()
        return read(path, **facts)

    monkeypatch.setattr(vector_files, "read_segment", merge_first)
    with open_gallery(folder) as gallery:
        assert len(gallery) == 30
        assert gallery.info().files == 1


def test_a_database_that_another_gallery_shares_is_not_written(folder, tmp_path):
    other = tmp_path / "other.sqlite"
    other.hardlink_to(folder / "gallery.sqlite")
    before = other.read_bytes()
    with pytest.raises(GalleryError, match=r"has another name elsewhere \(a hard link\)") as caught:
        LocalStore(folder).existing_writer().__enter__()
    assert other.read_bytes() == before
    subprocess.run(caught.value.fix.removeprefix("Make it a file of its own: "), shell=True, check=True)
    with LocalStore(folder).existing_writer() as writer:
        writer.remove([1], "id")
    assert other.read_bytes() == before


def test_files_that_no_batch_needs_are_deleted_by_the_next_writer(folder):
    for name in ("segment-000009.faiss", ".sil-partial-0123456789abcdef.faiss", "notes.txt"):
        (folder / "vectors" / name).write_bytes(b"leftover")
    with LocalStore(folder).writer(MODEL):
        assert len(segment_files(folder)) == 4
        assert (folder / "vectors" / "notes.txt").exists()  # not ours to delete
        assert not list((folder / "vectors").glob(".*"))


@pytest.mark.parametrize("damage", [lambda content: content[:-40], lambda content: b"X" + content[1:], lambda _: b""])
def test_a_damaged_file_of_vectors_is_refused_before_faiss_sees_it(folder, damage, monkeypatch):
    path = folder / "vectors" / "segment-000001.faiss"
    path.write_bytes(damage(path.read_bytes()))
    monkeypatch.setattr(segments_module.faiss, "read_index", lambda *_: pytest.fail("FAISS parsed it"))
    with pytest.raises(GalleryError, match=r"segment-000001.faiss is damaged or was replaced"):
        open_gallery(folder)


def test_a_missing_file_of_vectors_is_named(folder):
    (folder / "vectors" / "segment-000002.faiss").unlink()
    with pytest.raises(GalleryError, match=r"segment-000002.faiss is missing"):
        open_gallery(folder)
    with LocalStore(folder).writer(MODEL) as writer, pytest.raises(GalleryError, match="is missing"):
        writer.finish()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE meta SET value = '3' WHERE key = 'format'", "format 3; this version reads up to format 2"),
        ("UPDATE meta SET value = '{}' WHERE key = 'model'", "can't be used"),
        ("DELETE FROM meta", "can't be used"),
        ("DROP TABLE entries", "can't be used"),
        ("UPDATE segments SET name = '../../secret.faiss' WHERE number = 1", "isn't the name of a segment"),
        ("UPDATE segments SET count = 11 WHERE number = 1", "isn't a file of 11 vectors of 8"),
        ("UPDATE entries SET segment = 2 WHERE segment = 1", "doesn't hold the vectors of all its entries"),
    ],
)
def test_an_edited_database_is_refused(folder, change, words):
    connection = sqlite3.connect(folder / "gallery.sqlite")
    connection.execute(change)
    connection.commit()
    connection.close()
    with pytest.raises(GalleryError, match=words):
        open_gallery(folder)


def test_what_is_no_gallery_is_refused(tmp_path):
    with pytest.raises(GalleryError, match=r"No gallery was found: .*sil index-gallery"):
        open_gallery(tmp_path / "nowhere")
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(GalleryError, match="not a gallery, and not empty"), LocalStore(tmp_path).writer(MODEL):
        pass
    (tmp_path / "gallery.sqlite").write_text("no database " * 100)
    with pytest.raises(GalleryError, match="can't be used"):
        open_gallery(tmp_path)
    with pytest.raises(GalleryError, match="can't be used"), LocalStore(tmp_path).writer(MODEL):
        pass
    with (
        pytest.raises(GalleryError, match="can't be used as a gallery"),
        LocalStore(tmp_path / "thesis.txt").writer(MODEL),
    ):
        pass


def test_a_full_disk_keeps_the_finished_batches(folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with LocalStore(folder).writer(MODEL) as writer:
        with monkeypatch.context() as patch:
            patch.setattr(segments_module, "write_bytes", full)
            with pytest.raises(GalleryError, match=r"No space left .* finished batches are kept"):
                writer.add([entry(40)], vectors(1))
            with pytest.raises(GalleryError, match="No space left"):
                writer.finish()
        pages = writer._tables._rows("PRAGMA page_count")[0][0]
        writer._tables._rows(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(GalleryError, match=r"full.* finished batches are kept"):
            writer.add([entry(number, identity="x" * 5000) for number in range(50, 60)], vectors(10))
        assert len(writer) == 30
    assert len(paths_found(folder, vectors(1), 99)[0]) == 30
    with LocalStore(folder).writer(MODEL) as writer:
        assert len(segment_files(folder)) == 3
        writer.add([entry(40)], vectors(1))
        assert len(writer) == 31


def test_a_gallery_on_a_read_only_medium_is_searched(folder, monkeypatch):
    with LocalStore(folder).writer(MODEL) as writer:
        writer.finish()
    before = sorted(path.name for path in folder.iterdir())
    monkeypatch.setattr("sil_cli.gallery.local.database.os.access", lambda *_: False)
    assert len(paths_found(folder, vectors(1), 99)[0]) == 30
    with open_gallery(folder):
        assert sorted(path.name for path in folder.iterdir()) == before  # not even a log beside it


def test_the_lock_file_is_readable(folder):
    with LocalStore(folder).writer(MODEL):
        holder = json.loads((folder / "writer.lock").read_text())
    assert holder["pid"] == os.getpid()


def test_what_is_known_can_change_while_vectors_stay(folder):
    with LocalStore(folder).writer(MODEL) as writer:
        keys = [("photos", path, None) for path in ("3.jpg", "4.jpg", "none.jpg")]
        known = dict(writer.existing(keys).values())
        assert sorted(one.path for one in known.values()) == ["3.jpg", "4.jpg"]
        assert writer.sources() == ["photos"]
        assert dict(writer.entries_of("photos")).items() >= known.items()
        assert len(dict(writer.entries_of("photos"))) == 30
        third, fourth = sorted(known)
        told = entry(3, camera="c7", metadata={"weather": "Regen ☂"})
        writer.describe({third: told})
        writer.remove([fourth], "id")
    with open_gallery(folder) as gallery:
        assert gallery.entries([third, fourth]) == {third: told}
        np.testing.assert_array_equal(gallery.vectors([third]), unit_rows(vectors(30))[3:4])
        assert len(gallery) == 29
        ((match,),) = gallery.search(vectors(30)[3:4], 1)
        assert (match.id, match.camera, match.metadata) == (third, "c7", {"weather": "Regen ☂"})


def test_entries_are_listed_across_portions(tmp_path):
    with LocalStore(tmp_path / "g").writer(MODEL) as writer:
        entries = [GalleryEntry(path=f"{number}.jpg", content_hash="h", source="many") for number in range(1203)]
        writer.add(entries, vectors(1203))
        assert [one.path for _, one in writer.entries_of("many")] == [one.path for one in entries]
