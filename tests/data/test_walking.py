from __future__ import annotations

import os

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
    assert reasons(found) == {"no_suffix": "not an image by its name", "readme.txt": "not an image by its name"}


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
