"""Work on what a stranger wrote in a process apart, with limits: a library that crashes on it ends only that one."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

from sil_cli import errors
from sil_cli.errors import SilError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FRAME = struct.Struct("<cQ")
_DATA, _ERROR, _MEMORY, _END = b"d", b"e", b"m", b"."
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class ProcessDiedError(Exception):
    """The process ended before its work did: how, as the end of a sentence."""


def yielded_apart(
    function: Callable[..., Iterator[bytes]], *arguments: str, memory: int, seconds: int
) -> Iterator[bytes]:
    """Yield what a generator yields that runs in a process apart, as it comes.

    The process is begun as a program (not forked, and without `multiprocessing`, which would import whatever began
    this one), knows nothing of what this one holds, and ends when the generator is closed.

    Args:
        function: The generator, by the module that it stands in; its module should import no more than it needs.
        arguments: Its arguments.
        memory: Bytes that the process may take beyond what it has when its imports are done, where the system can see
            to that (Linux).
        seconds: Of processor time that it may take after them, likewise.

    Raises:
        ProcessDiedError: It crashed, took more than it may, or could not be started.
        SilError: The function raised one.
    """
    code = "import sys; from sil_cli.limited_process import serve; serve(*sys.argv[1:])"
    words = [function.__module__, function.__qualname__, str(memory), str(seconds), *arguments]
    command, environment = as_program(code, *words)
    environment |= dict.fromkeys(_THREADS, "1")
    try:
        begun = subprocess.Popen(  # noqa: S603 - this program itself
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is ours to hear: it would read as a crash
        )
    except OSError as error:
        raise ProcessDiedError(f"no process can be started for it: {one_line(error)}") from error
    with begun as process:
        try:
            assert process.stdout is not None  # noqa: S101 - as it was asked for
            while (frame := _read(process.stdout)) is not None:
                kind, content = frame
                if kind == _END:
                    return
                if kind == _MEMORY:
                    raise ProcessDiedError(f"it takes more than {memory >> 20:,} MiB of memory")
                if kind == _ERROR:
                    name, what, fix = json.loads(content)
                    raise vars(errors)[name](what, fix)
                yield content
            code_of_end = process.wait()
        finally:
            process.kill()
    if code_of_end == -signal.SIGXCPU:
        raise ProcessDiedError(f"it takes more than {seconds:,} s of processor time")
    raise ProcessDiedError(f"what reads it crashed ({_name(code_of_end)})")


def as_program(code: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """The command and the environment of a process that runs Python code with this very package.

    The working folder is not among the places that it imports from, unless it is among ours.
    """
    places = os.pathsep.join(str(Path(each).absolute()) for each in sys.path)
    return [sys.executable, "-c", code, *arguments], os.environ | {"PYTHONPATH": places, "PYTHONSAFEPATH": "1"}


def limit_process(*, memory: int, seconds: int | None = None) -> None:
    """Let this process take only so much more, where the system can see to that; it leaves no core file either.

    Args:
        memory: Bytes.
        seconds: Of processor time.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_DATA: memory + _bytes_of_data()}
    if seconds is not None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        limits[resource.RLIMIT_CPU] = int(used.ru_utime + used.ru_stime) + 1 + seconds
    for what, most in limits.items():
        with contextlib.suppress(ValueError, OSError):  # there is a lower limit already
            resource.setrlimit(what, (most, resource.getrlimit(what)[1]))


def _bytes_of_data() -> int:
    """What this process has of what RLIMIT_DATA counts."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def serve(module: str, name: str, memory: str, seconds: str, *arguments: str) -> None:
    """Run a generator and write what it yields to the pipe that is standard output: the work of the process apart."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no frame
    function = getattr(importlib.import_module(module), name)
    limit_process(memory=int(memory), seconds=int(seconds))
    try:
        for content in function(*arguments):
            _write(out, _DATA, content)
        _write(out, _END)
    except SilError as error:
        _write(out, _ERROR, json.dumps([type(error).__name__, error.what, error.fix]).encode())
    except MemoryError:
        _write(out, _MEMORY)


def _write(out: IO[bytes], kind: bytes, content: bytes = b"") -> None:
    out.write(_FRAME.pack(kind, len(content)))
    out.write(content)
    out.flush()


def _read(stream: IO[bytes]) -> tuple[bytes, bytes] | None:
    """The next frame; None where the process ended within it or before it."""
    head = stream.read(_FRAME.size)
    if len(head) < _FRAME.size:
        return None
    kind, length = _FRAME.unpack(head)
    content = stream.read(length)
    return (kind, content) if len(content) == length else None


def _name(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"code {code}"
