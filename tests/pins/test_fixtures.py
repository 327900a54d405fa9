"""Galleries, runs and data sets that an earlier program wrote are read, and gone on with, by this one.

`tests/fixtures/made-by.txt` says which program that was; `python tests/pins/update.py answers` stores its answers.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import settings_flags, sil
from fixtures.make import DATA
from pins.making import copy_of_fixtures, fixtures_answers, stored

ENTRIES = 32
NEW = "data/harbour/images/query/0005_c1_01.jpg"
MODEL = ("--model", "runs/finished", "--engine", "torch")
QUERY = "data/orchard/images/query/0005_c1_01.jpg"


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    """A copy of the fixtures; commands run in it."""
    monkeypatch.chdir(copy_of_fixtures(tmp_path))
    return tmp_path


def document(*arguments: object):
    outcome = sil(*arguments, "--json")
    assert outcome.code == 0, outcome.err
    return outcome.document


def expected() -> dict[str, list[float]]:
    return json.loads(stored("answers")["fixtures.json"])


def test_queries_and_rates_are_the_stored_ones(tmp_path) -> None:
    found = fixtures_answers(tmp_path)
    assert found.keys() == expected().keys()
    for name, values in expected().items():
        assert found[name] == pytest.approx(values, abs=0 if name.endswith("ids") else 1e-3), name


def test_a_resumed_run_ends_as_the_one_that_was_never_stopped(world) -> None:
    resumed = document("train", "--resume", "--run", "runs/stopped", "--device", "cpu")
    lines = [json.loads(line) for line in Path("runs/finished/metrics.jsonl").read_text().splitlines()]
    assert resumed["iterations"] == 4
    assert resumed["loss"] == pytest.approx(lines[-1]["loss"], rel=1e-3)
    document("evaluate", "--model", "runs/stopped", "--engine", "torch", "--target", "data/orchard")


def test_the_gallery_is_sound(world) -> None:
    info = document("gallery", "info")
    assert (info["entries"], info["wished_index"]) == (ENTRIES, "HNSW8")
    assert info["index"].startswith(f"HNSW8 over {ENTRIES} vectors")
    verified = document("gallery", "verify", "--engine", "torch")
    assert verified["ok"], verified["checks"]
    assert all(check["done"] for check in verified["checks"])


def test_the_exported_model_answers_as_torch_does(world) -> None:
    pytest.importorskip("onnxruntime")
    found = document("query", QUERY, "--top", 5, "--engine", "onnxruntime")
    assert [match["id"] for match in found["matches"]] == expected()["0005_c1_01 ids"]
    rates = document("evaluate", "--model", "runs/finished", "--target", "data/orchard", "--engine", "onnxruntime")
    assert rates["mAP"] == pytest.approx(expected()["orchard mAP, mINP, ranks"][0], abs=1e-3)


def test_the_gallery_takes_another_image_and_knows_what_it_has(world) -> None:
    again = document("index-gallery", "data/orchard", *MODEL)
    assert (again["added"], again["unchanged"], again["total"]) == (0, ENTRIES, ENTRIES)
    more = document("index-gallery", NEW, *MODEL)
    assert (more["added"], more["total"]) == (1, ENTRIES + 1)
    best = document("query", NEW, "--top", 1, "--engine", "torch")["matches"][0]
    assert best["id"] == ENTRIES + 1
    assert best["score"] == pytest.approx(1, abs=1e-4)


def test_the_gallery_can_be_compacted(world) -> None:
    document("gallery", "remove", "--identity", "0018", "--yes")
    compacted = document("gallery", "compact")
    assert compacted["complete"]
    assert compacted["entries"] < ENTRIES
    assert document("gallery", "verify", "--engine", "torch")["ok"]
    ids = [match["id"] for match in document("query", QUERY, "--engine", "torch", "--top", 5)["matches"]]
    kept = [number for number in expected()["0005_c1_01 ids"] if number in ids]
    assert ids[: len(kept)] == kept


def test_the_gallery_can_be_rebuilt(world) -> None:
    rebuilt = document("gallery", "rebuild", *MODEL)
    assert (rebuilt["entries"], rebuilt["embedded"]) == (ENTRIES, ENTRIES)
    found = document("query", QUERY, "--top", 5, "--engine", "torch")
    assert [match["id"] for match in found["matches"]] == expected()["0005_c1_01 ids"]


def test_results_are_compared_with_those_of_today(world) -> None:
    """Their report is among the documents of `test_pins.py`."""
    document("evaluate", "--target", "data/orchard", *MODEL, "--out", "again")
    compared = document("compare", "runs/finished", "again")
    assert (compared["target"], compared["different_conditions"]) == ("orchard", {})
    assert compared["metrics"]["mAP"]["difference"] == pytest.approx(0, abs=1e-3)


def test_the_data_sets_stand_as_they_were_prepared(world) -> None:
    prepared = document(
        "prepare-data", *settings_flags(DATA, "data.synthetic."), "--set", "data.synthetic.networks=wardrobes"
    )
    assert [dataset["unchanged"] for dataset in prepared["datasets"]] == [True, True]
