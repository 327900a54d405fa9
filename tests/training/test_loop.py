"""The loop: resumable to the bit, stoppable at any iteration, honest about what it selects."""

import errno
import os

import numpy as np
import pytest
import torch
from tiny_network import tiny_embedder

from sil_cli.data.manifest import ImageRecord
from sil_cli.errors import InterruptedWorkError, ModelError, SilError
from sil_cli.runs.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from sil_cli.runtime import SilentReporter, StopRequest
from sil_cli.settings import StyleSettings, SupervisedSettings, TrainSettings
from sil_cli.training.held_out import held_out_map
from sil_cli.training.loop import Training, first_not_finite, has_diverged
from sil_cli.training.method import Interleaved
from sil_cli.training.sources import make_source
from sil_cli.training.supervised import Supervised

SETTINGS = TrainSettings(
    epochs=2,
    iterations=3,
    seed=1,
    learning_rate=1e-3,
    weight_decay=5e-4,
    warmup_epochs=1,
    warmup_factor=0.1,
    milestones=(1,),
    decay=0.1,
    flip=0.5,
    pad=2,
    divergence=0.0,
)
CPU = torch.device("cpu")
VARIATIONS = {
    "the paper's": {},
    "averaged, erased, chosen": {"ema": 0.9, "erasing": 0.5, "select": "held-out"},
    "supervised": {"method": "supervised", "ema": 0.5},
    "random prototypes, styles in both passes": {
        "prototypes": "random",
        "style": {"passes": "both", "after_stages": (1, 2)},
    },
    "FB": {"second_pass": False},
    "a network that drops features at random": {"dropout": 0.5},
}


def make_sources(held_out: float = 0.0):
    rng = np.random.default_rng(3)
    for name in ("north", "south"):
        records = [
            ImageRecord(path=f"{n}.jpg", identity=f"p{n // 4}", camera=f"c{n % 2}", split="train", domain=name)
            for n in range(24)
        ]
        pixels = rng.integers(0, 256, size=(24, 32, 16, 3), dtype=np.uint8)
        yield make_source(name, records, pixels, identities_per_batch=2, instances=2, seed=1, held_out=held_out)


def make_training(
    style: dict[str, object] | None = None, held_out: float | None = None, dropout: float = 0.0, **more
) -> Training:
    settings = TrainSettings.model_validate(SETTINGS.model_dump() | more)
    sources = list(make_sources((0.4 if settings.select == "held-out" else 0.0) if held_out is None else held_out))
    embedder = tiny_embedder()
    if dropout:
        embedder.backbone.convolutions.append(torch.nn.Dropout2d(dropout))
    styling = StyleSettings(**style or {})
    if settings.method == "supervised":
        sizes = {"identities": [source.identities for source in sources], "dimension": embedder.dimension}
        chosen = Supervised(SupervisedSettings(), StyleSettings(name="none"), **sizes, device=CPU)
    else:
        chosen = Interleaved(settings, styling, device=CPU)
    return Training(embedder, sources, chosen, settings, device=CPU)


def ignore(history) -> None:
    del history


class StopAfter(StopRequest):
    """Asks to stop when it has been looked at `count` times."""

    def __init__(self, count: int) -> None:
        self.left = count

    @property
    def requested(self) -> bool:
        self.left -= 1
        return self.left <= 0


def finish(training: Training, folder) -> dict[str, torch.Tensor]:
    """All that a finished training leaves behind."""
    training.run(folder, SilentReporter(), StopRequest(), ignore)
    epoch, kept = training.selected_state()
    state = {f"model {name}": value for name, value in training.embedder.state_dict().items()}
    state |= {f"kept {name}": value for name, value in kept.items()}
    state |= {f"method {name}": value for name, value in training.method.state().items()}
    losses = torch.tensor([[facts["loss"], facts.get("held_out_mAP", 0)] for facts in training.history])
    return state | {"epoch": torch.tensor(epoch), "history": losses}


@pytest.mark.parametrize("variation", VARIATIONS)
def test_stopped_and_resumed_equals_uninterrupted_to_the_bit(tmp_path, variation) -> None:
    (tmp_path / "whole").mkdir()
    whole = make_training(**VARIATIONS[variation])
    whole.start(SilentReporter())
    uninterrupted = finish(whole, tmp_path / "whole")
    # Stopped within the first epoch, once more in the second, and after the very last iteration.
    parts = make_training(**VARIATIONS[variation])
    parts.start(SilentReporter())
    for stop, done in ((1, 1), (3, 4), (2, 6)):
        with pytest.raises(InterruptedWorkError, match=f"iteration {done} of 6") as caught:
            parts.run(tmp_path, SilentReporter(), StopAfter(stop), ignore)
        assert "--resume" in caught.value.fix
        parts = make_training(**VARIATIONS[variation])
        parts.restore(load_checkpoint(tmp_path, SilentReporter()))
        assert parts.iteration == done
    resumed = finish(parts, tmp_path)
    assert resumed.keys() == uninterrupted.keys()
    for name, value in uninterrupted.items():
        assert torch.equal(resumed[name], value), name
    assert [facts["epoch"] for facts in parts.history] == [1, 2]


def test_the_average_is_that_of_the_loop_by_hand(tmp_path) -> None:
    training = make_training(ema=0.9, epochs=1)
    training.start(SilentReporter())
    average = {key: value.clone() for key, value in training.embedder.state_dict().items() if "num_" not in key}
    step = training.method.step

    def watched(*arguments):
        loss = step(*arguments)
        for key, value in training.embedder.state_dict().items():
            if key in average:
                average[key] = 0.9 * average[key] + 0.1 * value
        return loss

    training.method.step = watched
    training.run(tmp_path, SilentReporter(), StopRequest(), ignore)
    _, kept = training.selected_state()
    for key, value in average.items():
        torch.testing.assert_close(kept[key], value, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(kept["neck.weight"], training.embedder.state_dict()["neck.weight"], atol=1e-9)


def test_history_says_what_happened(tmp_path) -> None:
    training = make_training()
    training.start(SilentReporter())
    seen = []
    training.run(tmp_path, SilentReporter(), StopRequest(), lambda history: seen.append(len(history)))
    assert seen == [1, 2]
    assert [facts["learning_rate"] for facts in training.history] == pytest.approx([1e-4, 1e-4])
    assert all(np.isfinite(facts["loss"]) for facts in training.history)
    assert training.images_per_iteration == 8
    assert training.selected_state()[0] == 2


def test_prototypes_start_at_the_centroids_of_eval_embeddings() -> None:
    training = make_training()
    training.start(SilentReporter())
    source = training.sources[0]
    images = torch.from_numpy(source.pixels).permute(0, 3, 1, 2)
    with torch.no_grad():
        embeddings = training.embedder.eval()(images)
    for identity in range(source.identities):
        mean = embeddings[torch.from_numpy(source.labels == identity)].mean(dim=0)
        torch.testing.assert_close(
            training.method.memories[0].prototypes[identity], mean / mean.norm(), rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_the_kept_epoch_is_the_best_on_held_out_identities(tmp_path, ema) -> None:
    options = {"select": "held-out", "epochs": 3, "iterations": 1, "ema": ema}
    training = make_training(**options)
    training.start(SilentReporter())
    training.run(tmp_path, SilentReporter(), StopRequest(), ignore)
    scores = [facts["held_out_mAP"] for facts in training.history]
    epoch, state = training.selected_state()
    assert epoch == 1 + int(np.argmax(scores))
    training.embedder.load_state_dict(state)
    again = held_out_map(training.embedder, training.sources, device=torch.device("cpu"), half=None)
    assert again == pytest.approx(max(scores), abs=1e-6)
    restored = make_training(**options)
    restored.restore(load_checkpoint(tmp_path, SilentReporter()))
    assert restored.selected_state()[0] == epoch


def test_a_loss_that_is_no_number_stops_with_what_to_try(tmp_path) -> None:
    training = make_training()
    training.start(SilentReporter())
    training.method.memories[0].prototypes.fill_(float("nan"))
    with pytest.raises(SilError, match="NaN or infinite") as caught:
        training.run(tmp_path, SilentReporter(), StopRequest(), ignore)
    assert "learning_rate" in caught.value.fix


@pytest.mark.parametrize("what", ["model neck.running_var", "method 1", "average neck.weight"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_an_overflow_that_no_loss_shows_is_neither_saved_nor_kept(tmp_path, what, value) -> None:
    training = make_training(ema=0.5, select="held-out")
    training.start(SilentReporter())
    part, _, name = what.partition(" ")
    step = training.method.step

    def overflowing(*arguments):
        loss = step(*arguments)
        if training.iteration == 5:  # the very last
            states = {"model": training.embedder.state_dict(), "method": training.method.state()}
            states["average"] = training.kept.state_dict()
            states[part][name].view(-1)[-1] = value
        return loss

    training.method.step = overflowing
    with pytest.raises(SilError, match=rf"iteration 6\): {what} has overflowed") as caught:
        training.run(tmp_path, SilentReporter(), StopRequest(), ignore)
    for advice in ("style.rho", "train.learning_rate", "train.precision=bfloat16 or float32", "checkpoint is good"):
        assert advice in caught.value.fix
    assert load_checkpoint(tmp_path, SilentReporter()).iteration == 3
    assert len(training.history) == 1


def test_an_overflow_is_not_saved_when_stopped_either(tmp_path) -> None:
    training = make_training()
    training.start(SilentReporter())
    step = training.method.step

    def overflowing(*arguments):
        loss = step(*arguments)
        training.embedder.neck.running_mean.fill_(float("inf"))
        return loss

    training.method.step = overflowing
    with pytest.raises(SilError, match=r"iteration 1\): model neck.running_mean has overflowed"):
        training.run(tmp_path, SilentReporter(), StopAfter(1), ignore)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-0000000.pt"]


def test_a_diverging_loss_stops_with_what_to_try(tmp_path) -> None:
    training = make_training(epochs=9, iterations=1, divergence=2.0)
    training.start(SilentReporter())
    losses = iter([9.0, 3.0, 5.0, 4.0, 4.99, 5.2])  # chance is ln 6 = 1.79, and twice that 3.58
    training.method.step = lambda *arguments: torch.tensor(next(losses))
    with pytest.raises(SilError, match=r"The loss diverges: 4.99 after epoch 5, where chance is 1\.79") as caught:
        training.run(tmp_path, SilentReporter(), StopRequest(), ignore)
    assert "train.learning_rate" in caught.value.fix
    assert load_checkpoint(tmp_path, SilentReporter()).iteration == 5


def test_the_last_checkpoints_are_kept(tmp_path) -> None:
    training = make_training(epochs=4, iterations=1, keep_checkpoints=3)
    training.start(SilentReporter())
    (tmp_path / "checkpoint-of-mine.pt").write_text("not one of ours")
    training.run(tmp_path, SilentReporter(), StopRequest(), ignore)
    assert [path.name for path in checkpoints(tmp_path)] == [f"checkpoint-000000{number}.pt" for number in (2, 3, 4)]
    assert (tmp_path / "checkpoint-of-mine.pt").exists()


class Listening(SilentReporter):
    """Keeps what it is warned of."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_taken(tmp_path) -> None:
    with pytest.raises(ModelError, match="no checkpoint"):
        load_checkpoint(tmp_path, SilentReporter())
    training = make_training()
    training.start(SilentReporter())
    older = save_checkpoint(tmp_path, training.state())
    whole = older.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"text", whole[:-1]):
        newer = tmp_path / "checkpoint-0000005.pt"
        newer.write_bytes(content)
        listening = Listening()
        assert load_checkpoint(tmp_path, listening).iteration == 0
        assert listening.warnings == [f"{newer} is damaged; resuming from {older.name} instead."]
        assert not newer.exists()
    older.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"checkpoint-0000000.pt is damaged\."):
        load_checkpoint(tmp_path, SilentReporter())
    (tmp_path / "checkpoint-0000005.pt").write_bytes(b"")
    with pytest.raises(ModelError, match="and so is every older one"):
        load_checkpoint(tmp_path, SilentReporter())
    torch.save({"format": 99}, tmp_path / "checkpoint-0000009.pt")
    with pytest.raises(ModelError, match="another version"):
        load_checkpoint(tmp_path, SilentReporter())


def test_a_disk_that_fills_while_saving_leaves_the_older_checkpoint(tmp_path, monkeypatch) -> None:
    training = make_training()
    training.start(SilentReporter())
    before = save_checkpoint(tmp_path, training.state())
    content = before.read_bytes()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    training.iteration = 1
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path, training.state(), keep=1)
    monkeypatch.undo()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [content]
    assert load_checkpoint(tmp_path, SilentReporter()).iteration == 0


def test_frozen_batch_norms_keep_their_statistics(tmp_path) -> None:
    for mode in ("frozen", "per-process"):
        training = make_training(batch_norm=mode, epochs=1)
        training.start(SilentReporter())
        before = training.embedder.state_dict()["backbone.convolutions.0.1.running_mean"].clone()
        training.run(tmp_path, SilentReporter(), StopRequest(), ignore)
        after = training.embedder.state_dict()["backbone.convolutions.0.1.running_mean"]
        assert torch.equal(before, after) == (mode == "frozen")


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([9.0, 9.5, 9.9], True),
        ([1.0, 9.0, 9.0, 9.0], True),
        ([9.0, 9.5, 8.95], True),  # hardly lower than three epochs ago
        ([9.0, 9.0], False),  # too early to say
        ([9.0, 8.0, 7.0], False),  # it falls
        ([9.0, 3.9, 9.0], False),  # one was near chance
        ([4.0, 4.0, 4.0], False),  # twice chance is not above twice chance
        ([9.0, 9.0, 9.0, 2.0, 1.0], False),  # that was long ago
        ([], False),
    ],
)
def test_three_epochs_far_above_chance_that_do_not_fall(losses, expected) -> None:
    assert has_diverged(losses, chance=2.0, factor=2.0) is expected
    assert not has_diverged(losses, chance=2.0, factor=0.0)


def test_the_first_tensor_that_is_not_finite_is_named() -> None:
    whole = {"count": torch.tensor(3), "weight": torch.ones(2, 2), "empty": torch.ones(0)}
    assert first_not_finite({}) is None
    assert first_not_finite({"count": torch.tensor(3)}) is None
    assert first_not_finite(whole) is None
    broken = torch.tensor([1.0, float("inf")])
    assert first_not_finite(whole | {"mean": broken, "later": broken * 0}) == "mean"
