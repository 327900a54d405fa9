"""Embeddings of both sides of a test in one .npz file, so that any project's model can be scored.

Keys: `query_embeddings`, `query_identities`, `gallery_embeddings`, `gallery_identities`; optionally `query_cameras` and
`gallery_cameras`, `query_junk` and `gallery_junk`, `query_paths` and `gallery_paths`. Nothing is ever unpickled. Large
arrays of files written by `np.savez` (not compressed) are mapped into memory, and then read in blocks.
"""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from sil_cli.errors import DataError, nearest
from sil_cli.evaluation.pairs import EmbeddingSet
from sil_cli.files import one_line, open_file, writing

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SIDES = ("query", "gallery")
REQUIRED = tuple(f"{side}_{what}" for side in SIDES for what in ("embeddings", "identities"))
OPTIONAL = tuple(f"{side}_{what}" for side in SIDES for what in ("cameras", "junk", "paths"))
VERSION_KEY, VERSION = "sil_format", 1
MAPPED_FROM = 2**28  # bytes: smaller arrays are read whole, with their checksums

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
            arrays = {
                key: _read_array(path, archive, members[key], mapped_from)
                for key in (*REQUIRED, *OPTIONAL, VERSION_KEY)
                if key in members
            }
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.", "Check the path.") from None
    except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise DataError(
            f"{path} is not an .npz file, or is damaged: {one_line(error)}.", "Write it again with numpy.savez."
        ) from error
    version = arrays.pop(VERSION_KEY, np.array(VERSION))
    if version.shape != () or version.item() != VERSION:
        raise DataError(f"{path} is of version {version}; this program reads {VERSION}.", "Update this program.")
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


def _check_keys(path: Path, found: set[str]) -> None:
    for key in REQUIRED:
        if key not in found:
            side = key.split("_")[0]
            near = nearest(key, {each for each in found if side in each} - set(REQUIRED) - set(OPTIONAL))
            listed = ", ".join(sorted(found)) or "nothing"
            guess = f"Rename {near} to {key}" if near else f"Add {key}"
            raise DataError(f"{path} has no {key}; it holds {listed}.", f"{guess}. {_HOW}")
    for key in found - {*REQUIRED, *OPTIONAL, VERSION_KEY}:
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
            if info.compress_type != zipfile.ZIP_STORED or info.file_size < mapped_from:
                stream.seek(0)
                return np.lib.format.read_array(stream, allow_pickle=False)
            data_at = stream.tell()
        with path.open("rb") as raw:
            raw.seek(info.header_offset + _LENGTHS_AT)
            lengths = np.frombuffer(raw.read(4), dtype="<u2")
        offset = info.header_offset + _LOCAL_HEADER + int(lengths.sum()) + data_at
        if data_at + int(np.prod(shape)) * dtype.itemsize > info.file_size:
            raise ValueError("it is shorter than its header says")
        return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape, order="F" if fortran else "C")
    except (ValueError, MemoryError) as error:
        raise DataError(
            f"{path}: {info.filename} can't be read: {one_line(error)}.",
            "Write it with numpy.savez; large arrays uncompressed, so that they can be read in blocks.",
        ) from error


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = reader(stream)
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
            raise DataError(f"{path}: {side}_{what} has type {values.dtype}.", "Write texts or whole numbers.")
        if values is not None and what == "junk" and values.dtype.kind not in "biu":
            raise DataError(f"{path}: {side}_{what} has type {values.dtype}.", "Write booleans.")
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
