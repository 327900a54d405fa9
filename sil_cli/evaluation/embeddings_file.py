"""Embeddings of both sides of a test in one .npz file, so that any project's model can be scored.

Keys: `query_embeddings`, `query_identities`, `gallery_embeddings`, `gallery_identities`; optionally `query_cameras` and
`gallery_cameras`, `query_junk` and `gallery_junk`, `query_paths` and `gallery_paths`. Nothing is ever unpickled. Large
arrays of files written by `np.savez` (not compressed) are mapped into memory, and then read in blocks. What an array
takes is known from its headers before anything of it is inflated or given room.
"""

from __future__ import annotations

import contextlib
import math
import struct
import tokenize
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from sil_cli.errors import DataError, nearest, one_line
from sil_cli.evaluation.pairs import EmbeddingSet
from sil_cli.files import open_file, writing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SIDES = ("query", "gallery")
REQUIRED = tuple(f"{side}_{what}" for side in SIDES for what in ("embeddings", "identities"))
OPTIONAL = tuple(f"{side}_{what}" for side in SIDES for what in ("cameras", "junk", "paths"))
VERSION_KEY, VERSION = "sil_format", 1
_KNOWN = (*REQUIRED, *OPTIONAL, VERSION_KEY)
MAPPED_FROM = 2**28  # bytes: smaller arrays are read whole, with their checksums

MOST_INFLATED = 2**28
"""Bytes that compressed arrays may come to together; more only where they are not `GROWTH` times what they take."""

GROWTH = 8
"""Embeddings hardly shrink. What grows more is names, of which files have no such masses, or a bomb."""

_TEXTS_AT_ONCE = 2**14
_LAST_CHARACTER, _FIRST_HALF, _LAST_HALF = 0x10FFFF, 0xD800, 0xDFFF
_LISTED, _LONGEST_NAME = 20, 64  # names in messages, and letters of a name that may be a misspelt key
_UNREADABLE = (
    *(ValueError, TypeError, KeyError, OverflowError, SyntaxError, RecursionError, MemoryError, RuntimeError),
    *(zlib.error, tokenize.TokenError, struct.error),
)
"""What NumPy's and Python's readers raise on headers and content that nobody meant to be read."""

_HOW = "See `sil evaluate --help` for the keys; labels are arrays of text or whole numbers, one for each row."
_LOCAL_HEADER, _LENGTHS_AT = 30, 26  # of a zip member: its size, and where the lengths of name and extra field stand


def read_embeddings(path: Path, *, mapped_from: int = MAPPED_FROM) -> tuple[EmbeddingSet, EmbeddingSet]:
    """Read both sides of a test.

    Identities are text or whole numbers, alike on both sides; -1 marks junk, as in Market-1501, where no `_junk` is
    given. Cameras likewise; an empty text or a negative number is an unknown camera. Missing cameras mean that no
    image is ignored for its camera; only the query itself is, where paths are given.

    Args:
        path: The .npz file.
        mapped_from: Arrays of at least so many bytes are mapped where the file is not compressed.

    Returns:
        The queries and the gallery.

    Raises:
        DataError: The file can't be read, holds pickled objects, or an array is missing or unfit.
    """
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            _check_keys(path, set(members))
            _check_growth(path, [info for key, info in members.items() if key in _KNOWN])
            arrays = {key: _read_array(path, archive, members[key], mapped_from) for key in _KNOWN if key in members}
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.", "Check the path.") from None
    except (OSError, zipfile.BadZipFile, EOFError, *_UNREADABLE) as error:
        raise DataError(
            f"{path} is not an .npz file, or is damaged: {one_line(error)}.", "Write it again with numpy.savez."
        ) from error
    version = arrays.pop(VERSION_KEY, np.array(VERSION))
    if version.shape != () or version.item() != VERSION:
        raise DataError(f"{path} is of version {version!s:.40}; this program reads {VERSION}.", "Update this program.")
    sides = [_side(path, arrays, side) for side in SIDES]
    for what, one in (("identities", "person"), ("cameras", "camera"), ("paths", "image")):
        kinds = [_kind(arrays[f"{side}_{what}"]) for side in SIDES if f"{side}_{what}" in arrays]
        if len(set(kinds)) > 1:  # 1 is not "1": nobody would be found, or no image ignored
            raise DataError(
                f"{path}: query_{what} are {kinds[0]} but gallery_{what} are {kinds[1]}.",
                f"Write both in the same way, so that one {one} has one name.",
            )
    return sides[0], sides[1]


def write_embeddings(path: Path, query: EmbeddingSet, gallery: EmbeddingSet, *, users_own: bool = True) -> None:
    """Write both sides as `read_embeddings` reads them, embeddings in float32; whole or not at all.

    Args:
        path: The .npz file.
        query: One side.
        gallery: The other.
        users_own: The user named the file (`writing`).
    """
    arrays: dict[str, NDArray[Any]] = {VERSION_KEY: np.array(VERSION)}
    cameras_known = any(camera is not None for side in (query, gallery) for camera in side.cameras)
    for name, side in zip(SIDES, (query, gallery), strict=True):
        arrays[f"{name}_embeddings"] = side.embeddings.astype(np.float32, copy=False)
        arrays[f"{name}_identities"] = np.array([str(each) for each in side.identities])
        if cameras_known:
            arrays[f"{name}_cameras"] = np.array(["" if each is None else str(each) for each in side.cameras])
        if side.junk is not None:
            arrays[f"{name}_junk"] = side.junk_flags()
        if side.keys is not None:
            arrays[f"{name}_paths"] = np.array([str(each) for each in side.keys])
    with writing(path, users_own=users_own) as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]  # its allow_pickle takes no array


def _check_growth(path: Path, infos: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse arrays that would take far more memory than their file takes of the disk."""
    compressed = [info for info in infos if info.compress_type != zipfile.ZIP_STORED]
    inflated = sum(info.file_size for info in compressed)
    stored = sum(min(info.compress_size, path.stat().st_size) for info in compressed)
    if inflated > max(MOST_INFLATED, GROWTH * stored):
        raise DataError(
            f"{path} holds {stored:,} bytes that would come to {inflated:,} when they are inflated.",
            "If that is meant, write it with numpy.savez: what isn't compressed is read in blocks.",
        )
    for info in compressed:
        if info.compress_type != zipfile.ZIP_DEFLATED:
            raise DataError(
                f"{path}: {info.filename} is compressed in a way that .npz files never are.",
                "Write it with numpy.savez.",
            )


def _check_keys(path: Path, found: set[str]) -> None:
    for key in REQUIRED:
        if key not in found:
            side = key.split("_")[0]
            short = sorted(each for each in found if len(each) <= _LONGEST_NAME)[:_LISTED]
            near = nearest(key, {each for each in short if side in each} - set(REQUIRED) - set(OPTIONAL))
            more = f" and {len(found) - len(short)} more" if len(found) > len(short) else ""
            listed = (", ".join(short) or "nothing") + more
            guess = f"Rename {near} to {key}" if near else f"Add {key}"
            raise DataError(f"{path} has no {key}; it holds {listed}.", f"{guess}. {_HOW}")
    for key in sorted(each for each in found - {*_KNOWN} if len(each) <= _LONGEST_NAME)[:1000]:
        meant = nearest(key, OPTIONAL)
        if meant and meant not in found:  # a misspelt `_cameras` would silently change the rules
            raise DataError(f"{path} holds {key}, which isn't read.", f"Rename it to {meant}, or leave it out.")
    for what in ("cameras", "paths"):
        there = [side for side in SIDES if f"{side}_{what}" in found]
        if len(there) == 1:
            raise DataError(f"{path} has {what} of the {there[0]} only.", f"Give {what} of both sides, or of neither.")


def _read_array(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, mapped_from: int) -> NDArray[Any]:
    try:
        with archive.open(info) as stream:
            shape, fortran, dtype = _header(stream)
            if dtype.hasobject:
                raise DataError(
                    f"{path}: {info.filename}holds pickled objects, which are never loaded.",
                    "Write texts as numpy.array(names, dtype=str), and rows of equal length.",
                )
            data_at = stream.tell()
            if any(type(side) is not int or not 0 <= side <= info.file_size for side in shape):
                raise ValueError(f"it can't have the shape {shape}")
            if data_at + math.prod(shape) * dtype.itemsize > info.file_size:
                raise ValueError("it is shorter than its header says")
            if info.compress_type != zipfile.ZIP_STORED or info.file_size < mapped_from:
                stream.seek(0)
                return np.lib.format.read_array(stream, allow_pickle=False)
        with path.open("rb") as raw:
            raw.seek(info.header_offset + _LENGTHS_AT)
            lengths = np.frombuffer(raw.read(4), dtype="<u2")
        offset = info.header_offset + _LOCAL_HEADER + int(lengths.sum()) + data_at
        return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape, order="F" if fortran else "C")
    except (EOFError, zipfile.BadZipFile, *_UNREADABLE) as error:
        raise DataError(
            f"{path}: {info.filename} can't be read: {one_line(error)}.",
            "Write it with numpy.savez; large arrays uncompressed, so that they can be read in blocks.",
        ) from error


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    header: tuple[tuple[int, ...], bool, np.dtype[Any]] | None = None
    with contextlib.suppress(MemoryError):  # Python's own parser says so of what is nested too deeply
        header = reader(stream)
    if header is None:
        raise ValueError("its header is nested too deeply")
    shape, fortran, dtype = header
    return shape, fortran, dtype


def _side(path: Path, arrays: dict[str, NDArray[Any]], side: str) -> EmbeddingSet:
    embeddings = arrays[f"{side}_embeddings"]
    if embeddings.ndim != 2:
        raise DataError(f"{path}: {side}_embeddings has shape {embeddings.shape}.", "It needs one row for each image.")
    if embeddings.dtype == np.float16:
        embeddings = embeddings.astype(np.float32)
    labels = {what: arrays.get(f"{side}_{what}") for what in ("identities", "cameras", "junk", "paths")}
    for what, values in labels.items():
        if values is not None and values.shape != (len(embeddings),):
            raise DataError(
                f"{path}: {side}_{what} has shape {values.shape}, but there are {len(embeddings)} {side}_embeddings.",
                "Give one label for each row, in the same order.",
            )
        if values is not None and what != "junk" and _kind(values) == "neither":
            raise DataError(f"{path}: {side}_{what} has type {values.dtype!s:.40}.", "Write texts or whole numbers.")
        if values is not None and what != "junk" and _kind(values) == "texts" and not _is_text(values):
            raise DataError(f"{path}: {side}_{what} holds something other than text.", "Write texts with numpy.savez.")
        if values is not None and what == "junk" and values.dtype.kind not in "biu":
            raise DataError(f"{path}: {side}_{what} has type {values.dtype!s:.40}.", "Write booleans.")
    identities, cameras = labels["identities"], labels["cameras"]
    assert identities is not None  # noqa: S101 - a required key
    junk = labels["junk"]
    if junk is None:
        junk = identities == (-1 if _kind(identities) == "numbers" else "-1")
    junk = junk.astype(bool)
    if _kind(identities) == "texts":
        _check_names(path, side, identities[~junk])
    return EmbeddingSet(
        embeddings=embeddings,
        identities=identities,
        cameras=[None] * len(embeddings) if cameras is None else _known(cameras) if side == "query" else cameras,
        junk=junk,
        keys=labels["paths"],
    )


def _is_text(values: NDArray[Any]) -> bool:
    """Whether texts are made of characters: not of numbers beyond these, nor of halves of pairs."""
    for start in range(0, len(values), _TEXTS_AT_ONCE):
        codes = np.ascontiguousarray(values[start : start + _TEXTS_AT_ONCE].astype(values.dtype.newbyteorder("=")))
        codes = codes.view(np.uint32)
        if ((codes > _LAST_CHARACTER) | ((codes >= _FIRST_HALF) & (codes <= _LAST_HALF))).any():
            return False
    return True


def _check_names(path: Path, side: str, identities: NDArray[Any]) -> None:
    """Refuse people without a name, who would all be one person."""
    nameless = int(np.count_nonzero(identities == ""))
    if nameless:
        raise DataError(
            f"{path}: {nameless} {side}_identities are empty.",
            f"Name each person, or mark these images in {side}_junk.",
        )


def _known(cameras: NDArray[Any]) -> list[Any]:
    """A query's cameras, None where unknown; the gallery's are compared with these only, and stay an array."""
    numbers = _kind(cameras) == "numbers"
    return [None if (each < 0 if numbers else not each) else each for each in cameras.tolist()]


def _kind(values: NDArray[Any]) -> str:
    return {"i": "numbers", "u": "numbers", "U": "texts"}.get(values.dtype.kind, "neither")
