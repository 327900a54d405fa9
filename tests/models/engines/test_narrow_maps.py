"""Widened convolutions give what they gave before, in float32 exactly and in bfloat16 wherever this CPU computes it."""

import io

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

from sil_cli.models.engines.onnx_graph import widen_narrow_maps


def convolution(height: int, width: int, *, kernel: int = 3, stride: int = 2) -> onnx.ModelProto:
    """One convolution of 256 to 512 channels, between two nodes whose shapes an exporter would note."""
    rng = np.random.default_rng(5)
    weights = rng.standard_normal((512, 256, kernel, kernel)).astype(np.float32) / np.float32(16 * kernel)
    out = [(side - 1) // stride + 1 for side in (height, width)]
    shapes = {"given": ["n", 256, height, width], "x": ["n", 256, height, width], "y": ["n", 512, *out]}
    x, y, given, end = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", shapes["x"]), ("y", shapes["y"]), ("given", shapes["given"]), ("end", shapes["y"]))
    )
    nodes = [
        helper.make_node("Relu", ["given"], ["x"]),
        helper.make_node(
            "Conv",
            ["x", "w"],
            ["y"],
            "conv",
            strides=[stride] * 2,
            pads=[kernel // 2] * 4,
        ),
        helper.make_node("Relu", ["y"], ["end"]),
    ]
    graph = helper.make_graph(nodes, "one", [given], [end], [numpy_helper.from_array(weights, "w")], value_info=[x, y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: onnx.ModelProto, maps: np.ndarray) -> np.ndarray:
    (result,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"given": maps})
    return result


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("height", [2, 4, 5])
def test_a_narrow_map_is_widened_and_the_result_stays(height, width) -> None:
    maps = np.random.default_rng(6).standard_normal((3, 256, height, width)).astype(np.float32)
    before = run(convolution(height, width), maps)
    model = widen_narrow_maps(convolution(height, width))
    onnx.checker.check_model(model, full_check=True)
    assert kinds(model) == ["Relu", "Pad", "Conv", "Slice", "Relu"]
    assert run(model, maps).shape == before.shape
    np.testing.assert_allclose(run(model, maps), before, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"width": 3}, {"width": 8}, {"width": 2, "stride": 1}, {"width": 2, "kernel": 1}], ids=str
)
def test_everything_else_stays_as_it_is(options) -> None:
    model = convolution(4, **options)
    assert widen_narrow_maps(convolution(4, **options)) == model


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize(("height", "width"), [(4, 1), (4, 2), (16, 2)])
def test_bfloat16_is_right_on_this_cpu(height, width, batch) -> None:
    maps = np.random.default_rng(7).standard_normal((batch, 256, height, width)).astype(np.float32)
    model = widen_narrow_maps(convolution(height, width)).SerializeToString()
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(io.BytesIO(model)), "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    expected = run(convolution(height, width), maps)
    np.testing.assert_allclose(compiled([maps])[0], expected, atol=0.02 * np.abs(expected).max())
