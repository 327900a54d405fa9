"""Archives as they come: .zip and .tar (also gzipped, bzip2ed, xzed), unpacked with suspicion and all or not at all."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import json
import lzma
import re
import shutil
import stat
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

from sil_cli.data.walking import is_leftover
from sil_cli.errors import DataError, one_line
from sil_cli.files import open_file, parse_json, read_text, staging_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sil_cli.runtime import Reporter

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

_CHUNK = 1 << 20
_MOST_HEADER = 1 << 18
"""Bytes that a header of a tar may have: four times what a file's attributes can take."""
_MOST_DIGITS = re.compile(rb"\d{100}")
"""Python reads numbers in a tar's headers in a time that grows with the square of their length (CVE-2024-6232)."""
_XZ_MEMORY = 256 << 20
"""Four times what `xz -9` asks for to decompress; a header can ask for 4 GB."""
_LONGEST_NAME, _LONGEST_PATH = 255, 1000
"""Bytes that a name on common file systems, and a path below a folder of the user's, can have."""
_ZIP_HEADER = 30
_NOT_OF_THE_DISK = (None, errno.EINVAL, errno.EOVERFLOW)
"""Numbers of an `OSError` that a decoder or a seek to nowhere raises, not reading or writing as such."""


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to.

    Attributes:
        total: Bytes in all.
        files: How many, folders included.
        ratio: Bytes unpacked for each byte of the archive: images are compressed already, and an archive of them that
            grows a hundredfold is a bomb.
        ratio_from: Bytes in all from which that is looked at.
        kept_free: Bytes of the disk that stay free.
    """

    total: int = 500 * 10**9
    files: int = 5_000_000
    ratio: float = 100
    ratio_from: int = 50 * 10**6
    kept_free: int = 500 * 10**6


class _RefusedError(Exception):
    """The archive must not be unpacked: why, as the end of a sentence, and what the user can do."""

    def __init__(
        self, why: str, fix: str = "Get it from the authors; if you trust it, unpack it by hand and give the folder."
    ) -> None:
        super().__init__(why)
        self.fix = fix


class _DamagedError(Exception):
    """The archive can't be read: why."""


def is_archive(path: Path) -> bool:
    """Whether a file is an archive that `unpacked` takes, by its name."""
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def unpacked(archive: Path, into: Path, reporter: Reporter, *, limits: Limits | None = None) -> Path:
    """Unpack an archive into a folder of its own, whole or not at all; once only, until the archive changes.

    What programs leave (`is_leftover`) stays in it. Refused as a whole: absolute paths and `..`, links, devices, one
    name twice, encrypted content, and more bytes, files or growth than `limits` or the disk allow.

    Args:
        archive: The file.
        into: Where the folder goes, which is named after the archive.
        reporter: Shows the progress.
        limits: What it may unpack to.

    Returns:
        The folder.

    Raises:
        DataError: The archive is no archive, damaged or refused, the disk is too small or can't be written, or
            something else is in the way.
    """
    if not archive.is_file():
        raise DataError(f"There is no file {archive}.", "Check the path.")
    folder = into / _stem(archive)
    members = _unzipped if archive.name.lower().endswith(".zip") else _untarred

    def fill(made: Path) -> None:
        with reporter.task(f"Unpacking {archive.name}", None, "files") as task:
            for _ in _guarded(members(archive, made, limits or Limits())):
                task.advance()

    try:
        facts = archive.stat()
        source = {"archive": archive.name, "bytes": facts.st_size, "modified": facts.st_mtime_ns}
        make_once(folder, ".unpacked.json", source, fill)
    except _RefusedError as error:
        raise DataError(f"{archive} was not unpacked: {error}.", error.fix) from error
    except _DamagedError as error:
        raise DataError(
            f"{archive} is damaged, cut short or not the kind of archive its name says: {error}.", "Download it again."
        ) from error
    except OSError as error:
        raise DataError(
            f"{archive} can't be unpacked into {into}: {one_line(error)}.", "Free some space, or check the permissions."
        ) from error
    return folder


def _guarded(steps: Iterator[None]) -> Iterator[None]:
    """The same, with whatever a parser raises on damaged content as one error; what the disk refuses stays as it is."""
    try:
        yield from steps
    except (_RefusedError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in _NOT_OF_THE_DISK:
            raise
        raise _DamagedError(one_line(error)) from error


def make_once(folder: Path, seal_file: str, source: dict[str, Any], fill: Callable[[Path], None]) -> None:
    """Make a folder from a source, whole or not at all, unless it stands already, made from this very source.

    Args:
        folder: Where it goes; one that was made from an older state of the source is replaced.
        seal_file: A file in the folder that says what it was made from.
        source: What that file says: JSON values that change whenever the source does.
        fill: Called with an empty folder to write to.

    Raises:
        DataError: Something else is in the way.
        OSError: The folder can't be written.
    """
    try:
        seal = parse_json(read_text(folder / seal_file))
    except (OSError, ValueError):
        seal = None
    if seal == source:
        return
    if folder.exists() and seal is None:
        raise DataError(
            f"{folder} is in the way: it was not made from {next(iter(source.values()))}.",
            "Move it away and try again.",
        )
    with staging_folder(folder.parent) as staging:
        made = staging / folder.name
        made.mkdir()
        fill(made)
        (made / seal_file).write_text(json.dumps(source), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)


def _unzipped(path: Path, into: Path, limits: Limits) -> Iterator[None]:
    """Unpack a .zip file by file; zipfile reads no more of each than its header says, and compares its checksum."""
    room = _Room(path, into, limits)
    with open_file(path) as raw, zipfile.ZipFile(raw) as archive:
        members = archive.infolist()
        end = 0
        for member in sorted(members, key=lambda member: member.header_offset):
            room.take(member.file_size)
            if stat.S_IFMT(member.external_attr >> 16) not in {0, stat.S_IFREG, stat.S_IFDIR}:
                raise _RefusedError(f"{_shown(member.filename)} is a link or a device")
            if member.flag_bits & 1:
                raise _RefusedError("it is encrypted", "Unpack it by hand with its password, and give the folder.")
            if member.header_offset < end:
                raise _RefusedError("its files overlap, as only decompression bombs do")
            end = member.header_offset + _ZIP_HEADER + member.compress_size
        for member in members:
            # zipfile cuts names at a zero, and turns backslashes into slashes on Windows only: this is the raw name.
            target = _target(member.orig_filename, into, is_folder=member.is_dir())
            if target is not None:
                # of bzip2 and LZMA zipfile unpacks at once whatever so many packed bytes give
                packed = 1 << 16 if member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) else 1 << 12
                with archive.open(member) as content:
                    _write(content, target, packed)
            yield


def _untarred(path: Path, into: Path, limits: Limits) -> Iterator[None]:
    room = _Room(path, into, limits)
    with open_file(path) as raw, _decompressed(raw) as plain:
        content = _TarContent(plain, room)
        with tarfile.open(fileobj=cast("IO[bytes]", content), mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # or all names would stay in memory
                if member.issparse() or not (member.isfile() or member.isdir()):
                    raise _RefusedError(f"{_shown(member.name)} is a link, a device or sparse")
                room.take(member.size)
                target = _target(member.name, into, is_folder=member.isdir())
                if target is not None:
                    content.in_header = False
                    _write(cast("BinaryIO", archive.extractfile(member)), target, _CHUNK)
                    content.in_header = True
                yield
            _check_end(content, archive.offset, packed=plain is not raw)


def _decompressed(raw: BinaryIO) -> BinaryIO:
    """The tar in a file, which may be compressed, whatever its name says."""
    start = raw.read(6)
    raw.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return cast("BinaryIO", gzip.GzipFile(fileobj=raw))
    if start.startswith(b"BZh"):
        return cast("BinaryIO", bz2.BZ2File(raw))
    return io.BufferedReader(_XzContent(raw), _CHUNK) if start == b"\xfd7zXZ\0" else raw


class _XzContent(io.RawIOBase):
    """What is in an .xz file, with a limit of memory, for which `lzma.LZMAFile` has no argument."""

    def __init__(self, packed: BinaryIO) -> None:
        self._packed = packed
        self._decoder = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = b""
        while not data:
            more = self._decoder.unused_data or (self._packed.read(_CHUNK) if self._decoder.needs_input else b"")
            if self._decoder.eof:  # another stream may follow, behind zeros
                more = (more or self._packed.read(_CHUNK)).lstrip(b"\0")
                if not more and not self._packed.peek(1):  # type: ignore[attr-defined]  # of a BufferedReader
                    return 0
                self._decoder = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
            elif not more and self._decoder.needs_input:
                raise EOFError("it ends too early")
            data = self._decoder.decompress(more, len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _TarContent:
    """The stream that tarfile reads: forwards only, no more than the archive may hold, and no header without a limit.

    Attributes:
        in_header: What is read now is a header; its size is what an earlier one claims.
    """

    def __init__(self, plain: BinaryIO, room: _Room) -> None:
        self._plain, self._room, self._at = plain, room, 0
        self.in_header = True

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        if size < 0 or (self.in_header and size > _MOST_HEADER):
            raise _RefusedError(f"one of its headers claims {size:,} bytes")
        content = self._plain.read(size)
        if self.in_header and _MOST_DIGITS.search(content):
            raise tarfile.ReadError("a header holds a number of too many digits")
        self._at += len(content)
        self._room.pass_by(self._at)
        return content

    def seek(self, place: int) -> None:
        if place < self._at:
            raise tarfile.ReadError("it leads back to what was read")
        before, self.in_header = self.in_header, False
        while self._at < place and self.read(min(_CHUNK, place - self._at)):
            pass
        self.in_header = before


def _check_end(content: _TarContent, end: int, *, packed: bool) -> None:
    """Check that the archive ends as it should.

    tarfile takes one that was cut between two files for whole, and the checksum of a compressed one is only
    compared when it is read to its end. What lies behind the end of another is nobody's business, and may be a
    terabyte of nothing.
    """
    if content.tell() <= end:
        content.seek(end)
        if content.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it has no end")
    content.in_header = False
    while packed and content.read(_CHUNK):
        pass


def _target(name: str, into: Path, *, is_folder: bool) -> Path | None:
    """Where a file of an archive goes; None where nothing is to be written, and folders are made on the way.

    Raises:
        _RefusedError: The name leads elsewhere, no system could keep it, or it stands twice.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or "\\" in name or PureWindowsPath(name).drive:
        raise _RefusedError(f"the name {_shown(name)} leads out of its folder or can't be kept")
    parts = [part.encode("utf-8", "surrogateescape") for part in path.parts]
    if max(map(len, parts), default=0) > _LONGEST_NAME or len(name) > _LONGEST_PATH:
        raise _RefusedError(f"the name {_shown(name)} is too long")
    target = into / path
    if target.exists() and not (is_folder and target.is_dir()):
        raise _RefusedError(f"{path} is in it twice")
    if any(map(is_leftover, path.parts)):
        return None
    folder = target if is_folder else target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise _RefusedError(f"{_shown(name)} lies in a file of it") from None
    return None if is_folder else target


def _write(content: IO[bytes], target: Path, length: int) -> None:
    with target.open("xb") as stream:
        shutil.copyfileobj(content, stream, length)


def _shown(name: str) -> str:
    """A name for an error."""
    return ascii(name) if len(name) < _LONGEST_NAME else f"{name[:_LONGEST_NAME]!a}…"


class _Room:
    """How much of an archive may still be unpacked."""

    def __init__(self, archive: Path, into: Path, limits: Limits) -> None:
        self._limits = limits
        self._room = max(shutil.disk_usage(into).free - limits.kept_free, 0)
        self._growth = limits.ratio * archive.stat().st_size
        self._most = max(limits.ratio_from, self._growth)
        self._files = self._bytes = 0

    def take(self, size: int) -> None:
        """Count one more file or folder, of so many bytes by its header.

        Raises:
            ValueError: The size is negative.
            _RefusedError: It is one too many.
        """
        if size < 0:
            raise ValueError("a file has a negative size")
        self._files, self._bytes = self._files + 1, self._bytes + size
        limits = self._limits
        if self._files > limits.files:
            raise _RefusedError(f"it holds more than {limits.files:,} files")
        if self._bytes > limits.total:
            raise _RefusedError(f"it holds more than {limits.total / 1e9:,.1f} GB")
        if self._bytes > self._most:
            raise self._bomb()
        if self._bytes > self._room:
            room = f"{self._room / 1e9:,.1f} GB can be used"
            raise _RefusedError(
                f"the disk has too little space for it ({room})", "Free some space, or choose another disk."
            )

    def pass_by(self, plain: int) -> None:
        """Check how much has been decompressed in all, headers and what lies behind the end included.

        Raises:
            _RefusedError: It is far more than the files can be.
        """
        if plain > 2 * self._most:
            raise self._bomb()

    def _bomb(self) -> _RefusedError:
        return _RefusedError(
            f"it grows to more than {self._limits.ratio:g} times its size, as only decompression bombs do"
        )


def _stem(archive: Path) -> str:
    name = archive.name
    longest = max((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), key=len, default="")
    return name[: len(name) - len(longest)] or name
