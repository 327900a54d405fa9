"""Archives as they come: .zip and .tar (also gzipped, bzip2ed, xzed), unpacked with suspicion and all or not at all."""

from __future__ import annotations

import json
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from sil_cli.data.walking import is_leftover
from sil_cli.errors import DataError
from sil_cli.files import one_line, open_file, parse_json, read_text, staging_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sil_cli.runtime import Reporter

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

_CHUNK = 1 << 20
_DECODERS = (zlib.error, lzma.LZMAError)
"""What decoders raise on damaged content; gzip's and bzip2's are an `OSError` without a number."""


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
            for _ in members(archive, made, limits or Limits()):
                task.advance()

    try:
        facts = archive.stat()
        source = {"archive": archive.name, "bytes": facts.st_size, "modified": facts.st_mtime_ns}
        make_once(folder, ".unpacked.json", source, fill)
    except _RefusedError as error:
        raise DataError(f"{archive} was not unpacked: {error}.", error.fix) from error
    except (OSError, EOFError, NotImplementedError, zipfile.BadZipFile, tarfile.TarError, *_DECODERS) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(
                f"{archive} can't be unpacked into {into}: {one_line(error)}.",
                "Free some space, or check the permissions.",
            ) from error
        raise DataError(
            f"{archive} is damaged, cut short or not the kind of archive its name says: {one_line(error)}.",
            "Download it again.",
        ) from error
    return folder


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
        for member in members:
            room.take(member.file_size)
            if stat.S_IFMT(member.external_attr >> 16) not in {0, stat.S_IFREG, stat.S_IFDIR}:
                raise _RefusedError(f"{member.filename} is a link or a device")
            if member.flag_bits & 1:
                raise _RefusedError("it is encrypted", "Unpack it by hand with its password, and give the folder.")
        for member in members:
            # zipfile turns backslashes into slashes on Windows only, so the raw name is looked at too.
            name = member.orig_filename if "\\" in member.orig_filename else member.filename
            _check_name(name, into, is_folder=member.is_dir())
            if not _is_leftover(name):
                archive.extract(member, into)
            yield


def _untarred(path: Path, into: Path, limits: Limits) -> Iterator[None]:
    room = _Room(path, into, limits)
    with open_file(path) as raw, tarfile.open(fileobj=raw, mode="r:*") as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # or all names would stay in memory
            if member.issparse() or not (member.isfile() or member.isdir()):
                raise _RefusedError(f"{member.name} is a link, a device or sparse")
            room.take(member.size)
            _check_name(member.name, into, is_folder=member.isdir())
            if not _is_leftover(member.name):
                archive.extract(member, into, filter=_with_our_rights)
            yield
        _check_end(archive)


def _with_our_rights(member: tarfile.TarInfo, into: str) -> tarfile.TarInfo:
    """What tarfile's own filter lets pass, with the rights of any file that we make and not those in the archive."""
    return tarfile.data_filter(member, into).replace(mode=None, deep=False)  # type: ignore[arg-type]  # None: ours


def _is_leftover(name: str) -> bool:
    return any(map(is_leftover, PurePosixPath(name).parts))


def _check_end(archive: tarfile.TarFile) -> None:
    """Check that the archive ends as it should.

    tarfile takes one that was cut between two files for whole, and the checksum of a compressed one is only
    compared when it is read to its end.
    """
    content = archive.fileobj
    content.seek(archive.offset)
    if content.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it has no end")
    while content.read(_CHUNK):
        pass


def _check_name(name: str, into: Path, *, is_folder: bool) -> None:
    """Refuse what tarfile and zipfile would put elsewhere than it says, names that no system could keep, and twins."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or "\\" in name or PureWindowsPath(name).drive:
        raise _RefusedError(f"the name {name!r} leads out of its folder or can't be kept")
    if not is_folder and (into / path).exists():
        raise _RefusedError(f"{path} is in it twice")


class _Room:
    """How much of an archive may still be unpacked."""

    def __init__(self, archive: Path, into: Path, limits: Limits) -> None:
        self._limits = limits
        self._room = max(shutil.disk_usage(into).free - limits.kept_free, 0)
        self._growth = limits.ratio * archive.stat().st_size
        self._files = self._bytes = 0

    def take(self, size: int) -> None:
        """Count one more file or folder, of so many bytes by its header.

        Raises:
            _RefusedError: It is one too many.
        """
        self._files, self._bytes = self._files + 1, self._bytes + size
        limits = self._limits
        if self._files > limits.files:
            raise _RefusedError(f"it holds more than {limits.files:,} files")
        if self._bytes > limits.total:
            raise _RefusedError(f"it holds more than {limits.total / 1e9:,.1f} GB")
        if self._bytes > max(limits.ratio_from, self._growth):
            raise _RefusedError(
                f"it grows to more than {limits.ratio:g} times its size, as only decompression bombs do"
            )
        if self._bytes > self._room:
            room = f"{self._room / 1e9:,.1f} GB can be used"
            raise _RefusedError(
                f"the disk has too little space for it ({room})", "Free some space, or choose another disk."
            )


def _stem(archive: Path) -> str:
    name = archive.name
    longest = max((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), key=len, default="")
    return name[: len(name) - len(longest)] or name
