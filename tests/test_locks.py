"""Locks in folders that may be a stranger's."""

import errno
import os
import subprocess
import sys

import pytest

from sil_cli.errors import SilError
from sil_cli.locks import LOCK_FILE, writer_lock


def lock(folder):
    return writer_lock(folder, while_held="Wait.", elsewhere="Choose another folder.")


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path) -> None:
    folder, other = tmp_path / "gallery", tmp_path / "diary"
    folder.mkdir()
    other.write_text("dear diary")
    (folder / LOCK_FILE).symlink_to(other)
    with pytest.raises(SilError, match="not a plain file") as caught, lock(folder):
        pass
    assert other.read_text() == "dear diary"
    assert f"rm {folder / LOCK_FILE}" in caught.value.fix
    (folder / LOCK_FILE).unlink()
    with lock(folder):
        assert (folder / LOCK_FILE).is_file()


@pytest.mark.parametrize("kind", ["dangling", "pipe", "folder", "device"])
def test_nothing_but_a_plain_file_is_a_lock(tmp_path, kind) -> None:
    folder = tmp_path / "gallery"
    folder.mkdir()
    path = folder / LOCK_FILE
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/null" if kind == "device" else tmp_path / "made")
    with pytest.raises(SilError, match="not a plain file"), lock(folder):
        pass
    assert not (tmp_path / "made").exists()


def test_a_folder_that_is_not_there_is_still_told_as_such(tmp_path) -> None:
    with pytest.raises(SilError, match="can't be written: No such file"), lock(tmp_path / "none"):
        pass


def test_a_lock_that_is_another_name_of_a_file_leaves_that_as_it_is(tmp_path) -> None:
    (tmp_path / "gallery").mkdir()
    (tmp_path / "diary").write_text("dear diary")
    (tmp_path / "gallery" / LOCK_FILE).hardlink_to(tmp_path / "diary")
    with lock(tmp_path / "gallery"), pytest.raises(SilError, match="is being written by"), lock(tmp_path / "gallery"):
        pass
    assert (tmp_path / "diary").read_text() == "dear diary"


def test_a_file_system_without_locks_is_told_as_such(tmp_path, monkeypatch) -> None:
    def refuse(*_) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(SilError, match="can't be locked for writing: No locks available") as caught, lock(tmp_path):
        pass
    assert caught.value.fix == "Choose another folder."


@pytest.mark.thorough
def test_every_module_can_be_imported_where_python_lacks_the_modules_of_posix() -> None:
    code = (
        "import importlib, pkgutil, sys\n"
        "sys.modules |= dict.fromkeys(('fcntl', 'grp', 'pty', 'pwd', 'resource', 'syslog', 'termios', 'tty'))\n"
        "import sil_cli\n"
        "for each in pkgutil.walk_packages(sil_cli.__path__, 'sil_cli.'):\n"
        "    importlib.import_module(each.name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"MPLBACKEND": "agg"})
