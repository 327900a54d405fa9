"""`sil export` and what follows from it: galleries that keep it, queries without torch, int8 as a model of its own."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import TINY_TRAIN_FLAGS, sil

import sil_cli.models.engines.engine as engines
import sil_cli.models.engines.export as workflow
import sil_cli.models.engines.onnx_export as exporter
from sil_cli.errors import ModelError
from sil_cli.files import sha256_of_file
from sil_cli.gallery.stores import open_gallery
from sil_cli.installing import extra_command
from sil_cli.models.engines.export import _refuse_disagreement
from sil_cli.models.record import Agreement, read_export
from sil_cli.runtime import SilentReporter

pytestmark = pytest.mark.thorough

RUN = Path("runs/001-dbs")


def target(world: Path) -> Path:
    sources = {each["name"] for each in json.loads((world / RUN / "run.json").read_text())["sources"]}
    (left_out,) = {child.name for child in (world / "data").iterdir() if child.is_dir()} - sources
    return world / "data" / left_out


def first_query(world: Path) -> Path:
    return sorted((target(world) / "images/query").glob("*.jpg"))[0]


@pytest.fixture(scope="module")
def graphs() -> dict[str, bytes]:
    """What has been exported here, by the weights."""
    return {}


@pytest.fixture(autouse=True)
def _same_weights_exported_once(graphs, monkeypatch) -> None:
    """Nearly all tests here export the world's model, which takes seconds; `test_export.py` tests the exporter."""
    export = exporter.export_onnx

    def export_once(embedder) -> bytes:
        weights = hashlib.sha256(repr(embedder.architecture).encode())
        for name, value in embedder.state_dict().items():
            weights.update(name.encode() + value.numpy().tobytes())
        if weights.hexdigest() not in graphs:
            graphs[weights.hexdigest()] = export(embedder)
        return graphs[weights.hexdigest()]

    monkeypatch.setattr(exporter, "export_onnx", export_once)


@pytest.fixture(scope="module")
def int8(world: Path, tmp_path_factory) -> Path:
    """An int8 export of the world's model, in a folder of its own."""
    folder = tmp_path_factory.mktemp("int8")
    outcome = sil(
        "export", "--model", world / RUN, "--int8", "--calibrate-on", target(world), "--out", folder, "--json"
    )
    assert outcome.code == 0, outcome.err
    assert outcome.document["precision"] == "int8"
    assert set(outcome.document["agreement"]) == {"onnxruntime int8", "openvino int8"}
    return folder


def test_training_exports_the_model_and_indexing_keeps_it_with_the_gallery(in_world) -> None:
    for folder in (RUN, Path("gallery/model")):
        record = read_export(folder / "export.json")
        assert record.model.fingerprint == json.loads((RUN / "model.json").read_text())["fingerprint"]
        assert record.sha256 == sha256_of_file(folder / "model.onnx")
        assert record.agreement["onnxruntime float32"].min >= 0.9999
        assert record.agreement["openvino float32"].min >= 0.9999
        assert record.measured_on == "images of the sources, a sample"
        assert {"python", "sil", "torch", "onnxruntime"} <= record.versions.keys()


def test_export_compares_with_torch_on_generated_people(in_world, tmp_path) -> None:
    outcome = sil("export", "--out", tmp_path / "made" / "person.onnx", "--json")
    assert outcome.code == 0, outcome.err
    document = outcome.document
    assert document["measured_on"] == "generated people, a sample"
    assert document["crops"] >= 8
    assert document["agreement"]["onnxruntime float32"]["min"] >= 0.9999
    assert {path.name for path in (tmp_path / "made").iterdir()} == {"person.onnx", "export.json"}
    assert document["bytes"] == (tmp_path / "made/person.onnx").stat().st_size
    again = sil("export", "--out", tmp_path / "made")
    assert again.code == 2
    assert "belongs to person.onnx" in again.error
    evaluated = sil("evaluate", "--model", tmp_path / "made/person.onnx", "--json").document
    assert Path(evaluated["results"]).is_relative_to(tmp_path)
    usual = sil("evaluate", "--engine", "torch", "--json").document
    assert usual["conditions"]["engine"] == "torch float32"
    assert evaluated["mAP"] == pytest.approx(usual["mAP"], abs=1e-6)
    assert evaluated["fingerprint"] == usual["fingerprint"]
    assert evaluated["conditions"]["engine"] == "onnxruntime float32"


def imported_by(*words: object) -> tuple[set[str], str]:
    """The names of all modules that a command imports, and what it says on stderr."""
    code = (
        "import sys\n"
        "from sil_cli.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 0, done.stderr
    said, _, modules = done.stderr.rstrip().rpartition("\n")
    return set(modules.split()), said


NEVER = {"torchvision", "torch._dynamo", "onnx", "onnxscript", "openvino_telemetry"}


def test_a_query_needs_no_torch(in_world, tmp_path) -> None:
    modules, said = imported_by("query", first_query(in_world), "--sheet", tmp_path / "s.jpg")
    others = {"openvino", "matplotlib", "scipy", "pydantic_settings", "asyncio", "sil_cli.cli.train"}
    assert not modules & (NEVER | others | {"torch"})
    assert "Embedding with onnxruntime float32." in said


@pytest.mark.parametrize("command", ["index-gallery", "evaluate"])
def test_neither_does_what_else_embeds(in_world, command) -> None:
    modules, said = imported_by(command)
    assert not modules & (NEVER | {"torch"})
    assert "Embedding with onnxruntime float32." in said


def test_training_imports_no_compiler_and_no_torchvision(in_world, tmp_path) -> None:
    modules, said = imported_by("train", *TINY_TRAIN_FLAGS, "--set", "train.export=true", "--run", tmp_path / "run")
    assert not modules & (NEVER - {"onnx"} | {"sympy"})
    assert f"Exported the model to {tmp_path / 'run/model.onnx'}" in said


@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "openvino"])
def test_every_engine_finds_the_same(in_world, tmp_path, engine) -> None:
    usual = sil("query", first_query(in_world), "--sheet", tmp_path / "s.jpg", "--json").document["matches"]
    outcome = sil("query", first_query(in_world), "--engine", engine, "--sheet", tmp_path / "s.jpg", "--json")
    found = outcome.document["matches"]
    assert f"Embedding with {engine}" in outcome.err
    np.testing.assert_allclose([one["score"] for one in found], [one["score"] for one in usual], atol=2e-2)
    assert found[0]["score"] > 0


def test_without_the_packages_all_goes_on_with_torch(in_world, tmp_path, monkeypatch) -> None:
    for module in (engines, workflow):
        monkeypatch.setattr(module, "is_installed", lambda _: False)
    monkeypatch.setattr("sil_cli.models.load.is_installed", lambda _: False)
    shutil.copytree(RUN, tmp_path / "run")
    for name in ("model.onnx", "export.json"):
        (tmp_path / "run" / name).unlink()
    outcome = sil("index-gallery", "--model", tmp_path / "run", "--gallery", tmp_path / "gallery", "--json")
    assert outcome.code == 0, outcome.err
    assert "Embedding with torch" in outcome.err
    assert not list(tmp_path.rglob("*.onnx"))
    told = sil("export")
    assert told.code == 2
    assert "needs onnxruntime, which is not installed" in told.error
    assert "pip install" in told.error
    query = ["query", first_query(in_world), "--gallery", tmp_path / "gallery", "--sheet", tmp_path / "s.jpg"]
    assert sil(*query).code == 0
    assert sil(*query, "--engine", "openvino").code == 2


def test_a_failed_export_never_stops_indexing(in_world, tmp_path, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ModelError("The model can't be exported: it is a bad day.", "Wait.")

    monkeypatch.setattr(workflow, "make_export", fail)
    shutil.copytree(RUN, tmp_path / "run")
    (tmp_path / "run/export.json").unlink()
    outcome = sil("index-gallery", "--model", tmp_path / "run", "--gallery", tmp_path / "gallery", "--json")
    assert outcome.code == 0, outcome.err
    assert "bad day" in outcome.error
    assert outcome.document["added"] > 0
    silent = ["--set", "gallery.export=false"]
    outcome = sil("index-gallery", "--model", tmp_path / "run", "--gallery", tmp_path / "gallery", *silent)
    assert "bad day" not in outcome.error


def test_a_gallery_gets_an_export_that_was_made_later(in_world, tmp_path) -> None:
    shutil.copytree(RUN, tmp_path / "run")
    shutil.move(tmp_path / "run/export.json", tmp_path / "kept.json")
    index = ["index-gallery", "--model", tmp_path / "run", "--gallery", tmp_path / "gallery"]
    assert sil(*index, "--set", "gallery.export=false").code == 0
    assert not (tmp_path / "gallery/model/model.onnx").exists()
    shutil.move(tmp_path / "kept.json", tmp_path / "run/export.json")
    assert sil(*index).code == 0
    assert read_export(tmp_path / "gallery/model/export.json") == read_export(tmp_path / "run/export.json")
    assert sha256_of_file(tmp_path / "gallery/model/model.onnx") == sha256_of_file(RUN / "model.onnx")


def test_rebuilding_exports_the_model_as_indexing_does(in_world, tmp_path) -> None:
    gallery, run = tmp_path / "gallery", tmp_path / "run"
    shutil.copytree(RUN, run)
    for name in ("model.onnx", "export.json"):
        (run / name).unlink()
    assert sil("index-gallery", "--model", RUN, "--gallery", gallery).code == 0
    for name in ("model.onnx", "export.json"):
        (gallery / "model" / name).unlink()
    assert sil("gallery", "rebuild", gallery, "--model", run, "--set", "gallery.export=false").code == 0
    assert not (run / "export.json").exists()
    rebuilt = sil("gallery", "rebuild", gallery, "--model", run)
    assert rebuilt.code == 0, rebuilt.err
    record = read_export(gallery / "model" / "export.json")
    assert record == read_export(run / "export.json")
    assert record.sha256 == sha256_of_file(gallery / "model" / "model.onnx")
    assert record.measured_on == "images of the gallery, a sample"
    found = sil("query", first_query(in_world), "--gallery", gallery, "--sheet", tmp_path / "s.jpg")
    assert "Embedding with onnxruntime" in found.err


def test_int8_and_float32_never_share_a_gallery(in_world, tmp_path, int8) -> None:
    graph = int8 / "model-int8.onnx"
    refused = sil("index-gallery", "--model", graph)
    assert refused.code == 1
    assert "was made by model" in refused.error
    refused = sil("query", first_query(in_world), "--model", graph, "--sheet", tmp_path / "s.jpg")
    assert refused.code == 1
    assert "was made by model" in refused.error
    gallery = tmp_path / "gallery"
    made = sil("index-gallery", "--model", graph, "--gallery", gallery, "--json")
    assert made.code == 0, made.err
    assert {path.name for path in (gallery / "model").iterdir()} == {"model-int8.onnx", "export-int8.json"}
    assert made.document["model"] != json.loads((RUN / "model.json").read_text())["fingerprint"]
    query = ["query", first_query(in_world), "--gallery", gallery, "--sheet", tmp_path / "s.jpg"]
    found = sil(*query, "--json")
    assert found.code == 0, found.err
    assert "int8" in found.err
    assert sil(*query, "--model", RUN).code == 1


def test_a_gallery_of_int8_is_verified_and_rebuilt(in_world, tmp_path, int8) -> None:
    graph, gallery = int8 / "model-int8.onnx", tmp_path / "gallery"
    assert sil("index-gallery", "--model", graph, "--gallery", gallery).code == 0
    sound = sil("gallery", "verify", gallery, "--json")
    assert sound.code == 0, sound.err
    assert "least cosine" in sound.document["checks"][-1]["found"]
    ours = gallery_facts(gallery)
    for model, fingerprint in ((RUN, json.loads((RUN / "model.json").read_text())["fingerprint"]), (graph, ours[0])):
        rebuilt = sil("gallery", "rebuild", gallery, "--model", model, "--json")
        assert rebuilt.code == 0, rebuilt.err
        assert gallery_facts(gallery)[0] == fingerprint
        assert sil("gallery", "verify", gallery).code == 0
        found = sil("query", first_query(in_world), "--gallery", gallery, "--sheet", tmp_path / "s.jpg")
        assert found.code == 0, found.err
    assert gallery_facts(gallery)[1] == ours[1]
    np.testing.assert_allclose(gallery_facts(gallery)[2], ours[2], atol=1e-6)


def gallery_facts(folder):
    """Fingerprint, ids and vectors."""
    with open_gallery(folder) as gallery:
        ids = gallery.ids().tolist()
        return gallery.model["fingerprint"], ids, gallery.vectors(ids).tolist()


def test_int8_results_do_not_replace_those_of_float32(in_world, tmp_path, int8) -> None:
    shutil.copytree(RUN, tmp_path / "run")
    for name in ("model-int8.onnx", "export-int8.json"):
        shutil.copy(int8 / name, tmp_path / "run")
    usual = sil("evaluate", "--model", tmp_path / "run", "--json").document
    quantised = sil("evaluate", "--model", tmp_path / "run/export-int8.json", "--json").document
    assert usual["results"] != quantised["results"]
    assert usual["fingerprint"] != quantised["fingerprint"]
    assert "int8" in quantised["conditions"]["engine"]


def test_int8_without_the_quantiser_is_told_what_to_install(in_world, monkeypatch) -> None:
    monkeypatch.setattr(workflow, "is_installed", lambda name: name != "onnx")
    outcome = sil("export", "--int8", "--calibrate-on", "data/harbour")
    assert outcome.code == 2
    assert extra_command("int8") in outcome.error


def test_int8_wants_crops_to_calibrate_on(in_world, tmp_path) -> None:
    outcome = sil("export", "--int8")
    assert outcome.code == 2
    assert "--calibrate-on" in outcome.error
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.jpg").write_text("no picture")
    for named, word in ((tmp_path / "nowhere", "no folder"), (tmp_path / "empty", "None of the images")):
        outcome = sil("export", "--int8", "--calibrate-on", named, "--out", tmp_path / "out")
        assert outcome.code in (1, 2)
        assert word in outcome.error
        assert not (tmp_path / "out").exists()


def test_a_graph_that_disagrees_is_refused() -> None:
    near, far = Agreement(min=0.99991, mean=1.0), Agreement(min=0.99989, mean=1.0)
    _refuse_disagreement({"onnxruntime float32": near}, "float32", SilentReporter())
    with pytest.raises(ModelError, match="other embeddings than torch") as caught:
        _refuse_disagreement({"onnxruntime float32": far}, "float32", SilentReporter())
    assert "Nothing was written" in caught.value.fix


@pytest.mark.parametrize("spoil", [np.zeros_like, lambda rows: np.full_like(rows, np.nan)], ids=["zeros", "NaN"])
def test_an_engine_that_is_wrong_here_is_told_and_never_used(in_world, tmp_path, monkeypatch, spoil) -> None:
    from sil_cli.models.engines.exported_engine import OpenVinoEngine

    right = OpenVinoEngine.embed
    monkeypatch.setattr(OpenVinoEngine, "embed", lambda engine, pixels: spoil(right(engine, pixels)))
    monkeypatch.setattr("sil_cli.models.load.FEW_IMAGES", 0)  # so that OpenVINO would be taken
    shutil.copytree(RUN, tmp_path / "run")
    for name in ("model.onnx", "export.json"):
        (tmp_path / "run" / name).unlink()
    index = ["index-gallery", "--model", tmp_path / "run", "--gallery", tmp_path / "gallery"]
    outcome = sil(*index)
    assert outcome.code == 0, outcome.err
    assert "Embedding with onnxruntime float32" in outcome.err
    agreement = read_export(tmp_path / "run/export.json").agreement
    assert agreement["onnxruntime float32"].min >= 0.9999
    assert agreement["openvino float32"].min < 0.1
    refused = sil(*index, "--engine", "openvino")
    assert refused.code == 1
    assert "openvino float32 is not the same model" in refused.error


def test_an_engine_that_fails_is_told_and_counts_as_another_model(in_world, tmp_path, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ModelError("OpenVINO failed: a bad day.", "Try tomorrow.")

    monkeypatch.setattr("sil_cli.models.engines.exported_engine.OpenVinoEngine.embed", fail)
    outcome = sil("export", "--out", tmp_path, "--json")
    assert outcome.code == 0, outcome.err
    assert "OpenVINO failed: a bad day. It is not used for this model." in outcome.error
    assert outcome.document["agreement"]["openvino float32"] == {"min": -1.0, "mean": -1.0}
    monkeypatch.setattr("sil_cli.models.engines.exported_engine.OnnxRuntimeEngine.embed", fail)
    outcome = sil("export", "--out", tmp_path / "none", "--json")
    assert outcome.code == 1
    assert not (tmp_path / "none").exists()


def test_a_disagreeing_export_leaves_nothing_behind(in_world, tmp_path, monkeypatch) -> None:
    from sil_cli.models.embedder import Embedder, load_embedder
    from sil_cli.models.engines.onnx_export import export_onnx

    embedder, _ = load_embedder(RUN)
    other = export_onnx(Embedder(embedder.architecture).eval())  # random weights
    monkeypatch.setattr("sil_cli.models.engines.onnx_export.export_onnx", lambda _: other)
    outcome = sil("export", "--out", tmp_path / "out")
    assert outcome.code == 1
    assert "other embeddings than torch" in outcome.error
    assert not list(tmp_path.rglob("*.onnx"))


def test_a_checkpoint_is_the_model_as_it_was_then(in_world, tmp_path) -> None:
    finished = sil("evaluate", "--engine", "torch", "--json").document
    shutil.copytree(RUN, tmp_path / "run")
    for name in ("model.json", "model.safetensors", "model.onnx", "export.json"):
        (tmp_path / "run" / name).unlink()
    checkpoint = sorted((tmp_path / "run").glob("checkpoint-*.pt"))[-1]
    document = sil("evaluate", "--model", checkpoint, "--json").document
    assert "Next: " not in sil("evaluate", "--model", checkpoint).out
    assert document["mAP"] == finished["mAP"]
    assert document["fingerprint"] == finished["fingerprint"]
    assert sil("evaluate", "--model", checkpoint, "--engine", "onnxruntime").code == 1
    refused = sil("index-gallery", "--model", checkpoint, "--gallery", tmp_path / "gallery")
    assert refused.code == 1
    assert "is not finished" in refused.error
    assert not (tmp_path / "gallery").exists()
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    outcome = sil("evaluate", "--model", checkpoint)
    assert outcome.code == 1
    assert "is damaged" in outcome.error
    shutil.copy(sorted(RUN.glob("checkpoint-*.pt"))[-1], tmp_path)
    outcome = sil("evaluate", "--model", tmp_path / checkpoint.name)
    assert outcome.code == 1
    assert "not a run folder" in outcome.error


@pytest.mark.slow
def test_int8_keeps_the_map_of_a_trained_model(tmp_path, monkeypatch) -> None:
    """mAP within 0.3 points on a network that training never saw, calibrated on its gallery."""
    monkeypatch.chdir(tmp_path)
    assert sil("prepare-data").code == 0
    assert sil("train").code == 0
    assert sil("export", "--int8", "--calibrate-on", target(tmp_path)).code == 0
    usual = sil("evaluate", "--engine", "torch", "--json").document
    for engine in ("onnxruntime", "openvino"):
        model = RUN / "export-int8.json"
        quantised = sil("evaluate", "--model", model, "--engine", engine, "--json").document
        assert abs(usual["mAP"] - quantised["mAP"]) <= 0.003
