"""The machine and the processes under a run: device, threads, what torchrun says, how long work reports progress."""

from __future__ import annotations

import atexit
import contextlib
import os
import platform
import signal
import socket
import sys
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast

from sil_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from types import FrameType

    import torch


DeviceName = Literal["auto", "cpu", "cuda", "mps"]
One = TypeVar("One")
Other = TypeVar("Other")

CHUNK = 32
"""Results of `map_in_order` come in lists of so many."""

_MULTIPLYING = ("fma", "f16c", "avx", "amx", "asimd", "fphp", "sve", "bf16", "i8mm")
_POLLED = 0.2  # seconds
_GRACE = 1.0
_END = object()
_CHUNKS_AHEAD = 4
_MOST_THREADS = 8  # each holds some 30 MiB while it looks at scores


class Task(Protocol):
    """One piece of long work that is under way."""

    def advance(self, count: int = 1, **facts: float | str) -> None:
        """Say that `count` more units are done; `facts` (loss=0.42) are shown beside the bar."""


class Reporter(Protocol):
    """Where long work says how far it is; the command line shows it, a library user may pass their own."""

    def task(self, label: str, total: int | None, unit: str = "") -> contextlib.AbstractContextManager[Task]:
        """Open a piece of work of `total` units (None: unknown) called `unit` ("images")."""

    def note(self, text: str) -> None:
        """Tell the user something worth knowing, on one line."""

    def warn(self, text: str) -> None:
        """Tell the user something that is probably wrong, on one line."""


class SilentReporter:
    """A `Reporter` that shows nothing."""

    def advance(self, count: int = 1, **facts: float | str) -> None:
        """Ignore progress."""

    @contextlib.contextmanager
    def task(self, label: str, total: int | None, unit: str = "") -> Iterator[Task]:
        """Ignore a task."""
        del label, total, unit
        yield self

    def note(self, text: str) -> None:
        """Ignore a note."""

    def warn(self, text: str) -> None:
        """Ignore a warning."""


@dataclass
class StopRequest:
    """Whether the user asked the work to stop, by Ctrl-C (SIGINT) or SIGTERM."""

    requested: bool = False

    def check(self) -> None:
        """Stop here if that was asked for.

        Raises:
            KeyboardInterrupt: It was.
        """
        if self.requested:
            raise KeyboardInterrupt


@contextlib.contextmanager
def stop_at_safe_point() -> Iterator[StopRequest]:
    """Turn the first Ctrl-C (SIGINT) or SIGTERM into a request that the work looks at between its steps.

    A second signal interrupts at once. A request that the work did not look at any more interrupts behind it.

    Raises:
        KeyboardInterrupt: The work is done, but a stop was asked for.
    """
    stop = StopRequest()

    def ask(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.check()
        stop.requested = True

    with _handled(ask, signal.SIGINT, signal.SIGTERM):
        yield stop
    stop.check()


@contextlib.contextmanager
def hear_interrupts(stop: StopRequest) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM interrupt, and `stop` know of it.

    Python drops what strikes inside a destructor, and libraries may swallow it: whoever looks at `stop` stops all the
    same. By default a process dies of SIGTERM without a word, its files left about. Ctrl-C that the parent process has
    switched off, as of a script's background jobs, stays so.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.requested = True
        raise KeyboardInterrupt

    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    with _handled(interrupt, *([] if ignored else [signal.SIGINT]), signal.SIGTERM):
        yield


@contextlib.contextmanager
def _handled(handler: Callable[[int, FrameType | None], None], *signals: signal.Signals) -> Iterator[None]:
    """Have signals handled while the block runs; they reach the main thread only, so in another one nothing is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.signal(each, handler) for each in signals]
    try:
        yield
    finally:
        for each, earlier in zip(signals, before, strict=True):
            signal.signal(each, earlier)


def interruptible(work: Callable[[], One], stop: Callable[[], None] | None = None) -> One:
    """Do what a library computes without listening to signals, so that Ctrl-C ends it none the less.

    The work is done in a thread of its own while this one waits, which signals do reach. Where the library can't be
    made to stop, the process doesn't wait for it at its end.

    Args:
        work: What is to be done.
        stop: Makes the library give up.

    Returns:
        What `work` returns; what it raises is raised here.
    """
    if threading.current_thread() is not threading.main_thread():  # signals never reach this one
        return work()
    done = threading.Event()
    outcome: Future[One] = Future()

    def do() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)
        done.set()

    try:
        threading.Thread(target=do, daemon=True).start()  # waits until it runs, and may be interrupted in that
        while not done.wait(_POLLED):  # on Windows only the end of a wait hears signals
            pass
    except BaseException:
        atexit.register(_leave, done)  # before anything that another signal can end
        if stop is not None:
            stop()
        done.wait(_GRACE)
        raise
    return outcome.result()


def _leave(done: threading.Event) -> None:
    """End the process now if its work still goes on: a library can't be taken down under a thread that uses it."""
    if not done.is_set():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):  # None, or closed
                stream.flush()
        os._exit(130)


def cpu_count() -> int:
    """The number of cores this process may use (its affinity, not the machine's size)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_count() -> int:
    """Threads for a forward pass: the cores of this process, or OMP_NUM_THREADS where that is fewer."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(cpu_count(), max(1, int(asked))) if asked.isdigit() else cpu_count()


def cpu_kind() -> str:
    """The instructions by which this CPU multiplies: what decides which kernels of a library compute on it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return f"{platform.machine()} {platform.processor()}".strip()
    flags = next((line.split(":")[1].split() for line in lines if line.lower().startswith(("flags", "features"))), [])
    return " ".join([platform.machine(), *sorted(flag for flag in set(flags) if flag.startswith(_MULTIPLYING))])


def is_installed(name: str) -> bool:
    """Whether a package could be imported; does not import it."""
    return find_spec(name) is not None


def import_quietly(name: str) -> Any:
    """Import a package that would report to its makers, and have it neither do so nor leave an identifier at home.

    ONNX Runtime from 1.29 on does unless a variable is set before it is loaded (its Privacy.md), and huggingface_hub,
    which timm downloads by, adds versions to its requests. OpenVINO reports that it was imported, through a package
    that it also does without; whoever imports that one has it as ever.
    """
    for variable in ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ.setdefault(variable, "1")
    reporting = "openvino_telemetry"
    if name in sys.modules or reporting in sys.modules:
        return import_module(name)
    try:
        sys.modules[reporting] = None  # type: ignore[assignment]  # which has an import of it fail
        return import_module(name)
    finally:
        del sys.modules[reporting]


def threads() -> ThreadPoolExecutor:
    """As many threads as there are cores, but no more than eight, for work that lets others run meanwhile (NumPy's)."""
    return ThreadPoolExecutor(min(_MOST_THREADS, cpu_count()))


def map_threads(work: Callable[[One], Other], parts: Sequence[One]) -> list[Other]:
    """What `work` makes of each part, in order, in several threads; a single part needs none."""
    if len(parts) <= 1:
        return [work(part) for part in parts]
    with threads() as pool:
        return list(pool.map(work, parts))


def map_in_order(
    function: Callable[[One], Other], items: Sequence[One], *, workers: int
) -> Generator[list[Other], None, None]:
    """Apply `function` to all items in threads; yield its results in order, in lists of up to 32.

    Threads suit image decoding: PIL's decoders and its resize let go of the interpreter. Only a few lists per
    worker are under way at any time, so memory stays flat. When the generator is closed early, every worker ends
    after the item at hand; hold it in `contextlib.closing`, so that Ctrl-C closes it at once. A single item needs no
    thread.
    """
    if len(items) == 1:
        yield [function(items[0])]
        return
    stop = threading.Event()

    def run(start: int) -> list[Other]:
        results: list[Other] = []
        for item in items[start : start + CHUNK]:
            if stop.is_set():
                break
            results.append(function(item))
        return results

    workers = max(1, workers)
    waiting: deque[Future[list[Other]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="sil-images") as pool:
        try:
            for start in range(0, len(items), CHUNK):
                waiting.append(pool.submit(run, start))
                if len(waiting) > workers * _CHUNKS_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)


def one_ahead(items: Generator[One, None, None]) -> Generator[One, None, None]:
    """The same items, each made in a thread while the one before it is being used.

    What makes them runs in that thread alone, and is closed when this is closed; hold it in `contextlib.closing`.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="sil-ahead") as pool, closing(items):
        try:
            coming = pool.submit(next, items, _END)
            while (item := coming.result()) is not _END:
                coming = pool.submit(next, items, _END)
                yield cast("One", item)
        finally:
            pool.shutdown(cancel_futures=True)


def may_have_accelerator() -> bool:
    """Whether asking torch for one is worth importing it: there is a driver's device file, or an Apple chip."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    return any(Path(file).exists() for file in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))


def resolve_device(name: DeviceName) -> torch.device:
    """The torch device for `name`; `auto` is CUDA where there is one, then MPS, then the CPU.

    Raises:
        UsageError: The named device is not on this machine.
    """
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind]))
    if not available[name]:
        there = ", ".join(kind for kind, is_there in available.items() if is_there)
        raise UsageError(f"There is no {name} device here (found: {there}).", "Use --device auto or --device cpu.")
    return torch.device(name)


@dataclass(frozen=True)
class Launch:
    """One process of a command, and how many others run the same.

    Attributes:
        rank: The number of this process, from 0; the first one writes and speaks for all.
        world_size: How many processes there are, on all machines.
        local_rank: Its number on its machine: which GPU it takes.
        attempt: How often torchrun has restarted all of them after one had died.
        is_last: Whether it will not restart them again.
        name: Of the whole launch: the same in every process of it that is first on its machine, and after a restart.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    attempt: int = 0
    is_last: bool = True
    name: str = ""

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0


SINGLE_LAUNCH = Launch()


def read_launch(environment: Mapping[str, str] = os.environ) -> Launch:
    """The launch that this process belongs to; `SINGLE_LAUNCH` where torchrun did not start it.

    LOCAL_RANK decides: torchrun sets it, while RANK and WORLD_SIZE alone may also number the pods of a job.

    Raises:
        UsageError: The variables contradict each other.
    """
    if "LOCAL_RANK" not in environment:
        return SINGLE_LAUNCH
    try:
        rank, world_size, local_rank = (int(environment[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        attempt, most = (
            int(environment.get(f"TORCHELASTIC_{name}", "0")) for name in ("RESTART_COUNT", "MAX_RESTARTS")
        )
    except (KeyError, ValueError):
        raise UsageError(
            "LOCAL_RANK is set, but RANK, WORLD_SIZE and LOCAL_RANK are not three numbers.",
            "Start the processes with torchrun, or unset LOCAL_RANK to run in one.",
        ) from None
    if not 0 <= rank < world_size or local_rank < 0:
        raise UsageError(
            f"RANK = {rank} and LOCAL_RANK = {local_rank} do not fit {world_size} processes.",
            "Start the processes with torchrun.",
        )
    # torchrun's own name for a job is "none" where nobody gave one; its process on this machine outlives restarts.
    given = environment.get("TORCHELASTIC_RUN_ID", "none")
    name = given if given != "none" else f"{socket.gethostname()}-{os.getppid()}"
    is_last = attempt >= most
    return Launch(rank, world_size, local_rank, attempt, is_last, name)
