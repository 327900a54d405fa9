"""Real processes that torchrun starts: killed, hung, stopped, at odds with each other. All of this takes minutes."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
from commands import TINY_DATA_FLAGS, TINY_TRAIN_FLAGS, settings_flags, sil
from torchrun import COMMAND, end, errors_in, start_torchrun, wait_for

pytestmark = pytest.mark.slow

SETTINGS = {"train.batch_norm": "synchronised", "train.identities": 3, "train.iterations": 12, "train.calibrate": False}
FLAGS = [*TINY_TRAIN_FLAGS, *settings_flags(SETTINGS)]


def losses_of(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def fingerprint_of(run: Path) -> str:
    return json.loads((run / "model.json").read_text())["fingerprint"]


def pid_of(run: Path, number: int) -> int:
    found = re.search(rf"process {number} is (\d+) on", (run / f"logs/rank-{number}.log").read_text())
    return int(found[1])


@pytest.fixture
def copy(world, tmp_path, monkeypatch) -> Path:
    """A copy of the world's data without pixel caches and runs."""
    shutil.copytree(world / "data", tmp_path / "data", ignore=shutil.ignore_patterns("cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("named", [True, False])
def test_a_killed_process_of_three_is_started_anew_from_the_last_checkpoint(copy, named) -> None:
    run = copy / ("killed" if named else "runs/001-dbs")
    where = ["--run", run] if named else []
    process = start_torchrun(3, "train", *FLAGS, *where, "--json", cwd=copy, options=["--max-restarts=1"])
    wait_for(lambda: (run / "checkpoint-0000012.pt").exists(), process)
    os.kill(pid_of(run, 1), signal.SIGKILL)
    out, err = end(process)
    assert process.returncode == 0, err
    assert json.loads(out)["iterations"] == 24  # one document, in spite of two attempts
    assert len(errors_in(err)) == 1
    assert "Process 1 of 3 has ended or stopped responding" in err
    assert "after iteration 12 of 24" in err
    assert [path.name for path in sorted((run / "logs").iterdir())] == ["rank-0.log", "rank-1.log", "rank-2.log"]
    logs = "".join(path.read_text() for path in (run / "logs").iterdir())
    assert len(re.findall("Decoding .*: begun", logs)) == 2  # each of two sources once, by one of three processes
    assert json.loads((run / "run.json").read_text())["processes"] == 3
    if named:  # what came of it is to the bit what three processes come to that nobody kills
        process = start_torchrun(3, "train", *FLAGS, "--run", "whole", cwd=copy)
        _, err = end(process)
        assert process.returncode == 0, err
        assert fingerprint_of(run) == fingerprint_of(copy / "whole")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_training_goes_on_with_another_number_of_processes(copy, how) -> None:
    process = start_torchrun(2, "train", *FLAGS, "--run", "stopped", cwd=copy)
    wait_for(lambda: (copy / "stopped/metrics.jsonl").exists(), process)
    process.send_signal(how)
    _, err = end(process)
    assert process.returncode == 1  # torchrun's own; each process ended with 130
    assert len(errors_in(err)) == 1
    assert "nothing is lost" in err
    assert "sil train --resume --run stopped" in err
    outcome = sil("train", "--resume", "--run", "stopped", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.document["iterations"] == 24
    assert len(losses_of(copy / "stopped")) == 2


def test_a_hung_process_is_named(copy) -> None:
    flags = [*FLAGS, *settings_flags({"distributed.timeout": 6, "train.iterations": 400})]
    process = start_torchrun(2, "train", *flags, "--run", "hung", cwd=copy)
    wait_for(lambda: (copy / "hung/checkpoint-0000000.pt").exists(), process)
    os.kill(pid_of(copy / "hung", 1), signal.SIGSTOP)
    _, err = end(process)
    assert process.returncode == 1
    assert errors_in(err) == ["Error: Process 1 of 2 has ended or stopped responding, so the others stop too."]


def test_processes_at_odds_are_told_what_differs(copy) -> None:
    shell = ["bash", "-c", 'SIL_TRAIN__SEED=$((RANK + 1)) exec "$0" "$@"', *COMMAND]
    process = start_torchrun(2, "train", *FLAGS, "--run", "odds", cwd=copy, command=shell)
    _, err = end(process)
    assert process.returncode == 1
    assert errors_in(err) == ["Error: Process 1 does not agree with process 0: train.seed = 2 (there 1)."]
    assert not (copy / "odds").exists()


def test_data_at_odds_is_told(copy) -> None:
    other = ["--set", "data.synthetic.seed=2", "--set", "data.folder=mine"]
    assert sil("prepare-data", *TINY_DATA_FLAGS, *other).code == 0
    shell = ["bash", "-c", '[ $RANK = 1 ] && export SIL_DATA__FOLDER=mine; exec "$0" "$@"', *COMMAND]
    process = start_torchrun(2, "train", *FLAGS, "--run", "odds", cwd=copy, command=shell)
    _, err = end(process)
    assert process.returncode == 1
    assert len(errors_in(err)) == 1
    assert "Process 1 does not agree with process 0: sources = [" in err or "the manifest of " in err
    assert not (copy / "odds").exists()


def test_more_processes_than_identities_in_a_batch(copy) -> None:
    flags = [*FLAGS, *settings_flags({"train.identities": 2})]
    process = start_torchrun(3, "train", *flags, "--json", cwd=copy)
    out, err = end(process)
    assert process.returncode == 1
    assert json.loads(out)["error"]["exit_code"] == 2
    assert len(errors_in(err)) == 1
    assert "There are 3 processes, but a batch of harbour has 2 identities" in err
    assert not list(copy.glob("runs/*"))


def test_an_error_of_one_process_alone_is_told_by_it(copy) -> None:
    shell = ["bash", "-c", '[ $RANK = 1 ] && cd /; exec "$0" "$@"', *COMMAND]
    process = start_torchrun(2, "train", *FLAGS, cwd=copy, command=shell)
    _, err = end(process)
    assert process.returncode == 1
    assert len(errors_in(err)) == 1
    assert "There is nothing to learn from yet. (process 1 of 2" in err


def test_other_commands_are_refused(copy) -> None:
    _, err = end(process := start_torchrun(2, "evaluate", cwd=copy))
    assert process.returncode == 1
    assert len(errors_in(err)) == 1
    assert "torchrun can run" in err
