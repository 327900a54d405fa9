"""CUHK03's `cuhk-03.mat`: crops and the 20 classic test sets, in HDF5 with a reference for every image.

HDF5 crashes on some damaged files whatever is checked before, so they are read in a process apart, with limits.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sil_cli.data.archives import make_once
from sil_cli.data.readers.matlab import UnsoundError, cell, open_v73
from sil_cli.errors import DataError, one_line
from sil_cli.limited_process import ProcessDiedError, yielded_apart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from sil_cli.runtime import Reporter

Kind = Literal["detected", "labeled"]
"""How the crops were cut: by a detector, or by hand. The spelling is that of the files."""

CLASSIC_SPLITS = 20

_VIEWS = 2
_MOST_CELLS = 1_000_000
_MOST_PEOPLE, _MOST_CROPS = 10_000, 100
"""Of the file, and of one person: what refers to itself would go on for ever."""
_MOST_SAMPLES = 30_000_000
_LEAST_ROOM, _MOST_GROWTH = 50_000_000, 100
"""Of a file's pixels, in bytes, and times its own: it may name one image as often as it likes."""
_MEMORY = 400 << 20
_SECONDS, _BYTES_A_SECOND = 4, 10_000_000
"""Of processor time for any file, and what of it must be read in one more: a tenth of what was measured."""


def extracted(mat: Path, kind: Kind, into: Path, reporter: Reporter) -> str:
    """Write all crops of one kind as PNG files, all or none; does nothing when they are there from this very file.

    Names are those in circulation: `1_001_1_01.png` is pair 1, person 1, view 1, image 1 (of 10; 6 to 10 belong to
    view 2).

    Args:
        mat: `cuhk-03.mat`.
        kind: Which crops.
        into: Where the folder goes.
        reporter: Shows the progress.

    Returns:
        The folder's name: `images_detected` or `images_labeled`.

    Raises:
        DataError: The file can't be read, or `into` can't be written.
    """
    from PIL import Image

    folder = into / f"images_{kind}"

    def fill(made: Path) -> None:
        people = _read_apart(yield_people, mat, kind)
        with reporter.task(f"Extracting {kind} crops", int(next(people)), "people") as task:
            for crop in people:
                if crop:
                    name, pixels = _unpacked(crop)
                    Image.fromarray(pixels).save(made / name, format="PNG")
                else:
                    task.advance()

    try:
        make_once(folder, ".extracted.json", {"file": mat.name, "bytes": mat.stat().st_size}, fill)
    except OSError as error:
        raise DataError(
            f"{into} can't be written: {one_line(error)}.", "Free some space, or check the permissions."
        ) from error
    return folder.name


def _read_apart(work: Callable[..., Iterator[bytes]], mat: Path, *arguments: str) -> Iterator[bytes]:
    """What a process apart reads of a file.

    Raises:
        DataError: The file can't be read, or ends that process.
    """
    seconds = _SECONDS + mat.stat().st_size // _BYTES_A_SECOND
    try:
        yield from yielded_apart(work, str(mat), *arguments, memory=_MEMORY, seconds=seconds)
    except ProcessDiedError as error:
        raise DataError(f"{mat} can't be read: {error}.", "Unpack it again, or download it again.") from error


def yield_people(mat: str, kind: str) -> Iterator[bytes]:
    """Yield how many people the file holds (1,467), then each one's crops for `_unpacked` and nothing behind them: the
    work of a process apart.

    Raises:
        DataError: The file can't be read.
    """
    with open_v73(Path(mat), kind) as file:
        pairs = [cell(file, reference, most=_MOST_CELLS) for reference in _pairs(file, kind)]
        count = sum(map(len, pairs))
        if count > _MOST_PEOPLE or any(len(people) * _MOST_CROPS < people.size for people in pairs):
            raise UnsoundError("there are more people, or images of them, than the authors' file has")
        yield str(count).encode()
        room = max(_LEAST_ROOM, _MOST_GROWTH * Path(mat).stat().st_size)
        for pair, people in enumerate(pairs, start=1):
            for person, references in enumerate(people, start=1):
                for name, pixels in _crops(file, references, f"{pair}_{person:03d}"):
                    room -= pixels.size
                    if room < 0:
                        raise UnsoundError("its images come to far more than it can hold")
                    yield json.dumps([name, pixels.shape]).encode() + b"\n" + pixels.tobytes()
                yield b""


def _unpacked(crop: bytes) -> tuple[str, NDArray[np.uint8]]:
    """A crop's file name and its pixels (height, width, 3) RGB."""
    facts, _, samples = crop.partition(b"\n")
    name, shape = json.loads(facts)
    return name, np.frombuffer(samples, dtype=np.uint8).reshape(shape)


def _pairs(file: Any, kind: str) -> Any:
    """The references to the people of each pair of cameras, or to the test sets."""
    return cell(file, kind, most=_MOST_PEOPLE).ravel()


def _crops(file: Any, references: Any, identity: str) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    per_view = len(references) // _VIEWS
    for place, reference in enumerate(references):
        pixels = cell(file, reference, most=_MOST_SAMPLES)
        if pixels.size == 0 or pixels.ndim < 3:  # somebody without ten images
            continue
        if pixels.dtype != np.uint8 or pixels.shape[2:] != (3,):
            raise UnsoundError("an image is not 8-bit RGB")
        view = 1 if place < per_view else 2
        yield f"{identity}_{view}_{place + 1:02d}.png", np.ascontiguousarray(pixels)


def classic_test(mat: Path, partition: int) -> frozenset[tuple[int, int]]:
    """The 100 people of a classic test set, as (pair, person), both counted from 1.

    Raises:
        DataError: The file can't be read or lacks this test set.
    """
    (people,) = _read_apart(yield_tested, mat, str(partition))
    return frozenset((pair, person) for pair, person in json.loads(people))


def yield_tested(mat: str, partition: str) -> Iterator[bytes]:
    """Yield the people of a classic test set as a JSON array of pairs: the work of a process apart.

    Raises:
        DataError: The file can't be read or lacks this test set.
    """
    with open_v73(Path(mat), "testsets") as file:
        references = _pairs(file, "testsets")
        if len(references) < int(partition):
            raise DataError(f"{mat} has {len(references)} test sets, not {partition}.", "Download it again.")
        people = cell(file, references[int(partition) - 1], most=_MOST_CELLS)
        yield json.dumps([(int(pair), int(person)) for pair, person in people]).encode()
