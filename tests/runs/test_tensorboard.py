"""Metrics for TensorBoard: every epoch once, whatever was interrupted."""

import importlib.util

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sil_cli.errors import SilError, UsageError
from sil_cli.installing import extra_command
from sil_cli.runs.run_folder import TENSORBOARD_FOLDER, TensorBoardLog, require_tensorboard


def history(*losses: float) -> list[dict[str, float]]:
    return [{"epoch": epoch, "loss": loss, "learning_rate": 0.1} for epoch, loss in enumerate(losses, start=1)]


def read(run) -> list[tuple[int, float]]:
    events = EventAccumulator(str(run / TENSORBOARD_FOLDER)).Reload()
    assert set(events.Tags()["scalars"]) == {"train/loss", "train/learning_rate"}
    return [(event.step, event.value) for event in events.Scalars("train/loss")]


def test_a_resumed_run_has_every_epoch_once(tmp_path) -> None:
    log = TensorBoardLog(tmp_path)
    log.write(history(4.0))
    log.write(history(4.0, 3.0))
    log.close()
    assert read(tmp_path) == [(1, 4.0), (2, 3.0)]
    # The second epoch was lost in a kill: the checkpoint knows the first one only.
    log = TensorBoardLog(tmp_path)
    log.write(history(4.0))
    log.write(history(4.0, 2.5))
    log.write(history(4.0, 2.5, 2.0))
    log.close()
    assert read(tmp_path) == [(1, 4.0), (2, 2.5), (3, 2.0)]


def test_a_missing_package_is_told(monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="not installed") as caught:
        require_tensorboard()
    assert extra_command("tensorboard") in caught.value.fix


def test_a_link_in_the_folders_place_is_refused(tmp_path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    run.mkdir()
    other.mkdir()
    (other / "events.out.tfevents.1").write_text("of somebody else")
    (run / TENSORBOARD_FOLDER).symlink_to(other)
    with pytest.raises(SilError, match="tensorboard is a link"):
        TensorBoardLog(run)
    assert (other / "events.out.tfevents.1").read_text() == "of somebody else"
