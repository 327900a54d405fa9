"""A stop that was asked for is a stop, wherever in a training it falls; what was begun goes on to the same model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from importlib import import_module
from pathlib import Path

import pytest
from commands import TINY_DATA_FLAGS, TINY_TRAIN_FLAGS, settings_flags, sil

from sil_cli.runtime import StopRequest, hear_interrupts, stop_at_safe_point

QUICK = [*TINY_TRAIN_FLAGS, *settings_flags({"model.backbone": "osnet_x0_25", "train.epochs": 1})]
PLACES = {  # what runs when the signal comes, at which of its calls, and whether the model is finished by then
    "the first checkpoint": ("training.loop", "save_checkpoint", 1, False),
    "the last checkpoint": ("training.loop", "save_checkpoint", 2, False),
    "validation": ("training.loop", "held_out_map", 1, False),
    "metrics": ("training.train", "write_metrics", 1, False),
    "the finished facts": ("training.train", "write_facts", 2, False),
    "the finished model": ("training.train", "save_model", 1, True),
    "calibration": ("evaluation.calibrate", "load", 1, True),
    "scores of calibration": ("evaluation.calibrate", "score_pairs", 1, True),
    "the picture of the curves": ("training.train", "read_metrics", 1, True),
}
THOROUGH = [name for name in PLACES if name not in ("the last checkpoint", "calibration", "the finished facts")]


@pytest.fixture
def copy(world, tmp_path, monkeypatch) -> Path:
    shutil.copytree(world / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def send_during(monkeypatch, module: str, name: str, call: int, how: signal.Signals) -> None:
    """Send this process a signal in the midst of the nth call of a function."""
    home = import_module(f"sil_cli.{module}")
    original, calls = getattr(home, name), []

    def interrupted(*arguments, **more):
        calls.append(name)
        result = original(*arguments, **more)
        if len(calls) == call:
            os.kill(os.getpid(), how)
        return result

    monkeypatch.setattr(home, name, interrupted)


def fingerprint(run: Path) -> str:
    return json.loads((run / "model.json").read_text())["fingerprint"]


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.thorough)])
@pytest.mark.parametrize(
    "place", [pytest.param(name, marks=pytest.mark.thorough if name in THOROUGH else ()) for name in PLACES]
)
def test_a_training_stops_wherever_the_signal_falls_and_goes_on_to_the_same_model(copy, monkeypatch, place, how):
    module, name, call, is_finished = PLACES[place]
    more = settings_flags({"train.select": "held-out", "train.held_out": 0.5} if place == "validation" else {})
    whole = sil("train", *QUICK, *more, "--run", "whole")
    assert whole.code == 0, whole.err
    with monkeypatch.context() as patched:
        send_during(patched, module, name, call, how)
        outcome = sil("train", *QUICK, *more, "--run", "stopped", "--json")
    assert outcome.code == 130, outcome.err
    assert outcome.document["error"]["exit_code"] == 130
    assert "--run stopped" in outcome.error or "--model stopped" in outcome.error
    assert (copy / "stopped/model.json").exists() == is_finished
    resumed = sil("train", "--resume", "--run", "stopped")
    assert resumed.code == 0, resumed.err
    assert fingerprint(copy / "stopped") == fingerprint(copy / "whole")
    made = [{path.name for path in (copy / run).iterdir() if path.suffix != ".pt"} for run in ("stopped", "whole")]
    assert made[0] == made[1]


@pytest.mark.thorough
@pytest.mark.parametrize("place", ["the last checkpoint", "calibration", "the picture of the curves"])
def test_a_benchmark_stops_in_the_run_in_which_it_was_asked_to(empty, monkeypatch, place):
    data = [*TINY_DATA_FLAGS, *settings_flags({"data.synthetic.domains": 2})]
    with monkeypatch.context() as patched:
        send_during(patched, *PLACES[place][:3], signal.SIGINT)
        outcome = sil("benchmark", "generated", *data, *QUICK)
    assert outcome.code == 130, outcome.err
    assert "Stopped in run 1 of 2" in outcome.error
    assert "Run 2" not in outcome.error
    assert sil("benchmark", "generated", *data, *QUICK).code == 0


def stop_after(signals: int, done: list[int]) -> None:
    with stop_at_safe_point():
        for number in range(signals):
            os.kill(os.getpid(), signal.SIGTERM)
            done.append(number)


@pytest.mark.parametrize("signals", [1, 2])
def test_a_request_behind_the_last_look_still_interrupts_and_a_second_one_at_once(signals):
    done: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        stop_after(signals, done)
    assert done == [0]


def test_an_interrupt_that_a_destructor_drops_is_known(monkeypatch):
    dropped = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: dropped.append(told.exc_type))

    class Struck:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    stop = StopRequest()
    with hear_interrupts(stop):
        Struck()
    assert dropped == [KeyboardInterrupt]
    assert stop.requested
    with pytest.raises(KeyboardInterrupt):
        stop.check()
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_that_a_script_has_switched_off_stays_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with hear_interrupts(StopRequest()):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
