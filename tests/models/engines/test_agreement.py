"""Which beginning of a network stays in float32, so that the rest agrees in bfloat16."""

import numpy as np
import pytest
import torch
from export_records import export_record

import sil_cli.models.engines.agreement as workflow
from sil_cli.errors import ModelError
from sil_cli.models.embedder import Embedder
from sil_cli.models.engines.exported_engine import OnnxRuntimeEngine
from sil_cli.models.engines.onnx_export import export_onnx
from sil_cli.models.engines.onnx_file import OnnxFile
from sil_cli.models.engines.onnx_graph import find_prefixes
from sil_cli.models.record import Architecture
from sil_cli.runtime import SilentReporter

pytestmark = pytest.mark.thorough

ARCHITECTURE = Architecture(backbone="resnet18", height=32, width=16)
HOW = "openvino bfloat16"


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    torch.manual_seed(0)
    return Embedder(ARCHITECTURE).eval()


@pytest.fixture(scope="module")
def graph(embedder) -> bytes:
    return export_onnx(embedder)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(40, 32, 16, 3), dtype=np.uint8)


@pytest.fixture
def made(monkeypatch) -> list[float]:
    """The share in float32 of each engine that was made for bfloat16, whose error falls as that share grows."""
    shares: list[float] = []

    class Rounding(OnnxRuntimeEngine):
        def __init__(self, record, content, *, bfloat16=False) -> None:
            super().__init__(record, content)
            self.angle = 0.0
            if bfloat16:
                share = record.float32_front.share if record.float32_front else 0.0
                shares.append(share)
                self.angle = LOSS * (1 - share)

        def embed(self, pixels):
            rows = super().embed(pixels)
            across = np.roll(rows, 1, axis=1)
            across -= (across * rows).sum(axis=1, keepdims=True) * rows
            across /= np.linalg.norm(across, axis=1, keepdims=True)
            return np.float32(np.cos(self.angle)) * rows + np.float32(np.sin(self.angle)) * across

    monkeypatch.setattr("sil_cli.models.engines.exported_engine.OpenVinoEngine", Rounding)
    monkeypatch.setattr("sil_cli.models.engines.exported_engine.openvino_multiplies_bfloat16", lambda: True)
    monkeypatch.setattr("sil_cli.models.precision.wants_bfloat16", lambda *_: False)
    return shares


def angle_of(cosine: float) -> float:
    return float(np.arccos(cosine))


LOSS = angle_of(0.9999)
"""What is left of it must be at most this."""


@pytest.mark.parametrize("needed", [0.01, 0.1, 0.2, 0.26, 0.4, 0.44])
def test_the_shortest_prefix_that_agrees_is_found(embedder, graph, pixels, made, monkeypatch, needed) -> None:
    monkeypatch.setattr(f"{__name__}.LOSS", angle_of(0.9999) / (1 - needed))
    record = workflow.with_agreement(export_record(ARCHITECTURE), embedder, graph, pixels, SilentReporter())
    shares = [prefix.share for prefix in find_prefixes(OnnxFile(graph, "model.onnx")) if 0 < prefix.share <= 0.5]
    assert record.float32_front is not None
    assert record.float32_front.share == min(share for share in shares if share >= needed)
    assert record.agreement[HOW].min >= 0.9999
    assert record.agreement[HOW].min == pytest.approx(
        np.cos(angle_of(0.9999) * (1 - record.float32_front.share) / (1 - needed)), abs=1e-6
    )
    assert len(made) <= 2 + np.ceil(np.log2(len(shares)))


def test_where_the_longest_is_not_enough_no_other_is_tried(embedder, graph, pixels, made, monkeypatch) -> None:
    monkeypatch.setattr(f"{__name__}.LOSS", angle_of(0.99))
    record = workflow.with_agreement(export_record(ARCHITECTURE), embedder, graph, pixels, SilentReporter())
    assert record.float32_front is None
    assert record.agreement[HOW].min == pytest.approx(0.99, abs=1e-6)  # of the whole in bfloat16
    assert not record.agrees(HOW)
    assert len(made) == 2
    assert made[1] <= workflow.LONGEST_PREFIX


def test_what_agrees_needs_no_prefix(embedder, graph, pixels, made, monkeypatch) -> None:
    monkeypatch.setattr(f"{__name__}.LOSS", angle_of(0.99995))
    record = workflow.with_agreement(export_record(ARCHITECTURE), embedder, graph, pixels, SilentReporter())
    assert record.float32_front is None
    assert made == [0.0]


def test_a_prefix_that_fails_is_told(embedder, graph, pixels, made, monkeypatch) -> None:
    monkeypatch.setattr(f"{__name__}.LOSS", angle_of(0.999))

    class Told(SilentReporter):
        def warn(self, message: str) -> None:
            warnings.append(message)

    warnings: list[str] = []
    compared = workflow._compared

    def fail(how, embeddings, truth):
        if len(made) == 2:
            raise ModelError("OpenVINO failed: a bad day.", "Use --engine torch.")
        return compared(how, embeddings, truth)

    monkeypatch.setattr(workflow, "_compared", fail)
    record = workflow.with_agreement(export_record(ARCHITECTURE), embedder, graph, pixels, Told())
    assert record.agreement[HOW].min == -1
    assert record.float32_front is None
    assert warnings == ["OpenVINO failed: a bad day. It is not used for this model."]
