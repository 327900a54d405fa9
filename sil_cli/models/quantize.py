"""Static quantisation of an exported model to int8, calibrated on crops."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from sil_cli.errors import ModelError
from sil_cli.files import one_line
from sil_cli.models.export import INPUT, quiet_exporter

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

QUANTISED = ["Conv", "Relu", "MaxPool", "Add"]
"""All of the backbone. Preprocessing, pooling, the neck and the unit length stay in float32: they cost next to
nothing, and the embedding's own values must not be rounded to 256 levels."""

CALIBRATION_BATCH = 8


class _Crops(CalibrationDataReader):  # type: ignore[misc]
    """Hands crops to the calibration, batch by batch."""

    def __init__(self, crops: NDArray[np.uint8]) -> None:
        self._batches: Iterator[NDArray[np.uint8]] = (
            crops[start : start + CALIBRATION_BATCH] for start in range(0, len(crops), CALIBRATION_BATCH)
        )

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """The next batch, None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


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
    with tempfile.TemporaryDirectory(prefix="sil-quantise-") as folder:
        before, after = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        before.write_bytes(graph)
        try:
            with quiet_exporter(), contextlib.redirect_stdout(io.StringIO()):  # it counts its tensors aloud
                quantize_static(
                    before,
                    after,
                    _Crops(crops),
                    quant_format=QuantFormat.QDQ,
                    op_types_to_quantize=QUANTISED,
                    per_channel=True,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    calibrate_method=CalibrationMethod.MinMax,
                )
        except Exception as error:  # it has no base class for what it raises
            raise ModelError(
                f"The model can't be quantised: {one_line(error)[:200]}.", "Export it without --int8."
            ) from error
        return after.read_bytes()
