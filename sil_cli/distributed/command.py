"""Several processes that run one command: how they meet, agree, speak with one voice, and end together."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
import time
import traceback
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from sil_cli.distributed.collectives import LostProcessError
from sil_cli.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from sil_cli.errors import AlreadyReportedError, InterruptedWorkError, SilError, UsageError, causes, one_line
from sil_cli.runtime import resolve_device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sil_cli.runtime import DeviceName, Launch

FIRST_SPEAKS = 1.0
"""Seconds that the first process has to tell of an error that all have, before another does."""

LAST_WORDS = 2.0
"""Seconds in which the process that caused the end of all can say why, and the others that they are there."""

STOPPING = 4.0
"""Seconds that a stopped process gives the others to stop too: torchrun stops all when one was killed."""

SHOWN = 5


@contextlib.contextmanager
def one_voice(launch: Launch) -> Iterator[None]:
    """Run a block in every process of a launch; of what goes wrong in any of them, one tells.

    An error in one process closes its connections, which ends the others wherever they next wait for it. They know by
    a key in torchrun's store whether the cause has been reported; if nobody has (it was killed), one of them says who
    is missing.

    Raises:
        AlreadyReportedError: Another process has reported the error.
        SilError: This one is to tell.
    """
    if launch.world_size == 1:
        yield
        return
    store: Store | None = None
    _hear_stops()
    try:
        store = _torchrun_store(launch)
        yield
    except BaseException as error:
        _finish_speaking()
        raise _as_reported(error, launch, store) from error
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def connect(launch: Launch, device: DeviceName, *, timeout: float) -> tuple[ProcessGroup, torch.device]:
    """Join the processes of a launch.

    Args:
        launch: Which they are; `one_voice` is around.
        device: What the settings ask for.
        timeout: Seconds that one waits for another, before it takes it for hung.

    Returns:
        The processes, and this one's device: on a machine with GPUs each has its own.

    Raises:
        UsageError: There are more processes on this machine than GPUs, or the device can't be shared.
    """
    chosen = resolve_device(device)
    if launch.world_size == 1:
        return SINGLE_PROCESS, chosen
    if chosen.type == "mps":
        raise UsageError("An Apple GPU can't be shared by several processes.", "Use --device cpu, or one process.")
    backend = "gloo"
    if chosen.type == "cuda":
        there = torch.cuda.device_count()
        if launch.local_rank >= there:
            raise UsageError(
                f"There are more processes on {socket.gethostname()} than its {there} GPUs.",
                f"Start torchrun with --nproc-per-node {there}, or use --device cpu.",
            )
        chosen = torch.device("cuda", launch.local_rank)
        torch.cuda.set_device(chosen)
        backend = "cpu:gloo,cuda:nccl"
    store = _torchrun_store(launch)
    patience = timedelta(seconds=timeout)
    _refuse_other_devices(store, launch, chosen.type, patience)
    try:
        distributed.init_process_group(
            backend,
            store=PrefixStore("group", store),
            rank=launch.rank,
            world_size=launch.world_size,
            timeout=patience,
        )
    except RuntimeError as error:
        raise LostProcessError(
            f"The processes can't reach each other ({one_line(error)}).", "Check network and firewall between them."
        ) from error
    return ProcessGroup(launch.rank, launch.world_size), chosen


def agree(group: ProcessGroup, facts: Mapping[str, Any], *, fix: str) -> None:
    """Compare what every process goes by with what the first does.

    Args:
        group: The processes.
        facts: Names and values (JSON).
        fix: What to do when they differ.

    Raises:
        UsageError: They differ; it names what differs, and is raised in all processes.
    """
    everyone = [json.loads(text) for text in group.gather_texts(json.dumps(facts, sort_keys=True))]
    first = everyone[0]
    for rank, theirs in enumerate(everyone):
        names = [name for name in sorted({*first, *theirs}) if first.get(name) != theirs.get(name)]
        if names:
            differing = ", ".join(f"{name} = {theirs.get(name)} (there {first.get(name)})" for name in names[:SHOWN])
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            raise UsageError(f"Process {rank} does not agree with process 0: {differing}{more}.", fix)


def _refuse_other_devices(store: Store, launch: Launch, device: str, patience: timedelta) -> None:
    """Compare devices before connecting, because each kind has a way of connecting of its own."""
    store.set_timeout(patience)
    store.set(f"device/{launch.rank}", device)
    for rank in range(launch.world_size):
        try:
            theirs = store.get(f"device/{rank}").decode()
        except RuntimeError as error:
            raise LostProcessError(
                f"Process {rank} did not start in time ({one_line(error)}).", "Look at its output."
            ) from error
        if theirs != device:
            raise UsageError(
                f"Process {launch.rank} would train on {device}, process {rank} on {theirs}.",
                "Give all of them the same --device, and check the GPUs of machines that should have some.",
            )


def _torchrun_store(launch: Launch) -> Store:
    """The store of torchrun itself, which outlives the processes that it started; each attempt has its own keys."""
    store: Store = next(rendezvous("env://"))[0]
    return PrefixStore(f"sil-{launch.attempt}", store)


def _hear_stops() -> None:
    """Let SIGTERM interrupt as Ctrl-C does, wherever nothing else listens for it.

    torchrun sends it to those that are left as soon as one process has ended. Who dies of it can't tell why.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _finish_speaking() -> None:
    """Ignore SIGTERM from now on, which torchrun sends to those that are left as soon as one process has ended."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _as_reported(error: BaseException, launch: Launch, store: Store | None) -> BaseException:
    """What this process makes of an error: its own words, or none if another has reported it."""
    if store is None:
        return error
    lost = _lost_in(error)
    code = getattr(error, "exit_code", 130 if isinstance(error, KeyboardInterrupt) else 1)
    try:
        if lost is not None:
            _say_here(store, launch, error)
            _in_time(store, launch, LAST_WORDS, lambda: store.check(["reported"]))
        elif isinstance(error, (KeyboardInterrupt, InterruptedWorkError)):
            lost = _lost_while_stopping(store, launch, error)
        if lost is None and not launch.is_first:
            _in_time(store, launch, FIRST_SPEAKS, lambda: store.check(["reported"]))
        if lost is not None:
            code = 1
        if store.check(["reported"]) or store.add("reported", 1) > 1:
            return AlreadyReportedError(code)
        if lost is not None:
            return _missing(store, launch, lost)
    except (RuntimeError, ValueError):  # the store has ended, and with it torchrun
        return error
    if isinstance(error, SilError) and not launch.is_first and not isinstance(error, InterruptedWorkError):
        what = f"{error.what} (process {launch.rank} of {launch.world_size}, on {socket.gethostname()})"
        reported = SilError(what, error.fix)
        reported.exit_code = error.exit_code
        return reported
    return error


def _lost_while_stopping(store: Store, launch: Launch, error: BaseException) -> LostProcessError | None:
    """Whether this process was stopped by torchrun because another had died: then that one doesn't stop as all do."""
    if not _say_here(store, launch, error):
        return None
    if _in_time(store, launch, STOPPING, lambda: store.check(["reported"]) or not _absent(store, launch)):
        return None
    return LostProcessError("Another process has ended or stopped responding.", "Look at its output.")


def _say_here(store: Store, launch: Launch, error: BaseException) -> bool:
    """Say that this process ends, and wake those that wait for it.

    Connections close when nothing holds their group any more; the frames of the error do, where it came out of a call
    of it. Without that those left fail one after another, each when the one before it has had its last words.

    Returns:
        Whether they are woken: closing connections of NCCL might hang in turn, so those stay open.
    """
    store.set(f"here/{launch.rank}", "yes")
    if not distributed.is_initialized() or torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return False
    distributed.destroy_process_group()
    for each in causes(error):
        traceback.clear_frames(each.__traceback__)
    return True


def _in_time(store: Store, launch: Launch, seconds: float, done: Callable[[], bool]) -> bool:
    """Wait until something is so, but no longer than so many seconds after another process has said that it ends."""
    absent, deadline = launch.world_size, time.monotonic() + seconds
    while time.monotonic() < deadline:
        if done():
            return True
        still = len(_absent(store, launch))
        if still < absent:
            absent, deadline = still, time.monotonic() + seconds
        time.sleep(0.05)
    return False


def _absent(store: Store, launch: Launch) -> list[int]:
    """The processes that have not said that they end."""
    return [rank for rank in range(launch.world_size) if not store.check([f"here/{rank}"])]


def _lost_in(error: BaseException) -> LostProcessError | None:
    """The loss of another process that an error began with: cleaning up after it may have been interrupted."""
    return next((each for each in causes(error) if isinstance(each, LostProcessError)), None)


def _missing(store: Store, launch: Launch, lost: LostProcessError) -> SilError:
    missing = _absent(store, launch)
    if not missing:
        return SilError(lost.what, "Check the network between the machines; completed work is kept.")
    names = ", ".join(map(str, missing))
    return SilError(
        f"Process {names} of {launch.world_size} has ended or stopped responding, so the others stop too.",
        "Completed work is kept: run the same command again (train: with --resume), or let torchrun restart it "
        "(--max-restarts).",
    )
