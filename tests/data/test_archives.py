from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def header(name: bytes, size: int, kind: bytes = b"0") -> bytes:
    """A header of a tar; sizes that don't fit into 11 octal digits are written as GNU does."""
    if size < 0:
        said = size.to_bytes(12, "big", signed=True)
    else:
        said = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    block = bytearray(name.ljust(100, b"\0") + b"0000644\0" * 3 + said + b"00000000000\0" + b" " * 8 + kind)
    block = block.ljust(257, b"\0") + b"ustar\00000"
    block = bytearray(block.ljust(512, b"\0"))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def packed(kind: str, content: bytes) -> bytes:
    return {"tar": bytes, "tar.gz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress}[kind](content)


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.bz2", "tar.xz"])
@pytest.mark.parametrize("type_", [b"x", b"g", b"L", b"K", b"X"])
@pytest.mark.parametrize("size", [4 * 10**9, 300_000, -512])
def test_a_header_of_gigabytes_is_refused_before_it_is_read(tmp_path, kind, type_, size):
    content = header(b"long", size, type_) + bytes(400_000)
    (tmp_path / f"a.{kind}").write_bytes(packed(kind, content))
    with pytest.raises(DataError, match=r"a\.tar.* was not unpacked: one of its headers claims -?[\d,]+ bytes"):
        unpack(tmp_path / f"a.{kind}", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (header(b"x", -1024), "damaged.*negative size"),
        (header(b"x", 10**13), "holds more than 500.0 GB|grows to more"),
        (header(b"x", 15, b"x") + padded(b"15 size=-10000\n") + header(b"x", 5), "damaged"),
        (header(b"x", 1000, b"x") + padded(b"1" * 1000), "damaged.*too many digits"),
        (header(b"g", 0, b"g") * 3000, "damaged.*recursion"),
        (header(b"x", 0, b"1"), "link, a device or sparse"),
        (header(b"x", 0, b"6"), "link, a device or sparse"),
        (header(b"x", 0, b"S"), "link, a device or sparse"),
        (header(b"x", 0) + header(b"x/y", 0), "lies in a file of it"),
        (header(b"x/y", 0) + header(b"x", 0), "is in it twice"),
        (header(b"n", 3000, b"L") + padded(b"a/" * 1500) + header(b"y", 0), "too long"),
        (header(b"n", 300, b"L") + padded(b"a" * 300) + header(b"y", 0), "too long"),
        (header(b"\xff\xfe", 0), None),
    ],
)
@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_odd_headers_of_a_tar(tmp_path, kind, content, reason):
    (tmp_path / f"a.{kind}").write_bytes(packed(kind, content + bytes(1024)))
    if reason is None:
        assert contents(unpack(tmp_path / f"a.{kind}", tmp_path / "out"))
        return
    with pytest.raises(DataError, match=reason) as caught:
        unpack(tmp_path / f"a.{kind}", tmp_path / "out")
    assert len(caught.value.what) < 600
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz"])
def test_what_lies_behind_the_end_is_not_read_without_a_limit(tmp_path, kind):
    content = header(b"x", 1) + padded(b"1") + bytes(5 * 10**6)
    (tmp_path / f"a.{kind}").write_bytes(packed(kind, content))
    with pytest.raises(DataError, match="as only decompression bombs do"):
        unpack(tmp_path / f"a.{kind}", tmp_path / "out", limits=Limits(ratio_from=10**6))


def test_an_xz_that_asks_for_much_memory_is_refused(tmp_path):
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}]
    with lzma.open(tmp_path / "a.tar.xz", "wb", filters=filters) as stream:
        stream.write(header(b"x", 0) + bytes(1024))
    with pytest.raises(DataError, match="Memory usage limit"):
        unpack(tmp_path / "a.tar.xz", tmp_path / "out")


def test_an_xz_of_several_streams_is_read_and_one_cut_short_is_not(tmp_path):
    content = header(b"x", 600) + padded(b"1" * 600) + bytes(1024)
    several = lzma.compress(content[:700]) + bytes(8) + lzma.compress(content[700:])
    (tmp_path / "a.tar.xz").write_bytes(several + bytes(4))
    assert contents(unpack(tmp_path / "a.tar.xz", tmp_path / "out")) == {"x": b"1" * 600}
    (tmp_path / "b.tar.xz").write_bytes(several[:-20])
    with pytest.raises(DataError, match="damaged, cut short"):
        unpack(tmp_path / "b.tar.xz", tmp_path / "out")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zips_of_other_methods_are_unpacked_little_by_little(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("x/y", b"1" * 10**6)
    assert contents(unpack(tmp_path / "a.zip", tmp_path / "out")) == {"x/y": b"1" * 10**6}


def test_files_of_a_zip_that_overlap_are_refused(tmp_path):
    archive = write_archive(tmp_path / "a.zip", {"x": os.urandom(1000), "y": os.urandom(1000)})
    content = bytearray(archive.read_bytes())
    second = content.rindex(b"PK\1\2")
    first = content.rindex(b"PK\1\2", 0, second)
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    archive.write_bytes(content)
    with pytest.raises(DataError, match="its files overlap"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("x\0y", "can't be kept"), ("a" * 300, "too long"), ("a/" * 600 + "x", "too long"), ("x" * 60_000, "too long")],
)
def test_names_of_a_zip_that_no_system_keeps(tmp_path, name, reason):
    other = name.replace("\0", "?")
    archive = write_archive(tmp_path / "a.zip", {other: b""})
    archive.write_bytes(archive.read_bytes().replace(other.encode(), name.encode()))
    with pytest.raises(DataError, match=reason) as caught:
        unpack(archive, tmp_path / "out")
    assert len(caught.value.what) < 600


@pytest.mark.parametrize("place", ["count", "size", "offset"])
@pytest.mark.parametrize("value", [0, 2**31, 2**63, 2**64 - 1])
def test_a_zip64_that_lies_is_damaged(tmp_path, place, value):
    archive = write_archive(tmp_path / "a.zip", {"x": b"1"})
    content = archive.read_bytes()
    end = content.rindex(b"PK\5\6")
    known = {"count": 2, "size": end - content.index(b"PK\1\2"), "offset": content.index(b"PK\1\2")} | {place: value}
    record = struct.pack(
        "<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, known["count"], known["count"], known["size"], known["offset"]
    )
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    last = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    archive.write_bytes(content[:end] + record + locator + last)
    if place == "count":
        assert contents(unpack(archive, tmp_path / "out")) == {"x": b"1"}
        return
    with contextlib.suppress(DataError):
        assert contents(unpack(archive, tmp_path / "out")) == {}


@pytest.mark.thorough
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_bytes_never_do_worse_than_two_lines(tmp_path_factory, name, data):
    folder = tmp_path_factory.mktemp("damaged")
    content = bytearray(write_archive(folder / name, {"a/x": b"1" * 700, "y": b"", "é" * 60: b"2"}).read_bytes())
    packing = {".gz": gzip, ".bz2": bz2, ".xz": lzma, ".tgz": gzip}.get((folder / name).suffix.lower())
    inside = packing is not None and data.draw(st.booleans())
    content = bytearray(packing.decompress(content)) if inside else content
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):  # so that more than the first checksum is looked at
        for at in range(0, len(content) - 511 if name.lower() != "a.zip" and (inside or packing is None) else 0, 512):
            content[at + 148 : at + 156] = b" " * 8
            content[at + 148 : at + 156] = b"%06o\0 " % sum(content[at : at + 512])
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    (folder / name).write_bytes(packing.compress(content) if inside else content)
    with contextlib.suppress(DataError):
        unpack(folder / name, folder / "out", limits=Limits(ratio_from=10**6))
    assert {child.name for child in folder.iterdir()} <= {name, "out"}


def test_what_lies_behind_the_end_of_a_tar_is_not_read(tmp_path):
    archive = write_archive(tmp_path / "a.tar")
    with archive.open("ab") as stream:
        stream.truncate(300 * 2**30)  # full of holes
    assert contents(unpack(archive, tmp_path / "out")) == FILES


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

    monkeypatch.setattr("shutil.copyfileobj", full)
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
