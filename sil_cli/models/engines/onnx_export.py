"""An embedder as an ONNX file, preprocessing inside: uint8 pixels in, unit rows out, any batch size; also in int8."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sil_cli.errors import ModelError, one_line
from sil_cli.models.convolution_products import convolutions_as_such
from sil_cli.models.engines.onnx_graph import fold_norms, widen_narrow_maps
from sil_cli.models.engines.onnx_operators import write_graph
from sil_cli.models.engines.tracing import TraceError, trace
from sil_cli.runtime import import_quietly

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from sil_cli.models.embedder import Embedder

INPUT, OUTPUT = "pixels", "embeddings"

QUANTISED = ["Conv", "Relu", "MaxPool", "Add"]
"""All of the backbone. Preprocessing, pooling, the neck and the unit length stay in float32: they cost next to
nothing, and the embedding's own values must not be rounded to 256 levels."""

CALIBRATION_BATCH = 8


class _FromPixels(nn.Module):
    """An embedder that takes pixels as images are decoded: uint8 (B, height, width, 3)."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder = embedder

    def forward(self, pixels: Tensor) -> Tensor:
        """Unit rows (B, dimension)."""
        embeddings: Tensor = self.embedder(pixels.permute(0, 3, 1, 2))
        return embeddings


def export_onnx(embedder: Embedder) -> bytes:
    """An embedder as an ONNX file's content.

    Scaling, normalisation and the final unit length are part of the graph; batch norms are folded into the
    convolutions before them. The batch size is free.

    Args:
        embedder: In eval mode, on the CPU, float32.

    Raises:
        ModelError: It computes something for which there is no rule here.
    """
    size = embedder.architecture
    example = torch.zeros(1, size.height, size.width, 3, dtype=torch.uint8)
    names = {id(tensor): name for name, tensor in (*embedder.named_parameters(), *embedder.named_buffers())}
    try:
        with torch.inference_mode(mode=False), convolutions_as_such(embedder):
            graph = write_graph(trace(_FromPixels(embedder).eval(), example), INPUT, OUTPUT, names)
    except TraceError as error:
        raise ModelError(f"The model can't be exported: {error}.", "Only torch can run it.") from error
    fold_norms(graph)
    widen_narrow_maps(graph)
    return graph.content(INPUT, OUTPUT)


def quantize(graph: bytes, crops: NDArray[np.uint8]) -> bytes:
    """Quantise weights (int8, per output channel) and activations (uint8, per tensor, ranges from the crops).

    Args:
        graph: A float32 ONNX file's content.
        crops: uint8 (N, height, width, 3); a hundred or so, like those that it will see.

    Returns:
        The quantised ONNX file's content, in QDQ form.

    Raises:
        ModelError: The quantiser failed.
    """
    import_quietly("onnxruntime")
    from onnxruntime import quantization

    class CalibrationReader(quantization.CalibrationDataReader):  # type: ignore[misc]  # its module has no types
        def __init__(self) -> None:
            self._starts = iter(range(0, len(crops), CALIBRATION_BATCH))

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            start = next(self._starts, None)
            return None if start is None else {INPUT: crops[start : start + CALIBRATION_BATCH]}

    with tempfile.TemporaryDirectory(prefix="sil-quantise-") as folder:
        before, after = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        before.write_bytes(graph)
        try:
            with _quiet(), contextlib.redirect_stdout(io.StringIO()):  # it prints how many tensors it looks at
                quantization.quantize_static(
                    before,
                    after,
                    CalibrationReader(),
                    quant_format=quantization.QuantFormat.QDQ,
                    op_types_to_quantize=QUANTISED,
                    per_channel=True,
                    activation_type=quantization.QuantType.QUInt8,
                    weight_type=quantization.QuantType.QInt8,
                    calibrate_method=quantization.CalibrationMethod.MinMax,
                )
        except Exception as error:  # it has no base class for what it raises
            raise ModelError(
                f"The model can't be quantised: {one_line(error)[:200]}.", "Export it without --int8."
            ) from error
        return after.read_bytes()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Send what exporting and quantising print to stderr; what they say to developers is not for our users."""
    heard = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.disable(heard)
