"""Evaluating anyone's embeddings, comparing two results, calibrating: as commands on a tiny world."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import TINY_TRAIN_FLAGS, Outcome, sil
from data_set_trees import viper

from sil_cli.data.manifest import load_dataset
from sil_cli.evaluation.calibration import Calibration, read_calibration
from sil_cli.runs.run_folder import read_facts


def assert_told(outcome: Outcome, code: int, *words: str) -> None:
    assert outcome.code == code, outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    for word in words:
        assert word in outcome.error


@pytest.fixture(scope="module")
def template(world, tmp_path_factory) -> Path:
    """The world's run, evaluated, with its embeddings in a file and some that are worse."""
    folder = tmp_path_factory.mktemp("template")
    shutil.copytree(world / "runs/001-dbs", folder / "run")
    before = Path.cwd()
    os.chdir(world)
    try:
        outcome = sil("evaluate", "--model", folder / "run", "--save-embeddings", folder / "mine.npz")
    finally:
        os.chdir(before)
    assert outcome.code == 0, outcome.err
    arrays = load(folder / "mine.npz")
    noise = np.random.default_rng(0).standard_normal(arrays["gallery_embeddings"].shape, dtype=np.float32)
    np.savez(folder / "worse.npz", **(arrays | {"gallery_embeddings": arrays["gallery_embeddings"] + 0.2 * noise}))
    return folder


@pytest.fixture
def run(template, in_world, tmp_path) -> Path:
    """A copy of the evaluated run, to write into."""
    return Path(shutil.copytree(template / "run", tmp_path / "run"))


@pytest.fixture
def files(template, in_world, tmp_path) -> tuple[Path, Path]:
    """The run's embeddings, and some that are worse."""
    mine, worse = (Path(shutil.copy(template / name, tmp_path / name)) for name in ("mine.npz", "worse.npz"))
    return mine, worse


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def test_saved_embeddings_score_as_the_model_does(run, files) -> None:
    model = json.loads(next(run.glob("evaluation/*/results.json")).read_text())
    document = sil("evaluate", "--embeddings", files[0], "--json").document
    for key in ("mAP", "cmc", "mINP", "queries", "gallery", "dropped_queries", "test_set", "intervals", "open_set"):
        assert document[key] == model[key], key
    assert document["fingerprint"] is None
    assert document["trained_on_target"] is None
    assert json.loads(Path(document["results"]).read_text()) == document
    folder = Path(document["results"]).parent
    assert folder == files[0].with_name("mine-evaluation")
    assert {file.name for file in folder.iterdir()} == {"results.json", "queries.jsonl", "verification.json"}


def test_which_random_split_it_was_is_said_and_none_replaces_another_in_silence(run, tmp_path) -> None:
    viper(tmp_path / "raw")
    told = []
    for partition in (1, 2, 2):
        prepared = tmp_path / f"half-{partition}"
        outcome = sil("prepare-data", "viper", tmp_path / "raw", "--partition", partition, "--out", prepared)
        assert outcome.code == 0, outcome.err
        outcome = sil("evaluate", "--model", run, "--target", prepared, "--json")
        assert outcome.document["conditions"]["test set"] == f"partition {partition}, seed 0"
        told.append("came from another test set called viper (partition 1, seed 0) and is replaced" in outcome.error)
    assert told == [False, True, False]


def test_every_query_has_a_line_and_the_means_are_theirs(run, files) -> None:
    document = sil("evaluate", "--model", run, "--json").document
    lines = [json.loads(line) for line in Path(document["per_query"]).read_text().splitlines()]
    dataset = load_dataset(Path("data") / document["target"])
    assert [line["path"] for line in lines] == [record.path for record in dataset.of_split("query")]
    scored = [line for line in lines if line["matches"]]
    assert len(scored) == document["queries"]
    assert len(lines) - len(scored) == document["dropped_queries"]
    assert np.mean([line["average_precision"] for line in scored]) == pytest.approx(document["mAP"], abs=1e-12)
    assert np.mean([line["inverse_negative_penalty"] for line in scored]) == pytest.approx(document["mINP"], abs=1e-12)
    assert np.mean([line["first_match"] == 1 for line in scored]) == pytest.approx(document["cmc"]["1"], abs=1e-12)
    for name, value in (("mAP", document["mAP"]), ("Rank-1", document["cmc"]["1"]), ("mINP", document["mINP"])):
        assert document["intervals"][name]["low"] <= value <= document["intervals"][name]["high"]
    curves = json.loads(Path(document["results"]).with_name("verification.json").read_text())
    assert sum(curves["same_pairs"]) == document["open_set"]["same_pairs"]
    assert sum(curves["different_pairs"]) == document["open_set"]["different_pairs"]
    assert len(curves["score_edges"]) == len(curves["same_pairs"]) + 1


@pytest.mark.parametrize("rename", [lambda name: name.replace("c", "0"), str.upper])
def test_cameras_written_differently_are_told_by_every_command_that_prints_the_numbers(run, files, tmp_path, rename):
    arrays = load(files[0])
    right = sil("evaluate", "--embeddings", files[0], "--json").document
    arrays["query_cameras"] = np.array([rename(name) for name in arrays["query_cameras"]])
    np.savez(tmp_path / "renamed.npz", **arrays)
    outcome = sil("evaluate", "--embeddings", tmp_path / "renamed.npz", "--json")
    (text,) = outcome.document["warnings"]
    assert text in outcome.error
    first = min(arrays["query_cameras"].tolist())
    assert f"{first!r} and 'c" in text
    assert right["warnings"] == []
    # what is let through is just what was ignored
    let_through = outcome.document["open_set"]["same_pairs"] - right["open_set"]["same_pairs"]
    assert f"{let_through:,} pairs of one person by one camera" in text
    results = outcome.document["results"]
    compared = sil("compare", results, results, "--json")
    assert compared.document["warnings"] == [text]
    assert text in compared.error


def test_tables_whose_sides_name_cameras_differently_are_told_when_prepared_evaluated_and_calibrated(run, tmp_path):
    target = next(run.glob("evaluation/*")).name
    dataset = load_dataset(Path(shutil.copytree(Path("data") / target, tmp_path / "images")))
    lines = ["path,identity,camera,split"]
    for record in dataset.records:
        camera = record.camera.replace("c", "") if record.split == "query" else record.camera
        lines.append(f"{dataset.image_path(record).relative_to(tmp_path)},{record.identity},{camera},{record.split}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    prepared = sil("prepare-data", "csv", tmp_path / "table.csv", "--out", tmp_path / "mixed")
    assert "('1' and 'c1', '2' and 'c2')" in prepared.error
    outcome = sil("evaluate", "--model", run, "--target", tmp_path / "mixed", "--json")
    assert "('1' and 'c1', '2' and 'c2')" in outcome.document["warnings"][0]
    outcome = sil("calibrate", "--model", run, "--on", tmp_path / "mixed")
    assert "('1' and 'c1', '2' and 'c2')" in outcome.error


def test_queries_without_a_match_are_counted_and_named(files, tmp_path) -> None:
    arrays = load(files[0])
    np.savez(tmp_path / "e.npz", **arrays)
    assert sil("evaluate", "--embeddings", tmp_path / "e.npz").code == 0
    arrays["query_identities"][0] = "none"
    np.savez(tmp_path / "e.npz", **arrays)
    outcome = sil("evaluate", "--embeddings", tmp_path / "e.npz", "--json")
    assert "is replaced" not in outcome.error  # whoever wrote the file anew knows
    assert outcome.document["dropped_queries"] == 1
    assert arrays["query_paths"][0] in outcome.error
    first = json.loads(Path(outcome.document["per_query"]).read_text().splitlines()[0])
    assert (first["matches"], first["average_precision"], first["identity"]) == (0, None, "none")


def test_euclidean_distance_is_said_and_used(files, tmp_path) -> None:
    arrays = load(files[0])
    scales = np.linspace(0.2, 3, len(arrays["gallery_embeddings"]), dtype=np.float32)[:, None]
    np.savez(tmp_path / "long.npz", **(arrays | {"gallery_embeddings": arrays["gallery_embeddings"] * scales}))
    cosine, euclidean = (
        sil("evaluate", "--embeddings", tmp_path / "long.npz", "--metric", metric, "--json").document
        for metric in ("cosine", "euclidean")
    )
    assert euclidean["conditions"]["distance"] == "euclidean"
    assert cosine["mAP"] != euclidean["mAP"]
    assert_told(sil("evaluate", "--metric", "manhattan"), 2, "evaluate.metric = 'manhattan'", "'euclidean'")


def test_the_table_shows_intervals_and_open_set_rates(run, files) -> None:
    out = " ".join(sil("evaluate", "--model", run).out.split())
    for words in ("from", "TAR at FAR 1e-2", "DIR at FAR", "95 % intervals", "distance: cosine"):
        assert words in out


def test_embeddings_and_a_model_are_one_or_the_other(files) -> None:
    assert_told(sil("evaluate", "--embeddings", files[0], "--model", "runs/001-dbs"), 2, "combined with --model")
    assert_told(
        sil("evaluate", "--embeddings", files[0], "--save-embeddings", "x"), 2, "combined with --save-embeddings"
    )
    assert_told(sil("evaluate", "--embeddings", "none.npz"), 1, "no file none.npz")


class TestCompare:
    def test_a_worse_model_is_worse(self, run, files) -> None:
        sil("evaluate", "--embeddings", files[1])
        document = sil("compare", run, files[1].with_name("worse-evaluation"), "--json").document
        lines = [
            [json.loads(line) for line in path.read_text().splitlines()]
            for path in (
                next(run.glob("evaluation/*/queries.jsonl")),
                files[1].parent / "worse-evaluation/queries.jsonl",
            )
        ]
        gains = [two["average_precision"] - one["average_precision"] for one, two in zip(*lines, strict=True)]
        found = document["metrics"]["mAP"]
        assert found["difference"] == pytest.approx(np.mean(gains), abs=1e-12)
        assert found["second"] - found["first"] == pytest.approx(found["difference"], abs=1e-12)
        assert found["interval"]["low"] <= found["difference"] <= found["interval"]["high"]
        assert 0 < found["p"] <= 1
        assert document["better"] == sum(gain > 0 for gain in gains)
        assert document["worse"] == sum(gain < 0 for gain in gains)
        assert document["better"] + document["worse"] + document["equal"] == document["queries"]
        changes = [each["second"] - each["first"] for each in document["changed_most"]]
        if document["better"]:
            assert changes[0] == pytest.approx(max(gains))
        assert document["different_conditions"]["embeddings"][0] is None

    def test_a_model_equals_itself(self, run) -> None:
        outcome = sil("compare", run, next(run.glob("evaluation/*/results.json")))
        assert outcome.code == 0
        assert "1.0000" in outcome.out
        assert "Changed most" not in outcome.out

    def test_another_test_is_refused(self, run, files, tmp_path) -> None:
        arrays = {key: value[1:] if key.startswith("query_") else value for key, value in load(files[0]).items()}
        np.savez(tmp_path / "fewer.npz", **arrays)
        target = next(run.glob("evaluation/*")).name
        sil("evaluate", "--embeddings", tmp_path / "fewer.npz", "--out", tmp_path / "other" / target)
        same_name = tmp_path / "other" / target / "results.json"
        document = json.loads(same_name.read_text()) | {"target": target}
        same_name.write_text(json.dumps(document))
        assert_told(sil("compare", run, same_name), 1, "not of the same test", "same prepared data set")
        source = read_facts(run).sources[0].folder
        sil("evaluate", "--model", run, "--target", source, "--out", tmp_path / "on-source")
        alone = run / "evaluation" / target
        # Networks of one size are labelled alike here, image for image; their manifests tell them apart.
        assert_told(sil("compare", alone, tmp_path / "on-source"), 2, f"evaluated on {target}, but", "same target")
        renamed = json.loads((tmp_path / "on-source/results.json").read_text()) | {"target": target}
        (tmp_path / "on-source/results.json").write_text(json.dumps(renamed))
        assert_told(sil("compare", alone, tmp_path / "on-source"), 1, "not of the same test")

    def test_results_that_cannot_be_compared(self, run, tmp_path) -> None:
        results = next(run.glob("evaluation/*/results.json"))
        document, name = json.loads(results.read_text()), results.parent.name
        assert_told(sil("compare", run, tmp_path), 2, "no results", "sil evaluate")
        assert_told(sil("compare", run, run, "--target", name[:-1]), 2, "not evaluated on", f"Did you mean '{name}'")
        for change, words in (({"version": 7}, "another version (7)"), ({"mAP": 7}, "holds no results: mAP")):
            results.write_text(json.dumps(document | change))
            assert_told(sil("compare", run, run), 1, words, "sil evaluate")
        del document["version"]
        results.write_text(json.dumps(document))
        assert_told(sil("compare", run, run), 1, "before the first", "sil evaluate")
        results.write_text(json.dumps(document | {"version": 1, "mAP": document["mAP"] / 2}))
        assert_told(sil("compare", run, run), 1, "does not belong to", f"its mAP is {document['mAP']:.6f}")
        results.write_text(json.dumps(document | {"version": 1}))
        lines = results.with_name("queries.jsonl")
        whole = lines.read_text()
        lines.write_text(whole.partition("\n")[2])
        assert_told(sil("compare", run, run), 1, "does not belong to")
        lines.write_text(whole[:-20])
        assert_told(sil("compare", run, run), 1, "queries.jsonl, line")
        lines.unlink()
        assert_told(sil("compare", run, run), 1, "can't be read")


class TestCalibrate:
    def test_on_a_named_data_set_and_how_it_holds_there(self, run, monkeypatch) -> None:
        target = next(
            path
            for path in sorted(Path("data").iterdir())
            if path.is_dir() and path.name not in {source.name for source in read_facts(run).sources}
        )
        assert_told(sil("calibrate", "--model", run, "--on", target), 1, "too few for a threshold", "1,000 pairs")
        monkeypatch.setattr("sil_cli.evaluation.calibrate.FEWEST_PAIRS", 1)  # the tiny world has some 400 pairs
        outcome = sil("calibrate", "--model", run, "--on", target, "--json")
        made = read_calibration(run)
        assert made.fingerprint == json.loads((run / "model.json").read_text())["fingerprint"]
        assert outcome.document["match"] == made.match >= made.possible
        checked = sil("evaluate", "--model", run, "--target", target, "--json").document["calibration"]
        assert checked["made_on_target"] is True
        assert checked["match"]["threshold"] == made.match

    def test_people_who_were_learnt_are_never_among_them(self, run) -> None:
        from sil_cli.evaluation.calibrate import _not_trained_on

        facts = read_facts(run)
        dataset = load_dataset(Path(facts.sources[0].folder))
        learnt = {record.identity for record in dataset.of_split("train")}
        kept = _not_trained_on(dataset, run, facts)
        assert kept
        assert not {record.identity for record in kept} & learnt
        assert not any(record.distractor or record.junk for record in kept)

    def test_people_held_out_of_training_are_among_them(self, in_world, tmp_path) -> None:
        from sil_cli.evaluation.calibrate import _not_trained_on

        run = tmp_path / "held"
        flags = ["--set", "train.select=held-out", "--set", "train.held_out=0.5", "--set", "train.calibrate=false"]
        assert sil("train", *TINY_TRAIN_FLAGS, *flags, "--run", run).code == 0
        assert read_calibration(run) is None
        facts = read_facts(run)
        dataset = load_dataset(Path(facts.sources[0].folder))
        train = {record.identity for record in dataset.of_split("train")}
        held = {record.identity for record in _not_trained_on(dataset, run, facts)} & train
        assert len(train - held) == facts.sources[0].identities == 2

    def test_nobody_left_is_said(self, run, tmp_path) -> None:
        facts = read_facts(run)
        folder = Path(shutil.copytree(facts.sources[0].folder, tmp_path / "train-only"))
        from sil_cli.data.manifest import write_dataset

        dataset = load_dataset(folder)
        only = write_dataset(
            folder,
            dataset.of_split("train"),
            name=dataset.name,
            reader="folders",
            reader_version=1,
            root=dataset.root,
            options={},
        )
        changed = facts.sources[0].model_copy(
            update={"folder": str(folder), "manifest_sha256": only.info.manifest_sha256}
        )
        (run / "run.json").write_text(facts.model_copy(update={"sources": [changed]}).model_dump_json())
        assert_told(sil("calibrate", "--model", run), 1, "was trained on everyone", "--on DIR", "--select held-out")

    def test_a_calibration_of_another_model_is_not_used(self, run) -> None:
        stale = Calibration(
            fingerprint="other", made_on="x", same_pairs=1, different_pairs=9, thresholds={}, match=0.5, possible=0.4
        )
        (run / "calibration.json").write_text(stale.model_dump_json())
        outcome = sil("evaluate", "--model", run, "--json")
        assert outcome.document["calibration"] is None
        assert "belongs to another model" in outcome.error


def test_what_a_named_folder_held_is_said_when_it_is_replaced(run, files, tmp_path) -> None:
    out = tmp_path / "X"

    def warned(*arguments: object) -> str:
        outcome = sil("evaluate", "--out", out, *arguments)
        assert outcome.code == 0, outcome.err
        return outcome.error if "is replaced" in outcome.error else ""

    assert warned("--model", run) == ""
    assert warned("--model", run) == ""  # the same again
    assert f"held the results of {run} on atrium under other conditions" in warned("--model", run, "--flip")
    text = warned("--embeddings", files[0])
    assert f"held the results of {run} on atrium and is replaced" in text
    text = warned("--model", run, "--target", "data/harbour")
    assert f"held the results of {files[0]} on mine and is replaced: name another folder with --out" in text
    assert "--name" not in text
    assert "another test set called harbour" not in text


@pytest.mark.parametrize(
    ("named", "what", "fix"),
    [
        ("nowhere", "There is no file or folder nowhere", "Name a run folder"),
        ("mine.npz", "holds embeddings", "sil evaluate --embeddings"),
        (".", "There are no results in", "Name a folder that `sil evaluate` wrote"),
    ],
)
def test_compare_says_what_is_named_instead_of_results(run, files, tmp_path, monkeypatch, named, what, fix) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = sil("compare", run, named)
    assert outcome.code == 2
    assert what in outcome.error
    assert fix in outcome.error


def test_images_without_queries_lead_to_a_gallery_not_to_an_evaluation(tmp_path, monkeypatch, make_image) -> None:
    monkeypatch.chdir(tmp_path)
    for person in ("1", "2"):
        make_image(tmp_path / "crops" / person / "a.jpg")
    outcome = sil("prepare-data", "folders", "crops", "--split", "test", "--out", "prepared")
    assert "Next: sil index-gallery prepared" in outcome.out
