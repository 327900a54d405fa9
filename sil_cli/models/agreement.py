"""How well every way to compute an exported model agrees with torch in float32, measured on crops."""

from __future__ import annotations

from bisect import bisect_left
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.errors import ModelError
from sil_cli.models.engine import SAME_MODEL, Engine, is_installed
from sil_cli.models.export_record import FAILED, OPENVINO_BFLOAT16, Agreement, ExportRecord, Float32Front

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sil_cli.models.embedder import Embedder
    from sil_cli.runtime import Reporter

BATCH = 32

LONGEST_FRONT = 0.5
"""Of a network's multiply-adds, the most that is left in float32 to make bfloat16 agree. With half of a ResNet-50 in
float32 OpenVINO is still quicker than ONNX Runtime in float32 (docs/benchmarks.md)."""


def with_agreement(
    record: ExportRecord, embedder: Embedder, graph: bytes, pixels: np.ndarray, reporter: Reporter
) -> ExportRecord:
    """The record of an export with what was measured: how well every engine agrees, and what makes bfloat16 agree.

    Args:
        record: Of the export.
        embedder: The model, on the CPU in eval mode.
        graph: The ONNX file's content.
        pixels: Crops (N, height, width, 3).
        reporter: Is warned of an engine that fails.

    Raises:
        ModelError: ONNX Runtime fails, which is what every other machine can have.
    """
    import torch

    from sil_cli.models.torch_engine import make_torch_engine

    truth = _embedded(make_torch_engine(embedder, record.model.fingerprint, device=torch.device("cpu")), pixels)
    agreement = {}
    front = None
    with reporter.task("Comparing with torch", None) as task:
        for how, make in _engines(embedder, record, graph):
            try:
                agreement[how] = _compared(how, _embedded(make(), pixels), truth)
                if how == OPENVINO_BFLOAT16 and agreement[how].min < SAME_MODEL:
                    front, agreement[how] = _shortest_front(record, graph, pixels, truth) or (None, agreement[how])
            except ModelError as error:
                if how.startswith("onnxruntime"):
                    raise
                reporter.warn(f"{error.what} It is not used for this model.")
                agreement[how] = FAILED
            task.advance()
    return record.model_copy(update={"agreement": agreement, "float32_front": front})


def _engines(embedder: Embedder, record: ExportRecord, graph: bytes) -> Iterator[tuple[str, Callable[[], Engine]]]:
    """Every way to compute this model here, besides torch in float32: the key of its agreement, and what makes it."""
    import torch

    from sil_cli.models.onnx_engine import OnnxRuntimeEngine
    from sil_cli.models.precision import wants_bfloat16
    from sil_cli.models.torch_engine import make_torch_engine

    cpu = torch.device("cpu")
    yield f"onnxruntime {record.precision}", partial(OnnxRuntimeEngine, record, graph)
    if is_installed("openvino"):
        from sil_cli.models.openvino_engine import OpenVinoEngine, openvino_multiplies_bfloat16

        yield f"openvino {record.precision}", partial(OpenVinoEngine, record, graph)
        if record.precision == "float32" and openvino_multiplies_bfloat16():
            yield OPENVINO_BFLOAT16, partial(OpenVinoEngine, record, graph, bfloat16=True)
    if record.precision == "float32" and wants_bfloat16("auto", cpu):
        yield (
            "torch bfloat16",
            partial(make_torch_engine, embedder, record.model.fingerprint, device=cpu, bfloat16=True),
        )


def _shortest_front(
    record: ExportRecord, graph: bytes, pixels: np.ndarray, truth: np.ndarray
) -> tuple[Float32Front, Agreement] | None:
    """The least of the network's beginning that has to stay in float32 for the rest to agree in bfloat16.

    What the first layers round off, all that follow pass on: of a ResNet-50 the first stage makes up more than half of
    the error with a sixth of the multiply-adds. More in float32 agrees better, so the search halves.

    Returns:
        The front, and the agreement with it; None where the longest is not enough.
    """
    import onnx

    from sil_cli.models.graph_cuts import waists
    from sil_cli.models.openvino_engine import OpenVinoEngine

    fronts = [
        Float32Front(until=waist.name, share=waist.share)
        for waist in waists(onnx.load_from_string(graph))
        if 0 < waist.share <= LONGEST_FRONT
    ]

    @cache
    def measured(place: int) -> Agreement:
        engine = OpenVinoEngine(record.model_copy(update={"float32_front": fronts[place]}), graph, bfloat16=True)
        return _compared(OPENVINO_BFLOAT16, _embedded(engine, pixels), truth)

    longest = len(fronts) - 1
    if not fronts or measured(longest).min < SAME_MODEL:
        return None
    place = bisect_left(range(longest), SAME_MODEL, key=lambda place: measured(place).min)
    return fronts[place], measured(place)


def _compared(how: str, embeddings: np.ndarray, truth: np.ndarray) -> Agreement:
    cosines = (truth.astype(np.float64) * embeddings).sum(axis=1)
    if not np.isfinite(cosines).all():
        raise ModelError(f"{how} gives embeddings that are no numbers.", "Use --engine torch with this model.")
    return Agreement(min=float(cosines.min()), mean=float(cosines.mean()))


def _embedded(engine: Engine, pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([engine.embed(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)])
