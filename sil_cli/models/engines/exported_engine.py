"""Embedding with an export on the CPU, without torch: ONNX Runtime starts soonest, OpenVINO is quickest for many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from sil_cli.data.images import MAX_PIXELS
from sil_cli.errors import ModelError, one_line
from sil_cli.installing import install_command
from sil_cli.models.engines.engine import reason
from sil_cli.models.engines.onnx_file import OnnxFile
from sil_cli.models.record import described
from sil_cli.runtime import import_quietly, interruptible, thread_count
from sil_cli.similarity.distance import scale_to_unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import openvino
    from numpy.typing import NDArray

    from sil_cli.models.record import ExportRecord, ForeignGraph

FATAL_ONLY = 4
HINTS = {False: "f32", True: "bf16"}


class _ExportedEngine(ABC):
    """What both have in common; see `Engine` for the attributes."""

    max_pixels = MAX_PIXELS

    def __init__(self, record: ExportRecord, library: str, name: str) -> None:
        self.name = name
        self.fingerprint = record.fingerprint_with(library)
        self.dimension = record.model.dimension
        self.height = record.model.architecture.height
        self.width = record.model.architecture.width
        self.interpolation = record.model.architecture.interpolation
        self._foreign = record.foreign
        self._again = record.again

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed RGB pixels (B, height, width, 3) as unit rows (B, dimension).

        Raises:
            ModelError: The library fails, or gives something else: some kernels are wrong on some CPUs.
        """
        embeddings = self.raw(pixels).reshape(len(pixels), -1)
        if embeddings.shape[1] != self.dimension:
            raise ModelError(
                f"{self.name} gave embeddings of {embeddings.shape[1]} values, not of {self.dimension}.", self._again
            )
        if not np.isfinite(embeddings).all():
            raise ModelError(f"{self.name} gives NaN or infinite embeddings.", self._other)
        if self._foreign is None:
            return embeddings
        if not embeddings.any(axis=1).all():
            raise ModelError(f"{self.name} gives zeros in place of an embedding.", self._other)
        return scale_to_unit(embeddings)

    def raw(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the network gives for pixels (B, height, width, 3), as it is: (B, …) in float32.

        Raises:
            ModelError: The library fails, or gives something else than an array for each image.
        """
        given = _input(pixels, self._foreign)
        size = (self._foreign and self._foreign.batch) or len(given)
        parts = [self._run(given[start : start + size], size) for start in range(0, len(given), size)]
        if any(part.ndim < 2 or len(part) != size for part in parts):
            shapes = ", ".join(str(part.shape) for part in parts)
            raise ModelError(f"The model gave {shapes} with {self.name} for {size} images.", self._again)
        return np.concatenate(parts)[: len(pixels)].astype(np.float32, copy=False)

    def _run(self, given: NDArray[np.generic], size: int) -> NDArray[np.generic]:
        """What the library makes of some images, to which the last is added again where a batch has to be full."""
        missing = size - len(given)
        full = np.concatenate([given, np.repeat(given[-1:], missing, axis=0)]) if missing else given
        try:
            return interruptible(lambda: self._compute(np.ascontiguousarray(full)), self._stop)
        except MemoryError:
            raise
        except Exception as error:  # neither library has a common base class for what it raises
            raise ModelError(f"{self.name} {reason(error)}.", self._other) from error

    @property
    def _other(self) -> str:
        return self._again if self._foreign else "Use another --engine, such as torch."

    @abstractmethod
    def _compute(self, given: NDArray[np.generic]) -> NDArray[np.generic]:
        """The output for a contiguous input, in memory of its own."""

    @abstractmethod
    def _stop(self) -> None:
        """Make the library give up what it computes, as soon as it can."""


def _onnxruntime() -> Any:
    """ONNX Runtime, which is installed.

    Raises:
        ModelError: It can't be loaded here.
    """
    try:
        return import_quietly("onnxruntime")
    except (ImportError, OSError) as error:
        raise ModelError(
            f"onnxruntime can't be loaded: {one_line(error)[:200]}.",
            f"Install it again with `{install_command('onnxruntime')}`.",
        ) from error


def _input(pixels: NDArray[np.uint8], foreign: ForeignGraph | None) -> NDArray[np.generic]:
    """Pixels (B, height, width, 3) as a graph takes them."""
    if foreign is None:
        return pixels
    dtype = np.dtype(foreign.type)
    given: NDArray[Any] = pixels
    if dtype != np.uint8:
        exact = np.promote_types(dtype, np.float32)
        scale, mean, std = (np.array(each, dtype=exact) for each in (foreign.scale, foreign.mean, foreign.std))
        given = ((given.astype(exact) / scale - mean) / std).astype(dtype)
    if foreign.bgr:
        given = given[..., ::-1]
    return given.transpose(0, 3, 1, 2) if foreign.layout == "NCHW" else given


class OnnxRuntimeEngine(_ExportedEngine):
    """An exported model in an ONNX Runtime session."""

    def __init__(
        self, record: ExportRecord, graph: bytes, data: Mapping[str, bytes] | None = None, *, few: bool = False
    ) -> None:
        """Prepare a session.

        Args:
            record: The export's.
            graph: The ONNX file's content, whose checksum has been compared.
            data: The content of the files that hold its values, by name.
            few: A few images will be embedded: be ready soon, and a little slower then. Weights stay as they lie in
                the file, instead of being repacked for the CPU's vector units.

        Raises:
            ModelError: ONNX Runtime can't run it, or should not be given it.
        """
        onnxruntime = _onnxruntime()
        super().__init__(record, "onnxruntime", f"onnxruntime {record.precision}")
        file = OnnxFile(graph, record.file)
        content = file.self_contained(data or {})
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = thread_count()
        options.log_severity_level = FATAL_ONLY  # what goes wrong arrives as an exception
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # cores decode images meanwhile
        if few and record.precision == "float32":  # int8 stays what it is, whatever the number of images
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        providers = ["CPUExecutionProvider"]
        try:
            self._session = interruptible(lambda: onnxruntime.InferenceSession(content, options, providers=providers))
        except Exception as error:  # the runtime has no common base class for what it raises
            raise ModelError(
                f"{record.file}, of opset {file.opset}: ONNX Runtime {reason(error)}.",
                f"{record.again[:-1]}, or update with `{install_command('-U', 'onnxruntime')}`.",
            ) from error
        self._input, self._outputs = ("pixels", None)
        if record.foreign is not None:
            self._input, self._outputs = (record.foreign.input, [record.foreign.output])
        self._run_options = onnxruntime.RunOptions()

    def _compute(self, given: NDArray[np.generic]) -> NDArray[np.generic]:
        (output,) = self._session.run(self._outputs, {self._input: given}, self._run_options)
        return np.asarray(output)

    def _stop(self) -> None:
        self._run_options.terminate = True


class OpenVinoEngine(_ExportedEngine):
    """An exported model that OpenVINO has compiled."""

    def __init__(
        self, record: ExportRecord, graph: bytes, data: Mapping[str, bytes] | None = None, *, bfloat16: bool = False
    ) -> None:
        """Compile the model.

        Args:
            record: The export's.
            graph: The content of the ONNX file, or of an IR's .xml, whose checksum has been compared.
            data: The content of the files that hold its values, by name.
            bfloat16: Compute convolutions in bfloat16, but for the prefix that the record wants in float32.

        Raises:
            ModelError: OpenVINO can't run it, or should not be given it.
        """
        prefix = record.float32_front if bfloat16 else None
        how = f"openvino {'bfloat16' if bfloat16 else record.precision}"
        super().__init__(record, "openvino", described(how, prefix))
        from sil_cli.models.engines.openvino_file import read_openvino

        try:
            model = read_openvino(record.file, graph, data or {})
            if record.foreign is not None:
                model = _only(model, record.foreign, self.height, self.width)
            parts = [model] if prefix is None else _cut(model, prefix.until)
            self._requests = interruptible(lambda: _compiled(parts, bfloat16=bfloat16))
        except ModelError:
            raise
        except Exception as error:  # whatever it says of hostile bytes
            raise ModelError(
                f"{record.file}: OpenVINO {reason(error)}.",
                f"{record.again[:-1]}, or use --engine onnxruntime.",
            ) from error

    def _compute(self, given: NDArray[np.generic]) -> NDArray[np.generic]:
        """Each part takes the pixels, of which the second only reads the number, and the result of the one before."""
        import openvino

        inputs = [openvino.Tensor(given, shared_memory=True)]
        for request in self._requests:
            for position, tensor in enumerate(inputs):
                request.set_input_tensor(position, tensor)
            request.infer()
            inputs = [inputs[0], request.get_output_tensor()]
        result: NDArray[np.generic] = inputs[-1].data.copy()  # `data` is a view of OpenVINO's own buffer
        return result

    def _stop(self) -> None:
        for request in self._requests:
            request.cancel()


def openvino_multiplies_bfloat16() -> bool:
    """Whether OpenVINO computes in bfloat16 natively on this CPU."""
    openvino = import_quietly("openvino")
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _compiled(parts: Sequence[openvino.Model], *, bfloat16: bool) -> list[openvino.InferRequest]:
    """The parts of a network, ready to compute; all but the last of several in float32."""
    import openvino

    core = openvino.Core()
    return [
        core.compile_model(part, "CPU", _hints(bfloat16=bfloat16 and part is parts[-1])).create_infer_request()
        for part in parts
    ]


def _only(model: openvino.Model, foreign: ForeignGraph, height: int, width: int) -> openvino.Model:
    """A foreign network with the output that is the embedding alone, for images of one size, which is quicker."""
    import openvino

    single = openvino.Model([model.output(foreign.output)], model.get_parameters(), "embedder")
    if single.is_dynamic():
        sizes = [3, height, width] if foreign.layout == "NCHW" else [height, width, 3]
        single.reshape({single.input(0): openvino.PartialShape([foreign.batch or -1, *sizes])})
    return single


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
