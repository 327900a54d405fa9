from __future__ import annotations

import os
import re

import pytest

from sil_cli.data.walking import find_image_files
from sil_cli.errors import DataError


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def reasons(found) -> dict[str, str]:
    return {skipped.path: skipped.reason for skipped in found.skipped}


def test_images_are_listed_sorted_with_forward_slashes(tmp_path):
    touch(tmp_path, "b/2.JPG", "b/1.png", "a.webp", "a-b/x.tif", "a/x.jpeg", "Ünïcode/名前.jpg", "b/1.PNG")
    found = find_image_files(tmp_path)
    assert found.paths == sorted(
        ["a-b/x.tif", "a.webp", "a/x.jpeg", "b/1.PNG", "b/1.png", "b/2.JPG", "Ünïcode/名前.jpg"]
    )
    assert found.skipped == []


def test_litter_is_passed_over_in_silence_and_the_rest_is_named(tmp_path):
    touch(tmp_path, "Thumbs.db", ".DS_Store", "._x.jpg", ".cache/x.jpg", "desktop.ini", "manifest.jsonl")
    touch(tmp_path, "dataset.json", "cache/CACHEDIR.TAG", "cache/x.jpg", "readme.txt", "no_suffix")
    found = find_image_files(tmp_path)
    assert found.paths == []
    assert reasons(found) == {"no_suffix": "an empty file", "readme.txt": "not an image by its name"}


LEFTOVERS = """
@eaDir, #recycle, #snapshot, @Recycle, @Recently-Snapshot, @tmp, @__thumb
.@__thumb, $RECYCLE.BIN, $Recycle.Bin, RECYCLER, lost+found, .Trash-1000, .Trashes
.AppleDouble, __MACOSX, .stfolder, .stversions, .sync, .dropbox.cache, .thumbnails
FOUND.000, .picasaoriginals, .snapshot, .snapshots, ~snapshot, .zfs, .git
.ipynb_checkpoints, files_trashbin, appdata_oc3k1x9, trashbox, System Volume Information, Network Trash Folder
Network Recycle Bin 1
Shop Previews.lrdata
"""


@pytest.mark.parametrize("folder", re.split(r"[,\n] ?", LEFTOVERS.strip()))
def test_what_servers_file_systems_and_recycle_bins_leave_is_no_data(tmp_path, folder):
    touch(tmp_path, "anna/1.jpg", f"{folder}/old.jpg", f"anna/{folder}/deep/1.jpg", f"anna/{folder}/notes.txt")
    found = find_image_files(tmp_path)
    assert (found.paths, found.skipped) == (["anna/1.jpg"], [])
    assert find_image_files(tmp_path / folder).paths == ["old.jpg"]  # named by the user, it is what is meant


@pytest.mark.parametrize(
    "name", ["@anna", "#7", "recycle", "lost", "thumbs.jpg", "$1", "appdata_", "snapshots", "found.x"]
)
def test_names_that_only_look_like_leftovers_are_data(tmp_path, name):
    touch(tmp_path, f"{name}/1.jpg")
    assert find_image_files(tmp_path).paths == [f"{name}/1.jpg"]


def test_the_smaller_copies_of_photo_programs_are_named_as_such(tmp_path):
    touch(tmp_path, "upload/.immich", "upload/a.jpg", "profile/.immich", "profile/me.jpg", "storage/.ppstorage")
    touch(tmp_path, "storage/cache/1.jpg", "thumbs/1.webp", "anna/Thumbnails/1.jpg", "anna/1.jpg", "profile 2/1.jpg")
    found = find_image_files(tmp_path)
    assert found.paths == ["anna/1.jpg", "profile 2/1.jpg", "upload/a.jpg"]
    why = "a photo program's folder of smaller copies"
    assert reasons(found) == dict.fromkeys(["anna/Thumbnails", "profile", "storage", "thumbs"], why)


def test_links_are_followed_once_and_loops_end(tmp_path):
    root, other = tmp_path / "root", tmp_path / "other"
    touch(root, "a/x.jpg")
    touch(other, "y.jpg")
    (root / "a" / "loop").symlink_to(root)
    (root / "b").symlink_to(root / "a")
    (root / "c").symlink_to(other)
    (root / "d").symlink_to(other)
    (root / "e").symlink_to(tmp_path)
    (other / "back").symlink_to(root)
    (root / "self").symlink_to(root / "self")
    (root / "z.jpg").symlink_to(other / "missing.jpg")
    (root / "y.jpg").symlink_to(other / "y.jpg")
    found = find_image_files(root)
    assert found.paths == ["a/x.jpg", "c/y.jpg", "y.jpg"]
    back = "a link back into the same folders"
    assert reasons(found) == {
        "a/loop": back,
        "b": back,
        "c/back": back,
        "d": "a link to a folder that is read already",
        "e": back,
        "self": "Too many levels of symbolic links",
        "z.jpg": "a broken link",
    }


def test_the_folder_itself_may_be_a_link(tmp_path):
    touch(tmp_path / "real", "x.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert find_image_files(tmp_path / "link").paths == ["x.jpg"]


def test_names_that_a_manifest_cannot_hold_are_named(tmp_path):
    touch(tmp_path, "back\\slash.jpg")
    with open(os.fsencode(tmp_path) + b"/\xff.jpg", "wb"):  # noqa: PTH123 -- pathlib takes no bytes
        pass
    found = find_image_files(tmp_path)
    assert found.paths == []
    assert set(reasons(found)) == {"back\\slash.jpg", "\\xff.jpg"}


def test_a_pipe_is_not_an_image(tmp_path):
    os.mkfifo(tmp_path / "x.jpg")
    assert reasons(find_image_files(tmp_path)) == {"x.jpg": "not a file"}


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="can't be listed: No such file"):
        find_image_files(tmp_path / "missing")


def test_an_unreadable_folder_is_reported(tmp_path, monkeypatch):
    touch(tmp_path, "a/x.jpg", "b/y.jpg")
    scan = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("a"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    with monkeypatch.context() as patched:  # so that it is tested for root, too
        patched.setattr(os, "scandir", refuse)
        found = find_image_files(tmp_path)
    assert found.paths == ["b/y.jpg"]
    assert reasons(found) == {"a": "folder: Permission denied"}
