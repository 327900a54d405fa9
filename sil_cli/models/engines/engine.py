"""What computes embeddings, whichever library does it: the protocol, and what the engines have in common."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, Protocol

from sil_cli.errors import UsageError
from sil_cli.installing import install_command
from sil_cli.runtime import is_installed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sil_cli.data.images import Interpolation

SAME_MODEL = 0.9999
"""From this smallest cosine similarity to torch's float32 embeddings on, another way to compute counts as the same
model: its embeddings may stand in one gallery with the original's."""

LIBRARIES = ("onnxruntime", "openvino")
"""Those that an engine other than torch's needs."""


_LONGEST = 200
_WHERE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ :|(?:Exception from )?/?\S+\.(?:cc|cpp|h):\d+:?(?: \w[^()]*\([^)]*\))?"
)
"""Where in its sources a library met an error, which says nothing to whoever brought the graph."""


class Engine(Protocol):
    """A model that is ready to embed."""

    max_pixels: int
    """The most pixels of an image file that is read for it."""

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

    @property
    def interpolation(self) -> Interpolation:
        """By which images are resized to that."""

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
            f"Install it with `{install_command(name)}`, or use --engine torch.",
        )


def reason(error: Exception) -> str:
    """What a library says that went wrong, without where in its sources."""
    said = " ".join(str(error).split())
    if "alloc" in said and ("memory" in said or "bad_alloc" in said):
        return "needs more memory than there is"
    if newest := re.search(r"till opset (\d+)", said):
        return f"knows operators up to opset {newest[1]}"
    short = " ".join(_WHERE.sub(" ", said).split()).strip(" :.")
    return f"failed: {short[:_LONGEST]}{'…' if len(short) > _LONGEST else ''}"
