"""A network of others' through every command, without torch; and a stranger's graph in a gallery from elsewhere."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from commands import ROOT, sil, start_sil
from graphs import chain, pointed_at, saved, tiny
from onnx import helper
from pins.making import copy_of_fixtures

from sil_cli.files import sha256_of_bytes, write_json
from sil_cli.models.record import Architecture, ExportRecord, ForeignGraph, ModelRecord

WITHOUT_TORCH = """
import sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision"):
            raise ImportError(f"{name} was imported")
sys.meta_path.insert(0, Refused())
from sil_cli.__main__ import main
main()
"""
IMAGE = "data/orchard/images/query/0005_c1_01.jpg"


def without_torch(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """Two data sets, a run and a gallery, where they may be changed."""
    monkeypatch.chdir(copy_of_fixtures(tmp_path))
    return tmp_path


@pytest.mark.thorough
def test_the_commands_of_the_page_run_without_torch(here) -> None:
    page = (ROOT / "docs/inference.md").read_text()
    section = page.partition("## You have an ONNX file")[2].partition("\n## ")[0]
    commands = [line for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL) for line in block.splitlines()]
    assert [command.split()[1] for command in commands] == [
        "import-model", "evaluate", "calibrate", "index-gallery", "query", "report", "import-model"
    ]  # fmt: skip
    saved(tiny(), here / "net.onnx")
    saved(tiny(seed=1), here / "caffe.onnx")
    for command in commands:
        done = without_torch(*command.split()[1:])
        assert done.returncode == 0, (command, done.stderr)
        if "report" in command:
            assert "there are no similarity maps: net is an imported graph" in " ".join(done.stderr.split())
    assert (here / "matches.jpg").is_file()
    assert (here / "net/report/report.html").is_file()
    for there in ("0 were there", "32 were there"):
        assert there in without_torch("gallery", "copy", "people", "copy").stdout
    # The gallery goes anywhere, and has the graph with it.
    (here / "people").rename(here / "elsewhere")
    (here / "net").rename(here / "gone")
    found = without_torch("query", IMAGE, "--gallery", "elsewhere", "--json")
    assert found.returncode == 0, found.stderr
    other = without_torch("index-gallery", IMAGE, "--model", "caffe", "--gallery", "elsewhere")
    assert other.returncode == 1
    assert "was made by model" in " ".join(other.stderr.split())
    evaluated = without_torch("evaluate", "--model", "caffe", "--target", "data/orchard")
    assert evaluated.returncode == 0, evaluated.stderr
    compared = without_torch("compare", "gone", "caffe")
    assert compared.returncode == 0, compared.stderr


@pytest.mark.thorough
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_openvino_ir_is_a_model_of_openvino_alone(engine, here) -> None:
    import openvino

    network = openvino.convert_model(str(saved(tiny(), here / "net.onnx")))
    network.get_parameters()[0].set_layout(openvino.Layout("NCHW"))
    network.set_rt_info("123 117 104", ["model_info", "mean_values"])
    openvino.save_model(network, here / "net.xml", compress_to_fp16=False)
    outcome = sil("import-model", "net.xml", "--out", "net", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.document["engines"] == ["openvino"]
    assert outcome.document["input"]["mean"] == [123, 117, 104]
    assert sorted(each.name for each in (here / "net").iterdir()) == ["export.json", "model.bin", "model.xml"]
    scored = sil("evaluate", "--model", "net", "--target", "data/orchard", "--engine", engine, "--json")
    if engine == "onnxruntime":
        assert scored.code == 1
        assert "onnxruntime can't run model.xml" in scored.error
        return
    assert scored.code == 0, scored.err
    assert sil("index-gallery", "data/orchard", "--model", "net", "--gallery", "people").code == 0
    assert sil("query", IMAGE, "--gallery", "people").code == 0


IR_CHANGES = {
    "entities": (("?>", '?><!DOCTYPE net [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'), "declares a document type"),
    "old": (('version="11"', 'version="7"'), "is an IR of version 7"),
    "another document": (("<net", "<nut"), "is not an OpenVINO IR"),
    "loop": (('type="ReLU"', 'type="TensorIterator"'), "loops, branches or a memory"),
    "extension": (('type="ReLU" version="opset1"', 'type="ReLU" version="extension"'), "not OpenVINO's own"),
    "unknown": (('type="ReLU"', 'type="Rulu"'), "Rulu"),
    "beyond the .bin": (('offset="0"', 'offset="99999999"'), "Incorrect weights"),
}


def test_an_ir_that_should_not_be_read_is_told(tmp_path) -> None:
    openvino = pytest.importorskip("openvino")
    network = openvino.convert_model(str(saved(tiny(), tmp_path / "net.onnx")))
    openvino.save_model(network, tmp_path / "net.xml", compress_to_fp16=False)
    text = (tmp_path / "net.xml").read_text()
    for (before, after), said in IR_CHANGES.values():
        assert before in text
        (tmp_path / "net.xml").write_text(text.replace(before, after, 1))
        outcome = sil("import-model", tmp_path / "net.xml", "--out", tmp_path / "run")
        assert outcome.code == 1
        assert said in outcome.error
    (tmp_path / "net.xml").write_text(text)
    (tmp_path / "net.bin").rename(tmp_path / "real.bin")
    for make in (lambda: None, lambda: (tmp_path / "net.bin").symlink_to(tmp_path / "real.bin")):
        make()
        outcome = sil("import-model", tmp_path / "net.xml", "--out", tmp_path / "run")
        assert outcome.code == 1
        assert "net.xml needs net.bin in the same folder" in outcome.error


def looping(model: onnx.ModelProto) -> onnx.ModelProto:
    node = model.graph.node[1]
    node.op_type = "Loop"
    node.attribute.append(helper.make_attribute("body", helper.make_graph([], "inner", [], [])))
    return model


def of_a_stranger(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.node[1].domain = "evil.ops"
    return model


HOSTILE = {
    "a file of the system": (lambda model: pointed_at(model, "/etc/passwd"), "wants values from /etc/passwd"),
    "a file below the folder": (
        lambda model: pointed_at(model, "data/orchard/manifest.jsonl"),
        "wants values from data",
    ),
    "a file beside it": (lambda model: pointed_at(model, "net.data"), "its file net.data is missing"),
    "a loop": (looping, "loops or branches"),
    "a custom operator": (of_a_stranger, "not of the ONNX standard"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_the_graph_that_a_gallery_brought_is_looked_through(name, here) -> None:
    change, said = HOSTILE[name]
    kept = here / "gallery/model"
    content = change(onnx.load(kept / "model.onnx")).SerializeToString()
    (kept / "model.onnx").write_bytes(content)
    (kept / "net.data").write_bytes(bytes(10**6))
    record = json.loads((kept / "export.json").read_text())
    record["sha256"] = hashlib.sha256(content).hexdigest()
    (kept / "export.json").write_text(json.dumps(record))
    for engine in ("onnxruntime", "openvino"):
        outcome = sil("query", IMAGE, "--engine", engine)
        assert outcome.code == 1
        assert said in outcome.error


def test_a_graph_of_a_gallery_that_is_endless_is_not_read(here) -> None:
    os.truncate(here / "gallery/model/model.onnx", 50 * 2**30)
    outcome = sil("query", IMAGE, "--engine", "onnxruntime")
    assert outcome.code == 1
    assert "holds 50.0 GiB" in outcome.error


@pytest.fixture
def slow(here) -> Path:
    """A model that takes minutes for each image, most of them in one operation."""
    rng = np.random.default_rng(0)
    kernels = [(64, 3, 1, 1), (64, 64, 31, 31), (64, 64, 31, 31)]
    convolutions = [
        ("Conv", [rng.normal(size=size).astype(np.float32)], {"pads": [size[2] // 2] * 4}) for size in kernels
    ]
    steps = [*convolutions, ("GlobalAveragePool", [], {}), ("Flatten", [], {})]
    graph = chain(steps, shape=("n", 3, 384, 256), result=("n", 64))
    content = saved(graph, here / "slow/model.onnx").read_bytes()
    foreign = ForeignGraph(input="image", output="embedding", layout="NCHW", type="float32")
    checksum = sha256_of_bytes(content)
    fingerprint = foreign.fingerprint(checksum, 384, 256)
    size = Architecture(backbone="graph", height=384, width=256)
    record = ExportRecord(
        model=ModelRecord(architecture=size, dimension=64, fingerprint=fingerprint),
        precision="float32",
        file="model.onnx",
        sha256=checksum,
        opset=17,
        crops=1,
        measured_on="nothing",
        agreement={},
        versions={},
        foreign=foreign,
    )
    write_json(here / "slow/export.json", record.model_dump(mode="json"))
    return here


@pytest.mark.thorough
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_computation_that_hears_none(engine, how, slow) -> None:
    process = start_sil(
        "index-gallery", "data/orchard", "--model", "slow", "--gallery", "new", "--engine", engine, cwd=slow
    )
    deadline = time.monotonic() + 60
    while not (slow / "new/gallery.sqlite").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(3)  # by then it computes
    assert process.poll() is None, process.communicate()
    process.send_signal(how)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Stopped with 0 images" in told
