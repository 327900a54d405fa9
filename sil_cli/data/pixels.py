"""A packed cache of decoded, resized pictures: one file of uint8 that is mapped into memory.

Decoding a crop costs about as much as everything else that feeds a network; reading it from here costs next to
nothing, shares its memory between processes, and gives the very pixels that `load_image` and `resize_to` give.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from sil_cli.data.images import ImageError, load_image, quiet_decoders, resize_to
from sil_cli.data.parallel import map_in_order
from sil_cli.data.readers.common import slug
from sil_cli.data.walking import CACHE_TAG
from sil_cli.errors import DataError
from sil_cli.files import TEMPORARY_MARK, one_line, write_json, write_text, writing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sil_cli.data.manifest import Dataset, ImageRecord
    from sil_cli.runtime import Reporter

_TAG_TEXT = "Signature: 8a477f597d28d172789f06886806bc55\n# Decoded images; can be deleted at any time.\n"
_ABANDONED_AFTER = 3600.0
"""Seconds after which a half-written file that nobody has written to was left by a killed run."""

_SAMPLED_IMAGES = 64


def open_pixels(
    dataset: Dataset,
    *,
    height: int,
    width: int,
    folder: Path,
    reporter: Reporter,
    workers: int,
    positions: Sequence[int] | None = None,
) -> NDArray[np.uint8]:
    """Map the decoded, resized pictures of a data set into memory; they are decoded at the first call.

    The cache is `<key>.npy` in `folder`, an ordinary NumPy file, and `<key>.json`, which says what it holds.
    It is built anew when it is damaged or cut short, or when an image has changed since.

    Args:
        dataset: A prepared data set.
        height: Pixels of each picture after resizing.
        width: Likewise.
        folder: Where caches are kept; made when missing.
        reporter: Is told the progress, and why a cache is built anew.
        workers: How many threads decode.
        positions: Which of `dataset.records` to hold, and in which order; all of them when None.

    Returns:
        A read-only memory map (N, height, width, 3) of uint8, RGB. Row i is `dataset.records[positions[i]]`.

    Raises:
        DataError: The folder can't be written, too little space is left, no image is asked for, or one can't
            be read any more.
    """
    records = list(dataset.records) if positions is None else [dataset.records[index] for index in positions]
    if not records:
        raise DataError(f"{dataset.name} has no image to decode.", "Check the splits that it was prepared with.")
    shape = (len(records), height, width, 3)
    facts = {"format": 1, "domain": dataset.name, "shape": list(shape), "sources": _sources(dataset, records)}
    target = folder / f"{_key(dataset, records, height, width)}.npy"
    pixels, problem = _open(target, facts, shape)
    if pixels is not None:
        return pixels
    if problem:
        reporter.note(f"The pixel cache of {dataset.name} {problem}: decoding anew.")
    try:
        _build(target, facts, dataset, records, reporter, workers)
    except OSError as error:
        raise DataError(
            f"The pixel cache {target} can't be written: {one_line(error)}.",
            "Choose another folder with --set data.cache=DIR, or make room and check its permissions.",
        ) from error
    pixels, problem = _open(target, facts, shape)
    if pixels is None:
        raise DataError(f"The pixel cache {target} {problem} right after it was written.", "Check the disk it lies on.")
    return pixels


def _key(dataset: Dataset, records: Sequence[ImageRecord], height: int, width: int) -> str:
    """A file name that differs whenever other pictures, or another size, are asked for."""
    digest = hashlib.sha256(dataset.info.manifest_sha256.encode())
    for record in records:
        digest.update(f"{record.path}\0{record.box}\n".encode())
    return f"{slug(dataset.name)}-{height}x{width}-{digest.hexdigest()[:16]}"


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


def _open(target: Path, facts: dict[str, Any], shape: tuple[int, ...]) -> tuple[NDArray[np.uint8] | None, str | None]:
    """The mapped cache; or None and what is wrong with it, or None where there simply is none."""
    try:
        noted = json.loads(target.with_suffix(".json").read_text(encoding="utf-8"))
        pixels = np.load(target, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        return None, None
    except (OSError, ValueError, EOFError) as error:
        return None, f"is damaged ({one_line(error)})"
    if not isinstance(noted, dict) or any(noted.get(name) != value for name, value in facts.items()):
        return None, "is out of date"
    if pixels.shape != shape or pixels.dtype != np.uint8 or noted.get("sample_sha256") != _sample(pixels):
        return None, "is damaged (its content is not what was written)"
    return pixels, None


def _build(
    target: Path,
    facts: dict[str, Any],
    dataset: Dataset,
    records: Sequence[ImageRecord],
    reporter: Reporter,
    workers: int,
) -> None:
    """Decode all records into `target`, then seal it by the JSON file beside it."""
    shape = tuple(facts["shape"])
    _, height, width, _ = shape
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear_abandoned(target.parent)
    target.with_suffix(".json").unlink(missing_ok=True)
    target.unlink(missing_ok=True)
    _check_space(target.parent, int(np.prod(shape, dtype=np.int64)))
    if not (target.parent / CACHE_TAG).exists():
        write_text(target.parent / CACHE_TAG, _TAG_TEXT)

    def decode(record: ImageRecord) -> NDArray[np.uint8]:
        return resize_to(load_image(dataset.image_path(record), box=record.box), height, width)

    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    try:
        with (
            reporter.task(f"Decoding {dataset.name}", len(records), "images") as task,
            quiet_decoders(),
            closing(map_in_order(decode, records, workers=workers)) as results,
            writing(target) as stream,
        ):
            np.lib.format.write_array_header_1_0(stream, header)
            for decoded in results:
                stream.write(np.stack(decoded).data)
                task.advance(len(decoded))
    except ImageError as error:
        raise _unreadable(error, dataset) from error
    written = np.load(target, mmap_mode="r", allow_pickle=False)
    write_json(target.with_suffix(".json"), {**facts, "sample_sha256": _sample(written)})


def _sample(pixels: NDArray[np.uint8]) -> str:
    """The SHA-256 of a few pictures spread evenly from the first to the last: cheap, and finds lost blocks."""
    count = min(len(pixels), _SAMPLED_IMAGES)
    chosen = np.linspace(0, len(pixels) - 1, count, dtype=np.int64)
    return hashlib.sha256(np.ascontiguousarray(pixels[chosen]).data).hexdigest()


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed + 4096 > free:
        raise DataError(
            f"The pixel cache needs {needed:,} bytes in {folder}, where {free:,} are free.",
            "Make room, or choose another folder with --set data.cache=DIR.",
        )


def _clear_abandoned(folder: Path) -> None:
    """Delete what killed runs left half written; a run under way touches its file all the time."""
    for partial in folder.glob(f"{TEMPORARY_MARK}*"):
        with suppress(OSError):
            if time.time() - partial.stat().st_mtime > _ABANDONED_AFTER:
                partial.unlink()


def _unreadable(error: ImageError, dataset: Dataset) -> DataError:
    return DataError(
        f"{error.path} can't be used any more: {error.reason}.",
        f"Run `sil prepare-data {dataset.info.reader}` again, which leaves such files out.",
    )
