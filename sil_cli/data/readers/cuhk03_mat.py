"""CUHK03's `cuhk-03.mat`: crops and the 20 classic test sets, in HDF5 with a reference for every image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sil_cli.data.archives import make_once
from sil_cli.data.readers.matlab import cell, open_v73
from sil_cli.errors import DataError
from sil_cli.files import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
        with reporter.task(f"Extracting {kind} crops", _people_count(mat, kind), "people") as task:
            for crops in _people(mat, kind):
                for name, pixels in crops:
                    Image.fromarray(pixels).save(made / name, format="PNG")
                task.advance()

    try:
        make_once(folder, ".extracted.json", {"file": mat.name, "bytes": mat.stat().st_size}, fill)
    except OSError as error:
        raise DataError(
            f"{into} can't be written: {one_line(error)}.", "Free some space, or check the permissions."
        ) from error
    return folder.name


def _people_count(mat: Path, kind: Kind) -> int:
    """How many people the file holds: 1,467."""
    with open_v73(mat, kind) as file:
        return sum(len(cell(file, reference, most=_MOST_CELLS)) for reference in _pairs(file, kind))


def _pairs(file: Any, kind: str) -> Any:
    """The references to the people of each pair of cameras, or to the test sets."""
    return cell(file, kind, most=_MOST_PEOPLE).ravel()


def _people(mat: Path, kind: Kind) -> Iterator[list[tuple[str, NDArray[np.uint8]]]]:
    """Yield each person's crops as (file name, pixels (height, width, 3) RGB), pair by pair."""
    with open_v73(mat, kind) as file:
        count = 0
        for pair, reference in enumerate(_pairs(file, kind), start=1):
            people = cell(file, reference, most=_MOST_CELLS)
            count += len(people)
            if count > _MOST_PEOPLE or len(people) * _MOST_CROPS < people.size:
                raise ValueError("there are more people, or images of them, than the authors' file has")
            for person, references in enumerate(people, start=1):
                yield list(_crops(file, references, f"{pair}_{person:03d}"))


def _crops(file: Any, references: Any, identity: str) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    per_view = len(references) // _VIEWS
    for place, reference in enumerate(references):
        pixels = cell(file, reference, most=_MOST_SAMPLES)
        if pixels.size == 0 or pixels.ndim < 3:  # somebody without ten images
            continue
        if pixels.dtype != np.uint8 or pixels.shape[2:] != (3,):
            raise ValueError("an image is not 8-bit RGB")
        view = 1 if place < per_view else 2
        yield f"{identity}_{view}_{place + 1:02d}.png", np.ascontiguousarray(pixels)


def classic_test(mat: Path, partition: int) -> frozenset[tuple[int, int]]:
    """The 100 people of a classic test set, as (pair, person), both counted from 1.

    Raises:
        DataError: The file can't be read or lacks this test set.
    """
    with open_v73(mat, "testsets") as file:
        references = _pairs(file, "testsets")
        if len(references) < partition:
            raise DataError(f"{mat} has {len(references)} test sets, not {partition}.", "Download it again.")
        people = cell(file, references[partition - 1], most=_MOST_CELLS)
        return frozenset((int(pair), int(person)) for pair, person in people)
