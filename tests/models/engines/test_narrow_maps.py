"""Widened convolutions give what they gave before, in float32 exactly and in bfloat16 wherever this CPU computes it."""

import io

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest

from sil_cli.models.engines.onnx_file import Node
from sil_cli.models.engines.onnx_graph import widen_narrow_maps
from sil_cli.models.engines.onnx_writer import Graph


def convolution(height: int, width: int, *, kernel: int = 3, stride: int = 2) -> Graph:
    """One convolution of 256 to 512 channels, between two other operations."""
    rng = np.random.default_rng(5)
    weights = rng.standard_normal((512, 256, kernel, kernel)).astype(np.float32) / np.float32(16 * kernel)
    before = ("batch", 256, height, width)
    after = ("batch", 512, *((side - 1) // stride + 1 for side in (height, width)))
    return Graph(
        nodes=[
            Node("Relu", ["given"], ["x"]),
            Node("Conv", ["x", "w"], ["y"], {"strides": [stride] * 2, "pads": [kernel // 2] * 4}),
            Node("Relu", ["y"], ["end"]),
        ],
        tensors={"w": weights},
        shapes={"given": before, "x": before, "y": after, "end": after},
    )


def widened(graph: Graph) -> Graph:
    widen_narrow_maps(graph)
    return graph


def run(graph: Graph, maps: np.ndarray) -> np.ndarray:
    (result,) = onnxruntime.InferenceSession(graph.content("given", "end")).run(None, {"given": maps})
    return result


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("height", [2, 4, 5])
def test_a_narrow_map_is_widened_and_the_result_stays(height, width) -> None:
    maps = np.random.default_rng(6).standard_normal((3, 256, height, width)).astype(np.float32)
    before = run(convolution(height, width), maps)
    graph = widened(convolution(height, width))
    onnx.checker.check_model(onnx.load_from_string(graph.content("given", "end")), full_check=True)
    assert [node.kind for node in graph.nodes] == ["Relu", "Pad", "Conv", "Slice", "Relu"]
    assert run(graph, maps).shape == before.shape
    np.testing.assert_allclose(run(graph, maps), before, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"width": 3}, {"width": 8}, {"width": 2, "stride": 1}, {"width": 2, "kernel": 1}], ids=str
)
def test_everything_else_stays_as_it_is(options) -> None:
    assert widened(convolution(4, **options)).nodes == convolution(4, **options).nodes


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize(("height", "width"), [(4, 1), (4, 2), (16, 2)])
def test_bfloat16_is_right_on_this_cpu(height, width, batch) -> None:
    maps = np.random.default_rng(7).standard_normal((batch, 256, height, width)).astype(np.float32)
    model = widened(convolution(height, width)).content("given", "end")
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(io.BytesIO(model)), "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    expected = run(convolution(height, width), maps)
    np.testing.assert_allclose(compiled([maps])[0], expected, atol=0.02 * np.abs(expected).max())
