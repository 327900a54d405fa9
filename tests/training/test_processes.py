"""Who shares a training: how many are too many, and which run a restart takes up."""

import pytest
import torch
from commands import TINY_TRAIN

from sil_cli.defaults import source_folders
from sil_cli.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from sil_cli.errors import SilError, UsageError
from sil_cli.runs.run_folder import read_facts, write_facts
from sil_cli.runtime import Launch, SilentReporter
from sil_cli.settings import load_settings
from sil_cli.training.compose import compose
from sil_cli.training.processes import RankLog, TrainingProcesses
from sil_cli.training.sources import load_sources


def settings_of(**train):
    nested: dict[str, dict[str, object]] = {"train": {}, "model": {"backbone": "resnet18", "weights": "none"}}
    for key, value in TINY_TRAIN.items():
        section, _, name = key.partition(".")
        nested[section][name] = value
    nested["train"] |= train
    return load_settings(flags=nested)


@pytest.mark.parametrize(
    ("count", "train", "told"),
    [
        (5, {"identities": 4}, "There are 5 processes, but a batch of harbour has 4 identities"),
        (3, {}, "There are 3 processes, but a batch of harbour has 2 identities"),
        (2, {"instances": 1}, "With 2 processes one of them has a single image of harbour in a batch"),
    ],
)
def test_too_many_processes_are_refused(in_world, count, train, told) -> None:
    settings = settings_of(**train)
    datasets = load_sources(source_folders((), settings.data.folder))
    with pytest.raises(UsageError) as caught:
        compose(settings, datasets, SilentReporter(), fresh=False, group=ProcessGroup(0, count))
    assert told in caught.value.what
    assert "Start" in caught.value.fix


def test_a_single_image_each_will_do_where_norms_are_synchronised(in_world) -> None:
    settings = settings_of(instances=1, batch_norm="synchronised")
    datasets = load_sources(source_folders((), settings.data.folder))
    training = compose(settings, datasets, SilentReporter(), fresh=False, group=ProcessGroup(0, 2))
    assert training.images_per_iteration == 4


def test_a_restart_finds_the_run_that_its_launch_began(world, tmp_path) -> None:
    facts = read_facts(world / "runs/001-dbs")

    def run(name: str, launch: str | None, *, finished: bool = False) -> None:
        (tmp_path / name).mkdir()
        write_facts(tmp_path / name, facts.model_copy(update={"launch": launch}))
        if finished:
            (tmp_path / name / "model.json").write_text("{}")

    def begun(attempt: int, name: str = "job", **train):
        launch = Launch(attempt=attempt, name=name)
        processes = TrainingProcesses(launch, SINGLE_PROCESS, torch.device("cpu"), None, SilentReporter())
        return processes.run_before_restart(load_settings(flags={"train": {"runs": tmp_path, **train}}))

    run("001-dbs", "older", finished=True)
    run("002-ubs", None)
    assert begun(1) is None  # it died before it began
    assert begun(1, name="older") == tmp_path / "001-dbs"  # one died when all was done: not to be trained again
    run("003-ubs", "job")
    run("004-ubs", "another")
    (tmp_path / "005-ubs").mkdir()
    assert begun(0) is None
    assert begun(1) == begun(2) == tmp_path / "003-ubs"
    assert begun(1, name="another") == tmp_path / "004-ubs"
    assert begun(1, run=tmp_path / "002-ubs") == tmp_path / "002-ubs"
    assert begun(1, run=tmp_path / "006") is None


def test_every_process_keeps_a_log(tmp_path) -> None:
    class Heard(SilentReporter):
        notes: tuple[str, ...] = ()

        def note(self, text: str) -> None:
            self.notes += (text,)

    heard = Heard()
    log = RankLog(3, heard)
    log.note("before the folder is known")

    def fail() -> None:
        with log.opened(tmp_path), log.task("Training", 9, "iterations") as task:
            task.advance(2, loss=0.5)
            raise SilError("It broke.", "Mend it.") from OSError("the cable")

    with pytest.raises(SilError, match="It broke"):
        fail()
    lines = [line.partition(" ")[2] for line in (tmp_path / "logs/rank-3.log").read_text().splitlines()]
    assert lines[0].startswith("process 3 is ")
    assert lines[1:] == [
        "before the folder is known",
        "Training: begun, 9 iterations",
        "ended by SilError: It broke. Mend it",
        "because of OSError: the cable",
    ]
    assert heard.notes == ("before the folder is known",)


@pytest.mark.parametrize("planted", ["logs", "logs/rank-3.log"])
def test_a_log_is_never_written_through_a_link(tmp_path, planted) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    (run / planted).parent.mkdir(parents=True)
    other.mkdir()
    (other / "rank-3.log").write_text("not ours\n")
    (run / planted).symlink_to(other if planted == "logs" else other / "rank-3.log")
    log = RankLog(3, SilentReporter())
    with pytest.raises((SilError, OSError), match="a link"), log.opened(run):
        pass
    assert (other / "rank-3.log").read_text() == "not ours\n"
