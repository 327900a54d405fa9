"""`sil benchmark`: a whole protocol, interrupted and taken up again, and its tables."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
from commands import TINY_DATA_FLAGS, TINY_TRAIN_FLAGS, settings_flags, sil

from sil_cli.benchmark import run as workflow
from sil_cli.benchmark.results import score_table
from sil_cli.benchmark.run import chosen_methods
from sil_cli.data.plan import read_plan
from sil_cli.errors import InterruptedWorkError, UsageError
from sil_cli.settings import load_settings

pytestmark = pytest.mark.thorough

QUICK = [
    *TINY_TRAIN_FLAGS,
    *settings_flags({"train.epochs": 1, "train.iterations": 1, "train.milestones": [1], "train.calibrate": False}),
    *settings_flags({"model.backbone": "osnet_x0_25"}),  # its checkpoints take 2 MB each, not 134
]
FLAGS = [*TINY_DATA_FLAGS, "--set", "data.synthetic.domains=2", *QUICK]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which a benchmark of two methods and two seeds has run."""
    import os

    folder = tmp_path_factory.mktemp("benchmark")
    before = Path.cwd()
    os.chdir(folder)
    try:
        outcome = run()
        assert outcome.code == 0, outcome.err
        yield folder, outcome.document
    finally:
        os.chdir(before)


def run(*more):
    return sil("benchmark", "generated", "--method", "fbf", "--method", "ubs", "--seeds", 2, *FLAGS, "--json", *more)


def test_every_method_case_and_seed_is_trained_and_tested(finished):
    _, document = finished
    runs = {(each["method"], each["case"], each["seed"]) for each in document["runs"]}
    assert runs == {(m, c, s) for m in ("fbf", "ubs") for c in ("harbour", "orchard") for s in (1, 2)}
    for each in document["runs"]:
        facts = json.loads((Path(each["run"]) / "run.json").read_text())
        assert facts["style"] == {"fbf": "none", "ubs": "ubs"}[each["method"]]
        assert facts["seed"] == each["seed"]
        assert [source["name"] for source in facts["sources"]] == [
            name for name in ("harbour", "orchard") if name != each["case"]
        ]
        assert [target["target"] for target in each["targets"]] == [each["case"]]


def test_finished_runs_keep_their_models_and_no_checkpoints(finished):
    _, document = finished
    for each in document["runs"]:
        kept = {path.name for path in Path(each["run"]).iterdir()}
        assert {"model.safetensors", "scores.json"} <= kept
        assert not [name for name in kept if name.startswith("checkpoint-")]
    assert sil("train", "--resume", "--run", document["runs"][0]["run"], "--json").code == 0


def test_means_deviations_and_differences_are_those_of_the_runs(finished):
    _, document = finished
    maps = {
        (each["method"], each["case"], each["seed"]): each["targets"][0]["mAP"]["mean"] for each in document["runs"]
    }
    for method in document["methods"]:
        own = [maps[method["method"], "harbour", seed] for seed in (1, 2)]
        assert method["mAP"]["harbour"]["mean"] == pytest.approx(statistics.fmean(own))
        assert method["mAP"]["harbour"]["deviation"] == pytest.approx(statistics.stdev(own))
        whole = [
            statistics.fmean(maps[method["method"], case, seed] for case in ("harbour", "orchard")) for seed in (1, 2)
        ]
        assert method["mean_mAP"]["mean"] == pytest.approx(statistics.fmean(whole))
    difference = next(each for each in document["differences"] if each["metric"] == "mAP")
    expected = [maps["ubs", case, seed] - maps["fbf", case, seed] for case in ("harbour", "orchard") for seed in (1, 2)]
    assert (difference["method"], difference["baseline"], difference["pairs"]) == ("ubs", "fbf", 4)
    assert difference["mean"] == pytest.approx(statistics.fmean(expected))


def test_tables_stand_beside_the_runs(finished):
    folder, document = finished
    assert [Path(table).name for table in document["tables"]] == ["table.csv", "table.md", "table.tex"]
    markdown = (folder / "benchmarks/generated/table.md").read_text()
    harbour = document["methods"][0]["mAP"]["harbour"]
    assert f"{100 * harbour['mean']:.1f} ± {100 * harbour['deviation']:.1f}" in markdown
    assert json.loads((folder / "benchmarks/generated/results.json").read_text()) == document


def test_a_second_call_does_nothing_again(finished, monkeypatch):
    _, document = finished
    monkeypatch.setattr(workflow, "train", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(workflow, "evaluate_target", lambda *_: pytest.fail("evaluated again"))
    assert run().document == document


def test_a_finished_run_is_not_taken_for_another(finished):
    outcome = run("--set", "train.temperature=0.3")
    assert outcome.code == 2
    assert "train.temperature" in outcome.error


@pytest.fixture
def cases(finished, tmp_path, monkeypatch):
    """A protocol of one's own, with a method of its own, that has run."""
    folder, _ = finished
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(folder / "data")
    write_protocol({"temperature": 0.06}, {"rho": 2.0, "clamp": True})
    assert run_own().code == 0
    return tmp_path


def write_protocol(train, style) -> None:
    import tomli_w

    plan = {
        "name": "Mine",
        "generated": True,
        "leave_one_out": True,
        "settings": {"train": train},
        "methods": {"mine": {"style": style}},
    }
    Path("mine.toml").write_text(tomli_w.dumps(plan))


def run_own(*more):
    return sil("benchmark", "mine.toml", *FLAGS, "--json", *more)


def test_a_run_under_another_protocol_method_or_settings_file_is_refused(cases):
    assert run_own().code == 0
    write_protocol({"temperature": 0.07}, {"rho": 2.0, "clamp": True})
    refused = run_own()
    assert refused.code == 2
    assert "train.temperature = 0.06" in refused.error
    assert "--out DIR" in refused.error
    write_protocol({"temperature": 0.06}, {"rho": 2.0})
    refused = run_own()
    assert refused.code == 2
    assert "style.clamp" in refused.error
    write_protocol({"temperature": 0.06}, {"rho": 2.0, "clamp": True})
    Path("sil.toml").write_text("[train]\nlearning_rate = 0.01\n")
    refused = run_own()
    assert refused.code == 2
    assert "train.learning_rate" in refused.error


def test_scores_of_another_reranking_are_not_taken(cases):
    outcomes = [run_own("--set", "evaluate.rerank=true", "--set", f"rerank.k1={k1}") for k1 in (20, 3)]
    shown = [outcome.document["runs"][0]["key"]["rerank"]["k1"] for outcome in outcomes]
    assert shown == [20, 3]


@pytest.mark.parametrize("key", ["seed=5", "resume=true", "run='x'"])
def test_what_a_benchmark_chooses_itself_cannot_be_given(empty, key):
    outcome = run("--set", f"train.{key}")
    assert outcome.code == 2
    assert "sets train." in outcome.error


def test_it_goes_on_after_an_interruption(empty, monkeypatch):
    calls = []
    original = workflow.train

    def interrupted(*arguments, **more):
        calls.append(arguments)
        if len(calls) == 2:
            raise InterruptedWorkError("Stopped after iteration 3.", "Go on with `sil train --resume`.")
        return original(*arguments, **more)

    monkeypatch.setattr(workflow, "train", interrupted)
    outcome = sil("benchmark", "generated", *FLAGS)
    assert outcome.code == 130
    assert "run 2 of 2" in outcome.error
    assert "same command" in outcome.error
    monkeypatch.setattr(workflow, "train", original)
    done = sil("benchmark", "generated", *FLAGS, "--json")
    assert done.code == 0, done.err
    assert [each["method"] for each in done.document["methods"]] == ["recipe"]
    assert done.document["methods"][0]["mAP"]["harbour"]["deviation"] is None


def test_published_numbers_stand_below_the_measured_ones():
    plan, _ = read_plan("p3", [])
    table = score_table(plan, ["market1501"], [], [])
    row = next(row for row in table.rows if row.method == "IL (SIL), ResNet-50")
    assert [rate.mean for rate in row.scores["market1501"]] == pytest.approx([0.72, 0.885])
    assert row.conditions
    assert table.targets == ("market1501",)


def test_methods_are_the_shipped_the_protocols_own_or_the_recipe():
    plan, _ = read_plan("generated", ["a", "b"])
    assert chosen_methods(plan, []) == {"recipe": {}}
    assert chosen_methods(plan, ["fb"]) == {"fb": {"style": {"name": "none"}, "train": {"second_pass": False}}}
    own = plan.model_copy(update={"methods": {"mine": {"style": {"rho": 1.0}}}})
    assert list(chosen_methods(own, [])) == ["mine"]
    with pytest.raises(UsageError, match="ubz"):
        chosen_methods(plan, ["ubz"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["p3"], "needs the folder that holds its raw data sets"),
        (["p33"], "Did you mean"),
        (["generated", "--method", "none-such"], "There is no method"),
        (["generated-nowhere"], "has no case"),
    ],
)
def test_wrong_usage(empty, arguments, says):
    outcome = sil("benchmark", *arguments)
    assert outcome.code == 2
    assert says in outcome.error


def test_every_shipped_method_is_a_set_of_valid_settings():
    plan, _ = read_plan("generated", ["a", "b"])
    names = ["fb", "fbf", "mixstyle", "dsu", "efdmix", "dir-mixstyle", "batch-style", "dbs", "ubs"]
    for changes in chosen_methods(plan, names).values():
        load_settings(flags=changes)
