"""What a run that goes on is made of: its own settings, whatever is set now, and nothing is lost on the way."""

import errno
import json
import shutil
from pathlib import Path

import pytest
import torch
from commands import TINY_TRAIN_FLAGS, sil

from sil_cli.runs import checkpoint

pytestmark = pytest.mark.thorough


@pytest.fixture
def stopped(world, tmp_path, monkeypatch) -> Path:
    """A run that was stopped after its first epoch of two, in a copy of the world's data."""
    shutil.copytree(world / "data", tmp_path / "data")
    run = tmp_path / "run"
    shutil.copytree(world / "runs/001-dbs", run)
    for made in (
        "model.json",
        "model.safetensors",
        "export.json",
        "calibration.json",
        "curves.png",
        "checkpoint-0000004.pt",
    ):
        (run / made).unlink(missing_ok=True)
    shutil.rmtree(run / "evaluation", ignore_errors=True)
    rename_sources(run, world, tmp_path)
    monkeypatch.chdir(tmp_path)
    return run


def rename_sources(run: Path, world: Path, folder: Path) -> None:
    facts = run / "run.json"
    facts.write_text(facts.read_text().replace(str(world), str(folder)))


def go_on(run: Path, *more):
    return sil("train", "--resume", "--run", run, "--json", *more)


def fingerprint(run: Path) -> str:
    return json.loads((run / "model.json").read_text())["fingerprint"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [("SIL_MODEL__MEAN", "[0.1, 0.1, 0.1]"), ("SIL_MODEL__STD", "[0.9, 0.9, 0.9]"), ("SIL_MODEL__DIMENSION", "64")],
)
def test_settings_that_a_run_began_without_do_not_come_from_elsewhere(world, stopped, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    Path("sil.toml").write_text("[train]\nprotocol = 'of another'\n")
    outcome = go_on(stopped)
    assert outcome.code == 0, outcome.err
    assert fingerprint(stopped) == fingerprint(world / "runs/001-dbs")
    assert json.loads((stopped / "run.json").read_text())["protocol"] != "of another"


def test_what_does_not_change_the_model_may_be_given_anew(stopped):
    outcome = go_on(stopped, "--set", "train.calibrate=false", "--set", "calibrate.images=20")
    assert outcome.code == 0, outcome.err
    assert not (stopped / "calibration.json").exists()


def test_what_changes_it_may_not(stopped):
    refused = go_on(stopped, "--set", "train.temperature=0.5")
    assert refused.code == 2
    assert "train.temperature = 0.1, not 0.5" in refused.error


def test_settings_of_the_calibration_are_kept_with_the_run(empty, world):
    arguments = [*TINY_TRAIN_FLAGS, "--set", "train.epochs=1", "--set", "calibrate.images=17", "--run", "one"]
    sources = [part for name in ("harbour", "orchard") for part in ("--source", world / "data" / name)]
    assert sil("train", *arguments, *sources).code == 0
    assert "images = 17" in Path("one/settings.toml").read_text()


def test_a_finished_run_gets_what_it_lacks(world, stopped):
    assert go_on(stopped).code == 0
    made = {"calibration.json", "curves.png"} & {path.name for path in (world / "runs/001-dbs").iterdir()}
    assert "curves.png" in made
    for name in made:
        (stopped / name).unlink()
    outcome = go_on(stopped)
    assert outcome.code == 0, outcome.err
    assert "there is nothing left to do" not in outcome.error
    assert made <= {path.name for path in stopped.iterdir()}


def test_a_checkpoint_is_evaluated_beside_its_run(world, tmp_path, monkeypatch):
    shutil.copytree(world, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    (of_the_run,) = Path("runs/001-dbs/evaluation").glob("*/results.json")
    before = of_the_run.read_bytes()
    outcome = sil("evaluate", "--model", "runs/001-dbs/checkpoint-0000002.pt", "--json")
    assert outcome.code == 0, outcome.err
    assert of_the_run.read_bytes() == before
    assert Path(outcome.document["results"]).parent.name == f"{of_the_run.parent.name}-checkpoint-0000002"
    assert outcome.document["conditions"]["model"] == "checkpoint after iteration 2"


def test_a_model_is_not_trained_over(world, empty):
    shutil.copytree(world / "runs/001-dbs", "imported")
    Path("imported/run.json").unlink()
    before = Path("imported/model.safetensors").read_bytes()
    outcome = sil("train", *TINY_TRAIN_FLAGS, "--source", world / "data/harbour", "--run", "imported")
    assert outcome.code == 2
    assert "already holds a model" in outcome.error
    assert Path("imported/model.safetensors").read_bytes() == before


def test_a_checkpoint_that_cannot_be_read_is_not_taken_for_damaged(stopped, monkeypatch):
    newest = checkpoint.checkpoints(stopped)[-1]
    before = newest.read_bytes()

    def failing(path, **_):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(checkpoint, "read_bytes", failing)
    outcome = go_on(stopped)
    assert outcome.code == 1
    assert "Input/output error" in outcome.error
    assert newest.read_bytes() == before


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda content: content.pop("selected"), "does not hold what a checkpoint should"),
        (lambda content: content["embedder"].popitem(), "does not fit the settings"),
    ],
)
def test_a_checkpoint_of_something_else_is_told(stopped, spoil, says):
    newest = checkpoint.checkpoints(stopped)[-1]
    content = torch.load(newest, weights_only=True)
    spoil(content)
    torch.save(content, newest)
    outcome = go_on(stopped)
    assert outcome.code == 1
    assert says in outcome.error


def test_settings_that_are_gone_or_name_other_sources_are_told(stopped):
    settings = stopped / "settings.toml"
    text = settings.read_text()
    settings.unlink()
    outcome = go_on(stopped)
    assert outcome.code == 1
    assert "has lost its settings" in outcome.error
    settings.write_text("\n".join(line for line in text.splitlines() if "orchard" not in line))
    outcome = go_on(stopped)
    assert outcome.code == 1
    assert "sources" in outcome.error


def test_ctrl_c_before_the_first_checkpoint_says_how_to_go_on(world, empty, monkeypatch):
    from sil_cli.training.loop import Training

    monkeypatch.setattr(Training, "start", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    outcome = sil("train", *TINY_TRAIN_FLAGS, "--source", world / "data/harbour", "--run", "early")
    assert outcome.code == 130
    assert "sil train --resume --run early" in outcome.error


def test_the_newest_unfinished_run_is_a_numbered_one(stopped):
    outcome = sil("train", "--resume")
    assert outcome.code == 2
    assert "no unfinished numbered run" in outcome.error


def test_data_that_have_moved_are_named_and_the_run_goes_on_to_the_same_model(world, stopped):
    moved = Path(shutil.move("data", "elsewhere"))
    lost = go_on(stopped)
    assert lost.code == 1
    assert "harbour" in lost.error
    assert f"sil train --resume --run {stopped} --source DIR" in lost.error
    names = ["orchard", "harbour"]  # in another order than the run's
    outcome = go_on(stopped, *(part for name in names for part in ("--source", moved / name)))
    assert outcome.code == 0, outcome.err
    assert fingerprint(stopped) == fingerprint(world / "runs/001-dbs")
    facts = json.loads((stopped / "run.json").read_text())
    assert [source["folder"] for source in facts["sources"]] == ["elsewhere/harbour", "elsewhere/orchard"]
    (stopped / "curves.png").unlink()
    again = go_on(stopped)  # without naming them again
    assert again.code == 0
    assert "can't be used" not in again.error


def test_only_the_source_that_moved_need_be_named(world, stopped):
    shutil.move("data/orchard", "orchard-elsewhere")
    outcome = go_on(stopped, "--source", "orchard-elsewhere")
    assert outcome.code == 0, outcome.err
    assert fingerprint(stopped) == fingerprint(world / "runs/001-dbs")


def test_other_data_are_not_taken_for_a_runs_own(stopped):
    refused = go_on(stopped, "--source", "data/atrium")
    assert refused.code == 1
    assert "data/atrium is not the data that" in refused.error
    assert not (stopped / "model.json").exists()


@pytest.mark.parametrize("moves", [False, True])
def test_a_relative_run_is_resumed_from_elsewhere_and_finds_its_data(world, stopped, tmp_path, monkeypatch, moves):
    facts = json.loads((stopped / "run.json").read_text())
    assert [Path(source["folder"]).is_absolute() for source in facts["sources"]] == [False, False]
    project = tmp_path
    if moves:  # the run and its data together
        project = Path(shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-moved")))
        shutil.rmtree(tmp_path / "data")
    (project / "other/data/harbour").mkdir(parents=True)
    monkeypatch.chdir(project / "other")
    outcome = go_on(Path("../run"))
    assert outcome.code == 0, outcome.err
    assert fingerprint(project / "run") == fingerprint(world / "runs/001-dbs")
    assert Path(outcome.document["target"]).resolve() == project / "data/atrium"
    assert "images of" in outcome.error  # thresholds were tried on people of the sources
    assert "can't be used" not in outcome.error


def test_a_folder_of_the_same_name_with_other_data_is_passed_over(world, stopped, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    shutil.copytree("data/orchard", "other/data/harbour")  # other people under the source's name
    monkeypatch.chdir(tmp_path / "other")
    outcome = go_on(Path("../run"))
    assert outcome.code == 0, outcome.err
    assert fingerprint(tmp_path / "run") == fingerprint(world / "runs/001-dbs")
