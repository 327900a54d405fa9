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
from typing import IO, TYPE_CHECKING

from sil_cli.errors import DataError
from sil_cli.files import one_line, open_file, parse_json, read_text, staging_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sil_cli.runtime import Reporter, Task

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

MAX_BYTES = 500 * 10**9
MAX_FILES = 5_000_000
MAX_RATIO = 100
"""Images are compressed already: an archive of them that grows a hundredfold is a bomb."""

KEPT_FREE = 500 * 10**6
"""So many bytes of the disk are left free."""

_RATIO_FROM = 50 * 10**6
_CHUNK = 1 << 20
_DECODERS = (zlib.error, lzma.LZMAError)
"""What decoders raise on damaged content; gzip's and bzip2's are an `OSError` without a number."""

_SEAL = ".unpacked.json"


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to.

    Attributes:
        total: Bytes in all.
        files: How many.
        ratio: Bytes unpacked for each byte of the archive, once it is much.
    """

    total: int = MAX_BYTES
    files: int = MAX_FILES
    ratio: float = MAX_RATIO


class _RefusedError(Exception):
    """The archive must not be unpacked.

    Args:
        why: The reason, as the end of a sentence.
        fix: What the user can do.
    """

    def __init__(
        self, why: str, fix: str = "Get it from the authors; if you trust it, unpack it by hand and give the folder."
    ) -> None:
        super().__init__(why)
        self.why = why
        self.fix = fix


def is_archive(path: Path) -> bool:
    """Whether a file is an archive that `unpacked` takes, by its name."""
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def unpacked(archive: Path, into: Path, reporter: Reporter, *, limits: Limits | None = None) -> Path:
    """Unpack an archive into a folder of its own, whole or not at all; once only, until the archive changes.

    Refused as a whole: absolute paths and `..`, links, devices, one name twice, encrypted content, and more
    bytes, files or growth than `limits` or the disk allow.

    Args:
        archive: The file.
        into: Where the folder goes, which is named after the archive.
        reporter: Is told the progress.
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
    try:
        facts = archive.stat()
        seal = {"archive": archive.name, "bytes": facts.st_size, "modified": facts.st_mtime_ns}
        stands = _sealed(folder)
        if stands == seal:
            return folder
        if folder.exists() and stands is None:
            raise DataError(
                f"{folder} is in the way: it was not unpacked from {archive.name}.", "Move it away, or unpack by hand."
            )
        with staging_folder(into) as staging, reporter.task(f"Unpacking {archive.name}", None, "files") as task:
            made = staging / folder.name
            made.mkdir()
            _Unpacking(archive, made, limits or Limits(), task).run()
            (made / _SEAL).write_text(json.dumps(seal), encoding="utf-8")
            if folder.exists():
                shutil.rmtree(folder)
            made.rename(folder)
    except _RefusedError as error:
        raise DataError(f"{archive} is not unpacked: {error.why}.", error.fix) from error
    except (OSError, EOFError, NotImplementedError, zipfile.BadZipFile, tarfile.TarError, *_DECODERS) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(
                f"{archive} can't be unpacked into {into}: {one_line(error)}.", "Make room, or check permissions."
            ) from error
        raise DataError(
            f"{archive} is damaged, cut short or no archive of its kind: {one_line(error)}.", "Download it again."
        ) from error
    return folder


class _Unpacking:
    """One run over an archive, which counts what it writes."""

    def __init__(self, archive: Path, into: Path, limits: Limits, task: Task) -> None:
        self._archive, self._into, self._limits, self._task = archive, into, limits, task
        self._size = archive.stat().st_size
        self._room = shutil.disk_usage(into).free - KEPT_FREE
        self._files = 0
        self._bytes = 0

    def run(self) -> None:
        if self._archive.name.lower().endswith(".zip"):
            self._unzip()
        else:
            self._untar()

    def _unzip(self) -> None:
        with open_file(self._archive) as raw, zipfile.ZipFile(raw) as archive:
            members = archive.infolist()
            self._check(len(members), sum(member.file_size for member in members), self._size)
            for member in members:
                self._count()
                if stat.S_IFMT(member.external_attr >> 16) not in {0, stat.S_IFREG, stat.S_IFDIR}:
                    raise _RefusedError(f"{member.filename} is a link or a device")
                if member.flag_bits & 1:
                    raise _RefusedError("it is encrypted", "Unpack it by hand with its password, and give the folder.")
                # zipfile turns backslashes into slashes on Windows only, so the raw name is looked at too.
                target = self._target(member.orig_filename if "\\" in member.orig_filename else member.filename)
                if member.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                else:
                    with archive.open(member) as stream:
                        self._write(stream, target, self._size)

    def _untar(self) -> None:
        if self._archive.name.lower().endswith(".tar"):
            self._check(1, self._size, self._size)
        with open_file(self._archive) as raw, tarfile.open(fileobj=raw, mode="r:*") as archive:
            while (member := archive.next()) is not None:
                self._count()
                archive.members.clear()  # type: ignore[attr-defined]  # or all names would stay in memory
                if member.issparse() or not (member.isfile() or member.isdir()):
                    raise _RefusedError(f"{member.name} is a link, a device or sparse")
                target = self._target(member.name)
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                stream = archive.extractfile(member)
                if stream is not None:
                    with stream:
                        self._write(stream, target, raw.tell())
            self._check_end(archive, raw)

    def _check_end(self, archive: tarfile.TarFile, raw: IO[bytes]) -> None:
        """Check that the archive ends as it should.

        tarfile takes one that was cut between two files for whole, and the checksum of a compressed one is only
        compared when it is read to its end.
        """
        content = archive.fileobj
        content.seek(archive.offset)
        if content.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it has no end")
        padding = 0
        while chunk := content.read(_CHUNK):
            padding += len(chunk)
            self._check(self._files, self._bytes + padding, raw.tell())

    def _target(self, name: str) -> Path:
        """Where a member goes.

        Raises:
            _RefusedError: Its name leads elsewhere, or no system could keep it.
        """
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name or "\\" in name or PureWindowsPath(name).drive:
            raise _RefusedError(f"the name {name!r} leads out of its folder or can't be kept")
        return self._into / path

    def _write(self, stream: IO[bytes], target: Path, consumed: int) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            out = target.open("xb")
        except FileExistsError:
            raise _RefusedError(f"{target.relative_to(self._into)} comes twice") from None
        with out:
            for chunk in _chunks(stream):
                self._bytes += len(chunk)
                self._check(self._files, self._bytes, consumed)
                out.write(chunk)
        self._task.advance()

    def _count(self) -> None:
        self._files += 1
        self._check(self._files, self._bytes, self._size)

    def _check(self, files: int, size: int, consumed: int) -> None:
        """Compare what is to be written, or was, with the limits.

        Args:
            files: Files and folders in all.
            size: Bytes in all.
            consumed: Bytes of the archive that they come from.
        """
        if files > self._limits.files:
            raise _RefusedError(f"it holds more than {self._limits.files:,} files")
        if size > self._limits.total:
            raise _RefusedError(f"it holds more than {self._limits.total / 1e9:,.1f} GB")
        if size > _RATIO_FROM and size > self._limits.ratio * max(consumed, 1):
            raise _RefusedError(f"it grows more than {self._limits.ratio:g} times, as only bombs do")
        if size > self._room:
            room = f"{max(self._room, 0) / 1e9:,.1f} GB can be used"
            raise _RefusedError(f"the disk has no room for it ({room})", "Make room, or choose another disk.")


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK):
        yield chunk


def _stem(archive: Path) -> str:
    name = archive.name
    longest = max((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), key=len, default="")
    return name[: len(name) - len(longest)] or name


def _sealed(folder: Path) -> object:
    """What `folder` was unpacked from; None when it wasn't."""
    try:
        return parse_json(read_text(folder / _SEAL))
    except (OSError, ValueError):
        return None
