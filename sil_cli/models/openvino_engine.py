"""Embedding with OpenVINO on the CPU: the quickest for many images, in bfloat16 where the CPU multiplies it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
import openvino.opset13 as opset

from sil_cli.errors import ModelError
from sil_cli.files import one_line
from sil_cli.models.engine import check_output, thread_count
from sil_cli.models.export_record import described

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
            bfloat16: Compute convolutions in bfloat16, but for the front that the record wants in float32.

        Raises:
            ModelError: OpenVINO can't run it.
        """
        front = record.float32_front if bfloat16 else None
        core = openvino.Core()
        try:
            model = core.read_model(io.BytesIO(graph))
            parts = [model] if front is None else _parted(model, front.until)
            self._requests = [
                core.compile_model(part, "CPU", _hints(bfloat16=bfloat16 and part is parts[-1])).create_infer_request()
                for part in parts
            ]
        except Exception as error:  # whatever its parser says of hostile bytes
            raise ModelError(
                f"OpenVINO can't run {record.file}: {one_line(error)}.",
                "Export it again with `sil export`, or use --engine onnxruntime.",
            ) from error
        self.name = described(f"openvino {'bfloat16' if bfloat16 else record.precision}", front)
        self.fingerprint = record.fingerprint_with("openvino")
        self.dimension = record.model.dimension
        self.height = record.model.architecture.height
        self.width = record.model.architecture.width

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed RGB pixels (B, height, width, 3) as unit rows (B, dimension)."""
        try:
            embeddings = self._computed(np.ascontiguousarray(pixels)).copy()  # a view of its own buffer
        except MemoryError:
            raise
        except Exception as error:
            raise ModelError(f"OpenVINO failed: {one_line(error)}.", "Use --engine torch.") from error
        return check_output(embeddings, len(pixels), self.dimension, self.name)

    def _computed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Each part takes the pixels, whose number is all that the second asks, and what the part before gave."""
        given = [openvino.Tensor(pixels, shared_memory=True)]
        for request in self._requests:
            for place, tensor in enumerate(given):
                request.set_input_tensor(place, tensor)
            request.infer()
            given = [given[0], request.get_output_tensor()]
        result: NDArray[np.float32] = given[-1].data
        return result


def _hints(*, bfloat16: bool) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": HINTS[bfloat16],
        "INFERENCE_NUM_THREADS": thread_count(),
        "PERFORMANCE_HINT": "LATENCY",  # one batch at a time, with all threads
    }


def _parted(model: openvino.Model, tensor: str) -> list[openvino.Model]:
    """A network as two: from pixels to a tensor, and from pixels (for their number) and that tensor to embeddings.

    OpenVINO computes a model in one precision; what would keep single layers in another is no part of its interface.
    """
    named = [output for node in model.get_ops() for output in node.outputs() if tensor in output.get_names()]
    if not named:
        raise ValueError(f"no tensor is called {tensor}")
    (cut,) = named
    users = list(cut.get_target_inputs())
    pixels = model.get_parameters()
    front = openvino.Model([cut], pixels, "front")
    handed_over = opset.parameter(cut.get_partial_shape(), cut.get_element_type())
    for user in users:
        user.replace_source_output(handed_over.output(0))
    return [front, openvino.Model(model.get_results(), [*pixels, handed_over], "rest")]
