"""What computes embeddings, whichever library does it: the protocol, and what the engines have in common."""

from __future__ import annotations

import os
import platform
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from sil_cli.errors import UsageError
from sil_cli.runtime import cpu_count

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAME_MODEL = 0.9999
"""From this smallest cosine similarity to torch's float32 embeddings on, another way to compute counts as the same
model: its embeddings may stand in one gallery with the original's."""

EXTRAS = {"onnxruntime": "fast", "openvino": "openvino"}
"""The library of each engine, and the extra of this package that installs it."""

_MULTIPLYING = ("fma", "f16c", "avx", "amx", "asimd", "fphp", "sve", "bf16", "i8mm")


class Engine(Protocol):
    """A model that is ready to embed."""

    @property
    def name(self) -> str:
        """The library and its precision, for people: "onnxruntime float32"."""

    @property
    def fingerprint(self) -> str:
        """Of what it computes; engines with equal fingerprints give embeddings that may be compared."""

    @property
    def dimension(self) -> int:
        """Length of an embedding."""

    @property
    def height(self) -> int:
        """Input height in pixels."""

    @property
    def width(self) -> int:
        """Input width in pixels."""

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed RGB pixels (B, height, width, 3), B at least 1.

        Returns:
            (B, dimension), rows of unit length.
        """


def require_library(name: Literal["onnxruntime", "openvino"]) -> None:
    """Refuse an engine whose library is not installed.

    Raises:
        UsageError: It is missing; says how to install it.
    """
    if not is_installed(name):
        raise UsageError(
            f"The engine {name} is not installed.",
            f'Install it with `pip install "sil-cli[{EXTRAS[name]}]"`, or use --engine torch.',
        )


def is_installed(name: str) -> bool:
    """Whether a package could be imported; does not import it."""
    return find_spec(name) is not None


def thread_count() -> int:
    """Threads for a forward pass: the cores of this process, or OMP_NUM_THREADS where that is fewer."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(cpu_count(), max(1, int(asked))) if asked.isdigit() else cpu_count()


def cpu_kind() -> str:
    """The instructions by which this CPU multiplies: what decides which kernels of a library compute on it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return f"{platform.machine()} {platform.processor()}".strip()
    flags = next((line.split(":")[1].split() for line in lines if line.lower().startswith(("flags", "features"))), [])
    return " ".join([platform.machine(), *sorted(flag for flag in set(flags) if flag.startswith(_MULTIPLYING))])
