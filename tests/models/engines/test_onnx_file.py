"""ONNX files are read without `onnx` as it reads them, and what a runtime should not get is refused before it does."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from export_records import export_record
from graphs import DIMENSION, HEIGHT, SHAPE, WIDTH, chain, pointed_at, saved_apart, tiny
from onnx import TensorProto, helper, numpy_helper

from sil_cli.errors import ModelError
from sil_cli.models.engines.exported_engine import OnnxRuntimeEngine, OpenVinoEngine
from sil_cli.models.engines.onnx_file import OnnxFile
from sil_cli.models.record import Architecture, ExportRecord

FIXTURE = Path(__file__).parents[2] / "fixtures/world/runs/finished/model.onnx"


def read(model: onnx.ModelProto) -> OnnxFile:
    return OnnxFile(model.SerializeToString(), "net.onnx")


def test_it_is_read_as_onnx_reads_it() -> None:
    content = FIXTURE.read_bytes()
    file, model = OnnxFile(content, "model.onnx"), onnx.load_from_string(content)
    assert [port.name for port in file.inputs] == [each.name for each in model.graph.input] == ["pixels"]
    assert (file.inputs[0].type, file.inputs[0].shape) == ("uint8", (None, 64, 32, 3))
    assert (file.outputs[0].type, file.outputs[0].shape) == ("float32", (None, 128))
    assert file.opset == model.opset_import[0].version
    assert [(node.kind, node.inputs, node.outputs) for node in file.nodes] == [
        (node.op_type, list(node.input), list(node.output)) for node in model.graph.node
    ]
    strides = {node.outputs[0]: node.attributes["strides"] for node in file.nodes if node.kind == "Conv"}
    assert strides == {
        node.output[0]: helper.get_node_attr_value(node, "strides")
        for node in model.graph.node
        if node.op_type == "Conv"
    }
    for tensor in model.graph.initializer:
        np.testing.assert_array_equal(file.constant(tensor.name), numpy_helper.to_array(tensor))
    assert file.self_contained({}) == content


def test_metadata_and_what_axes_mean_are_read() -> None:
    model = tiny(metadata={"Image.BitmapPixelFormat": "Bgr8", "who": "Zoë"})
    for dim, meaning in zip(
        model.graph.input[0].type.tensor_type.shape.dim, ("DATA_BATCH", "DATA_CHANNEL"), strict=False
    ):
        dim.denotation = meaning
    file = read(model)
    assert file.metadata == {"Image.BitmapPixelFormat": "Bgr8", "who": "Zoë"}
    assert file.inputs[0].layout == "NCHW"


def test_values_in_another_file_are_put_in(tmp_path) -> None:
    path = saved_apart(tiny(), tmp_path / "net.onnx")
    file = OnnxFile(path.read_bytes(), "net.onnx")
    assert file.locations == ["net.data"]
    whole = file.self_contained({"net.data": (tmp_path / "net.data").read_bytes()})
    alone, apart = onnx.load_from_string(whole), onnx.load(path)
    assert not any(tensor.external_data for tensor in alone.graph.initializer)
    for one, other in zip(alone.graph.initializer, apart.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(one), numpy_helper.to_array(other))
    pixels = np.random.default_rng(0).normal(size=(2, 3, HEIGHT, WIDTH)).astype(np.float32)
    rows = [onnxruntime.InferenceSession(each).run(None, {"image": pixels})[0] for each in (whole, str(path))]
    np.testing.assert_array_equal(*rows)


ELSEWHERE = [
    "/etc/passwd",
    "../net.data",
    "sub/net.data",
    "..\\net.data",
    "C:\\net.data",
    "..",
    ".",
    "",
    "//host/share",
]
OURS_OR_ODD = ["export.json", "model.onnx", "x.xml", "model.safetensors", ".net", "a\nb"]


@pytest.mark.parametrize("location", [*ELSEWHERE, *OURS_OR_ODD])
def test_values_outside_the_folder_are_refused(location) -> None:
    with pytest.raises(ModelError, match="wants values from"):
        _ = read(pointed_at(tiny(), location)).locations
    for engine in (OnnxRuntimeEngine, OpenVinoEngine):
        with pytest.raises(ModelError, match="wants values from"):
            engine(record(), pointed_at(tiny(), location).SerializeToString())


def record() -> ExportRecord:
    return export_record(Architecture(backbone="resnet18", height=HEIGHT, width=WIDTH))


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"length": 10}, "does not hold its tensor"),
        ({"offset": 10**6}, "does not hold its tensor"),
        ({"offset": -1}, "says no place"),
        ({"length": "9" * 30}, "says no place"),
        ({"offset": "0x0"}, "says no place"),
    ],
)
def test_a_place_that_is_not_in_the_other_file_is_told(entries, said) -> None:
    file = read(pointed_at(tiny(), "net.data", **entries))
    with pytest.raises(ModelError, match=said):
        file.self_contained({"net.data": bytes(5000)})
    with pytest.raises(ModelError, match=r"net\.data is missing"):
        file.self_contained({})


def looping() -> onnx.ModelProto:
    """2⁶² times the same."""
    model = tiny(output="before")
    ports = [("count", TensorProto.INT64, []), ("go", TensorProto.BOOL, []), ("rows", TensorProto.FLOAT, None)]
    results = [("going", TensorProto.BOOL, []), ("more", TensorProto.FLOAT, None)]
    inner = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["going"]), helper.make_node("Identity", ["rows"], ["more"])],
        "inner",
        [helper.make_tensor_value_info(*each) for each in ports],
        [helper.make_tensor_value_info(*each) for each in results],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(2**62), "times"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "start"))
    model.graph.node.append(helper.make_node("Loop", ["times", "start", "before"], ["embedding"], body=inner))
    return model


def custom(domain: str) -> onnx.ModelProto:
    model = tiny()
    model.graph.node[1].domain = domain
    model.opset_import.append(helper.make_opsetid(domain, 1))
    return model


def with_function() -> onnx.ModelProto:
    model = custom("own")
    relu = helper.make_node("Relu", ["a"], ["b"])
    model.functions.append(helper.make_function("own", "Relu", ["a"], ["b"], [relu], [helper.make_opsetid("", 17)]))
    return model


def claiming(*sizes: int) -> onnx.ModelProto:
    model = tiny()
    model.graph.initializer[0].dims[:] = sizes
    return model


def sparse() -> onnx.ModelProto:
    model = tiny()
    values, places = (
        helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("i", TensorProto.INT64, [1], [0]),
    )
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [2**40]))
    return model


def constant_apart() -> onnx.ModelProto:
    model = tiny()
    tensor = pointed_at(tiny(), "net.data").graph.initializer[0]
    model.graph.node.append(helper.make_node("Constant", [], ["unused"], value=tensor))
    return model


REFUSED = {
    "loop": (looping, r"loops or branches \(Loop\)"),
    "custom operator": (lambda: custom("evil.ops"), r"Relu is not of the ONNX standard but of evil\.ops"),
    "a runtime's own operator": (lambda: custom("com.microsoft"), "not of the ONNX standard"),
    "function": (with_function, "functions of its own"),
    "claims a lot": (lambda: claiming(10**9, 3, 5, 5), "1000000000×3×5×5 and holds less"),
    "claims beyond all numbers": (lambda: claiming(2**62, 2**62, 3, 5, 5), "holds less"),
    "sparse": (sparse, "sparse"),
    "constant in a file": (constant_apart, r"\(Constant\) has its values in another file"),
    "input of 100 GB": (lambda: tiny(shape=("n", 3, 10**5, 10**5)), "would not fit into memory"),
}


@pytest.mark.parametrize("make", [OnnxRuntimeEngine, OpenVinoEngine])
@pytest.mark.parametrize("name", REFUSED)
def test_what_no_runtime_should_get_is_refused(name, make) -> None:
    model, said = REFUSED[name]
    with pytest.raises(ModelError, match=said):
        make(record(), model().SerializeToString())


def test_a_graph_that_stands_twice_is_refused() -> None:
    """Protobuf would merge the two: what is looked at must be what is run."""
    content, more = tiny().SerializeToString(), looping()
    del more.opset_import[:]
    with pytest.raises(ModelError, match="is not an ONNX file"):
        OnnxFile(content + more.SerializeToString(), "net.onnx")


def test_shapes_within_that_would_not_fit_are_refused() -> None:
    model = chain([("Relu", [], {}), ("Flatten", [], {})], result=("n", 3 * HEIGHT * WIDTH))
    model.graph.value_info.append(helper.make_tensor_value_info("after_0", TensorProto.FLOAT, ("n", 3, 10**6, 10**5)))
    with pytest.raises(ModelError, match="would not fit"):
        read(model).check_activations()
    read(chain([("Flatten", [], {})], shape=SHAPE, result=("n", DIMENSION))).check_activations()


def test_whatever_bytes_are_changed_is_read_or_told() -> None:
    """No byte makes it fail in any other way; 2,000 files, each with a few bytes changed, cut or doubled."""
    whole, rng = tiny().SerializeToString(), random.Random(0)
    for _ in range(2000):
        content = bytearray(whole if rng.random() < 0.9 else whole[: rng.randrange(len(whole))])
        for _ in range(rng.randrange(1, 6)):
            place = rng.randrange(len(content)) if content else 0
            content[place : place + rng.randrange(2)] = rng.randbytes(rng.randrange(3))
        with contextlib.suppress(ModelError):
            file = OnnxFile(bytes(content), "net.onnx")
            file.self_contained(dict.fromkeys(file.locations, b""))
