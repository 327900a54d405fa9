"""Which engine is chosen when, and what is refused."""

import json
import platform
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from export_records import export_record

import sil_cli.models.engines.engine as engines
import sil_cli.models.engines.exported_engine as exported_engine
import sil_cli.models.load as choose
from sil_cli import runtime
from sil_cli.errors import ModelError, SilError, UsageError
from sil_cli.files import sha256_of_bytes
from sil_cli.models.load import EngineRequest, ModelFiles, _quickest, _wants_bfloat16, find_model, load_engine
from sil_cli.models.record import Agreement, Architecture, ExportRecord, ModelRecord, read_export
from sil_cli.runtime import SilentReporter

MODEL = ModelRecord(
    architecture=Architecture(backbone="resnet18", height=32, width=16), dimension=512, fingerprint="a" * 64
)
MANY, FEW = 100_000, 1


def export(precision: str = "float32", content: bytes = b"graph", **least: float) -> ExportRecord:
    return export_record(
        MODEL.architecture,
        model=MODEL,
        precision=precision,
        sha256=sha256_of_bytes(content),
        cpu=runtime.cpu_kind(),
        agreement={how.replace("_", " "): Agreement(min=value, mean=value) for how, value in least.items()},
    )


def write_export(folder: Path, record: ExportRecord, content: bytes = b"graph") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / record.file).write_bytes(content)
    (folder / "export.json").write_text(record.model_dump_json())
    return folder / "export.json"


class Hearing(SilentReporter):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def note(self, text: str) -> None:
        self.heard.append(text)

    def warn(self, text: str) -> None:
        self.heard.append(text)


def test_a_model_whose_engine_can_not_be_loaded_is_computed_by_torch(world, tmp_path, monkeypatch) -> None:
    def fail(name: str) -> None:
        raise ImportError(f"lib{name}.so:\nversion GLIBC_9.9 not found")

    monkeypatch.setattr(exported_engine, "import_quietly", fail)
    reporter = Hearing()
    run = world / "runs/001-dbs"
    model = load_engine(run, EngineRequest(images=1), reporter)
    assert model.engine.name.startswith("torch")
    (told,) = (line for line in reporter.heard if not line.startswith("Embedding with"))
    assert "onnxruntime can't be loaded" in told
    assert "torch is used instead" in told
    assert "\n" not in told
    with pytest.raises(ModelError, match="can't be loaded"):  # nothing can take its place
        load_engine(run / "export.json", EngineRequest(images=1), reporter)
    with pytest.raises(ModelError, match="can't be loaded"):
        load_engine(run, EngineRequest("onnxruntime", images=1), reporter)


@pytest.fixture
def machine(monkeypatch):
    """A machine with these packages, and perhaps an accelerator."""

    def make(*packages: str, accelerator: bool = False) -> None:
        monkeypatch.setattr(choose, "is_installed", lambda name: name in packages)
        monkeypatch.setattr(engines, "is_installed", lambda name: name in packages)
        monkeypatch.setattr(choose, "may_have_accelerator", lambda: accelerator)
        monkeypatch.setattr(choose, "resolve_device", lambda _: type("D", (), {"type": "cuda"}))

    return make


RUN = ModelFiles(folder=Path("run"), export=Path("run/export.json"))
ALONE = ModelFiles(folder=None, export=Path("export.json"))
AGREES, DIFFERS = {"openvino_bfloat16": 0.99995}, {"openvino_bfloat16": 0.9998}


@pytest.mark.parametrize(
    ("packages", "agreement", "images", "expected"),
    [
        (("onnxruntime", "openvino"), AGREES, MANY, "openvino"),
        (("onnxruntime", "openvino"), AGREES, FEW, "onnxruntime"),
        (("onnxruntime", "openvino"), AGREES, None, "openvino"),
        (("onnxruntime", "openvino"), DIFFERS, MANY, "onnxruntime"),
        (("onnxruntime", "openvino"), {}, MANY, "onnxruntime"),
        (("onnxruntime",), AGREES, MANY, "onnxruntime"),
        (("openvino",), {}, FEW, "openvino"),
        ((), AGREES, MANY, "torch"),
    ],
)
def test_auto_on_a_cpu(machine, packages, agreement, images, expected) -> None:
    machine(*packages)
    assert _quickest(RUN, export(**agreement), EngineRequest(images=images)) == expected


def test_auto_takes_torch_without_an_export(machine) -> None:
    machine("onnxruntime", "openvino")
    assert _quickest(RUN, None, EngineRequest()) == "torch"


def test_auto_and_accelerators(machine) -> None:
    machine("onnxruntime", "openvino", accelerator=True)
    assert _quickest(RUN, export(**AGREES), EngineRequest(images=MANY)) == "torch"
    assert _quickest(RUN, export(**AGREES), EngineRequest(images=FEW)) == "onnxruntime"
    assert _quickest(RUN, export(**AGREES), EngineRequest(images=MANY, device="cpu")) == "openvino"
    assert _quickest(RUN, export(**AGREES), EngineRequest(images=FEW, device="cuda")) == "torch"
    assert _quickest(ALONE, export(**AGREES), EngineRequest(images=MANY)) == "openvino"


def test_bfloat16_only_where_it_was_measured_to_agree() -> None:
    assert _wants_bfloat16("openvino", export(**AGREES), EngineRequest())
    assert not _wants_bfloat16("openvino", export(**DIFFERS), EngineRequest())
    assert not _wants_bfloat16("openvino", export(**AGREES), EngineRequest(precision="float32"))
    assert not _wants_bfloat16("torch", None, EngineRequest())
    for record in (export(**DIFFERS), export(), None):
        with pytest.raises(ModelError, match="not the same model"):
            _wants_bfloat16("openvino", record, EngineRequest(precision="bfloat16"))


WRONG = {"onnxruntime_float32": 1.0, "openvino_float32": 0.91, "openvino_bfloat16": -1.0}


def test_an_engine_that_was_measured_to_be_wrong_is_not_taken(machine, tmp_path) -> None:
    machine("onnxruntime", "openvino")
    assert _quickest(RUN, export(**WRONG), EngineRequest(images=MANY)) == "onnxruntime"
    machine("openvino")
    assert _quickest(RUN, export(**WRONG), EngineRequest(images=MANY)) == "torch"
    path = write_export(tmp_path, export(**WRONG))
    for engine in ("openvino", "auto"):
        with pytest.raises(ModelError, match=r"openvino float32 is not the same model.* 0\.91000") as caught:
            load_engine(path, EngineRequest(engine=engine), SilentReporter())
        assert "another --engine" in caught.value.fix


def test_what_was_measured_on_another_kind_of_cpu_is_not_trusted(machine) -> None:
    """bfloat16 that was right without AMX is wrong with it, for narrow maps."""
    machine("onnxruntime", "openvino")
    for cpu in ("", "x86_64 avx2"):
        elsewhere = export(**AGREES).model_copy(update={"cpu": cpu})
        assert _quickest(RUN, elsewhere, EngineRequest(images=MANY)) == "onnxruntime"
        assert not _wants_bfloat16("openvino", elsewhere, EngineRequest())
        with pytest.raises(ModelError, match="not compared with torch on this kind of CPU"):
            _wants_bfloat16("openvino", elsewhere, EngineRequest(precision="bfloat16"))
        assert not export(**WRONG).model_copy(update={"cpu": cpu}).differs("openvino float32")


def test_the_kind_of_a_cpu_is_its_architecture_and_instructions(monkeypatch, tmp_path) -> None:
    assert runtime.cpu_kind() == runtime.cpu_kind()
    assert runtime.cpu_kind().split()[0] == platform.machine()
    monkeypatch.setattr(runtime, "Path", lambda _: tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("processor: 0\nflags\t\t: sse2 avx2 amx_bf16 lm\n\nprocessor: 1\nflags\t: avx2\n")
    assert runtime.cpu_kind() == f"{platform.machine()} amx_bf16 avx2"
    (tmp_path / "cpuinfo").write_text("Features : fp asimd bf16\n")
    assert runtime.cpu_kind() == f"{platform.machine()} asimd bf16"
    (tmp_path / "cpuinfo").unlink()
    assert runtime.cpu_kind().startswith(platform.machine())


def test_int8_is_another_model_by_itself_and_refused_only_where_it_failed() -> None:
    assert not export("int8", openvino_int8=0.95).differs("openvino int8")
    assert export("int8", openvino_int8=-1.0).differs("openvino int8")


def test_a_missing_library_says_how_to_install_it(machine, tmp_path) -> None:
    machine()
    path = write_export(tmp_path, export())
    for engine in ("onnxruntime", "openvino", "auto"):
        with pytest.raises(UsageError, match="is not installed") as caught:
            load_engine(path, EngineRequest(engine=engine), SilentReporter())
        assert "pip install" in caught.value.fix


@pytest.mark.parametrize("name", ["", "export.json", "model.onnx"])
def test_an_export_is_found_by_folder_record_or_graph(tmp_path, name) -> None:
    write_export(tmp_path, export())
    assert find_model(tmp_path / name) == ModelFiles(folder=None, export=tmp_path / "export.json")


def test_a_run_is_found_by_folder_record_or_weights(tmp_path) -> None:
    (tmp_path / "model.json").write_text(MODEL.model_dump_json())
    assert find_model(tmp_path) == ModelFiles(folder=tmp_path, export=None)
    write_export(tmp_path, export())
    assert find_model(tmp_path) == ModelFiles(folder=tmp_path, export=tmp_path / "export.json")
    assert find_model(tmp_path / "model.safetensors") == ModelFiles(folder=tmp_path, export=None)


def test_a_graph_without_its_record_is_refused(tmp_path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    with pytest.raises(ModelError, match="has no record") as caught:
        find_model(tmp_path / "model.onnx")
    assert "sil export" in caught.value.fix
    with pytest.raises(ModelError, match="no finished model"):
        find_model(tmp_path)


@pytest.mark.parametrize("file", ["../model.onnx", "/etc/model.onnx", "model.pickle", "a/model.onnx"])
def test_a_record_that_leaves_its_folder_is_refused(tmp_path, file) -> None:
    path = write_export(tmp_path, export())
    path.write_text(json.dumps(json.loads(path.read_text()) | {"file": file}))
    with pytest.raises(ModelError, match="not an export's record"):
        read_export(path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "sil-export", "version": 9}'])
def test_a_damaged_record_is_told(tmp_path, content) -> None:
    path = write_export(tmp_path, export())
    path.write_text(content)
    with pytest.raises(SilError, match=r"export\.json"):
        load_engine(path, EngineRequest(), SilentReporter())


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_graph_is_compared_with_its_checksum_before_it_is_parsed(tmp_path, monkeypatch, engine) -> None:
    path = write_export(tmp_path, export(content=b"the whole graph"), b"the whole")
    for engine_class in ("OnnxRuntimeEngine", "OpenVinoEngine"):
        monkeypatch.setattr(
            f"sil_cli.models.engines.exported_engine.{engine_class}", lambda *_, **__: pytest.fail("it was parsed")
        )
    with pytest.raises(ModelError, match="damaged or was replaced"):
        load_engine(path, EngineRequest(engine=engine), SilentReporter())
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(ModelError, match="can't be read"):
        load_engine(path, EngineRequest(engine=engine), SilentReporter())


@pytest.mark.parametrize(("images", "few"), [(1, True), (8, True), (9, False), (MANY, False), (None, False)])
def test_a_few_images_are_embedded_with_a_quick_start(tmp_path, monkeypatch, images, few) -> None:
    made = []
    monkeypatch.setattr(
        exported_engine,
        "OnnxRuntimeEngine",
        lambda record, graph, data, **options: made.append(options) or SimpleNamespace(name="it"),
    )
    load_engine(write_export(tmp_path, export()), EngineRequest(engine="onnxruntime", images=images), SilentReporter())
    assert made == [{"few": few}]


def test_torch_cannot_run_an_export(tmp_path) -> None:
    with pytest.raises(ModelError, match="torch can't run"):
        load_engine(write_export(tmp_path, export()), EngineRequest(engine="torch"), SilentReporter())


@pytest.fixture
def run(world, tmp_path) -> Path:
    """A copy of the trained model with its export."""
    for name in ("model.json", "model.safetensors", "model.onnx", "export.json"):
        (tmp_path / name).write_bytes((world / "runs/001-dbs" / name).read_bytes())
    return tmp_path


def test_all_engines_of_a_run_are_one_model(run) -> None:
    shape = (5, 32, 16, 3)
    pixels = np.random.default_rng(0).integers(0, 256, size=shape, dtype=np.uint8)
    rows = []
    for engine in ("torch", "onnxruntime", "openvino"):
        reporter = Hearing()
        loaded = load_engine(run, EngineRequest(engine=engine, precision="float32"), reporter)
        assert reporter.heard == [f"Embedding with {engine} float32."]
        assert loaded.engine.fingerprint == loaded.record.fingerprint
        rows.append(loaded.engine.embed(pixels))
    for other in rows[1:]:
        assert (rows[0] * other).sum(axis=1).min() >= 0.9999


def test_a_stale_export_is_not_used(run) -> None:
    record = json.loads((run / "export.json").read_text())
    record["model"]["fingerprint"] = "b" * 64
    (run / "export.json").write_text(json.dumps(record))
    reporter = Hearing()
    loaded = load_engine(run, EngineRequest(images=FEW), reporter)
    assert loaded.engine.name.startswith("torch")
    assert loaded.files.export is None
    assert "exported from other weights" in reporter.heard[0]
    with pytest.raises(ModelError, match="exported from other weights"):
        load_engine(run, EngineRequest(engine="onnxruntime"), SilentReporter())


def test_a_damaged_export_beside_weights_is_not_used(run) -> None:
    content = (run / "model.onnx").read_bytes()
    (run / "model.onnx").write_bytes(content[: len(content) // 2])
    reporter = Hearing()
    assert load_engine(run, EngineRequest(images=FEW), reporter).engine.name.startswith("torch")
    assert "is damaged" in reporter.heard[0]


def test_an_engine_without_an_export_says_how_to_make_one(run) -> None:
    (run / "export.json").unlink()
    with pytest.raises(ModelError, match="no export for onnxruntime") as caught:
        load_engine(run, EngineRequest(engine="onnxruntime"), SilentReporter())
    assert "sil export --model" in caught.value.fix


def test_an_export_does_not_run_on_an_accelerator(run) -> None:
    with pytest.raises(UsageError, match="runs on the CPU"):
        load_engine(run, EngineRequest(engine="onnxruntime", device="cuda"), SilentReporter())
