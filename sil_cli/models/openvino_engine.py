"""Embedding with OpenVINO on the CPU: the quickest for many images, in bfloat16 where the CPU multiplies it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import openvino

from sil_cli.errors import ModelError
from sil_cli.files import one_line
from sil_cli.models.engine import check_output, thread_count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sil_cli.models.export_record import ExportRecord

HINTS = {False: "f32", True: "bf16"}


def openvino_multiplies_bfloat16() -> bool:
    """Whether OpenVINO computes in bfloat16 natively on this CPU."""
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoEngine:
    """An exported model that OpenVINO has compiled."""

    def __init__(self, record: ExportRecord, graph: bytes, *, bfloat16: bool = False) -> None:
        """Compile the model.

        Args:
            record: The export's.
            graph: The ONNX file's content, whose checksum has been compared.
            bfloat16: Compute convolutions in bfloat16.

        Raises:
            ModelError: OpenVINO can't run it.
        """
        hints = {
            "INFERENCE_PRECISION_HINT": HINTS[bfloat16],
            "INFERENCE_NUM_THREADS": thread_count(),
            "PERFORMANCE_HINT": "LATENCY",  # one batch at a time, with all threads
        }
        core = openvino.Core()
        try:
            self._compiled = core.compile_model(core.read_model(io.BytesIO(graph)), "CPU", hints)
        except Exception as error:  # whatever its parser says of hostile bytes
            raise ModelError(
                f"OpenVINO can't run {record.file}: {one_line(error)}.",
                "Export it again with `sil export`, or use --engine onnxruntime.",
            ) from error
        self.name = f"openvino {'bfloat16' if bfloat16 else record.precision}"
        self.fingerprint = record.fingerprint_with("openvino")
        self.dimension = record.model.dimension
        self.height = record.model.architecture.height
        self.width = record.model.architecture.width

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed RGB pixels (B, height, width, 3) as unit rows (B, dimension)."""
        try:
            embeddings = self._compiled([np.ascontiguousarray(pixels)])[0].copy()  # a view of its own buffer
        except MemoryError:
            raise
        except Exception as error:
            raise ModelError(f"OpenVINO failed: {one_line(error)}.", "Use --engine torch.") from error
        return check_output(embeddings, len(pixels), self.dimension, self.name)
