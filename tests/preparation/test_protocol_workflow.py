"""Protocols from raw data to numbers: what is prepared, what is learnt from, what is averaged."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path

import pytest
from commands import TINY_DATA_FLAGS, TINY_TRAIN_FLAGS, sil
from data_set_trees import TREES

from sil_cli.data.manifest import load_dataset
from sil_cli.evaluation import inference_options
from sil_cli.evaluation.results import MeanRate

pytestmark = pytest.mark.thorough

OWN = """
name = "ours"
source_splits = "train+test"

[settings.model]
height = 32
width = 16

[datasets.first]
reader = "market1501"

[datasets.small]
reader = "viper"
splits = 3
seed = 5

[cases.only]
sources = ["first"]
targets = ["small"]
"""


def put(*trees: str) -> None:
    for tree in trees:
        folder = Path("raw") / f"about {tree}"
        folder.mkdir(parents=True)
        TREES[tree][1](folder)


def test_a_protocol_prepares_just_what_it_needs_and_pins_it(empty):
    put("market1501", "msmt17", "cuhk_sysu", "cuhk03", "viper", "dukemtmc")
    outcome = sil("prepare-data", "--protocol", "p3-market1501", "raw", "--json")
    assert outcome.code == 0, outcome.err
    document = outcome.document
    assert document["protocol"] == "P3 market1501"
    assert [entry["name"] for entry in document["datasets"]] == ["msmt17", "cuhk-sysu", "cuhk03", "market1501"]
    assert {path.name for path in (empty / "data").iterdir() if (path / "dataset.json").exists()} == {
        "msmt17",
        "cuhk-sysu",
        "cuhk03",
        "market1501",
    }
    assert load_dataset(empty / "data" / "cuhk03").info.options["labelled"] is False
    again = sil("prepare-data", "--protocol", "p3-market1501", "raw", "--json")
    assert all(entry["unchanged"] for entry in again.document["datasets"])


@pytest.mark.parametrize("present", [["msmt17"], ["msmt17_v2"], ["msmt17_v2", "msmt17"]])
def test_the_version_that_is_pinned_is_the_one_that_is_read(empty, present):
    put("market1501", "dukemtmc", "cuhk03", *present)
    outcome = sil("prepare-data", "--protocol", "sil-4-market1501", "raw")
    if "msmt17" in present:
        assert outcome.code == 0, outcome.err
        assert load_dataset(empty / "data" / "msmt17").info.options["version"] == 1
    else:
        assert outcome.code == 1
        assert "msmt17 (version 1)" in outcome.error


def test_what_is_missing_is_named_all_at_once(empty):
    put("market1501", "cuhk_sysu")
    outcome = sil("prepare-data", "--protocol", "p3-market1501", "raw")
    assert outcome.code == 1
    assert "lacks msmt17, cuhk03, which P3 needs" in outcome.error
    assert not (empty / "data" / "market1501").exists()


def test_archives_are_read_as_they_lie(empty):
    put("market1501", "viper")
    shutil.make_archive("raw/views", "zip", "raw/about viper")
    shutil.rmtree("raw/about viper")
    (empty / "ours.toml").write_text(OWN)
    outcome = sil("prepare-data", "--protocol", "ours.toml", "raw")
    assert outcome.code == 0, outcome.err
    assert len(load_dataset(empty / "data" / "small" / "split-03").records) == 20


def test_a_users_protocol_from_raw_data_to_the_mean_over_its_splits(empty, monkeypatch):
    put("market1501", "viper")
    (empty / "ours.toml").write_text(OWN)
    assert sil("prepare-data", "--protocol", "ours.toml", "raw").code == 0

    splits = [load_dataset(empty / "data" / "small" / f"split-{number:02d}") for number in (1, 2, 3)]
    tested = [frozenset(record.identity for record in split.of_split("query")) for split in splits]
    assert len(set(tested)) == 3
    assert {(split.name, split.info.options["seed"]) for split in splits} == {("small", 5)}
    assert [split.info.options["partition"] for split in splits] == [1, 2, 3]

    free = [flag for flag in TINY_TRAIN_FLAGS if flag != "--set" and "model." not in flag]
    trained = sil("train", "--recipe", "generated", *(f"--set={flag}" for flag in free), "--json")
    assert trained.code == 0, trained.err
    run = json.loads((empty / "runs" / "001-dbs" / "run.json").read_text())
    assert (run["protocol"], run["source_splits"]) == ("ours", "train+test")
    records = load_dataset(empty / "data" / "first").records
    learnt = [record for record in records if not (record.junk or record.distractor)]
    assert run["sources"][0]["images"] == len(learnt) > len(load_dataset(empty / "data" / "first").of_split("train"))
    assert run["sources"][0]["identities"] == len({record.identity for record in learnt})

    embedded = []
    embed = inference_options.embed
    monkeypatch.setattr(
        inference_options, "embed", lambda engine, files, **how: embedded.extend(files) or embed(engine, files, **how)
    )
    document = sil("evaluate", "--json").document
    tested = [(split.of_split("query"), split.of_split("gallery")) for split in splits]
    images = {record.path for query, gallery in tested for record in query + gallery}
    assert len(embedded) == len(images) < sum(len(query) + len(gallery) for query, gallery in tested)
    (target,) = document["targets"]
    each = [split["mAP"] for split in target["splits"]]
    assert target["mAP"]["mean"] == pytest.approx(sum(each) / 3)
    assert target["mAP"]["deviation"] == pytest.approx(statistics.stdev(each))
    assert document["conditions"]["sources"] == "first (train + test)"
    assert document["conditions"]["protocol"] == "ours"
    assert document["conditions"]["input"] == "32×16"
    assert "test set" not in document["conditions"]
    assert [split["conditions"]["test set"] for split in target["splits"]] == [
        f"partition {number}, seed 5" for number in (1, 2, 3)
    ]
    stored = json.loads((empty / "runs/001-dbs/evaluation/small/splits.json").read_text())
    assert stored["mAP"] == target["mAP"]
    assert (empty / "runs/001-dbs/evaluation/small/split-02/results.json").exists()

    named = sil("evaluate", "--target", "data/small", "--json").document
    assert named["targets"] == document["targets"]
    alone = sil("evaluate", "--target", "data/small/split-02", "--json").document
    assert alone["mAP"] == each[1]
    assert alone == target["splits"][1]
    shown = sil("evaluate")
    assert "±" in shown.out


def test_named_sources_are_no_protocol(in_world, tmp_path):
    run = tmp_path / "run"
    names = sorted(path.name for path in (in_world / "data").iterdir() if (path / "dataset.json").exists())
    outcome = sil("train", "--source", f"data/{names[0]}", "--run", run, *TINY_TRAIN_FLAGS)
    assert outcome.code == 0, outcome.err
    assert json.loads((run / "run.json").read_text())["protocol"] is None


def test_generated_networks_need_no_root(empty):
    outcome = sil("prepare-data", "--protocol", "generated-orchard", *TINY_DATA_FLAGS, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.document["target"] == "data/orchard"
    assert outcome.document["sources"] == ["data/harbour", "data/atrium"]


@pytest.mark.parametrize("option", ["--out=p", "--name=other", "--split=half", "--partition=2", "--labelled"])
def test_what_a_protocol_pins_is_not_given_besides(empty, option):
    outcome = sil("prepare-data", "--protocol", "generated-orchard", *TINY_DATA_FLAGS, option)
    assert outcome.code == 2
    assert option.partition("=")[0] in outcome.error
    assert not any(empty.iterdir())


def test_after_all_cases_comes_the_benchmark_of_this_protocol(empty):
    outcome = sil("prepare-data", "--protocol", "generated", *TINY_DATA_FLAGS)
    assert outcome.code == 0, outcome.err
    assert "Next: sil benchmark generated\n" in outcome.out


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('reader = "viper"', 'reader = "vipper"', "viper"),
        ("splits = 3", 'splits = 3\nroot = "nowhere"', "nowhere"),
        ('reader = "viper"', 'reader = "dukemtmc"', "its reader does not draw any"),
        ('reader = "market1501"', 'reader = "market1501"\nsplits = 2', "Give a source one split"),
    ],
)
def test_a_file_that_no_reader_can_follow(empty, old, new, says):
    put("market1501", "viper")
    (empty / "ours.toml").write_text(OWN.replace(old, new))
    outcome = sil("prepare-data", "--protocol", "ours.toml", "raw")
    assert outcome.code in (1, 2)
    assert says in outcome.error


def test_wrong_counts_stop_a_strict_protocol_even_where_it_stands_prepared(empty):
    put("market1501", "viper")
    (empty / "ours.toml").write_text(OWN)
    assert sil("prepare-data", "--protocol", "ours.toml", "raw").code == 0
    outcome = sil("prepare-data", "--protocol", "ours.toml", "raw", "--strict")
    assert outcome.code == 1
    assert "differs from what was published" in outcome.error


def test_a_deviation_is_the_sample_deviation():
    found = MeanRate.of([0.1, 0.2, 0.6])
    assert found.mean == pytest.approx(0.3)
    assert found.deviation == pytest.approx((((-0.2) ** 2 + (-0.1) ** 2 + 0.3**2) / 2) ** 0.5)
    assert MeanRate.of([0.4]).deviation is None
