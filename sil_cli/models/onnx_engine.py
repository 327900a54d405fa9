"""Embedding with ONNX Runtime on the CPU: starts in a fraction of a second, without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from sil_cli.errors import ModelError
from sil_cli.files import one_line
from sil_cli.models.engine import check_output, thread_count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sil_cli.models.export_record import ExportRecord

FATAL_ONLY = 4


class OnnxRuntimeEngine:
    """An exported model in an ONNX Runtime session."""

    def __init__(self, record: ExportRecord, graph: bytes, *, few: bool = False) -> None:
        """Prepare a session.

        Args:
            record: The export's.
            graph: The ONNX file's content, whose checksum has been compared.
            few: A few images will be embedded: be ready soon, and a little slower then. Weights stay as they lie in
                the file, instead of being laid out anew for the CPU's vector units.

        Raises:
            ModelError: ONNX Runtime can't run it.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = thread_count()
        options.log_severity_level = FATAL_ONLY  # what goes wrong arrives as an exception
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # cores decode images meanwhile
        if few and record.precision == "float32":  # int8 stays what it is, whatever the number of images
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        try:
            session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime has no common base class for what it raises
            raise ModelError(
                f"ONNX Runtime can't run {record.file}: {one_line(error)}.",
                "Export it again with `sil export`, or update with `pip install -U onnxruntime`.",
            ) from error
        self._session = session
        self.name = f"onnxruntime {record.precision}"
        self.fingerprint = record.fingerprint_with("onnxruntime")
        self.dimension = record.model.dimension
        self.height = record.model.architecture.height
        self.width = record.model.architecture.width

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed RGB pixels (B, height, width, 3) as unit rows (B, dimension)."""
        try:
            (embeddings,) = self._session.run(None, {"pixels": np.ascontiguousarray(pixels)})
        except MemoryError:
            raise
        except Exception as error:
            raise ModelError(f"ONNX Runtime failed: {one_line(error)}.", "Use --engine torch.") from error
        return check_output(np.asarray(embeddings), len(pixels), self.dimension, self.name)
