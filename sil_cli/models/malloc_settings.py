"""Memory that one iteration frees and the next one asks for again, kept by the process in between."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # malloc.h's M_…
_NEVER, _USUAL_TRIM, _USUAL_MMAPS = -1, 128 * 1024, 65536


@contextlib.contextmanager
def freed_memory_kept(device: torch.device) -> Iterator[None]:
    """Let the C library's malloc keep what tensors on a CPU free, until the end of the block.

    It hands blocks of 32 MiB and more back to the system at once, which gives zeroed pages again, one fault for each
    4 KiB: a feature map that is written once then takes several times as long as its arithmetic (docs/benchmarks.md).
    Of C libraries other than glibc, and on a GPU, whose tensors torch keeps by itself, nothing is changed.

    Args:
        device: What tensors lie on.
    """
    library = _glibc() if device.type == "cpu" else None
    if library is None:
        yield
        return
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        library.mallopt(_MMAP_MAX, _USUAL_MMAPS)
        library.mallopt(_TRIM_THRESHOLD, _USUAL_TRIM)
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
