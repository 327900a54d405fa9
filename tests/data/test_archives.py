from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import zipfile

import pytest

from sil_cli.data.archives import Limits, is_archive, unpacked
from sil_cli.errors import DataError
from sil_cli.files import access
from sil_cli.runtime import SilentReporter

FILES = {"Set/train/a.jpg": b"\xff\xd8" + os.urandom(30_000), "Set/Jürgen ✓.txt": b"x", "Set/empty.txt": b""}
NAMES = ("a.zip", "a.tar", "a.tar.gz", "a.tgz", "A.TAR.GZ", "a.tar.bz2", "a.tar.xz")


def write_archive(path, files=FILES):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("Set/", b"")
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    kind = {".tar": "", ".bz2": "bz2", ".xz": "xz"}.get(path.suffix.lower(), "gz")
    with tarfile.open(path, f"w:{kind}") as archive:
        folder = tarfile.TarInfo("Set")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def unpack(archive, into, **options):
    return unpacked(archive, into, SilentReporter(), **options)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_what_programs_leave_stays_in_the_archive(tmp_path, name):
    left = ["__MACOSX/Set/._a.jpg", "Set/@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "Set/.DS_Store", "$RECYCLE.BIN/b.jpg"]
    archive = write_archive(tmp_path / name, FILES | dict.fromkeys(left, b"x"))
    assert contents(unpack(archive, tmp_path / "out")) == FILES
    assert not (tmp_path / "out" / "a" / "__MACOSX").exists()


@pytest.mark.parametrize("name", NAMES)
def test_archives_come_out_as_they_are_and_are_unpacked_once(tmp_path, name):
    archive = write_archive(tmp_path / name)
    assert is_archive(archive)
    folder = unpack(archive, tmp_path / "out")
    assert folder == tmp_path / "out" / name.partition(".")[0]
    assert contents(folder) == FILES
    assert [child.name for child in (tmp_path / "out").iterdir()] == [folder.name]
    (folder / "Set" / "empty.txt").write_text("mine")
    assert unpack(archive, tmp_path / "out") == folder
    assert (folder / "Set" / "empty.txt").read_text() == "mine"


def test_a_changed_archive_is_unpacked_anew(tmp_path):
    folder = unpack(write_archive(tmp_path / "a.zip"), tmp_path / "out")
    write_archive(tmp_path / "a.zip", {"Set/other.txt": b"y"})
    assert contents(unpack(tmp_path / "a.zip", tmp_path / "out")) == {"Set/other.txt": b"y"}
    assert folder.exists()


def test_dots_in_names_belong_to_the_name(tmp_path):
    folder = unpack(write_archive(tmp_path / "Market-1501-v15.09.15.zip"), tmp_path / "out")
    assert folder.name == "Market-1501-v15.09.15"


def test_a_folder_of_somebody_elses_is_kept(tmp_path):
    (tmp_path / "out" / "a").mkdir(parents=True)
    with pytest.raises(DataError, match="a is in the way"):
        unpack(write_archive(tmp_path / "a.zip"), tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "C:\\evil.txt", "a\\..\\evil.txt"])
def test_names_that_lead_out_are_refused_and_nothing_is_left(tmp_path, kind, name):
    archive = write_archive(tmp_path / f"a.{kind}", {**FILES, name: b"evil"})
    with pytest.raises(DataError, match="leads out of its folder"):
        unpack(archive, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    assert sorted(child.name for child in tmp_path.iterdir()) == [archive.name, "out"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("Set/link")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(DataError, match="is a link, a device or sparse"):
        unpack(tmp_path / "a.tar", tmp_path / "out")


def test_links_in_a_zip_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("Set/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="is a link or a device"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_name_that_comes_twice_is_refused(tmp_path, kind):
    archive = write_archive(tmp_path / f"a.{kind}", {"x.txt": b"1"})
    if kind == "zip":
        with zipfile.ZipFile(archive, "a") as opened:
            opened.writestr("x.txt", b"2")
    else:
        with tarfile.open(archive, "a") as opened:
            info = tarfile.TarInfo("x.txt")
            opened.addfile(info)
    with pytest.raises(DataError, match=r"x\.txt is in it twice"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_limits_hold(tmp_path, name):
    archive = write_archive(tmp_path / name)
    with pytest.raises(DataError, match="more than 2 files"):
        unpack(archive, tmp_path / "out", limits=Limits(files=2))
    with pytest.raises(DataError, match=r"more than 0\.0 GB"):
        unpack(archive, tmp_path / "out", limits=Limits(total=20_000))
    with pytest.raises(DataError, match="the disk has too little space for it"):
        unpack(archive, tmp_path / "out", limits=Limits(kept_free=10**18))
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_a_bomb_is_refused_early(tmp_path, name):
    archive = write_archive(tmp_path / name, {"bomb": bytes(30 * 10**6)})
    assert archive.stat().st_size < 100_000
    with pytest.raises(DataError, match="grows to more than 100 times its size, as only decompression bombs do"):
        unpack(archive, tmp_path / "out", limits=Limits(ratio_from=10**6))


def test_a_zip_that_lies_about_sizes_is_refused(tmp_path):
    archive = write_archive(tmp_path / "a.zip", {"x": bytes(10**6)})
    content = archive.read_bytes()
    archive.write_bytes(content.replace((10**6).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(DataError, match="damaged"):
        unpack(archive, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_an_archive_that_was_cut_short_is_told_and_leaves_nothing(tmp_path, name, share):
    archive = write_archive(tmp_path / name)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match="damaged, cut short or not the kind of archive"):
        unpack(archive, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_tar_that_was_cut_between_two_files_is_told(tmp_path):
    archive = write_archive(tmp_path / "a.tar", {"x": bytes(512), "y": bytes(512)})
    archive.write_bytes(archive.read_bytes()[: 512 * 3])
    with pytest.raises(DataError, match="it has no end"):
        unpack(archive, tmp_path / "out")


def test_a_gzip_whose_content_was_damaged_is_told(tmp_path):
    plain = write_archive(tmp_path / "a.tar").read_bytes()
    packed = bytearray(gzip.compress(plain))
    packed[len(packed) // 2] ^= 0xFF
    (tmp_path / "b.tar.gz").write_bytes(packed)
    with pytest.raises(DataError, match="damaged"):
        unpack(tmp_path / "b.tar.gz", tmp_path / "out")


def test_an_encrypted_zip_is_told(tmp_path):
    archive = write_archive(tmp_path / "a.zip", {"x.txt": b"secret"})
    content = bytearray(archive.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        where = content.rindex(mark) + place
        content[where] |= 1
    archive.write_bytes(content)
    with pytest.raises(DataError, match="with its password"):
        unpack(archive, tmp_path / "out")


def test_what_is_no_archive_is_told(tmp_path):
    (tmp_path / "a.zip").write_text("no archive")
    with pytest.raises(DataError, match="not the kind of archive"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    with pytest.raises(DataError, match="There is no file"):
        unpack(tmp_path / "b.zip", tmp_path / "out")
    assert not is_archive(tmp_path / "b.zip")
    assert not is_archive(tmp_path)


def test_ctrl_c_leaves_nothing(tmp_path):
    class Interrupting(SilentReporter):
        def advance(self, count: int = 1, **facts: float | str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpacked(write_archive(tmp_path / "a.zip"), tmp_path / "out", Interrupting())
    assert not list((tmp_path / "out").iterdir())


def test_a_place_that_cannot_be_written_and_a_full_disk_are_told(tmp_path, monkeypatch):
    archive = write_archive(tmp_path / "a.zip")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="can't be unpacked into"):
        unpack(archive, tmp_path / "file")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "extract", full)
    with pytest.raises(DataError, match="No space left on device"):
        unpack(archive, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip"])
def test_the_rights_in_an_archive_are_not_those_of_what_is_unpacked(tmp_path, name):
    path = tmp_path / name
    if name.endswith(".zip"):
        info = zipfile.ZipInfo("x.jpg")
        info.external_attr = (stat.S_IFREG | 0o4777) << 16
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(info, b"x")
    else:
        with tarfile.open(path, "w:gz") as archive:
            info = tarfile.TarInfo("x.jpg")
            info.size, info.mode = 1, 0o4777
            archive.addfile(info, io.BytesIO(b"x"))
    with access(shared=False):
        folder = unpack(path, tmp_path / "out")
    assert stat.S_IMODE((folder / "x.jpg").stat().st_mode) == 0o600
