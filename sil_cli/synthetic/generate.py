"""Generates camera networks: plans who is seen where and when, then draws the images on several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from sil_cli.data.manifest import ImageRecord, Split
from sil_cli.data.reading import SYNTHETIC, Reading
from sil_cli.errors import DataError, UsageError
from sil_cli.runtime import stop_at_safe_point
from sil_cli.settings import SyntheticSettings
from sil_cli.synthetic.seeds import Purpose, stream
from sil_cli.synthetic.shot import dressed, take_image

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from sil_cli.runtime import Reporter

Work = TypeVar("Work")
Drawn = TypeVar("Drawn")

READER_VERSION = 1
_AHEAD = 8  # pieces of work per worker: enough that none waits for work
NAMES = (
    "harbour", "orchard", "atrium", "viaduct", "lido", "citadel",
    "arcade", "meadow", "quayside", "foundry", "belvedere", "terminus",
)  # fmt: skip

_DISTRACTORS_PER_TEST = 0.15  # people who are in the gallery only
_MISSED = 0.15  # the chance that a camera never sees a person
_FIRST_DAY = datetime(2024, 3, 4, 7, 30, tzinfo=UTC)
_FRAMES_PER_SECOND = 25


@dataclass(frozen=True)
class PlannedImage:
    """One image to draw: by which camera, which of that camera's images, and where it goes."""

    camera: int
    number: int
    path: str


@dataclass(frozen=True)
class Sitting:
    """All images of one person: the piece of work that one process does at a time."""

    settings: SyntheticSettings
    folder: Path
    domain: int
    person: int
    images: tuple[PlannedImage, ...]


def all_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options in a `dataset.json` of generated data; those that its version did not have yet, as they were then."""
    return SyntheticSettings(networks="wardrobes").model_dump(mode="json") | options


def domain_names(count: int) -> list[str]:
    """The names of the first `count` networks."""
    return [
        NAMES[index] if index < len(NAMES) else f"{NAMES[index % len(NAMES)]}{index // len(NAMES) + 1}"
        for index in range(count)
    ]


def generate_domains(folder: Path, settings: SyntheticSettings, reporter: Reporter, *, workers: int) -> list[Reading]:
    """Draw camera networks into `folder`, one sub-folder each.

    The same settings give the same bytes, whatever the number of workers. Images are written one by one: a folder
    whose drawing was interrupted holds whole images, but not all of them.

    Args:
        folder: Where `<domain>/images/<split>/<identity>_<camera>_<n>.jpg` go; made when missing.
        settings: What to draw.
        reporter: Told of each image drawn.
        workers: The number of processes; 1 draws in this one.

    Returns:
        One reading per network, in order.

    Raises:
        OSError: The folder can't be written, or the disk is full.
        DataError: A process that draws was killed.
        UsageError: The images are to be wider than high.
    """
    if settings.width > settings.height:
        raise UsageError(
            f"width = {settings.width} is more than height = {settings.height}.",
            "People stand upright: give a width of no more than the height.",
        )
    readings, sittings = [], []
    for domain, name in enumerate(domain_names(settings.domains)):
        records, work = _plan(folder / name, settings, domain, name)
        readings.append(
            Reading(
                name=name,
                reader=SYNTHETIC,
                root=folder / name,
                records=records,
                options=settings.model_dump(mode="json"),
                generated=True,
                reader_version=READER_VERSION,
            )
        )
        sittings += work
        for split in ("train", "query", "gallery"):
            (folder / name / "images" / split).mkdir(parents=True, exist_ok=True)
    total = sum(len(reading.records) for reading in readings)
    with reporter.task("Drawing people", total, "images") as task:
        for count in in_processes(draw_sitting, sittings, workers):
            task.advance(count)
    return readings


def in_processes(draw: Callable[[Work], Drawn], work: list[Work], workers: int) -> Generator[Drawn]:
    """Draw on several processes; whatever goes wrong, Ctrl-C included, none of them is left running.

    Ctrl-C waits for the piece of work that ends next: an exception that strikes inside the pool, as it starts a process
    or hands out work, can leave it waiting for ever. Little is handed out at a time, because some Python
    releases let a pool lock up under many thousands.

    Args:
        draw: A function that another process can import.
        work: What it is called with.
        workers: The number of processes; 1 draws in this one.

    Yields:
        What each call returned, in the order in which they end.

    Raises:
        DataError: A process was killed.
    """
    if workers <= 1:
        yield from map(draw, work)
        return
    pool = ProcessPoolExecutor(
        min(workers, len(work)), mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    with stop_at_safe_point() as stop:
        try:
            waiting = iter(work)
            with _main_left_out():
                drawing = {pool.submit(draw, each) for each in islice(waiting, workers * _AHEAD)}
            while drawing:
                done, drawing = wait(drawing, return_when=FIRST_COMPLETED)
                for each in done:
                    yield each.result()
                stop.check()
                with _main_left_out():
                    drawing |= {pool.submit(draw, each) for each in islice(waiting, len(done))}
        except BrokenProcessPool as error:
            raise DataError(
                "A process drawing images was killed (perhaps it ran out of memory).", "Try again with one worker."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _main_left_out() -> Iterator[None]:
    """Have processes that start in this block know nothing of the program: a script would run again in each of them."""
    program = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end when it has ended (a killed parent closes nothing)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()


def draw_sitting(sitting: Sitting) -> int:
    """Draw and write all images of one person; returns how many."""
    who = dressed(sitting.settings, sitting.domain, sitting.person)
    for image in sitting.images:
        content = take_image(sitting.settings, sitting.domain, image.camera, sitting.person, image.number, who)
        (sitting.folder / image.path).write_bytes(content)
    return len(sitting.images)


def _plan(folder: Path, settings: SyntheticSettings, domain: int, name: str) -> tuple[list[ImageRecord], list[Sitting]]:
    """All records of one network and the work that makes them true."""
    tests = settings.test_identities
    distractors = round(tests * _DISTRACTORS_PER_TEST)
    records: list[ImageRecord] = []
    sittings = []
    for person in range(settings.train_identities + tests + distractors):
        is_test = settings.train_identities <= person < settings.train_identities + tests
        is_distractor = person >= settings.train_identities + tests
        images = []
        for camera, number, time, frame in _route(settings, domain, person):
            split: Split = "gallery" if is_distractor or (is_test and number > 0) else "query" if is_test else "train"
            path = f"images/{split}/{person + 1:04d}_c{camera + 1}_{number + 1:02d}.jpg"
            images.append(PlannedImage(camera, number, path))
            records.append(
                ImageRecord(
                    path=path,
                    identity=f"{person + 1:04d}",
                    camera=f"c{camera + 1}",
                    split=split,
                    domain=name,
                    time=time,
                    frame=frame,
                    distractor=is_distractor,
                )
            )
        sittings.append(Sitting(settings, folder, domain, person, tuple(images)))
    return sorted(records, key=lambda record: record.path), sittings


def _route(settings: SyntheticSettings, domain: int, person: int) -> Iterator[tuple[int, int, datetime, int]]:
    """Camera, image number, time and frame of each image of a person, along their way through the network.

    Everybody passes at least two cameras, each once, a minute or so apart.
    """
    rng = stream(Purpose.ROUTE, settings.seed, domain, person)
    way = rng.permutation(settings.cameras)
    passed = [int(camera) for at, camera in enumerate(way) if at < 2 or rng.random() >= _MISSED]
    seconds = float(rng.uniform(0, 10 * 3600))
    for camera in passed:
        seconds += float(rng.uniform(20, 180))
        moment = seconds
        for number in range(settings.images_per_camera):
            frame = round(moment * _FRAMES_PER_SECOND)
            yield camera, number, _FIRST_DAY + timedelta(seconds=frame / _FRAMES_PER_SECOND), frame
            moment += float(rng.uniform(0.4, 1.6))
