"""The loop: resumable to the bit, stoppable at any iteration, honest about what it selects."""

import numpy as np
import pytest
import torch

from sil_cli.data.manifest import ImageRecord
from sil_cli.errors import InterruptedWorkError, ModelError, SilError
from sil_cli.models.embedder import Embedder
from sil_cli.models.record import Architecture
from sil_cli.models.stylize import UniformBatchStyle
from sil_cli.runtime import SilentReporter, StopRequest
from sil_cli.training.checkpoint import CHECKPOINT_FILE, load_checkpoint, save_checkpoint
from sil_cli.training.held_out import held_out_map
from sil_cli.training.loop import LoopOptions, Training
from sil_cli.training.sources import make_source
from sil_cli.training.step import StepOptions

OPTIONS = LoopOptions(
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
    select_held_out=False,
    step=StepOptions(),
)


def make_training(options: LoopOptions = OPTIONS, held_out: float = 0.0) -> Training:
    rng = np.random.default_rng(3)
    sources = []
    for name in ("north", "south"):
        records = [
            ImageRecord(path=f"{n}.jpg", identity=f"p{n // 4}", camera=f"c{n % 2}", split="train", domain=name)
            for n in range(24)
        ]
        pixels = rng.integers(0, 256, size=(24, 32, 16, 3), dtype=np.uint8)
        sources.append(
            make_source(name, records, pixels, identities_per_batch=2, instances=2, seed=1, held_out=held_out)
        )
    torch.manual_seed(0)
    embedder = Embedder(Architecture(backbone="resnet18", height=32, width=16))
    return Training(embedder, sources, UniformBatchStyle(), options, device=torch.device("cpu"))


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
    training.run(folder, SilentReporter(), StopRequest(), ignore)
    return training.embedder.state_dict()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> dict[str, torch.Tensor]:
    training = make_training()
    training.start(SilentReporter())
    return finish(training, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("iterations", [1, 3, 4])
def test_stopped_and_resumed_equals_uninterrupted_to_the_bit(tmp_path, uninterrupted, iterations) -> None:
    first = make_training()
    first.start(SilentReporter())
    with pytest.raises(InterruptedWorkError, match=f"iteration {iterations} of 6") as caught:
        first.run(tmp_path, SilentReporter(), StopAfter(iterations), ignore)
    assert "--resume" in caught.value.fix
    second = make_training()
    second.restore(load_checkpoint(tmp_path))
    assert second.iteration == iterations
    resumed = finish(second, tmp_path)
    for name, value in uninterrupted.items():
        assert torch.equal(resumed[name], value), name
    assert [facts["epoch"] for facts in second.history] == [1, 2]


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
        torch.testing.assert_close(training.memories[0].prototypes[identity], mean / mean.norm(), rtol=0, atol=1e-6)


def test_the_kept_epoch_is_the_best_on_held_out_identities(tmp_path) -> None:
    options = LoopOptions(**(vars(OPTIONS) | {"select_held_out": True, "epochs": 3, "iterations": 1}))
    training = make_training(options, held_out=0.4)
    training.start(SilentReporter())
    training.run(tmp_path, SilentReporter(), StopRequest(), ignore)
    scores = [facts["held_out_mAP"] for facts in training.history]
    epoch, state = training.selected_state()
    assert epoch == 1 + int(np.argmax(scores))
    training.embedder.load_state_dict(state)
    again = held_out_map(training.embedder, training.sources, device=torch.device("cpu"), bfloat16=False)
    assert again == pytest.approx(max(scores), abs=1e-6)
    restored = make_training(options, held_out=0.4)
    restored.restore(load_checkpoint(tmp_path))
    assert restored.selected_state()[0] == epoch


def test_a_loss_that_is_no_number_stops_with_what_to_try(tmp_path) -> None:
    training = make_training()
    training.start(SilentReporter())
    training.memories[0].prototypes.fill_(float("nan"))
    with pytest.raises(SilError, match="no longer a number") as caught:
        training.run(tmp_path, SilentReporter(), StopRequest(), ignore)
    assert "learning_rate" in caught.value.fix


def test_a_damaged_checkpoint_is_told(tmp_path) -> None:
    with pytest.raises(ModelError, match="no checkpoint"):
        load_checkpoint(tmp_path)
    training = make_training()
    training.start(SilentReporter())
    save_checkpoint(tmp_path, training.state())
    path = tmp_path / CHECKPOINT_FILE
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"text"):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="damaged"):
            load_checkpoint(tmp_path)
    torch.save({"format": 99}, path)
    with pytest.raises(ModelError, match="another version"):
        load_checkpoint(tmp_path)
