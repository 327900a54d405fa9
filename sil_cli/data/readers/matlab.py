"""MATLAB files, opened with suspicion: v5 by scipy, v7.3 (which is HDF5) by h5py, which may not be installed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from sil_cli.errors import DataError
from sil_cli.files import one_line, open_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_AGAIN = "Unpack it again, or download it again."


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
            found: dict[str, Any] = loadmat(stream, variable_names=list(names))
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes the parser fail in any way
        raise DataError(f"{path} can't be read: {_reason(error)}.", _AGAIN) from error
    for name in names:
        if name not in found:
            raise DataError(f"{path} has no variable '{name}': it is another file, or cut short.", _AGAIN)
    return found


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
            "Install it: pip install 'sil-cli[datasets]'",
        ) from error
    try:
        with open_file(path), h5py.File(path, "r") as file:
            for name in names:
                if name not in file:
                    raise DataError(f"{path} has no variable '{name}': it is another file, or cut short.", _AGAIN)
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path} can't be read: {_reason(error)}.", _AGAIN) from error


def cell(file: Any, reference: Any, *, most: int) -> Any:
    """The array that one cell of a v7.3 file refers to, with MATLAB's order of axes.

    Args:
        file: The open `h5py.File`.
        reference: What the cell array holds at this place.
        most: The most elements that are believable.

    Returns:
        A numpy array; of size 0 for MATLAB's empty value.

    Raises:
        ValueError: It is larger, or its data lies outside this file.
    """
    data = file[reference]
    if data.attrs.get("MATLAB_empty", 0):
        import numpy as np

        return np.empty((0, 0))
    if data.external or data.is_virtual:
        raise ValueError("a variable points at another file")
    if data.size > most:
        raise ValueError(f"a variable has {data.size:,} elements, more than {most:,}")
    return data[()].T


def _reason(error: Exception) -> str:
    text = one_line(error)
    if isinstance(error, NotImplementedError) or "HDF" in text:
        return "it is of another MATLAB version than the authors' file"
    return "it is damaged or cut short" if not isinstance(error, FileNotFoundError | PermissionError) else text
