"""Where exported networks can be parted, and that two parts compute what the whole does."""

import numpy as np
import onnx
import pytest
import torch
import torchvision
from export_records import export_record
from onnx import TensorProto, helper

import sil_cli.models.engines.exported_engine as exported_engine
from sil_cli.errors import ModelError
from sil_cli.models.embedder import Embedder
from sil_cli.models.engines.exported_engine import OnnxRuntimeEngine, OpenVinoEngine
from sil_cli.models.engines.onnx_export import export_onnx
from sil_cli.models.engines.onnx_file import OnnxFile
from sil_cli.models.engines.onnx_graph import find_prefixes
from sil_cli.models.record import Architecture, ExportRecord, Float32Prefix, described

pytestmark = pytest.mark.thorough

BACKBONES = ("resnet18", "osnet_x0_25", "vit_b_16", "timm:convnext_atto")


def shallow_vit(**options) -> torchvision.models.VisionTransformer:
    """ViT-B/16 of four blocks, one for each stage: its twelve, which are all alike, take thrice the time."""
    return torchvision.models.VisionTransformer(224, 16, 4, 12, 768, 3072)


@pytest.fixture(scope="module", params=BACKBONES)
def exported(request) -> tuple[ExportRecord, bytes]:
    if request.param.startswith("timm:"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    architecture = Architecture(backbone=request.param, height=64, width=32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchvision.models, "vit_b_16", shallow_vit)
        embedder = Embedder(architecture).eval()
    return export_record(architecture, embedder.dimension), export_onnx(embedder)


def separates(graph: onnx.GraphProto, tensor: str) -> bool:
    """By its meaning: without this tensor nothing but the images' number gets from the pixels to the embeddings."""
    reached = {graph.input[0].name}
    for node in graph.node:
        if (node.op_type, node.input[0]) != ("Shape", graph.input[0].name) and reached.intersection(node.input):
            reached.update(name for name in node.output if name != tensor)
    return graph.output[0].name not in reached


def test_a_prefix_ends_where_all_data_pass_through_one_tensor(exported) -> None:
    _, content = exported
    model = onnx.load_from_string(content)
    found = find_prefixes(OnnxFile(content, "model.onnx"))
    names = [prefix.until for prefix in found]
    users = {
        name: [node.op_type for node in model.graph.node if name in node.input]
        for node in model.graph.node
        for name in node.output
    }
    all_of_them = [
        name
        for node in model.graph.node
        for name in node.output
        if separates(model.graph, name) and (len(users[name]) > 1 or {*users[name]} & {"Conv", "MatMul", "Gemm"})
    ]
    assert names == all_of_them
    shares = [prefix.share for prefix in found]
    assert shares == sorted(shares)
    assert sum(0 < share < 0.5 for share in shares) >= 2  # something to choose from


def test_the_parts_compute_what_the_whole_does_for_any_number_of_images(exported, monkeypatch) -> None:
    monkeypatch.setitem(exported_engine.HINTS, True, "f32")  # so that only the parting can change anything
    whole, graph = exported
    size = whole.model.architecture
    pixels = np.random.default_rng(0).integers(0, 256, (5, size.height, size.width, 3), dtype=np.uint8)
    expected = OnnxRuntimeEngine(whole, graph).embed(pixels)
    found = [prefix for prefix in find_prefixes(OnnxFile(graph, "model.onnx")) if 0 < prefix.share < 1]
    for prefix in (found[0], found[len(found) // 2], found[-1]):
        engine = OpenVinoEngine(whole.model_copy(update={"float32_front": prefix}), graph, bfloat16=True)
        first = engine.embed(pixels[:3])
        np.testing.assert_allclose(first, expected[:3], rtol=0, atol=2e-5)
        np.testing.assert_allclose(engine.embed(pixels), expected, rtol=0, atol=2e-5)
        np.testing.assert_allclose(first, expected[:3], rtol=0, atol=2e-5)  # it outlives the next batch


def test_multiply_adds_are_those_of_the_network_written_out() -> None:
    def shape(*sizes: int | str) -> list[int | str]:
        return list(sizes)

    made = helper.make_graph(
        [
            helper.make_node("Conv", ["pixels", "stem"], ["a"], kernel_shape=[3, 3]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Conv", ["b", "grouped"], ["c"], group=4, kernel_shape=[1, 1]),
            helper.make_node("Add", ["c", "b"], ["d"]),
            helper.make_node("GlobalAveragePool", ["d"], ["e"]),
            helper.make_node("Flatten", ["e"], ["f"]),
            helper.make_node("Gemm", ["f", "matrix"], ["g"]),
        ],
        "network",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape("batch", 3, 6, 5))],
        [helper.make_tensor_value_info("g", TensorProto.FLOAT, shape("batch", 7))],
        [
            helper.make_tensor("stem", TensorProto.FLOAT, (8, 3, 3, 3), np.zeros(216)),
            helper.make_tensor("grouped", TensorProto.FLOAT, (8, 2, 1, 1), np.zeros(16)),
            helper.make_tensor("matrix", TensorProto.FLOAT, (8, 7), np.zeros(56)),
        ],
        value_info=[
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape("batch", 8, 4, 3)) for name in "abcd"),
            helper.make_tensor_value_info("e", TensorProto.FLOAT, shape("batch", 8, 1, 1)),
            helper.make_tensor_value_info("f", TensorProto.FLOAT, shape("batch", 8)),
        ],
    )
    stem, grouped, matrix = 8 * 4 * 3 * 27, 8 * 4 * 3 * 2, 8 * 7
    total = stem + grouped + matrix
    # a has but an activation after it, c another way around it, d and e only pooling
    assert find_prefixes(OnnxFile(helper.make_model(made).SerializeToString(), "model.onnx")) == [
        Float32Prefix(until="b", share=stem / total),
        Float32Prefix(until="f", share=(stem + grouped) / total),
    ]


def test_a_prefix_that_is_not_in_the_graph_is_told(exported) -> None:
    whole, graph = exported
    prefix = Float32Prefix(until="nowhere", share=0.1)
    with pytest.raises(ModelError, match="no tensor is called nowhere"):
        OpenVinoEngine(whole.model_copy(update={"float32_front": prefix}), graph, bfloat16=True)


def test_only_openvinos_bfloat16_has_a_prefix() -> None:
    prefix = Float32Prefix(until="relu", share=0.19)
    assert described("openvino bfloat16", prefix) == "openvino bfloat16 (19% of it float32)"
    assert described("openvino bfloat16", None) == "openvino bfloat16"
    assert described("openvino float32", prefix) == "openvino float32"
