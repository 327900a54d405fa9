from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from galleries import MODEL, described, entry, make_gallery, vectors

from sil_cli.errors import GalleryError, SilError
from sil_cli.gallery.interface import rebuilding_folder
from sil_cli.gallery.local import store
from sil_cli.gallery.local.store import LocalGallery, LocalStore
from sil_cli.gallery.stores import open_gallery

NEW = {"fingerprint": "f" * 64, "dimension": 12}
OTHER = {"fingerprint": "e" * 64, "dimension": 12}


@pytest.fixture
def folder(tmp_path):
    folder = make_gallery(tmp_path / "g")
    with LocalStore(folder).existing_writer() as writer:
        writer.remove([4, 30], "id")
    return folder


def embed_some(rebuild, count=None):
    ids = rebuild.to_do()[:count].tolist()
    if ids:
        entries = rebuild.old.entries(ids)
        rebuild.new.add([entries[one] for one in ids], new_vectors(ids), ids=ids)
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
        with LocalStore(folder).rebuilding(NEW) as rebuild:
            assert embed_some(rebuild) == sorted(before)
            assert state(folder)[0] == MODEL["fingerprint"]  # searched meanwhile as it was
            rebuild.swap()
            # the database was closed before it was moved, so nothing of it is left to a log
            assert not (folder / "gallery.sqlite-wal").exists()
        assert len(reader.search(vectors(1), 99)[0]) == 28  # opened before, and still the old one
    assert state(folder) == (NEW["fingerprint"], before)
    assert not rebuilding_folder(folder).exists()
    assert (folder / "notes.txt").read_text() == "mine"
    assert all(check.ok for check in LocalStore(folder).check())
    with open_gallery(folder) as gallery:
        assert gallery.search(new_vectors([7]), 1)[0][0].id == 7
        assert [one.count for one in gallery.removals()] == [2]
    with LocalStore(folder).writer(NEW) as writer:
        writer.add([entry(99)], vectors(1, dimension=12))
    assert max(state(folder)[1]) == 31  # 30 was removed, and is never used again


def test_an_unfinished_rebuild_goes_on(folder):
    with LocalStore(folder).rebuilding(NEW) as rebuild:
        first = embed_some(rebuild, 10)
    assert state(folder)[0] == MODEL["fingerprint"]
    with LocalStore(folder).existing_writer() as writer:
        writer.remove(first[:2], "id")
        writer.add([described(5)], vectors(1, seed=3))  # replaces entry 6, under a new id
    _, before = state(folder)
    with LocalStore(folder).rebuilding(NEW) as rebuild:
        todo = embed_some(rebuild)
        assert set(todo) == set(before) - set(first)
        assert 31 in todo
        rebuild.swap()
    assert state(folder) == (NEW["fingerprint"], before)


def test_another_model_starts_again_and_compact_throws_away(folder):
    with LocalStore(folder).rebuilding(NEW) as rebuild:
        embed_some(rebuild, 10)
    with LocalStore(folder).rebuilding(OTHER) as rebuild:
        assert len(rebuild.to_do()) == 28
        embed_some(rebuild, 5)
    with LocalStore(folder).existing_writer() as writer:
        writer.compact()
    assert not rebuilding_folder(folder).exists()


def test_nobody_else_writes_meanwhile(folder):
    with LocalStore(folder).rebuilding(NEW), pytest.raises(SilError, match="being written by process"):
        LocalStore(folder).writer(MODEL).__enter__()


def test_folders_of_others_beside_a_gallery_stay(folder):
    """What bears the name of the gallery that is built beside is deleted only where it is one."""
    others = rebuilding_folder(folder)
    others.mkdir()
    (others / "thesis.txt").write_text("mine")
    with pytest.raises(GalleryError, match="is not a gallery, and not empty"), LocalStore(folder).rebuilding(NEW):
        pass
    with LocalStore(folder).existing_writer() as writer:
        writer.compact()
    assert (others / "thesis.txt").read_text() == "mine"
    others.rename(store.superseded_folder(folder))
    with pytest.raises(GalleryError, match="superseded is in the way"), LocalStore(folder).rebuilding(NEW):
        pass
    assert (store.superseded_folder(folder) / "thesis.txt").read_text() == "mine"


def test_files_of_others_within_what_is_superseded_are_kept(folder):
    for name in ("gallery.sqlite.bak", "vectors-2", ".partial-mine"):
        (folder / name).write_text(name)
    with LocalStore(folder).rebuilding(NEW) as rebuild:
        embed_some(rebuild)
        rebuild.swap()
    for name in ("gallery.sqlite.bak", "vectors-2", ".partial-mine"):
        assert (folder / name).read_text() == name
    assert not store.superseded_folder(folder).exists()


class Killed(BaseException):
    pass


def killed(*_):
    raise Killed


@pytest.mark.parametrize("moment", ["rename_back", "sync_folder"])  # between the two renames, and after both
def test_a_kill_in_the_moment_of_the_swap_leaves_the_new_gallery(folder, monkeypatch, moment):
    _, before = state(folder)
    (folder / "notes.txt").write_text("mine")
    with LocalStore(folder).rebuilding(NEW) as rebuild:
        embed_some(rebuild)
        monkeypatch.setattr(store, moment, killed)
        with pytest.raises(Killed):
            rebuild.swap()
        monkeypatch.setattr(store, "finish_swap", lambda _: None)
    assert folder.exists() == (moment == "sync_folder")
    monkeypatch.undo()
    assert state(folder) == (NEW["fingerprint"], before)
    assert store.superseded_folder(folder).exists()
    with LocalStore(folder).existing_writer():
        assert not store.superseded_folder(folder).exists()
    assert (folder / "notes.txt").read_text() == "mine"
    assert state(folder)[0] == NEW["fingerprint"]


def test_a_gallery_that_cannot_be_renamed_is_left_as_it_is(folder, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    with LocalStore(folder).rebuilding(NEW) as rebuild:
        embed_some(rebuild)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", refuse)
            with pytest.raises(GalleryError, match=r"can't be replaced: .*is complete in"):
                rebuild.swap()
    assert state(folder)[0] == MODEL["fingerprint"]
    with LocalStore(folder).rebuilding(NEW) as rebuild:
        assert embed_some(rebuild) == []
        rebuild.swap()
    assert state(folder)[0] == NEW["fingerprint"]


def test_a_reader_that_opens_in_the_moment_of_the_swap(folder, monkeypatch):
    load = LocalGallery._load
    swaps = []

    def swap_first(gallery):
        if not swaps:
            swaps.append(1)
            with LocalStore(folder).rebuilding(NEW) as rebuild:
                embed_some(rebuild)
                rebuild.swap()
        return load(gallery)

    monkeypatch.setattr(LocalGallery, "_load", swap_first)
    with open_gallery(folder) as gallery:
        assert gallery.model["fingerprint"] == NEW["fingerprint"]
        assert len(gallery) == 28
