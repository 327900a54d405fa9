"""Building a pixel cache so that a kill at any moment costs little of what was done.

Rows are appended to `<key>.building`. Whenever a block of them is on disk, `<key>.building.json` says so with its
checksum; the next run compares the blocks with their checksums, cuts off what lies behind the last sound one and goes
on from there. One process at a time builds a cache: it holds a lock on the file, which ends with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from sil_cli.data.images import quiet_decoders
from sil_cli.errors import DataError
from sil_cli.files import lock, open_no_link, parse_json, read_text, sync_folder, write_text
from sil_cli.runtime import CHUNK, map_in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sil_cli.data.manifest import ImageRecord
    from sil_cli.runtime import Reporter

BUILDING_SUFFIX = ".building"
BLOCK_BYTES = 64_000_000
"""So much is lost by a kill, at most: about half a second of decoding for each core."""

CACHE_TAG_TEXT = "Signature: 8a477f597d28d172789f06886806bc55\n# Decoded images; can be deleted at any time.\n"
SAMPLED_IMAGES = 64


@dataclass(frozen=True)
class PixelBuild:
    """What is to be built.

    Attributes:
        target: The finished `<key>.npy`; its `.json` says what it holds.
        facts: What the `.json` says besides checksums.
        shape: (N, height, width, 3).
        name: The data set, for messages.
    """

    target: Path
    facts: dict[str, Any]
    shape: tuple[int, int, int, int]
    name: str

    @property
    def file(self) -> Path:
        """The rows so far."""
        return self.target.with_suffix(BUILDING_SUFFIX)

    @property
    def header(self) -> bytes:
        """What an .npy file of this shape begins with."""
        stream = io.BytesIO()
        np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": self.shape})
        return stream.getvalue()

    @property
    def row_bytes(self) -> int:
        """Bytes of one image."""
        _, height, width, channels = self.shape
        return height * width * channels

    @property
    def block_rows(self) -> int:
        """Rows of a block: whole chunks of `map_in_order`."""
        return max(1, BLOCK_BYTES // (self.row_bytes * CHUNK)) * CHUNK

    def note(self, blocks: Sequence[str]) -> dict[str, Any]:
        """What a `.json` says when blocks of these checksums are on disk."""
        return {**self.facts, "block_rows": self.block_rows, "block_sha256": list(blocks)}


def build(
    work: PixelBuild,
    records: Sequence[ImageRecord],
    decode: Callable[[ImageRecord], NDArray[np.uint8]],
    *,
    reporter: Reporter,
    workers: int,
) -> None:
    """Decode all records into the cache, or go on with what a killed run has left; then seal it.

    Where another process is at it already, its end is waited for, and nothing is done when it has finished.

    Raises:
        DataError: Too little space is left.
        ImageError: An image can't be decoded; the unfinished cache is removed.
        OSError: The folder can't be written.
    """
    folder = work.target.parent
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "CACHEDIR.TAG").exists():
        write_text(folder / "CACHEDIR.TAG", CACHE_TAG_TEXT)
    with _only_builder(work, reporter) as stream:
        if stream is None:
            return
        blocks = _resume(work, stream)
        done = min(len(blocks) * work.block_rows, work.shape[0])
        if done:
            reporter.note(f"Continuing the pixel cache of {work.name} after {done:,} of {work.shape[0]:,} images.")
        _check_space(folder, (work.shape[0] - done) * work.row_bytes)
        try:
            _append(work, stream, blocks, records[done:], decode, reporter=reporter, workers=workers)
        except DataError:
            remove(work.file)
            raise
        written = np.load(work.file, mmap_mode="r", allow_pickle=False)
        note = work.note(blocks) | {"sample_sha256": sample_sha256(written)}
        _write_note(work.target.with_suffix(".json"), note)
        work.file.replace(work.target)  # from now on it is a cache
        note_of(work.file).unlink(missing_ok=True)
        sync_folder(folder)


def note_of(file: Path) -> Path:
    """The `.json` that says what a cache holds, finished or not."""
    return file.with_name(f"{file.name.removesuffix('.npy')}.json")


def remove(file: Path) -> int:
    """Delete a cache, finished or not, and then what says what it holds; returns the bytes freed."""
    freed = 0
    for path in (note_of(file), file):  # in this order none is ever half there
        with contextlib.suppress(FileNotFoundError):
            freed += path.stat().st_size
            path.unlink()
    return freed


def sample_sha256(pixels: NDArray[np.uint8]) -> str:
    """The SHA-256 of a few images spread evenly from the first to the last: cheap, and finds lost blocks."""
    count = min(len(pixels), SAMPLED_IMAGES)
    return block_sha256(pixels[np.linspace(0, len(pixels) - 1, count, dtype=np.int64)])


def block_sha256(pixels: NDArray[np.uint8]) -> str:
    """The SHA-256 of a block of rows."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


@contextlib.contextmanager
def _only_builder(work: PixelBuild, reporter: Reporter) -> Iterator[BinaryIO | None]:
    """The file of rows, locked; None when another process has finished it while this one waited."""
    with os.fdopen(open_no_link(work.file, os.O_RDWR | os.O_APPEND | os.O_CREAT), "a+b", buffering=0) as raw:
        if not lock(raw.fileno()):
            reporter.note(f"Another process is decoding {work.name}: waiting for it.")
            lock(raw.fileno(), wait=True)
        if not work.file.exists() or not os.path.samestat(os.fstat(raw.fileno()), work.file.stat()):
            yield None
            return
        with os.fdopen(open_no_link(work.file, os.O_RDWR), "r+b") as stream:
            yield stream


def _resume(work: PixelBuild, stream: BinaryIO) -> list[str]:
    """The checksums of the blocks that can be kept; `stream` then stands, and ends, behind them."""
    header, size = work.header, work.block_rows * work.row_bytes
    total = work.shape[0] * work.row_bytes
    sound: list[str] = []
    if stream.read(len(header)) == header:
        for number, checksum in enumerate(_noted_blocks(work)):
            block = stream.read(min(size, total - number * size))
            if hashlib.sha256(block).hexdigest() != checksum:
                break
            sound.append(checksum)
    stream.seek(0)
    stream.write(header)
    stream.seek(len(header) + min(len(sound) * size, total))
    stream.truncate()
    _write_note(note_of(work.file), work.note(sound))
    return sound


def _write_note(path: Path, note: dict[str, Any]) -> None:
    """Replace a note, whole or not at all; under the lock one name will do for what a kill may leave, and it goes."""
    beside = path.with_name(f"{path.name}.new")
    beside.unlink(missing_ok=True)
    with beside.open("x", encoding="utf-8") as stream:
        json.dump(note, stream, indent=2)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(path)
    sync_folder(path.parent)


def _noted_blocks(work: PixelBuild) -> list[str]:
    """The checksums of the blocks that were on disk; none when they are of other images."""
    try:
        noted = parse_json(read_text(note_of(work.file)))
        blocks = noted["block_sha256"]
        return blocks if noted == work.note(blocks) else []
    except (OSError, ValueError, LookupError, TypeError):
        return []


def _append(
    work: PixelBuild,
    stream: BinaryIO,
    blocks: list[str],
    records: Sequence[ImageRecord],
    decode: Callable[[ImageRecord], NDArray[np.uint8]],
    *,
    reporter: Reporter,
    workers: int,
) -> None:
    """Decode the rest, block by block, and add their checksums to `blocks`."""
    digest, rows = hashlib.sha256(), 0
    with (
        reporter.task(f"Decoding {work.name}", len(records), "images") as task,
        quiet_decoders(),
        closing(map_in_order(decode, records, workers=workers)) as results,
    ):
        for decoded in results:
            content = np.stack(decoded).data
            digest.update(content)
            stream.write(content)
            rows += len(decoded)
            if rows % work.block_rows == 0 or rows == len(records):
                stream.flush()
                os.fsync(stream.fileno())  # the block first, then the note that vouches for it
                blocks.append(digest.hexdigest())
                _write_note(note_of(work.file), work.note(blocks))
                digest = hashlib.sha256()
            task.advance(len(decoded))


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed + 4096 > free:
        raise DataError(
            f"The pixel cache needs {needed:,} bytes in {folder}, where {free:,} are free.",
            "Free some space, or choose another folder with --set data.cache=DIR.",
        )
