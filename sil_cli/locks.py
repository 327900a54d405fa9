"""One writer at a time: a lock that the operating system lets go of when its holder dies."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sil_cli.errors import SilError, one_line
from sil_cli.files import access_as, lock, open_no_link

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_FILE = "writer.lock"


@contextlib.contextmanager
def writer_lock(folder: Path, *, while_held: str, elsewhere: str) -> Iterator[None]:
    """Hold a folder's writer lock for the length of the block; what is made in it has the rights of the lock's file.

    So a gallery that others share stays theirs, and one that is its owner's alone stays that, whoever writes how.

    The file stays when the block ends: deleting it would let two writers hold locks on two files of one name. It must
    be a plain file: through a link in a stranger's folder, the holder's name would be written over what it leads to.

    Args:
        folder: What is written to.
        while_held: What to do when someone else holds the lock.
        elsewhere: What to do when the folder can't be written.

    Raises:
        SilError: Someone else holds it (the message says who), the folder can't be written or locked, or a link or
            something else that is no file stands in the lock's place.
    """
    path = folder / LOCK_FILE
    try:
        handle = open_no_link(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
            raise SilError(
                f"{path} is not a plain file, as a lock must be: a link there would let another file be overwritten.",
                f"Find out who put it there, delete it (`rm {shlex.quote(str(path))}`), and run the same again.",
            ) from error
        raise SilError(f"{folder} can't be written: {one_line(error)}.", elsewhere) from error
    try:
        try:
            held = lock(handle)
        except OSError as error:
            raise SilError(f"{folder} can't be locked for writing: {one_line(error)}.", elsewhere) from error
        if not held:
            raise SilError(f"{folder} is being written by {_holder(handle)}.", while_held)
        _sign(handle)
        with access_as(handle):
            yield
    finally:
        os.close(handle)


def _sign(handle: int) -> None:
    if os.fstat(handle).st_nlink > 1:  # of whichever file it is another name
        return
    since = datetime.now(UTC).isoformat(timespec="seconds")
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    with contextlib.suppress(OSError):  # on a full disk the lock holds all the same, only unsigned
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(holder).encode(), 0)


def _holder(handle: int) -> str:
    try:
        holder = json.loads(os.pread(handle, 4096, 0))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
