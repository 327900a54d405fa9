"""Embedding with an export on the CPU, without torch: ONNX Runtime starts soonest, OpenVINO is quickest for many."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from sil_cli.errors import ModelError
from sil_cli.files import one_line
from sil_cli.models.record import described
from sil_cli.runtime import import_quietly, thread_count

if TYPE_CHECKING:
    import openvino
    from numpy.typing import NDArray

    from sil_cli.models.record import ExportRecord

FATAL_ONLY = 4
HINTS = {False: "f32", True: "bf16"}


class _ExportedEngine(ABC):
    """What both have in common; see `Engine` for the attributes."""

    def __init__(self, record: ExportRecord, library: str, name: str) -> None:
        self.name = name
        self.fingerprint = record.fingerprint_with(library)
        self.dimension = record.model.dimension
        self.height = record.model.architecture.height
        self.width = record.model.architecture.width

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed RGB pixels (B, height, width, 3) as unit rows (B, dimension).

        Raises:
            ModelError: The library fails, or gives something else: some kernels are wrong on some CPUs.
        """
        try:
            embeddings = self._compute(np.ascontiguousarray(pixels))
        except MemoryError:
            raise
        except Exception as error:  # neither library has a common base class for what it raises
            raise ModelError(f"{self.name} failed: {one_line(error)}.", "Use --engine torch.") from error
        expected = (len(pixels), self.dimension)
        if embeddings.shape != expected or embeddings.dtype != np.float32:
            raise ModelError(
                f"The exported model gave {embeddings.dtype} {embeddings.shape} with {self.name}, not {expected}.",
                "Export it again with `sil export`.",
            )
        if not np.isfinite(embeddings).all():
            raise ModelError(f"{self.name} gives NaN or infinite embeddings.", "Use another --engine, such as torch.")
        return embeddings

    @abstractmethod
    def _compute(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The embeddings of contiguous pixels, in memory of their own."""


class OnnxRuntimeEngine(_ExportedEngine):
    """An exported model in an ONNX Runtime session."""

    def __init__(self, record: ExportRecord, graph: bytes, *, few: bool = False) -> None:
        """Prepare a session.

        Args:
            record: The export's.
            graph: The ONNX file's content, whose checksum has been compared.
            few: A few images will be embedded: be ready soon, and a little slower then. Weights stay as they lie in
                the file, instead of being repacked for the CPU's vector units.

        Raises:
            ModelError: ONNX Runtime can't run it.
        """
        onnxruntime = import_quietly("onnxruntime")

        super().__init__(record, "onnxruntime", f"onnxruntime {record.precision}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = thread_count()
        options.log_severity_level = FATAL_ONLY  # what goes wrong arrives as an exception
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # cores decode images meanwhile
        if few and record.precision == "float32":  # int8 stays what it is, whatever the number of images
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime has no common base class for what it raises
            raise ModelError(
                f"ONNX Runtime can't run {record.file}: {one_line(error)}.",
                "Export it again with `sil export`, or update with `pip install -U onnxruntime`.",
            ) from error

    def _compute(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        (embeddings,) = self._session.run(None, {"pixels": pixels})
        return np.asarray(embeddings)


class OpenVinoEngine(_ExportedEngine):
    """An exported model that OpenVINO has compiled."""

    def __init__(self, record: ExportRecord, graph: bytes, *, bfloat16: bool = False) -> None:
        """Compile the model.

        Args:
            record: The export's.
            graph: The ONNX file's content, whose checksum has been compared.
            bfloat16: Compute convolutions in bfloat16, but for the prefix that the record wants in float32.

        Raises:
            ModelError: OpenVINO can't run it.
        """
        openvino = import_quietly("openvino")
        prefix = record.float32_front if bfloat16 else None
        how = f"openvino {'bfloat16' if bfloat16 else record.precision}"
        super().__init__(record, "openvino", described(how, prefix))
        core = openvino.Core()
        try:
            model = core.read_model(io.BytesIO(graph))
            parts = [model] if prefix is None else _cut(model, prefix.until)
            self._requests = [
                core.compile_model(part, "CPU", _hints(bfloat16=bfloat16 and part is parts[-1])).create_infer_request()
                for part in parts
            ]
        except Exception as error:  # whatever its parser says of hostile bytes
            raise ModelError(
                f"OpenVINO can't run {record.file}: {one_line(error)}.",
                "Export it again with `sil export`, or use --engine onnxruntime.",
            ) from error

    def _compute(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Each part takes the pixels, of which the second only reads the number, and the result of the one before."""
        import openvino

        inputs = [openvino.Tensor(pixels, shared_memory=True)]
        for request in self._requests:
            for position, tensor in enumerate(inputs):
                request.set_input_tensor(position, tensor)
            request.infer()
            inputs = [inputs[0], request.get_output_tensor()]
        result: NDArray[np.float32] = inputs[-1].data.copy()  # `data` is a view of OpenVINO's own buffer
        return result


def openvino_multiplies_bfloat16() -> bool:
    """Whether OpenVINO computes in bfloat16 natively on this CPU."""
    openvino = import_quietly("openvino")
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _hints(*, bfloat16: bool) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": HINTS[bfloat16],
        "INFERENCE_NUM_THREADS": thread_count(),
        "PERFORMANCE_HINT": "LATENCY",  # one batch at a time, with all threads
    }


def _cut(model: openvino.Model, tensor: str) -> list[openvino.Model]:
    """A network as two: from pixels to a tensor, and from pixels (for their number) and that tensor to embeddings.

    OpenVINO computes a model in one precision; its interface can't keep single layers in another.
    """
    import openvino
    import openvino.opset13 as opset

    named = [output for node in model.get_ops() for output in node.outputs() if tensor in output.get_names()]
    if not named:
        raise ValueError(f"no tensor is called {tensor}")
    (cut,) = named
    users = list(cut.get_target_inputs())
    pixels = model.get_parameters()
    prefix = openvino.Model([cut], pixels, "prefix")
    handed_over = opset.parameter(cut.get_partial_shape(), cut.get_element_type())
    for user in users:
        user.replace_source_output(handed_over.output(0))
    return [prefix, openvino.Model(model.get_results(), [*pixels, handed_over], "rest")]
