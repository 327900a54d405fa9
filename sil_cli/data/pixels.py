"""A packed cache of decoded, resized images: one file of uint8 that is mapped into memory.

Decoding a crop costs about as much as everything else that feeds a network; reading it from here costs next to
nothing, shares its memory between processes, and gives the very pixels that `load_image` and `resize_to` give.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from sil_cli.data.images import ImageError, Interpolation, LargeImageError, resize_to
from sil_cli.data.pixel_build import (
    BUILDING_SUFFIX,
    PixelBuild,
    block_sha256,
    build,
    note_of,
    remove,
    sample_sha256,
)
from sil_cli.data.readers.own_images import slug
from sil_cli.errors import DataError, one_line
from sil_cli.files import lock, open_file, open_no_link, parse_json, read_text, remove_leftovers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sil_cli.data.manifest import Dataset, ImageRecord
    from sil_cli.runtime import Reporter

UNUSED_AFTER = 30 * 24 * 3600.0
"""Seconds after which a cache of another size, or of a manifest that may live on elsewhere, is taken for forgotten."""


def open_pixels(
    dataset: Dataset,
    *,
    height: int,
    width: int,
    folder: Path,
    reporter: Reporter,
    workers: int,
    positions: Sequence[int] | None = None,
    check_all: bool = False,
    interpolation: Interpolation = "bilinear",
) -> NDArray[np.uint8]:
    """Map the decoded, resized images of a data set into memory; they are decoded at the first call.

    The cache is `<key>.npy` in `folder`, an ordinary NumPy file, and `<key>.json`, which says what it holds.
    It is built again when it is damaged or cut short, or when an image has changed since; a build that was killed
    goes on where it was. Caches of this data set that nothing can use any more are removed.

    Opening compares the sizes and times of all images, the file's size, and the checksum of 64 images spread over
    it: milliseconds, and enough to find a file that was cut short, overwritten, or lost blocks over a stretch.
    `check_all` compares every byte, at the speed of SHA-256.

    Args:
        dataset: A prepared data set.
        height: Pixels of each image after resizing.
        width: Likewise.
        folder: Where caches are kept; made when missing.
        reporter: Shows the progress, and why a cache is built again.
        workers: How many threads decode.
        positions: Which of `dataset.records` to hold, and in which order; all of them when None.
        check_all: Compare the whole cache with its checksums.
        interpolation: By which images are resized.

    Returns:
        A read-only memory map (N, height, width, 3) of uint8, RGB. Row i is `dataset.records[positions[i]]`.

    Raises:
        DataError: The folder can't be written, too little space is left, no image is asked for, or one can't
            be read any more.
    """
    records = list(dataset.records) if positions is None else [dataset.records[index] for index in positions]
    if not records:
        raise DataError(f"{dataset.name} has no image to decode.", "Check which splits it was prepared with.")
    shape = (len(records), height, width, 3)
    facts = {
        "format": 2,
        "domain": dataset.name,
        "manifest_sha256": dataset.info.manifest_sha256,
        "shape": list(shape),
        "sources": _sources(dataset, records),
    }
    target = folder / f"{_key(dataset, records, height, width, interpolation)}.npy"
    pixels, problem = _open(target, facts, shape, check_all=check_all)
    if pixels is None:
        if problem:
            reporter.note(f"The pixel cache of {dataset.name} {problem}: decoding again.")
        _build(PixelBuild(target, facts, shape, dataset.name), dataset, records, interpolation, reporter, workers)
        pixels, problem = _open(target, facts, shape)
        if pixels is None:
            raise DataError(
                f"The pixel cache {target} {problem or 'is missing'} right after it was written.",
                "Check the disk it lies on.",
            )
    with contextlib.suppress(OSError):  # it may be on a disk that can only be read
        os.utime(note_of(target), follow_symlinks=False)  # when it was used last
    removed, freed = _prune(dataset, folder, keep=target)
    if removed:
        reporter.note(f"Removed {removed} unused pixel caches of {dataset.name}: {freed / 1e6:,.1f} MB freed.")
    return pixels


def _build(
    work: PixelBuild,
    dataset: Dataset,
    records: Sequence[ImageRecord],
    interpolation: Interpolation,
    reporter: Reporter,
    workers: int,
) -> None:
    """Build the cache, with errors that say what to do."""
    _, height, width, _ = work.shape

    def decode(record: ImageRecord) -> NDArray[np.uint8]:
        return resize_to(dataset.load_image(record), height, width, interpolation)

    try:
        build(work, records, decode, reporter=reporter, workers=workers)
    except LargeImageError:
        raise
    except ImageError as error:
        raise _unreadable(error, dataset) from error
    except OSError as error:
        raise DataError(
            f"The pixel cache {work.target} can't be written: {one_line(error)}.",
            "Free some space and check its permissions, then run the same command again to continue; or choose "
            "another folder with --set data.cache=DIR.",
        ) from error


def _key(
    dataset: Dataset, records: Sequence[ImageRecord], height: int, width: int, interpolation: Interpolation
) -> str:
    """A file name that differs whenever other images, another size or another interpolation are asked for."""
    digest = hashlib.sha256(dataset.info.manifest_sha256.encode())
    for record in records:
        digest.update(f"{record.path}\0{record.box}\n".encode())
    size = f"{height}x{width}" if interpolation == "bilinear" else f"{height}x{width}-{interpolation}"
    return f"{slug(dataset.name)}-{size}-{digest.hexdigest()[:16]}"


def _sources(dataset: Dataset, records: Sequence[ImageRecord]) -> str:
    """A checksum over the sizes and times of the image files, which tells when one has changed."""
    digest = hashlib.sha256()
    for record in records:
        try:
            status = dataset.image_path(record).stat()
        except OSError as error:
            raise _unreadable(ImageError(dataset.image_path(record), one_line(error)), dataset) from error
        digest.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _open(
    target: Path, facts: dict[str, Any], shape: tuple[int, ...], *, check_all: bool = False
) -> tuple[NDArray[np.uint8] | None, str | None]:
    """The mapped cache; or None and what is wrong with it, or None where there simply is none."""
    try:
        noted = parse_json(read_text(note_of(target)))
        open_file(target).close()  # NumPy would wait for a pipe
        pixels = np.load(target, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        return None, None
    except (OSError, ValueError, EOFError) as error:
        return None, f"is damaged ({one_line(error)})"
    if not isinstance(noted, dict) or any(noted.get(name) != value for name, value in facts.items()):
        return None, "is out of date"
    if pixels.shape != shape or pixels.dtype != np.uint8 or noted.get("sample_sha256") != sample_sha256(pixels):
        return None, "is damaged (its content is not what was written)"
    if check_all and not _is_whole(pixels, noted):
        return None, "is damaged (its content is not what was written)"
    return pixels, None


def _is_whole(pixels: NDArray[np.uint8], noted: dict[str, Any]) -> bool:
    """Compare every block with its checksum."""
    rows, checksums = noted.get("block_rows"), noted.get("block_sha256")
    if not isinstance(rows, int) or rows < 1 or not isinstance(checksums, list):
        return False
    starts = range(0, len(pixels), rows)
    return len(checksums) == len(starts) and all(
        block_sha256(pixels[start : start + rows]) == checksum
        for start, checksum in zip(starts, checksums, strict=True)
    )


def _unreadable(error: ImageError, dataset: Dataset) -> DataError:
    return DataError(
        f"{error.path} can no longer be used: {error.reason}.",
        f"Run `sil prepare-data {dataset.info.reader}` again, which leaves such files out.",
    )


def _prune(dataset: Dataset, folder: Path, *, keep: Path) -> tuple[int, int]:
    """Remove the caches of a data set that are of no use; returns how many, and how many bytes that freed.

    In the data set's own folder that is every cache of another manifest, which is no more. In a folder that data sets
    share, and for caches of another size, it is those that nobody has opened for `UNUSED_AFTER`.

    A process that has mapped a cache keeps its pages when the file's name goes, and one that was about to open it
    finds none and builds it; so nothing has to be asked before a finished cache goes. An unfinished one is left alone
    while the process that builds it lives.
    """
    own = folder.resolve().is_relative_to(dataset.folder.resolve())
    removed, freed = 0, 0
    for note in sorted(folder.glob("*.json")):
        file = note.with_suffix("" if note.stem.endswith(BUILDING_SUFFIX) else ".npy")
        with contextlib.suppress(OSError):
            if file == keep or not _is_useless(note, dataset, own=own):
                continue
            size = remove(file) if file.suffix == ".npy" else _remove_if_dead(file)
            removed, freed = removed + bool(size), freed + size
    remove_leftovers(folder)
    return removed, freed


def _is_useless(note: Path, dataset: Dataset, *, own: bool) -> bool:
    """Whether a cache is this data set's and can't be used, or is forgotten."""
    try:
        facts = parse_json(read_text(note))
    except (OSError, ValueError):
        return False
    if not isinstance(facts, dict) or facts.get("domain") != dataset.name or "shape" not in facts:
        return False
    forgotten = time.time() - note.stat().st_mtime > UNUSED_AFTER
    return forgotten or (own and facts.get("manifest_sha256") != dataset.info.manifest_sha256)


def _remove_if_dead(file: Path) -> int:
    """Remove an unfinished cache that nobody builds; returns the bytes freed."""
    with os.fdopen(open_no_link(file, os.O_RDONLY), "rb") as stream:
        return remove(file) if lock(stream.fileno()) else 0
