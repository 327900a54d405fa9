"""`sil export --to hf` and `sil report --to mlflow`: what is written, read as its readers do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from commands import sil

from sil_cli.models.embedder import load_embedder
from sil_cli.models.record import read_record

RUN = "runs/001-dbs"


@pytest.fixture
def hub(in_world, tmp_path):
    outcome = sil("export", "--to", "hf", "--model", RUN, "--out", tmp_path / "hub", "--licence", "mit", "--json")
    assert outcome.code == 0, outcome.err
    return tmp_path / "hub"


def test_a_model_for_the_hub_comes_back_with_equal_embeddings(hub, tmp_path) -> None:
    assert sil("import-model", hub / "model.safetensors", "--out", tmp_path / "back").code == 0
    back, record = load_embedder(tmp_path / "back")
    model, first = load_embedder(Path(RUN))
    assert record.fingerprint == first.fingerprint == read_record(hub).fingerprint
    images = torch.rand(3, 3, first.architecture.height, first.architecture.width)
    with torch.inference_mode():
        assert torch.equal(back(images), model(images))


def test_its_card_has_the_figures_of_the_evaluations(hub) -> None:
    text = (hub / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    facts = json.loads(Path(RUN, "run.json").read_text())
    assert (front["license"], front["library_name"]) == ("mit", "sil-cli")
    assert front["datasets"] == [each["name"] for each in facts["sources"]]
    (index,) = front["model-index"]
    (result,) = index["results"]
    results = json.loads(Path(RUN, "evaluation", result["dataset"]["name"], "results.json").read_text())
    figures = {each["name"]: each["value"] for each in result["metrics"]}
    assert figures["mAP"] == round(results["mAP"], 4)
    assert figures["Rank-1"] == round(results["cmc"]["1"], 4)
    assert "it proves nobody's identity" in text


def test_the_hubs_own_library_reads_the_card(hub) -> None:
    card = pytest.importorskip("huggingface_hub").ModelCard.load(hub / "README.md")
    assert card.data.license == "mit"
    assert {each.metric_name for each in card.data.eval_results} >= {"mAP", "Rank-1", "mINP"}


def test_withdrawn_data_and_markup_in_names_stand_in_the_card(in_world, tmp_path) -> None:
    run = tmp_path / "a|b<script>"
    shutil.copytree(RUN, run, ignore=shutil.ignore_patterns("*.pt", "evaluation"))
    facts = json.loads((run / "run.json").read_text())
    facts["sources"][0]["name"] = "dukemtmc"
    (run / "run.json").write_text(json.dumps(facts))
    outcome = sil("export", "--to", "hf", "--model", run, "--out", tmp_path / "hub")
    assert outcome.code == 0, outcome.err
    assert "withdrew" in outcome.error
    text = (tmp_path / "hub/README.md").read_text()
    assert "withdrew" in text
    assert "It was not evaluated." in text
    assert "None is stated" in text
    assert "<script>" not in text


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["export", "--to", "hf", "--model", RUN], "folder of its own"),
        (["export", "--to", "hf", "--model", RUN, "--out", RUN], "folder of its own"),
        (["export", "--to", "hub", "--model", RUN, "--out", "x"], "can't be exported to 'hub'"),
        (["export", "--to", "hf", "--model", RUN, "--out", "x", "--int8"], "takes no --int8"),
        (["export", "--licence", "mit"], "only works with --to hf"),
        (["report", RUN, "--to", "wandb"], "metrics.jsonl"),
        (["report", RUN, "--to", "mlflow", "--queries", "2"], "takes no --queries"),
    ],
)
def test_what_does_not_fit_is_refused(in_world, arguments, why) -> None:
    outcome = sil(*arguments)
    assert (outcome.code, why in outcome.error) == (2, True), outcome.err
    assert not Path("x").exists()


def written(store: Path) -> dict[str, str]:
    return {path.relative_to(store).as_posix(): path.read_text() for path in store.rglob("*") if path.is_file()}


def test_a_run_lies_in_mlflows_folder_as_its_file_store_has_it_and_once(in_world, tmp_path) -> None:
    store = tmp_path / "mlruns"
    outcome = sil("report", RUN, "--to", "mlflow", "--out", store, "--json")
    assert outcome.code == 0, outcome.err
    (run,) = outcome.document["runs"]
    folder = Path(run["tracked"])
    about = yaml.safe_load((folder / "meta.yaml").read_text())
    experiment = yaml.safe_load((folder.parent / "meta.yaml").read_text())
    assert (about["run_id"], about["run_uuid"], about["run_name"]) == (folder.name, folder.name, "001-dbs")
    assert len(folder.name) == 32
    assert (about["experiment_id"], experiment["experiment_id"]) == (folder.parent.name, folder.parent.name)
    assert (about["status"], about["lifecycle_stage"], experiment["name"]) == (3, "active", "sil")
    history = [json.loads(line) for line in Path(RUN, "metrics.jsonl").read_text().splitlines()]
    lines = [line.split() for line in (folder / "metrics/train/loss").read_text().splitlines()]
    assert [(float(value), int(step)) for _, value, step in lines] == [(one["loss"], one["epoch"]) for one in history]
    (target,) = (path.name for path in Path(RUN, "evaluation").iterdir())
    results = json.loads(Path(RUN, "evaluation", target, "results.json").read_text())
    assert float((folder / "metrics/evaluation" / target / "mAP").read_text().split()[1]) == results["mAP"]
    assert (folder / "params/train.epochs").read_text() == "2"
    before = written(store)
    assert sil("report", RUN, "--to", "mlflow", "--out", store).code == 0
    assert written(store) == before


def test_hostile_names_stay_below_the_run(in_world, tmp_path) -> None:
    run = tmp_path / "run"
    shutil.copytree(RUN, run, ignore=shutil.ignore_patterns("*.pt", "evaluation"))
    (run / "metrics.jsonl").write_text('{"epoch": 1, "../../../../out": 1.0, "a:b\\u0007": 2.0, "text": "x"}\n')
    store = tmp_path / "store"
    (tracked,) = sil("report", run, "--to", "mlflow", "--out", store, "--json").document["runs"]
    folder = Path(tracked["tracked"], "metrics/train")
    assert sorted(path.name for path in folder.iterdir()) == ["a_b_", "out"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "store"]
