"""Weights files that strangers made: what one claims is looked at before anything in it is inflated or rebuilt."""

from __future__ import annotations

import contextlib
import io
import math
import pickle  # nothing that it names is called: see `_Reader.find_class`
import zipfile
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
import safetensors
import safetensors.torch
import torch

from sil_cli.errors import ModelError, UsageError, visible
from sil_cli.files import LARGEST_FILE, open_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

FIX = "Give a .safetensors file, or a .pth file that holds nothing but tensors by name."

ZIP = b"PK\x03\x04"

STATE_KEYS = ("state_dict", "model", "model_state_dict", "net", "network")
"""Under which a training keeps the network among its other state."""

_SCALAR: Any = np.float64(0).__reduce__()[0]  # which NumPy 1 and 2 keep in modules of different names
_NUMPY = {
    "numpy.core.multiarray.scalar": _SCALAR,
    "numpy._core.multiarray.scalar": _SCALAR,
    "numpy.dtype": np.dtype,
    **{f"numpy.dtypes.{type(each).__name__}": type(each) for each in map(np.dtype, "?bBhHiIlLqQefd")},
}
"""What a NumPy scalar is made of: trainings keep their best mAP as one."""

_HARMLESS = {
    "collections.OrderedDict",
    "collections.Counter",
    "torch._utils._rebuild_parameter",
    "torch.Size",
    "torch.device",
    "_codecs.encode",
    "builtins.set",
    *_NUMPY,
}
_REBUILD = tuple(f"torch._utils._rebuild_tensor{version}" for version in ("", "_v2", "_v3"))
_STORAGE_BYTES = {
    f"torch.{name}Storage": size
    for size, names in {1: "Char Byte Bool", 2: "Half BFloat16 Short", 4: "Float Int", 8: "Double Long"}.items()
    for name in names.split()
} | {"torch.storage.UntypedStorage": 1}
_DTYPES = {str(value) for value in vars(torch).values() if isinstance(value, torch.dtype)}


def read_state(path: Path) -> dict[str, Tensor]:
    """The parameters in a .safetensors file or a `torch.save`d state dict, told apart by their first bytes.

    A state dict may lie under one of `STATE_KEYS`. `torch.load` reads it with `weights_only=True`, and only after
    what the file says of sizes has been held against the bytes that are there.

    Raises:
        UsageError: The file does not exist.
        ModelError: It can't be read, holds something else than tensors, or claims more than it holds.
    """
    if not path.is_file():
        raise UsageError(f"There is no weights file {path}.", "Use imagenet, none, or the path of a file.")
    if path.stat().st_size > LARGEST_FILE:
        raise ModelError(f"{path} has more than {LARGEST_FILE // 2**30} GiB, more than any network here needs.", FIX)
    try:
        state = _unwrapped(_content(path))
    except ModelError:
        raise
    except Exception as error:  # on damaged bytes the readers may raise anything
        raise ModelError(f"{path} can't be read as weights: it is damaged or holds other objects.", FIX) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"{path} does not hold a table of tensors by name.", FIX)
    if not state:
        raise ModelError(f"{path} holds no tensors.", FIX)
    if not all(isinstance(name, str) for name in state):
        raise ModelError(f"{path} holds tensors whose names are not text.", FIX)
    return state


def _content(path: Path) -> Any:
    with open_file(path) as file:
        start = file.read(9)
        file.seek(0)
        if start[8:] == b"{":
            return safetensors.torch.load_file(path)
        return load_checked(path, file)


def load_checked(path: Path, file: IO[bytes]) -> Any:
    """What `torch.save` wrote, once its claims have been held against its bytes; on the CPU.

    Args:
        path: The file's name, for messages.
        file: Its content.

    Raises:
        ModelError: It claims what it doesn't hold, or holds something that is not read here.
        Exception: It is damaged.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(len(ZIP))
    file.seek(0)
    if start == ZIP:
        _check_archive(path, file, size)
    else:
        _check_old(path, file, size)
    file.seek(0)
    names = [(value, name) for name, value in _NUMPY.items()]
    with torch.serialization.safe_globals(names):  # type: ignore[arg-type] # pairs are taken; its type says less
        return torch.load(file, map_location="cpu", weights_only=True)


class _Named:
    """What stands for a class or function that a file names: calling it makes nothing."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *arguments: Any) -> Any:
        if self.name in ("collections.OrderedDict", "builtins.set", "collections.Counter"):
            return _Table()
        if self.name in _REBUILD:
            storage, offset, size, stride = arguments[:4]
            return _check_view(storage, offset, size, stride, arguments[6].name if len(arguments) > 6 else None)
        return self

    def __setstate__(self, state: object) -> None:
        """Leave what a file says of an object unread."""


class _Table(dict[Any, Any]):
    """What stands for a dictionary of a class of its own."""

    def __setstate__(self, state: object) -> None:
        """Leave its attributes unread: a state dict's are the versions of its modules."""


class _Storage(NamedTuple):
    """The numbers behind tensors, as a file announces them."""

    key: str
    length: int
    bytes: int


class _ForeignError(Exception):
    """A file names a class or function that no state dict needs."""


class _Claim(Exception):  # noqa: N818 - says what the file claims
    """A file claims what can't be."""


class _Reader(pickle._Unpickler):  # the one in Python: C's makes room for whatever numbers a file claims
    """Reads what a pickle claims, without making any of it."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="utf-8", errors="replace")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Something inert in the place of what a file names.

        Raises:
            _ForeignError: It is of no use in a state dict.
        """
        module = {"__builtin__": "builtins"}.get(module, module)
        full = f"{module}.{name}"
        if full not in _HARMLESS and full not in _REBUILD and full not in _STORAGE_BYTES and full not in _DTYPES:
            raise _ForeignError(full)
        return _Named(full)

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage that a file announces."""
        _, kind, key, _, length = pid[:5]
        storage = _Storage(str(key), int(length), int(length) * _STORAGE_BYTES[kind.name])
        if storage.bytes < 0 or self.storages.setdefault(storage.key, storage) != storage:
            raise _Claim(f"storage {key} has two sizes")
        return storage


def _check_view(
    storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], dtype: str | None = None
) -> None:
    """Check that a tensor lies within its storage and repeats none of it.

    Args:
        storage: Holds its numbers, or with `dtype` bytes.
        offset: Of the first, in numbers.
        size: Its shape.
        stride: How many numbers apart neighbours lie, for each dimension.
        dtype: Of its numbers, for those that have no storage of their own.
    """
    length = storage.bytes // getattr(torch, dtype.removeprefix("torch.")).itemsize if dtype else storage.length
    last = offset + sum((each - 1) * step for each, step in zip(size, stride, strict=True))
    count = math.prod(size)
    if min((offset, *size, *stride)) < 0 or (count and last >= length) or count > length:
        raise _Claim(f"a tensor of shape {tuple(size)} lies on {length} numbers")


@contextlib.contextmanager
def _in_two_lines(path: Path) -> Iterator[None]:
    """Say of a file what was wrong with it."""
    try:
        yield
    except _ForeignError as error:
        if str(error).startswith("torch._utils."):
            raise ModelError(f"{path} holds a tensor that is sparse, quantised, or has no numbers.", FIX) from error
        raise ModelError(
            f"{path} holds an object of {visible(str(error))}, which is not made here: it could run any program.",
            "If you trust the file, save only its network's state_dict() where it was trained, and import that.",
        ) from error
    except _Claim as error:
        raise ModelError(f"{path} claims more than it holds: {error}.", FIX) from error


def _check_archive(path: Path, file: IO[bytes], size: int) -> None:
    """Check a file of today's torch.save, which is a zip archive of plain records, against its own directory.

    Raises:
        ModelError: It is a program, would grow when read, or claims what it doesn't hold.
    """
    with zipfile.ZipFile(file) as archive, _in_two_lines(path):
        entries = {entry.filename: entry for entry in archive.infolist()}
        pickled = [name for name in entries if name.rpartition("/")[2] == "data.pkl"]
        if len(pickled) == 1 and any("/code/" in name for name in entries):
            raise ModelError(
                f"{path} is a TorchScript program, as OpenAI published CLIP; programs in files are not run here.",
                "If you trust it, save torch.jit.load(FILE).state_dict() with safetensors, and name that file.",
            )
        total = sum(entry.file_size for entry in entries.values())
        if total > size or len(entries) != len(archive.infolist()):
            raise _Claim(f"it would become {total / 1e9:.1f} GB")
        with archive.open(pickled[0]) as content:
            reader = _Reader(content)
            reader.load()
        folder = pickled[0].rpartition("/")[0]
        for key, storage in reader.storages.items():
            entry = entries.get(f"{folder}/data/{key}")
            if entry is None or entry.file_size < storage.bytes:
                raise _Claim(f"storage {key} is said to have {storage.bytes:,} bytes")


def _check_old(path: Path, file: IO[bytes], size: int) -> None:
    """Check a file of torch.save before 1.6: five pickles, then each storage with its length before it.

    Raises:
        ModelError: It claims what it doesn't hold.
    """
    with _in_two_lines(path):
        readers = [_Reader(file) for _ in range(5)]
        for reader in readers:
            reader.load()
        claimed = sum(storage.bytes for storage in readers[3].storages.values())
        if claimed > size:
            raise _Claim(f"its tensors are said to have {claimed:,} bytes")


def _unwrapped(content: Any) -> Any:
    for key in STATE_KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            return content[key]
    return content
