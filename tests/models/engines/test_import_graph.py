"""A network that others exported as a model: what it embeds, what is taken from it, and what is told."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from commands import sil
from graphs import DIMENSION, EMBEDDING, HEIGHT, WIDTH, body, chain, saved, saved_apart, tiny
from onnx import TensorProto, helper

import sil_cli
from sil_cli.errors import ModelError, UsageError
from sil_cli.models.engines.graph_input import InputWish
from sil_cli.models.engines.import_graph import import_graph
from sil_cli.models.load import EngineRequest, load_engine
from sil_cli.runtime import SilentReporter

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
PIXELS = np.random.default_rng(7).integers(0, 256, size=(16, HEIGHT, WIDTH, 3), dtype=np.uint8)
THOROUGH = pytest.mark.thorough


def imported(path: Path, out: Path, **wish: object):
    return import_graph(path, out, InputWish(**wish), SilentReporter())


def cosines(
    path: Path, prepared: np.ndarray, folder: Path, output: str = "embedding", engine: str = "auto"
) -> np.ndarray:
    """Between what the model embeds and what ONNX Runtime makes of images prepared by hand, one after another."""
    session = onnxruntime.InferenceSession(str(path))
    batch = session.get_inputs()[0].shape[0]
    size = batch if isinstance(batch, int) else 1
    padded = [np.concatenate([each[None]] * size) for each in prepared]
    rows = np.stack([session.run([EMBEDDING], {"image": each})[0][0].reshape(-1) for each in padded]).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    model = load_engine(folder, EngineRequest(engine=engine, precision="float32"), SilentReporter())
    found = np.concatenate([model.embed(list(PIXELS[:5])), model.embed(list(PIXELS[5:]))])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    return (rows * found).sum(axis=1)


def planes(values: np.ndarray, dtype: type = np.float32) -> np.ndarray:
    return values.transpose(0, 3, 1, 2).astype(dtype)


IMAGENET = planes((PIXELS / 255 - MEAN) / STD)
RAW_BGR = planes(PIXELS[..., ::-1] - np.array([104.0, 117.0, 123.0]))
TO_FLOAT = ("Cast", [], {"to": TensorProto.FLOAT})
CASES = {
    "plain": (tiny(), {}, IMAGENET),
    "channels last": (
        tiny(before=[("Transpose", [], {"perm": [0, 3, 1, 2]})], shape=("n", HEIGHT, WIDTH, 3)),
        {},
        IMAGENET.transpose(0, 2, 3, 1),
    ),
    "one image": (tiny(shape=(1, 3, HEIGHT, WIDTH), result=(1, DIMENSION)), {}, IMAGENET),
    "sixteen images": (tiny(shape=(16, 3, HEIGHT, WIDTH), result=(16, DIMENSION)), {}, IMAGENET),
    "any height": (tiny(shape=("n", 3, "h", "w")), {"height": HEIGHT, "width": WIDTH}, IMAGENET),
    "a map of one place": (chain(body()[:-1], result=("n", DIMENSION, 1, 1)), {}, IMAGENET),
    "parts": (
        chain([*body(), ("Reshape", [np.array([-1, 3, 4])], {})], result=("n", 3, 4)),
        {},
        IMAGENET,
    ),
    "uint8": (
        tiny(before=[TO_FLOAT, ("Div", [np.float32(255)], {})], given=TensorProto.UINT8),
        {},
        planes(PIXELS, np.uint8),
    ),
    "float16": (
        chain(body(dtype=np.float16), given=TensorProto.FLOAT16, gives=TensorProto.FLOAT16),
        {},
        IMAGENET.astype(np.float16),
    ),
    "divides by 255": (tiny(before=[("Div", [np.float32(255)], {})]), {}, planes(PIXELS)),
    "subtracts a half": (tiny(before=[("Sub", [np.float32(0.5)], {})]), {}, planes(PIXELS / 255)),
    "noted by Model API": (
        tiny(metadata={"model_info mean_values": "104 117 123", "model_info reverse_input_channels": "YES"}),
        {},
        RAW_BGR,
    ),
    "noted by ONNX": (
        tiny(metadata={"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "Normalized_1_1"}),
        {},
        planes(PIXELS[..., ::-1] / 127.5 - 1),
    ),
    "said by the user": (tiny(), {"scale": 1.0, "mean": (123.0, 117.0, 104.0), "bgr": True}, RAW_BGR),
    "any number, one at a time": (chain([*body(), ("Reshape", [np.array([1, -1])], {})]), {}, IMAGENET),
}
QUICK = ("said by the user",)


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else THOROUGH) for n in CASES])
def test_it_embeds_what_the_runtime_gives_for_the_same_input(name, tmp_path) -> None:
    model, wish, prepared = CASES[name]
    path = saved(model, tmp_path / "net.onnx")
    result = imported(path, tmp_path / "run", **wish)
    assert (result.height, result.width, result.dimension) == (HEIGHT, WIDTH, DIMENSION)
    for engine in ("onnxruntime", "openvino"):
        assert cosines(path, prepared, tmp_path / "run", engine=engine).min() >= 0.99999
    assert result.agreement["openvino float32"].min >= 0.9999
    assert sorted(each.name for each in (tmp_path / "run").iterdir()) == ["export.json", "model.onnx"]
    assert (tmp_path / "run/model.onnx").read_bytes() == path.read_bytes()


@pytest.mark.thorough
def test_values_apart_come_along_and_count(tmp_path) -> None:
    path = saved_apart(tiny(), tmp_path / "net.onnx")
    result = imported(path, tmp_path / "run")
    assert cosines(path, IMAGENET, tmp_path / "run").min() >= 0.99999
    assert sorted(each.name for each in (tmp_path / "run").iterdir()) == ["export.json", "model.onnx", "net.data"]
    assert list(result.input.data) == ["net.data"]
    content = bytearray((tmp_path / "run/net.data").read_bytes())
    content[100] ^= 1
    (tmp_path / "run/net.data").write_bytes(content)
    with pytest.raises(ModelError, match=r"net\.data is damaged or was replaced"):
        sil_cli.load_model(tmp_path / "run")


@pytest.mark.thorough
def test_fingerprints_follow_graph_and_preparation(tmp_path) -> None:
    path, other = saved(tiny(), tmp_path / "net.onnx"), saved(tiny(seed=1), tmp_path / "other.onnx")
    wishes = [(path, {}), (path, {"bgr": True}), (path, {"scale": 1.0}), (path, {"std": (0.5, 0.5, 0.5)}), (other, {})]
    results = [imported(one, tmp_path / f"run{number}", **wish) for number, (one, wish) in enumerate(wishes)]
    assert len({each.fingerprint for each in results}) == len(wishes)
    assert imported(path, tmp_path / "again").fingerprint == results[0].fingerprint
    assert sil_cli.load_model(tmp_path / "again").fingerprint == results[0].fingerprint


def test_a_record_that_was_changed_is_refused(tmp_path) -> None:
    imported(saved(tiny(), tmp_path / "net.onnx"), tmp_path / "run")
    record = json.loads((tmp_path / "run/export.json").read_text())
    for change in (
        {"bgr": True},
        {"scale": 1.0},
        {"mean": [0, 0, 0]},
        {"data": {"../net.data": "0" * 64}},
        {"scale": 0},
    ):
        changed = record | {"foreign": record["foreign"] | change}
        (tmp_path / "run/export.json").write_text(json.dumps(changed))
        with pytest.raises(ModelError, match="not an export's record"):
            sil_cli.load_model(tmp_path / "run")


def two_outputs(first: str, second: str) -> onnx.ModelProto:
    model = tiny(output=first)
    model.graph.node.append(helper.make_node("Identity", [first], [second]))
    model.graph.output.append(helper.make_tensor_value_info(second, TensorProto.FLOAT, ("n", DIMENSION)))
    return model


def with_camera() -> onnx.ModelProto:
    model = tiny()
    model.graph.input.append(helper.make_tensor_value_info("camera", TensorProto.INT64, ("n",)))
    return model


def grid() -> onnx.ModelProto:
    steps = [*body()[:2], ("Reshape", [np.array([0, 4, -1])], {}), ("Tile", [np.array([1, 21, 50])], {})]
    return chain(steps, result=("n", 84, 8400), output="output0")


REFUSED_AT_ONCE = {
    "text": (b"a text file\n" * 30, {}, ModelError, "is not an ONNX file"),
    "nothing": (b"", {}, ModelError, "is not an ONNX file"),
    "any size": (tiny(shape=("n", 3, "h", "w")), {}, UsageError, "takes images of any height"),
    "another size": (tiny(), {"width": 64}, UsageError, "takes images of width 16 only, not 64"),
    "two inputs": (with_camera(), {}, ModelError, "has 2 inputs"),
    "integers": (tiny(before=[TO_FLOAT], given=TensorProto.INT32), {}, ModelError, "which can't be pixels"),
    "grey": (tiny(shape=("n", 1, HEIGHT, WIDTH)), {}, ModelError, "not images of 3 channels"),
    "no batch": (tiny(shape=(3, HEIGHT, WIDTH)), {}, ModelError, "not a batch of images"),
    "too large": (tiny(shape=("n", 3, 4000, 2000)), {}, ModelError, "takes images of 4000×2000 pixels"),
    "two alike": (two_outputs("x", "y"), {}, UsageError, "has 2 outputs"),
    "no such output": (two_outputs("x", "y"), {"output": "z"}, UsageError, "has no output z"),
    "boxes": (two_outputs("boxes", "scores"), {}, ModelError, "is a detector"),
    "anchors": (grid(), {}, ModelError, "is a detector"),
    "noted detector": (tiny(metadata={"task": "detect"}), {}, ModelError, "is a detector"),
    "a map": (chain(body()[:2], result=("n", DIMENSION, 14, 6)), {}, ModelError, "which is not an embedding"),
    "one number": (tiny(result=("n", 1)), {}, ModelError, "which is not an embedding"),
    "uint8 with a mean": (
        tiny(before=[TO_FLOAT], given=TensorProto.UINT8),
        {"mean": (0.5,) * 3},
        UsageError,
        "prepares images itself",
    ),
    "a mean of another range": (tiny(), {"mean": (104.0, 117.0, 123.0)}, UsageError, "--mean is larger than 1"),
}


@pytest.mark.parametrize("name", REFUSED_AT_ONCE)
def test_what_can_be_told_from_the_graph_is_told_at_once(name, tmp_path, monkeypatch) -> None:
    content, wish, kind, said = REFUSED_AT_ONCE[name]
    monkeypatch.setattr("sil_cli.models.engines.import_graph.drawn_crops", lambda *_: pytest.fail("it was tried"))
    path = tmp_path / "net.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    with pytest.raises(kind, match=said) as caught:
        imported(path, tmp_path / "run", **wish)
    assert caught.value.fix
    assert not (tmp_path / "run").exists()


def times(number: float) -> onnx.ModelProto:
    return chain([*body(), ("Mul", [np.float32(number)], {})])


def noisy() -> onnx.ModelProto:
    model = tiny(output="still")
    model.graph.output[0].name = "embedding"
    model.graph.node.append(helper.make_node("RandomNormalLike", ["still"], ["noise"]))
    model.graph.node.append(helper.make_node("Add", ["still", "noise"], ["embedding"]))
    return model


def unknown() -> onnx.ModelProto:
    model = tiny()
    model.graph.node[1].op_type = "Rulu"
    return model


FIXED = {"shape": (4, 3, HEIGHT, WIDTH), "result": (4, DIMENSION)}
REFUSED_ON_TRIAL = {
    "zeros": (times(0), "nothing but zeros"),
    "NaN": (times(np.nan), "NaN or infinite"),
    "always the same": (
        chain([("Mul", [np.float32(0)], {}), ("Add", [np.float32(1)], {}), *body()]),
        "the same embedding for every image",
    ),
    "another each time": (noisy(), "a different embedding each time"),
    "mixed": (chain([*body(), ("Softmax", [], {"axis": 0})], **FIXED), "depends on the other images of its batch"),
    "no such operator": (unknown(), "Rulu"),
    "opset of the future": (tiny(opset=99), "of opset 99: ONNX Runtime knows operators up to opset"),
    "takes 400 GB": (
        chain([("Resize", [np.zeros(0, np.float32), np.array([1, 1, 8000, 8000], np.float32)], {}), *body()]),
        "memory",
    ),
    "an unexpected map": (chain(body()[:2], result=None), "a map of features, not an embedding"),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "zeros" else THOROUGH) for n in REFUSED_ON_TRIAL])
def test_what_shows_when_people_are_embedded_is_told(name, tmp_path) -> None:
    model, said = REFUSED_ON_TRIAL[name]
    with pytest.raises(ModelError, match=said) as caught:
        imported(saved(model, tmp_path / "net.onnx"), tmp_path / "run")
    assert "\n" not in caught.value.what + caught.value.fix
    assert len(caught.value.what) < 350
    assert not (tmp_path / "run").exists()
    assert [each.name for each in tmp_path.iterdir()] == ["net.onnx"]


@pytest.mark.thorough
def test_a_graph_that_computes_for_ever_is_given_up(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("sil_cli.models.engines.import_graph._SECONDS", 0.01)  # less than a process takes to start
    with pytest.raises(ModelError, match="did not embed 8 images within"):
        imported(saved(tiny(), tmp_path / "net.onnx"), tmp_path / "run")


@pytest.mark.thorough
def test_mirror_images_that_are_no_nearer_than_others_are_told(tmp_path) -> None:
    weights = np.random.default_rng(0).normal(size=(3 * HEIGHT * WIDTH, 16)).astype(np.float32)
    steps = [("Flatten", [], {}), ("MatMul", [weights], {}), ("Mul", [np.float32(30)], {}), ("Sin", [], {})]
    result = imported(saved(chain(steps, result=("n", 16)), tmp_path / "net.onnx"), tmp_path / "run")
    assert any("its mirror are hardly nearer" in note for note in result.notes)


@pytest.mark.thorough
def test_what_was_assumed_is_said(tmp_path) -> None:
    result = imported(saved(two_outputs("embedding", "logits"), tmp_path / "net.onnx"), tmp_path / "run")
    assert [note.split(":")[0] for note in result.notes] == [
        "The output embedding is taken as the embedding, not logits; --output says another.",
        "net.onnx doesn't say how images are normalised",
    ]
    assert result.input.scale == 255
    assert np.allclose([result.input.mean, result.input.std], [MEAN, STD])


def test_the_command_takes_what_it_needs(tmp_path) -> None:
    path = saved(two_outputs("x", "y"), tmp_path / "net.onnx")
    flags = ["--mean", "0.5", "--std", "0.5,0.25,0.2", "--bgr", "--output", "y"]
    outcome = sil("import-model", path, "--out", tmp_path / "run", *flags, "--json")
    assert outcome.code == 0, outcome.err
    given = outcome.document["input"]
    assert (given["output"], given["bgr"], given["mean"], given["std"]) == ("y", True, [0.5] * 3, [0.5, 0.25, 0.2])
    assert outcome.document["engines"] == ["onnxruntime", "openvino"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--mean", "a,b"], "--mean a,b is not three numbers"),
        (["--std", "0"], "not three numbers above 0"),
        (["--std", "1,2"], "not three numbers"),
        (["--mean", "nan"], "not three numbers"),
        (["--scale", "0"], "has to be above 0"),
        (["--scale", "nan"], "has to be above 0"),
        (["--backbone", "resnet50"], "--backbone is for weights"),
    ],
)
def test_flags_that_make_no_sense_are_usage_errors(flags, said, tmp_path) -> None:
    outcome = sil("import-model", saved(tiny(), tmp_path / "net.onnx"), "--out", tmp_path / "run", *flags)
    assert outcome.code == 2
    assert said in outcome.error


def test_files_in_the_way_and_files_too_large_are_told(tmp_path) -> None:
    path = saved(tiny(), tmp_path / "net.onnx")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="is not empty"):
        imported(path, tmp_path / "full")
    os.truncate(path, 3 * 2**30)
    with pytest.raises(ModelError, match=r"holds 3\.0 GiB"):
        imported(path, tmp_path / "run")


@pytest.mark.parametrize("make", ["symlink", "folder", "fifo", "missing"])
def test_values_must_lie_in_a_plain_file(make, tmp_path) -> None:
    path = saved_apart(tiny(), tmp_path / "net.onnx")
    (tmp_path / "net.data").rename(tmp_path / "real.data")
    if make == "symlink":
        (tmp_path / "net.data").symlink_to(tmp_path / "real.data")
    elif make == "folder":
        (tmp_path / "net.data").mkdir()
    elif make == "fifo":
        os.mkfifo(tmp_path / "net.data")
    with pytest.raises(ModelError, match=r"net\.onnx needs net\.data in the same folder"):
        imported(path, tmp_path / "run")


def test_a_graph_is_known_by_its_content(tmp_path) -> None:
    from sil_cli.models.record import is_graph

    assert is_graph(saved(tiny(), tmp_path / "net.weights"))
    for content in (b"PK\x03\x04", b"\x80\x02}q", (12).to_bytes(8, "little") + b"{"):
        (tmp_path / "net.onnx").write_bytes(content + bytes(60))
        assert not is_graph(tmp_path / "net.onnx")
    (tmp_path / "net").write_bytes(b'\xef\xbb\xbf<?xml version="1.0"?><net/>')
    assert is_graph(tmp_path / "net")


@pytest.mark.thorough
def test_it_is_refused_where_weights_are_needed(tmp_path, in_world) -> None:
    path = saved(tiny(), tmp_path / "net.onnx")
    imported(path, tmp_path / "run")
    run = tmp_path / "run"
    refused = {
        "has no weights": [["export", "--model", run], ["evaluate", "--model", run, "--height", 64]],
        "torch can't run": [["evaluate", "--model", run, "--engine", "torch"]],
        "is a graph": [["train", "--weights", path], ["train", "--weights", run / "model.onnx"]],
        "already holds a model": [["train", "--run", run]],
        "sil import-model": [["evaluate", "--model", path]],
    }
    for said, commands in refused.items():
        for command in commands:
            outcome = sil(*command)
            assert outcome.code in (1, 2), command
            assert said in outcome.error, (command, outcome.err)


def test_wishes_name_what_the_command_has() -> None:
    from sil_cli.cli.import_model import OPTIONS

    assert {field.name for field in dataclasses.fields(InputWish)} <= {option.name for option in OPTIONS}
