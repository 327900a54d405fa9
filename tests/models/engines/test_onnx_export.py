"""The exported graph against torch, and what is kept out of it."""

import copy
from functools import partial

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export_records import export_record

from sil_cli.errors import ModelError
from sil_cli.models.convolution_products import ProductConv2d, multiply_where_quicker
from sil_cli.models.embedder import Embedder
from sil_cli.models.engines.exported_engine import OnnxRuntimeEngine, OpenVinoEngine
from sil_cli.models.engines.onnx_export import export_onnx, quantize
from sil_cli.models.engines.onnx_operators import write_graph
from sil_cli.models.engines.torch_engine import TorchEngine
from sil_cli.models.engines.tracing import TraceError, trace
from sil_cli.models.record import Architecture, ExportRecord

KINDS = ("resnet18-ibn-a", "osnet_ain_x0_25", "mobilenet_v3_large")
MORE_KINDS = (
    "osnet_ibn_x1_0",
    "mobilenet_v2",
    "efficientnet_b0",
    "transreid_jpm_vit_b_16",
    "timm:convnext_atto",
    "timm:mobilenetv4_conv_small",
)
SMALL = Architecture(backbone="resnet18", height=32, width=16, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    """Random weights, with statistics and a neck that are not trivial."""
    torch.manual_seed(0)
    model = Embedder(SMALL)
    with torch.no_grad():
        model.train()(torch.rand(16, 3, 32, 16))
        model.neck.weight.uniform_(0.5, 1.5)
    return model.eval()


@pytest.fixture(scope="module")
def graph(embedder: Embedder) -> bytes:
    return export_onnx(embedder)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(7, 32, 16, 3), dtype=np.uint8)


def record(precision: str = "float32") -> ExportRecord:
    return export_record(SMALL, precision=precision)


def by_hand(embedder: Embedder, pixels: np.ndarray) -> np.ndarray:
    """Preprocessing written out, then the network."""
    images = (pixels.astype(np.float64) / 255 - SMALL.mean) / SMALL.std
    with torch.inference_mode():
        maps = embedder.backbone(torch.from_numpy(images).permute(0, 3, 1, 2).float())
        rows = embedder.neck(maps.mean(dim=(2, 3))).numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("make", [OnnxRuntimeEngine, partial(OnnxRuntimeEngine, few=True), OpenVinoEngine])
def test_the_graph_takes_pixels_and_gives_torchs_embeddings(embedder, graph, pixels, make) -> None:
    engine = make(record(), graph)
    assert (engine.height, engine.width, engine.dimension) == (32, 16, 512)
    assert engine.fingerprint == "f" * 64
    embeddings = engine.embed(pixels)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, by_hand(embedder, pixels), rtol=0, atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)


def test_the_torch_engine_gives_the_same(embedder, pixels) -> None:
    engine = TorchEngine(embedder, "f" * 64, device=torch.device("cpu"))
    np.testing.assert_allclose(engine.embed(pixels), by_hand(embedder, pixels), rtol=0, atol=2e-5)
    assert engine.name == "torch float32"


@pytest.mark.parametrize("make", [OnnxRuntimeEngine, OpenVinoEngine])
def test_any_batch_size_gives_the_same_rows(graph, pixels, make) -> None:
    engine = make(record(), graph)
    whole = engine.embed(pixels)
    for size in (1, 2, 5):
        parts = [engine.embed(pixels[start : start + size]) for start in range(0, len(pixels), size)]
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=1e-5)


def test_embeddings_outlive_the_next_batch(graph, pixels) -> None:
    for make in (OnnxRuntimeEngine, OpenVinoEngine):
        engine = make(record(), graph)
        first = engine.embed(pixels[:3])
        before = first.copy()
        engine.embed(pixels[3:6])
        assert np.array_equal(first, before)


def test_the_graph_is_sound_and_says_nothing_of_this_machine(graph) -> None:
    model = onnx.load_from_string(graph)
    onnx.checker.check_model(model, full_check=True)
    assert b".py" not in graph
    assert b"BatchNormalization" in graph  # the neck's; all others are folded into convolutions
    assert [node.op_type for node in model.graph.node].count("BatchNormalization") == 1
    (given,) = model.graph.input
    assert given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert given.type.tensor_type.shape.dim[0].dim_param


def test_int8_keeps_preprocessing_and_neck_in_float(embedder, graph, pixels) -> None:
    crops = np.random.default_rng(1).integers(0, 256, size=(13, 32, 16, 3), dtype=np.uint8)
    quantised = quantize(graph, crops)
    assert len(quantised) < 0.3 * len(graph)
    model = onnx.load_from_string(quantised)
    made_by = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type == "Conv":  # every convolution reads quantised features and weights
            assert [made_by[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
    scales = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name.endswith("_scale")}
    assert any(tensor.dims[:1] == [512] for tensor in scales.values())  # per channel
    embeddings = OnnxRuntimeEngine(record("int8"), quantised).embed(pixels)
    cosines = (embeddings * by_hand(embedder, pixels)).sum(axis=1)
    assert cosines.min() > 0.8  # a random network on noise: far from what a trained one keeps
    assert cosines.max() < 0.99999  # but something was quantised


def test_engines_of_int8_are_models_of_their_own() -> None:
    fingerprints = {record("int8").fingerprint_with(engine) for engine in ("onnxruntime", "openvino")}
    assert len(fingerprints | {record().fingerprint_with("onnxruntime")}) == 3
    assert record().fingerprint_with("openvino") == record().fingerprint_with("onnxruntime")


@pytest.mark.parametrize("make", [OnnxRuntimeEngine, OpenVinoEngine])
@pytest.mark.parametrize("content", [b"", b"\x08\x0a" + b"\xff" * 100], ids=["empty", "garbage"])
def test_what_is_no_graph_is_told(make, content) -> None:
    with pytest.raises(ModelError, match=r"model\.onnx is not an ONNX file"):
        make(record(), content)


def test_a_graph_with_another_output_is_told(graph, pixels) -> None:
    other = record().model_copy(update={"model": record().model.model_copy(update={"dimension": 64})})
    for make in (OnnxRuntimeEngine, OpenVinoEngine):
        with pytest.raises(ModelError, match=r"512 values, not of 64"):
            make(other, graph).embed(pixels)


@pytest.mark.parametrize("make", [OnnxRuntimeEngine, OpenVinoEngine])
def test_nan_embeddings_are_told(graph, pixels, make) -> None:
    """As the kernels of some CPUs give them: here the neck's weights are spoilt."""
    model = onnx.load_from_string(graph)
    (neck,) = (node for node in model.graph.node if node.op_type == "BatchNormalization")
    weights = next(each for each in model.graph.initializer if each.name == neck.input[1])
    weights.CopyFrom(onnx.numpy_helper.from_array(np.full(weights.dims, np.nan, np.float32), weights.name))
    with pytest.raises(ModelError, match="NaN or infinite"):
        make(record(), model.SerializeToString()).embed(pixels)


class Odd(torch.nn.Module):
    """A network from a function of pixels."""

    def __init__(self, compute) -> None:
        super().__init__()
        self.compute = compute
        self.weights = torch.ones(4)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.compute(self, pixels)


ODD = {
    "computes otherwise": lambda net, pixels: pixels.relu() if len(pixels) == 2 else pixels.abs(),
    "number in it depends": lambda net, pixels: pixels + len(pixels) ** 2,
    "changes its own values": lambda net, pixels: pixels + net.weights.add_(1),
    "changes a tensor of which it has views": lambda net, pixels: (each := pixels * 2, each[:, 1:].add_(1))[0],
    "computes cumsum, for which there is no rule": lambda net, pixels: pixels.cumsum(dim=1),
    "statistics of a batch": lambda net, pixels: torch.nn.functional.batch_norm(pixels, None, None, training=True),
    "images: 1, and 2 for one more": lambda net, pixels: pixels[: len(pixels) - 1],
    "computes in torch.float64": lambda net, pixels: pixels.double(),
}


@pytest.mark.parametrize("why", ODD)
def test_what_can_not_be_written_down_is_refused(why) -> None:
    with pytest.raises(TraceError, match=why):
        write_graph(trace(Odd(ODD[why]), torch.rand(1, 4)), "pixels", "result", {})


def test_an_embedder_that_can_not_be_exported_is_told_in_one_line(monkeypatch) -> None:
    odd = Embedder(SMALL).eval()
    monkeypatch.setattr(odd.pool, "forward", lambda maps: maps.cumsum(dim=2).mean(dim=(2, 3)))
    with pytest.raises(ModelError, match="can't be exported: it computes cumsum") as caught:
        export_onnx(odd)
    assert "\n" not in caught.value.what


FORMS = {
    "a class token": lambda net, x: torch.cat([net.weights.view(1, 1, 4).expand(len(x), -1, -1), x[:, None]], dim=1),
    "windows": lambda net, x: x.view(len(x) * 2, 2).softmax(dim=1).view(len(x), 4),
    "a shift": lambda net, x: x.roll((1, -3), dims=(1, 1)) - net.weights,
    "parts": lambda net, x: torch.cat(x.split([1, 3], dim=1)[::-1], dim=1) * x.unbind(1)[2][:, None],
    "limits": lambda net, x: x.clamp(0.2, 0.8) + x.clamp(min=0.5) + x.clamp(max=0.5) + torch.nn.functional.hardtanh(x),
    "margins": lambda net, x: torch.nn.functional.pad(x, (1, 2)),
    "repetition": lambda net, x: x.repeat(1, 3) + torch.zeros(len(x), 12),
    "factors": lambda net, x: torch.addcmul(x, x, x, value=0.5).sub(x, alpha=2).add(x, alpha=3),
    "statistics": lambda net, x: x.mean(1, keepdim=True) + x.amax(1, keepdim=True) + x.sum(1, keepdim=True),
    "pooling": lambda net, x: torch.nn.functional.adaptive_avg_pool2d(x.view(len(x), 1, 2, 2), (1, 2)).flatten(1),
    "activations": lambda net, x: sum(
        each(x) for each in (torch.sigmoid, torch.rsqrt, torch.nn.functional.silu, torch.nn.functional.gelu)
    ),
    "in place": lambda net, x: (x * 2).relu_().add_(x).mul_(3),
}


@pytest.mark.parametrize("form", FORMS)
def test_operations_give_what_torch_gives_for_any_number_of_images(form) -> None:
    network = Odd(FORMS[form]).eval()
    graph = write_graph(trace(network, torch.rand(1, 4)), "pixels", "result", {})
    del graph.types["pixels"]
    content = graph.content("pixels", "result")
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    session = onnxruntime.InferenceSession(content)
    for count in (1, 2, 7):
        values = torch.rand(count, 4)
        (found,) = session.run(None, {"pixels": values.numpy()})
        np.testing.assert_allclose(found, network(values).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [*KINDS, *(pytest.param(name, marks=pytest.mark.thorough) for name in MORE_KINDS)])
def test_every_kind_of_backbone_is_exported(name) -> None:
    torch.manual_seed(0)
    model = Embedder(Architecture(backbone=name, height=64, width=32))
    with torch.no_grad():
        model.train()(torch.rand(4, 3, 64, 32))
    pixels = np.random.default_rng(0).integers(0, 256, size=(5, 64, 32, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()
    session = onnxruntime.InferenceSession(export_onnx(model))
    np.testing.assert_allclose(session.run(None, {"pixels": pixels})[0], expected, rtol=0, atol=2e-6)


def test_convolutions_that_are_computed_as_products_stay_convolutions(embedder, graph) -> None:
    multiplied = copy.deepcopy(embedder)
    multiply_where_quicker(multiplied)
    assert export_onnx(multiplied) == graph
    assert any(type(layer) is ProductConv2d for layer in multiplied.modules())
