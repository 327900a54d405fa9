"""MATLAB files, opened with suspicion: v5 by scipy, v7.3 (which is HDF5) by h5py, which may not be installed.

scipy goes down into cells without looking how deep, and makes arrays of the size that a header claims: a version 5
file is walked through here first. HDF5 follows links and external storage into other files: none is taken.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import struct
import zlib
from typing import TYPE_CHECKING, Any

from sil_cli.errors import DataError, one_line
from sil_cli.files import open_file
from sil_cli.installing import extra_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_AGAIN = "Unpack it again, or download it again."

_MOST_BYTES = 256 << 20
_MOST_ARRAYS, _MOST_ELEMENTS = 1_000_000, 30_000_000
"""In all of a version 5 file's variables that are read; CUHK-SYSU's, the largest, have some 100,000 and 1,000,000."""
_DEEPEST = 16
_MOST_CHUNKS = 10_000
_HEADER, _LONGEST_HEAD = 128, 4096
_MATRIX, _COMPRESSED = 14, 15
_INT8, _INT32, _UINT32 = 1, 5, 6
_SHAPES = range(8, 4 * 32 + 1, 4)
_NUMBER_TYPES, _CHAR_TYPES, _MATRICES = {1, 2, 3, 4, 5, 6, 7, 9, 12, 13}, {1, 2, 4, 16, 17, 18}, {_MATRIX}
_CELL, _STRUCT, _CHAR, _NUMBERS, _COMPLEX = 1, 2, 4, range(6, 16), 1 << 11
_DEFLATE, _SHUFFLE, _CHECKSUM = 1, 2, 3


class UnsoundError(ValueError):
    """A file claims what no file of the authors' does: what, as the end of a sentence."""


def load_v5(path: Path, *names: str) -> dict[str, Any]:
    """Read variables of a MATLAB file of version 5 to 7.

    Args:
        path: The file.
        names: The variables that it must hold; no other is read.

    Returns:
        Arrays by name, as `scipy.io.loadmat` gives them: cells are object arrays, structs have named fields.

    Raises:
        DataError: The file is missing, damaged, cut short or holds something else.
    """
    from scipy.io import loadmat

    try:
        with open_file(path) as stream:
            if os.fstat(stream.fileno()).st_size > _MOST_BYTES:
                raise UnsoundError("it is larger than the authors' file can be")
            checked = _inflated(stream.read(), names)
        found: dict[str, Any] = loadmat(io.BytesIO(checked), variable_names=list(names))
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes the parser fail in any way
        raise DataError(f"{path} can't be read: {_reason(error)}.", _AGAIN) from error
    for name in names:
        if name not in found:
            raise DataError(f"{path} has no variable '{name}': it is another file, or cut short.", _AGAIN)
    return found


def _inflated(content: bytes, names: tuple[str, ...]) -> bytes:
    """A version 5 file with these variables alone, not compressed, each of which was walked through (MAT-File Format,
    MathWorks, chapter 1).

    Raises:
        NotImplementedError: It is of another version.
        ValueError: What is wrong with it.
        struct.error: It is cut short.
        zlib.error: It is damaged.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None:
        raise UnsoundError("it is damaged or cut short")
    if content[124:126] != struct.pack(f"{order}H", 0x0100):
        raise NotImplementedError("another version")
    kept, at, walk = [content[:_HEADER]], _HEADER, _Walk(order)
    while at < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, at)
        body, at = content[at + 8 : at + 8 + size], at + 8 + size
        if at > len(content):
            raise UnsoundError("it is damaged or cut short")
        if kind == _COMPRESSED:
            decoder = zlib.decompressobj()
            head = decoder.decompress(body, _LONGEST_HEAD)
            if walk.name_of(head[8:]) not in names:
                continue
            body = head + decoder.decompress(decoder.unconsumed_tail, _MOST_BYTES)
            if not decoder.eof:
                raise UnsoundError("a variable is cut short, or larger than the authors' file can be")
            kind, size = struct.unpack_from(f"{order}II", body)
            body = body[8 : 8 + size]
        if kind != _MATRIX or len(body) != size:
            raise UnsoundError("it is damaged or cut short")
        if walk.name_of(body) in names:
            walk.check(body)
            kept.append(struct.pack(f"{order}II", _MATRIX, size) + body)
    return b"".join(kept)


class _Walk:
    """Goes through arrays as scipy will, and adds up what they hold."""

    def __init__(self, order: str) -> None:
        self._order = order
        self._arrays = self._elements = self._bytes = 0

    def name_of(self, body: bytes) -> str:
        """The name of the array that begins here."""
        at = 0
        for _ in range(2):  # its flags and its shape
            _, _, _, at = self._element(body, at)
        _, start, size, _ = self._element(body, at)
        return body[start : start + size].decode("latin-1")

    def check(self, body: bytes) -> None:
        """Check an array and all that it holds: no deeper, no more, and of no other kind than is believable.

        Every size, number and type must be what the header says: scipy goes by the header where this goes by the
        sizes, and crashes on a type that is none.

        Raises:
            ValueError: What is wrong.
            struct.error: It is cut short.
        """
        self._bytes += len(body)
        pending = [(0, len(body), 1)]
        while pending:
            at, end, depth = pending.pop()
            if at == end:  # the empty array
                continue
            self._arrays += 1
            flags, shape, name, *rest = self._elements_of(body, at, end)
            known = (flags, shape[0], name[0]) == ((_UINT32, at + 8, 8), _INT32, _INT8)
            first, *_ = struct.unpack_from(f"{self._order}I", body, flags[1])
            kind, parts = first & 0xFF, 2 if first & _COMPLEX else 1
            count = math.prod(struct.unpack_from(f"{self._order}{shape[2] // 4}i", body, shape[1]))
            self._elements += count
            children = [(start, start + size, depth + 1) for _, start, size in rest]
            allowed = _CHAR_TYPES if kind == _CHAR else _NUMBER_TYPES
            if kind == _STRUCT and [element for element, _, _ in rest[:2]] == [_INT32, _INT8]:
                longest = struct.unpack_from(f"{self._order}i", body, rest[0][1])[0]
                parts = count * (rest[1][2] // longest if longest > 0 else 0)
                rest, children, allowed = rest[2:], children[2:], _MATRICES
            elif kind == _CELL:
                parts, allowed = count, _MATRICES
            elif kind in (_CHAR, *_NUMBERS):
                children = []
            else:
                raise UnsoundError("it holds objects, functions or sparse matrices")
            known = known and shape[2] in _SHAPES and 0 <= count <= end - at
            if not known or len(rest) != parts or not allowed >= {element for element, _, _ in rest}:
                raise UnsoundError("an array is not what its header says")
            if depth > _DEEPEST:
                raise UnsoundError(f"its cells are nested more than {_DEEPEST} deep")
            if self._arrays > _MOST_ARRAYS or self._elements > _MOST_ELEMENTS or self._bytes > _MOST_BYTES:
                raise UnsoundError("it holds more than the authors' file can")
            pending += children

    def _elements_of(self, body: bytes, at: int, end: int) -> list[tuple[int, int, int]]:
        """The elements of an array: the type, the place and the size of each."""
        elements = []
        while at < end:
            kind, start, size, at = self._element(body, at)
            if kind == _COMPRESSED or start + size > end:
                raise UnsoundError("it is damaged or cut short")
            elements.append((kind, start, size))
        if len(elements) < 3:
            raise UnsoundError("it is damaged or cut short")
        return elements

    def _element(self, body: bytes, at: int) -> tuple[int, int, int, int]:
        """The type, the place and the size of an element, and where the next one begins."""
        kind, size = struct.unpack_from(f"{self._order}II", body, at)
        if kind >> 16:  # a small one: all of it in 8 bytes
            return kind & 0xFFFF, at + 4, min(kind >> 16, 4), at + 8
        return kind, at + 8, size, at + 8 + size + (-size % 8)


@contextlib.contextmanager
def open_v73(path: Path, *names: str) -> Iterator[Any]:
    """Open a MATLAB file of version 7.3.

    Args:
        path: The file.
        names: The variables that it must hold.

    Yields:
        An `h5py.File`. Note that HDF5 gives MATLAB's arrays with their axes reversed.

    Raises:
        DataError: h5py is missing, or the file is missing, damaged, cut short or holds something else; also when
            the block fails, so do nothing but read this file in it.
    """
    try:
        import h5py
    except ImportError as error:
        raise DataError(
            f"{path.name} is a MATLAB file, and h5py, which reads such files, is not installed.",
            f"Install it with `{extra_command('datasets')}`.",
        ) from error
    try:
        with open_file(path), h5py.File(path, "r") as file:
            for name in names:
                link = file.get(name, getlink=True)
                if link is None:
                    raise DataError(f"{path} has no variable '{name}': it is another file, or cut short.", _AGAIN)
                if not isinstance(link, h5py.HardLink):
                    raise UnsoundError("a variable is a link")
            yield file
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes the parser fail in any way
        raise DataError(f"{path} can't be read: {_reason(error)}.", _AGAIN) from error


def cell(file: Any, reference: Any, *, most: int) -> Any:
    """The array that a variable of a v7.3 file is, or that one of its cells refers to, with MATLAB's order of axes.

    Args:
        file: The open `h5py.File`.
        reference: The variable's name, or what the cell array holds at this place.
        most: The most elements that are believable.

    Returns:
        A numpy array of numbers or references; of size 0 for MATLAB's empty value.

    Raises:
        ValueError: It is larger or something else, or its data lies outside this file.
    """
    import h5py
    import numpy as np

    data = file[reference]
    if not isinstance(data, h5py.Dataset):
        raise UnsoundError("a variable is no array")
    if data.external or data.is_virtual:
        raise UnsoundError("a variable points at another file")
    if "MATLAB_empty" in data.attrs:
        empty = data.attrs.get_id("MATLAB_empty")
        if empty.shape not in ((), (1,)) or empty.dtype.kind not in "ui":
            raise UnsoundError("a variable's attribute is no number")
        if np.any(data.attrs["MATLAB_empty"]):
            return np.empty((0, 0))
    if data.dtype.kind not in "uif" and h5py.check_ref_dtype(data.dtype) is not h5py.Reference:
        raise UnsoundError("a variable holds neither numbers nor references")
    if data.size > most:
        raise UnsoundError(f"a variable has {data.size:,} elements, more than {most:,}")
    _check_filters(data, most)
    return data[()].T


def _check_filters(data: Any, most: int) -> None:
    """Check that what is stored in chunks inflates to no more than they hold: HDF5 inflates all of it.

    Raises:
        ValueError: It does, or is packed in another way than MATLAB's.
    """
    plist = data.id.get_create_plist()
    filters = [plist.get_filter(number)[0] for number in range(plist.get_nfilters())]
    if not set(filters) <= {_DEFLATE, _SHUFFLE, _CHECKSUM} or filters.count(_DEFLATE) > 1:
        raise UnsoundError("a variable is packed in another way than MATLAB's")
    if data.chunks is None:
        return
    length = math.prod(data.chunks)
    count = math.prod(-(-side // chunk) for side, chunk in zip(data.shape, data.chunks, strict=True))
    if length > most or count > _MOST_CHUNKS:
        raise UnsoundError("a variable is stored in pieces of a size that MATLAB doesn't write")
    if _DEFLATE not in filters:
        return
    limit = length * data.dtype.itemsize + 4  # a checksum may be in it
    for place in data.iter_chunks():
        skipped, packed = data.id.read_direct_chunk(tuple(part.start for part in place))
        if skipped or len(zlib.decompressobj().decompress(packed, limit + 1)) > limit:
            raise UnsoundError("a variable inflates to more than it holds")


def _reason(error: Exception) -> str:
    text = one_line(error)
    if isinstance(error, UnsoundError):
        return text
    if isinstance(error, NotImplementedError) or "HDF" in text:
        return "it is of another MATLAB version than the authors' file"
    return "it is damaged or cut short" if not isinstance(error, FileNotFoundError | PermissionError) else text
