from __future__ import annotations

import numpy as np
import pytest
from galleries import MODEL, described, entry, make_gallery, vectors

from sil_cli.errors import GalleryError, SilError
from sil_cli.gallery.local import gallery as gallery_module
from sil_cli.gallery.local import rebuild as rebuild_module
from sil_cli.gallery.local.health import check_files
from sil_cli.gallery.local.rebuild import rebuilding
from sil_cli.gallery.local.writer import existing_writer, gallery_writer
from sil_cli.gallery.paths import rebuilding_folder
from sil_cli.gallery.stores import open_gallery

NEW = {"fingerprint": "f" * 64, "dimension": 12}
OTHER = {"fingerprint": "e" * 64, "dimension": 12}


@pytest.fixture
def folder(tmp_path):
    folder = make_gallery(tmp_path / "g")
    with existing_writer(folder) as writer:
        writer.remove([4, 30], "id")
    return folder


def embed_some(rebuild, count=None):
    ids = rebuild.to_do()[:count].tolist()
    if ids:
        entries = rebuild.old.entries(ids)
        rebuild.new.add([entries[one] for one in ids], new_vectors(ids), ids=np.array(ids))
    return ids


def new_vectors(ids):
    return np.concatenate([vectors(1, seed=1000 + one, dimension=12) for one in ids])


def state(folder):
    with open_gallery(folder) as gallery:
        return gallery.model["fingerprint"], gallery.entries(gallery.ids().tolist())


def test_a_rebuilt_gallery_takes_the_place_of_the_old_one(folder):
    _, before = state(folder)
    (folder / "notes.txt").write_text("mine")
    with open_gallery(folder) as reader:
        with rebuilding(folder, NEW) as rebuild:
            assert embed_some(rebuild) == sorted(before)
            assert state(folder)[0] == MODEL["fingerprint"]  # searched meanwhile as it was
            rebuild.swap()
            # the database was closed before it was moved, so nothing of it is left to a log
            assert not (folder / "gallery.sqlite-wal").exists()
        assert len(reader.search(vectors(1), 99)[0]) == 28  # opened before, and still the old one
    assert state(folder) == (NEW["fingerprint"], before)
    assert not rebuilding_folder(folder).exists()
    assert (folder / "notes.txt").read_text() == "mine"
    assert all(check.ok for check in check_files(folder))
    with open_gallery(folder) as gallery:
        assert gallery.search(new_vectors([7]), 1)[0][0].id == 7
        assert [count for _, count, _ in gallery.removals()] == [2]
    with gallery_writer(folder, NEW) as writer:
        writer.add([entry(99)], vectors(1, dimension=12))
    assert max(state(folder)[1]) == 31  # 30 was removed, and is never used again


def test_an_unfinished_rebuild_goes_on(folder):
    with rebuilding(folder, NEW) as rebuild:
        first = embed_some(rebuild, 10)
    assert state(folder)[0] == MODEL["fingerprint"]
    with existing_writer(folder) as writer:
        writer.remove(first[:2], "id")
        writer.add([described(5)], vectors(1, seed=3))  # replaces entry 6, under a new id
    _, before = state(folder)
    with rebuilding(folder, NEW) as rebuild:
        todo = embed_some(rebuild)
        assert set(todo) == set(before) - set(first)
        assert 31 in todo
        rebuild.swap()
    assert state(folder) == (NEW["fingerprint"], before)


def test_another_model_starts_anew_and_compact_throws_away(folder):
    with rebuilding(folder, NEW) as rebuild:
        embed_some(rebuild, 10)
    with rebuilding(folder, OTHER) as rebuild:
        assert len(rebuild.to_do()) == 28
        embed_some(rebuild, 5)
    with existing_writer(folder) as writer:
        writer.compact()
    assert not rebuilding_folder(folder).exists()


def test_nobody_else_writes_meanwhile(folder):
    with rebuilding(folder, NEW), pytest.raises(SilError, match="being written by process"):
        gallery_writer(folder, MODEL).__enter__()


def test_what_was_killed_after_the_swap_is_cleared_away(folder, monkeypatch):
    monkeypatch.setattr(rebuild_module, "delete_superseded", lambda _: None)
    with rebuilding(folder, NEW) as rebuild:
        embed_some(rebuild)
        rebuild.swap()
    assert rebuilding_folder(folder).exists()
    monkeypatch.undo()
    with existing_writer(folder):
        assert not rebuilding_folder(folder).exists()
    assert state(folder)[0] == NEW["fingerprint"]


def test_a_file_system_that_cannot_swap_loses_nothing(folder, monkeypatch):
    monkeypatch.setattr(rebuild_module, "_AT_CWD", {})
    with rebuilding(folder, NEW) as rebuild:
        embed_some(rebuild)
        with pytest.raises(GalleryError, match=r"can't be replaced in one step.*is whole in"):
            rebuild.swap()
    assert state(folder)[0] == MODEL["fingerprint"]
    monkeypatch.undo()
    with rebuilding(folder, NEW) as rebuild:
        assert embed_some(rebuild) == []
        rebuild.swap()
    assert state(folder)[0] == NEW["fingerprint"]


def test_a_reader_that_opens_in_the_moment_of_the_swap(folder, monkeypatch):
    load = gallery_module.load
    swaps = []

    def swap_first(*arguments):
        if not swaps:
            swaps.append(1)
            with rebuilding(folder, NEW) as rebuild:
                embed_some(rebuild)
                rebuild.swap()
        return load(*arguments)

    monkeypatch.setattr(gallery_module, "load", swap_first)
    with open_gallery(folder) as gallery:
        assert gallery.model["fingerprint"] == NEW["fingerprint"]
        assert len(gallery) == 28
