"""Feed parsers what strangers might write: `python tests/fuzz/run.py [--seconds 600] [PARSER …]`.

Each begins from files that are right and changes them: tokens of text for hostile ones, bytes and numbers of binary
files. Whatever is wrong must end as a SilError, within 5 seconds and 500 MB. Seconds are those of the processor, so
that a busy machine changes nothing; who waits rather than computes has two minutes. A failure is made small by
Hypothesis and told with its traceback; the files that failed stay in the folder that is named.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from sil_cli.errors import SilError, causes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fuzz.parsers import Parser

WORLD = Path(__file__).parents[1] / "fixtures/world"
SECONDS, BYTES = 5.0, 500_000_000
WAITING = 120.0  # by the clock: a pipe that is opened takes no processor time
EXAMPLES = 25

TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\w.+-]+|\s+|.', re.DOTALL)
HOSTILE = (
    b"0", b"-1", b"1e999", b"-1e999", b"NaN", b"nan", b"Infinity", b"inf", b"1e308", b"0.1", b"True", b"null", b"true",
    b"9" * 20, b"-" + b"9" * 20, b"9" * 400, b"9" * 5000, b"4611686018427387904", b"9223372036854775808", b"2147483648",
    b'""', b'"x"', b'"../../x"', b'"/etc/passwd"', b'"a/../../b"', b'"\\u0000"', b'"\\ud800"', b'"\\u001b[31m"',
    b'"\\u202e"', b'"' + b"x" * 5000 + b'"', b"''", b"[]", b"{}", b"[[]]", b"[" * 3000, b'{"a":' * 3000, b"(" * 3000,
    b"-" * 3000, b"{'a':" * 300, b"a." * 3000, b"(1,)", b"(True, 8)", b"(-1,)", b"(9223372036854775807,)",
    b"'|O'", b"'<f8'",
    b"0001-01-01T00:00:00+14:00", b"9999-12-31T23:59:59-12:00", b"2024-02-30", b"08:30:00", b"2024-01-01",
    b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", b"\n", b"\r", b"\t", b",", b";", b'"', b"'",
    b"\\", b"=",
    b"..", b"/", b"*", b"(a+)+$", b"[^", b"(?P<a>", b"{99999999999}", b"\xe2\x80\xae", b"\x1b[2J",
    "ё".encode(), b"Zo\xcc\x88",
)  # fmt: skip
NUMBERS = (0, 1, 255, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["put", "insert", "drop", "copy", "cut", "byte", "number"]), *[st.integers(0, 2**30)] * 3
    ),
    min_size=1,
    max_size=4,
)


class _HangError(BaseException):
    """Passes every `except Exception`."""


def changed(content: bytes, edits: Sequence[tuple[str, int, int, int]], *, text: bool) -> bytes:
    """A file after edits: each is of a kind, at a place, and takes something from a list or another place."""
    for kind, at, other, which in edits:
        if text and kind not in ("byte", "number"):
            tokens = TOKENS.findall(content) or [b""]
            place, source = at % len(tokens), other % len(tokens)
            hostile = HOSTILE[which % len(HOSTILE)]
            if kind == "put":
                tokens[place] = hostile
            elif kind == "insert":
                tokens.insert(place, hostile)
            elif kind == "drop":
                del tokens[place]
            elif kind == "copy":
                tokens[place] = tokens[source]
            else:
                del tokens[place:]
            content = b"".join(tokens)
            continue
        place, source, length = at % (len(content) + 1), other % (len(content) + 1), which % 64
        if kind == "number":
            size = (1, 2, 4, 8)[which % 4]
            number = NUMBERS[other % len(NUMBERS)] % 256**size
            content = (
                content[:place] + number.to_bytes(size, ("little", "big")[which // 4 % 2]) + content[place + size :]
            )
        elif kind == "insert":
            content = content[:place] + HOSTILE[which % len(HOSTILE)] + content[place:]
        elif kind == "drop":
            content = content[:place] + content[place + length :]
        elif kind == "copy":
            content = content[:place] + content[source : source + length] + content[place:]
        elif kind == "cut":
            content = content[:place]
        else:
            content = content[:place] + bytes([which % 256]) + content[place + 1 :]
    return content


def check(parser: Parser, pristine: dict[Path, bytes], name: Path, content: bytes) -> None:
    """Read a world of which one file is changed.

    Raises:
        Exception: Anything but a SilError, or one that memory ran out under.
    """
    for path, right in pristine.items():
        path.write_bytes(right)
    name.write_bytes(content)
    set_timers(SECONDS, WAITING)
    try:
        parser.read()
    except SilError as error:
        told = f"{error.what}\n{error.fix}"
        if any(isinstance(cause, MemoryError) for cause in causes(error)):
            raise MemoryError(told) from error
        if told.count("\n") != 1 or told.startswith("Unexpected"):
            raise AssertionError(f"more than two lines: {told}") from error
    except _HangError as error:
        raise TimeoutError(f"it took more than {SECONDS:g} seconds, or waited for {WAITING:g}") from error
    finally:
        set_timers(0, 0)


def set_timers(computing: float, waiting: float) -> None:
    signal.setitimer(signal.ITIMER_PROF, computing)
    signal.setitimer(signal.ITIMER_REAL, waiting)


def prepare(parser: Parser) -> dict[Path, bytes]:
    """Make the parser's files in the working folder; returns all that a reading may change."""
    shutil.copytree(WORLD, ".", dirs_exist_ok=True)
    parser.make()
    parser.read()  # right files are read
    beside = {path for file in parser.files for path in file.parent.iterdir() if path.is_file()}
    return {path: path.read_bytes() for path in beside if path.stat().st_size < 10_000_000}


def examples(parser: Parser, pristine: dict[Path, bytes], number: int, count: int) -> Callable[[], None]:
    """So many examples; the same number gives the same ones."""

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, len(parser.files) - 1), EDITS)
    def run(which: int, edits: list[tuple[str, int, int, int]]) -> None:
        name = parser.files[which]
        check(parser, pristine, name, changed(pristine[name], edits, text=parser.text))

    return run


def work(name: str, seconds: float, count: int) -> None:
    """Try one parser in the working folder, in this process, which is limited for it."""
    from fuzz.parsers import PARSERS

    def hang(*_: object) -> None:
        raise _HangError

    parser = PARSERS[name]
    before = {number: signal.signal(number, hang) for number in (signal.SIGPROF, signal.SIGALRM)}
    try:
        pristine = prepare(parser)
        end, rounds = time.monotonic() + seconds, 0
        while rounds == 0 or time.monotonic() < end:
            examples(parser, pristine, rounds, count)()
            rounds += 1
        print(f"{name}: {rounds * count} examples")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def limit_memory() -> None:
    """Let this process have no more than 500 MB more than it has."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, used + BYTES))


def main() -> int:
    """Try parsers one after another, each in a process of its own; returns how many failed."""
    from fuzz.parsers import PARSERS

    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("parser", nargs="*", metavar="PARSER", help=", ".join(PARSERS))
    arguments.add_argument("--seconds", type=float, default=600.0)
    arguments.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given_arguments = arguments.parse_args()
    if given_arguments.here:
        (name,) = given_arguments.parser
        parser = PARSERS[name]
        prepare(parser)  # loads what it needs before memory is limited
        limit_memory()
        work(name, given_arguments.seconds, EXAMPLES)
        return 0
    failed = 0
    for name in given_arguments.parser or PARSERS:
        folder = Path(tempfile.mkdtemp(prefix=f"sil-fuzz-{name}-"))
        command = [sys.executable, Path(__file__).resolve(), name, "--seconds", str(given_arguments.seconds), "--here"]
        try:
            done = subprocess.run(command, cwd=folder, check=False, timeout=given_arguments.seconds + 300)
        except subprocess.TimeoutExpired:
            done = None
        if done is not None and done.returncode == 0:
            shutil.rmtree(folder)
        else:
            print(f"{name}: FAILED ({'it hangs' if done is None else done.returncode}); see {folder}", flush=True)
            failed += 1
    return failed


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    os.environ.update(MALLOC_ARENA_MAX="1", OMP_NUM_THREADS="1")
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
