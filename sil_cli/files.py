"""Files that are either whole or absent: written beside, flushed to disk, then renamed into place."""

from __future__ import annotations

import codecs
import contextlib
import errno
import hashlib
import json
import os
import re
import shlex
import shutil
import stat
import tomllib
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeGuard, TypeVar

from sil_cli.errors import SilError, one_line

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Iterator
    from io import BufferedReader


Parsed = TypeVar("Parsed")

BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
"""What Notepad and PowerShell begin a text with, and its encoding; the longer of two that begin alike first."""

LARGEST_FILE = 4 * 2**30
"""Bytes of weights that are read or fetched; the largest published one, CLIP-ReID's with its optimiser, has 1.5 GB."""

TEMPORARY_MARK = ".sil-partial-"
STAGING_MARK = ".sil-staging-"
_HALF_MADE = re.compile(r"\.(?:sil-partial|sil-staging|partial)-[0-9a-f]{16}(?:\.\w+)?")
"""What is being made, `.partial-` by earlier versions; no other program gives such names."""

MOST_TEXT = 8_000_000
"""Bytes of a document that we wrote; a parser makes fifty times as much of a hostile one."""

MOST_LINES = 2**30
"""Bytes of what has a line for each image, such as a manifest: some 200 each."""

_HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""Half of a character in JSON, alone or beside its other half; no text that is written can hold one alone."""

_MOST_TOML = 250_000
_DEEP_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){64}""", re.ASCII)
"""A key of so many parts takes tomllib memory by their square: one of 100 KB took all there was."""

_LINKS_FOLLOWED = 40  # as many as Linux follows


@contextlib.contextmanager
def access(*, shared: bool) -> Iterator[None]:
    """Have all that is made in the block readable and writable by its owner alone, whoever makes it.

    That is done by the process's umask, because not only we make files but SQLite, TensorBoard and worker processes,
    too. It is one for all threads of a process.

    Args:
        shared: The umask as it is decides who else may read and write.
    """
    before = os.umask(0o077)
    try:
        os.umask(before if shared else before | 0o077)
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def access_as(handle: int) -> Iterator[None]:
    """Have all that is made in the block readable and writable by those who may read and write an open file."""
    mode = stat.S_IMODE(os.fstat(handle).st_mode)
    before = os.umask(~(mode | (mode & 0o444) >> 2) & 0o777)  # who may read files may enter folders
    try:
        yield
    finally:
        os.umask(before)


def make_alike(folder: Path, model: Path) -> None:
    """Make a folder with the group and the rights of another, as far as we may, unless it is there."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        facts = model.stat()
        with contextlib.suppress(OSError):
            os.chown(folder, -1, facts.st_gid)
            folder.chmod(stat.S_IMODE(facts.st_mode))


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a binary file that replaces `path` only when the block ends without an error.

    The content is written to a file beside `path`, flushed to disk (fsync) and renamed, so that a kill or a
    full disk at any moment leaves either the old file or the new one. A link is replaced and never followed: the
    folders of galleries and models may be a stranger's.

    Args:
        path: The file.
        durable: It is on the disk when this returns. If not, only a kill leaves either file, and a power cut may leave
            an empty one: for many small files that the caller flushes together.

    Raises:
        OSError: The folder can't be written, or the disk is full; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, handle = _held_file(path)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if _is_unnamed_lack_of_room(error):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    if durable:
        sync_folder(path.parent)


@contextlib.contextmanager
def writing(path: Path, *, users_own: bool = True) -> Iterator[BinaryIO]:
    """Open what a user named for output, as `replacing` does where it can be replaced.

    A link stays: what it leads to is replaced. A pipe, a terminal or /dev/null can't be replaced, nor can /dev/stdout
    and its like: they are written straight.

    Args:
        path: The file.
        users_own: The user named it. If not, as for a default name, this is `replacing`: a link or a pipe that stands
            there may be a stranger's, and gives way.

    Raises:
        OSError: The folder can't be written, the disk is full, or `path` is a folder; nothing is left behind.
        SilError: `path` is something that is neither replaced nor written straight, or a pipe that nobody reads on.
    """
    straight = _open_straight(path) if users_own else None
    if straight is None:
        with replacing(Path(os.path.realpath(path)) if users_own else path) as stream:
            yield stream
        return
    try:
        with straight as stream:
            yield stream
    except BrokenPipeError:
        raise SilError(f"The program that read {path} has ended.", "Start the reader and this command again.") from None
    except OSError as error:
        if _is_unnamed_lack_of_room(error):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _is_unnamed_lack_of_room(error: BaseException) -> TypeGuard[OSError]:
    """Whether a stream that was being written met its end: such errors don't say which one."""
    room = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return isinstance(error, OSError) and error.errno in room and error.filename is None


def _open_straight(path: Path) -> BinaryIO | None:
    """A stream into what can't be replaced; None where `path` is a file, or nothing yet.

    Raises:
        OSError: It can't be opened, or is a folder.
        SilError: It is a disk or a socket.
    """
    descriptor = _own_descriptor(path)
    if descriptor is not None:
        return os.fdopen(os.dup(descriptor), "wb")  # opened anew, a file behind it would be cut, or written over
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISREG(mode):
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISFIFO(mode) and not stat.S_ISCHR(mode):
        raise SilError(f"{path} is neither a file nor a pipe.", "Choose another path.")
    return os.fdopen(os.open(path, os.O_WRONLY), "wb")


def _own_descriptor(path: Path) -> int | None:
    """The number of the open file that /dev/stdout, /dev/fd/N or a link to them stands for; None for other paths."""
    own = os.path.realpath("/dev/fd")
    for _ in range(_LINKS_FOLLOWED):
        if path.name.isdecimal() and os.path.realpath(path.parent) == own:
            return int(path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def _held_file(path: Path) -> tuple[Path, int]:
    """Make a file of a new name beside `path`, locked for as long as it is open; returns its path and descriptor."""
    while True:
        temporary = path.with_name(f"{TEMPORARY_MARK}{os.urandom(8).hex()}{path.suffix}")
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        if _still_there(handle, temporary):
            return temporary, handle


def _still_there(handle: int, path: Path) -> bool:
    """Lock what was just made at `path`; False, and closed, where somebody took it for abandoned before that."""
    with contextlib.suppress(OSError):  # some file systems keep no locks: nothing of ours is taken for abandoned there
        if lock(handle) and path.exists():
            return True
        os.close(handle)
        return False
    return True


def lock(handle: int, *, shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file or folder for as long as it is open; False where somebody else has.

    Args:
        handle: Its descriptor.
        shared: Others may hold it shared as well.
        wait: Until the others have let go of it.

    Raises:
        OSError: The file system, or the whole system, keeps no such locks.
    """
    try:
        import fcntl
    except ImportError as error:  # Windows
        raise OSError(errno.ENOTSUP, "this system has no locks on open files") from error
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def is_half_made(name: str) -> bool:
    """Whether a file or folder of this name is one that we were making: it is yet to get its own name."""
    return _HALF_MADE.fullmatch(name) is not None


def remove_leftovers(folder: Path) -> None:
    """Delete what killed processes left half made in `folder`, files and folders.

    That may be anybody's folder: only what bears a name of ours goes, and of that only what no process holds locked.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as listing:
        for leftover in [Path(entry) for entry in listing if is_half_made(entry.name)]:
            with contextlib.suppress(OSError):
                handle = os.open(leftover, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    if not lock(handle):
                        continue
                    if stat.S_ISDIR(os.fstat(handle).st_mode):
                        shutil.rmtree(leftover)
                    elif stat.S_ISREG(os.fstat(handle).st_mode):
                        leftover.unlink()
                finally:
                    os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, whole or not at all."""
    with replacing(path) as stream:
        stream.write(content)


def copy_file(source: Path, target: Path) -> None:
    """Replace `target` by the content of `source`, whole or not at all; a full disk is that of the target."""
    with open_file(source) as content, replacing(target) as stream:
        shutil.copyfileobj(content, stream)


def read_bytes(path: Path, *, most: int = MOST_TEXT) -> bytes:
    """The content of a file, as `open_file` opens it: what a user or a stranger's folder names may be a pipe.

    Args:
        path: The file.
        most: Bytes that it may have: one full of holes has a terabyte, and takes no room on the disk.

    Raises:
        OSError: It can't be read, is not a file, or is larger.
    """
    with open_file(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > most:
            raise OSError(errno.EINVAL, f"it has {size:,} bytes, more than {most:,}", str(path))
        return stream.read()


def read_text(path: Path, *, most: int = MOST_TEXT) -> str:
    """The text of a file, each of its line ends as a newline: UTF-8, or what a mark at its beginning says it is.

    Args:
        path: The file.
        most: Bytes that it may have.

    Raises:
        OSError: It can't be read, or is not a file.
        ValueError: It is larger, or not text.
    """
    with open_file(path) as stream:
        content = stream.read(min(most, os.fstat(stream.fileno()).st_size) + 1)  # room is made for what is asked for
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    mark = next((mark for mark in BYTE_ORDER_MARKS if content.startswith(mark)), b"")
    encoding = BYTE_ORDER_MARKS.get(mark, "utf-8")
    try:
        text = content.removeprefix(mark).decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not text in {encoding.upper()}: byte {error.start:,} is wrong") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` in UTF-8, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: object) -> None:
    """Replace `path` by an indented JSON document that ends in a newline; NaN is refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def parse_json(text: str) -> Any:
    """Parse a JSON document that anybody may have written.

    Raises:
        ValueError: It is not JSON, is nested too deeply, or holds a number of too many digits, or half a character.
    """
    document = _parsed(json.loads, text)
    if _HALF.search(text):
        try:
            json.dumps(document, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("it holds half a character, which no file can be named by") from None
    return document


def parse_toml(text: str) -> dict[str, Any]:
    """Parse a TOML document that anybody may have written.

    Raises:
        ValueError: It is not TOML, is too long or nested too deeply, or holds a number of too many digits.
    """
    if len(text) > _MOST_TOML:
        raise ValueError(f"it has more than {_MOST_TOML:,} characters")
    if _DEEP_KEY.search(text):
        raise ValueError("a key in it is nested too deeply")
    return _parsed(tomllib.loads, text)


def _parsed(parse: Callable[[str], Parsed], text: str) -> Parsed:
    try:
        return parse(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


@contextlib.contextmanager
def parsing(told: Callable[[str], SilError]) -> Iterator[None]:
    """Have whatever a parser raises become an error of ours: hostile bytes make libraries raise anything.

    Args:
        told: Makes the error of what the parser said, on one line.

    Raises:
        SilError: The block failed. Running out of memory is told as that, by whoever hears of it.
    """
    try:
        yield
    except (SilError, MemoryError):
        raise
    except Exception as error:
        raise told(one_line(error)) from error


def read_json(path: Path, *, what: str, fix: str, most: int = MOST_TEXT) -> Any:
    """Parse the JSON document at `path`.

    Args:
        path: The file.
        what: What the file is, for the message ("the run's model.json").
        fix: What the user should do when it is missing or damaged.
        most: Bytes that it may have.

    Raises:
        SilError: The file is missing, unreadable or not JSON.
    """
    try:
        return parse_json(read_text(path, most=most))
    except FileNotFoundError:
        raise SilError(f"{path} is missing: it should hold {what}.", fix) from None
    except (OSError, ValueError) as error:
        raise SilError(f"{path} can't be read as {what}: {one_line(error)}.", fix) from error


@contextlib.contextmanager
def staging_folder(parent: Path) -> Iterator[Path]:
    """Yield an empty folder in `parent` to build things in; move them out before the block ends, when it is deleted.

    What earlier runs left behind when they were killed is deleted first; what others are building stays.
    """
    parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(parent)
    while True:
        folder = parent / f"{STAGING_MARK}{os.urandom(8).hex()}"
        folder.mkdir()
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        if _still_there(handle, folder):
            break
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename in it survives a power cut (where the OS can)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sha256_of_bytes(content: bytes | mmap.mmap) -> str:
    """The SHA-256 of `content` as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def open_file(path: Path) -> BufferedReader:
    """Open a file to read its bytes, and nothing but a file: a pipe would block for ever, a device never end.

    Raises:
        OSError: It is missing, locked, or not a file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a file", str(path))
    return path.open("rb")


def open_no_link(path: Path, flags: int) -> int:
    """Open a plain file by a name that we choose in a folder which may be a stranger's; returns the descriptor.

    A link is not followed, not even one that leads nowhere, and a pipe doesn't block.

    Args:
        path: The file.
        flags: Of `os.open`; a file that O_CREAT makes has the rights that the umask leaves.

    Raises:
        OSError: It can't be opened, or is a link, a pipe, a folder or a device.
    """
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if path.is_symlink():
            raise OSError(errno.ELOOP, "a link, where a plain file belongs", str(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a file", str(path))
    return handle


def require_reachable(path: Path) -> None:
    """Refuse a path at which nothing can be seen, be it there or not; one that merely doesn't exist passes.

    Call it before saying that there is nothing.

    Raises:
        SilError: A folder on the way may not be entered, is a file, doesn't answer, or is a link that leads nowhere.
    """
    for step in (*reversed(path.parents), path):
        try:
            is_folder = stat.S_ISDIR(step.stat().st_mode)
        except FileNotFoundError:
            if step.is_symlink():
                raise SilError(
                    f"{step} is a link to {step.readlink()}, which doesn't exist.",
                    "Correct the link, or name another path.",
                ) from None
            return
        except OSError as error:
            what, fix = f"{step} can't be looked at: {one_line(error)}.", "Check the disk, or name another path."
            if error.errno == errno.ELOOP:
                what, fix = f"{step} is a link that leads back to itself.", "Correct it, or name another path."
            elif error.errno in (errno.EACCES, errno.EPERM):
                what = f"{step.parent} can't be entered: {one_line(error)}."
                fix = "Change its permissions, or name another path."
            raise SilError(what, fix) from error
        if not is_folder and step != path:
            raise SilError(f"{step} is a file, not a folder.", "Name another path.")


def make_own_folder(within: Path, *names: str) -> Path:
    """Make a folder of ours below one that may be a stranger's, and return it.

    Raises:
        OSError: It can't be made.
        SilError: It, or a folder on the way to it, is a link.
    """
    folder = within.joinpath(*names)
    refuse_links(folder, within=within)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def refuse_links(path: Path, *, within: Path) -> None:
    """Refuse a place of ours that is a link, or that a link leads to, whatever becomes of the folders above `within`.

    Raises:
        SilError: It is one.
    """
    below = path.relative_to(within).parts
    for length in range(1, len(below) + 1):
        step = within.joinpath(*below[:length])
        if step.is_symlink():
            raise SilError(
                f"{step} is a link: what is written there would land elsewhere.",
                f"Find out who put it there, and delete it (`rm {shlex.quote(str(step))}`), or name another place.",
            )


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file's content as 64 hexadecimal digits.

    Raises:
        OSError: It can't be read, or is not a file.
    """
    with open_file(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_state(path: Path) -> str:
    """What changes whenever a file does: inode, size, and the times of its last write and last change.

    Whoever writes to a file can set back the time of its write, but not that of its change, so a file whose
    state is as it was needn't be read again to know that its content is too. A copy has another state.

    Raises:
        OSError: The file can't be looked at.
    """
    facts = path.stat()
    return f"{facts.st_ino} {facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}"


def concerned(error: OSError) -> str:
    """The path that an error is about, '' where it names none: of two, as in copying, the one written to.

    A file or folder of ours that is yet to be renamed into place means nothing to the user: the folder around it is
    named instead.
    """
    named = error.filename if error.filename2 is None else error.filename2
    if not isinstance(named, str | bytes | os.PathLike):
        return ""
    path = Path(os.fsdecode(named))
    for part in reversed([path, *path.parents]):
        if part.name.startswith((TEMPORARY_MARK, STAGING_MARK)):
            return str(part.parent)
    return str(path)


def composed(text: str) -> str:
    """The text with composed letters (NFC): a name that macOS has written with decomposed ones is the same name."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def as_on_disk(path: Path) -> Path:
    """A path as the disk spells it, where composed and decomposed letters (NFC, NFD) make the only difference.

    Returns:
        `path` itself where it exists so, or in no spelling.
    """
    if str(path).isascii() or os.path.lexists(path):
        return path
    found = Path(path.anchor)
    for part in path.parts[len(found.parts) :]:
        there: str | None = part
        if not os.path.lexists(found / part):
            try:
                alike = (name for name in os.listdir(found) if composed(name) == composed(part))  # noqa: PTH208 -- names
            except OSError:
                return path
            there = next(alike, None)
        if there is None:
            return path
        found /= there
    return found


def path_below(root: Path, written: str) -> str | None:
    r"""What a table's cell names, as the path of a file below a folder: forward slashes, letters as on the disk.

    A relative path is taken as it stands, links in it included; one that is absolute, or leads through `..`, where it
    leads into the folder in the end, whatever links lie on the way to either.

    Args:
        root: The folder.
        written: With slashes or backslashes; a colon is a letter like others but in `C:\` and `C:/`.

    Returns:
        None where it lies outside, or names no file.
    """
    path = Path(written.replace("\\", "/"))
    if "\0" in written or not path.name:
        return None
    on_a_drive = re.match(r"[A-Za-z]:[/\\]", written) and not os.path.lexists(root / path)
    if on_a_drive or written.startswith(("\\\\", "//")):
        return None
    if path.is_absolute() or ".." in path.parts:
        whole = as_on_disk(root / path)
        real, real_root = Path(os.path.realpath(whole.parent), whole.name), Path(os.path.realpath(root))
        # First as the writer of the table saw it: a link below the folder is part of the path, wherever it leads.
        ways = [(whole, Path(os.path.abspath(root))), (whole, real_root)] if ".." not in path.parts else []  # noqa: PTH100
        ways.append((real, real_root))
        below = (way.relative_to(above) for way, above in ways if way.is_relative_to(above) and way.name != "..")
        path = next(below, Path())
        return path.as_posix() if path.name else None
    return path.as_posix() if written.isascii() else as_on_disk(root / path).relative_to(root).as_posix()
