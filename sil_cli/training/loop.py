"""The training loop: epochs of interleaved steps that can stop and go on at any iteration."""

from __future__ import annotations

import contextlib
import math
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Self, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sil_cli.distributed.process_group import SINGLE_PROCESS
from sil_cli.errors import InterruptedWorkError, SilError, quoted
from sil_cli.models.cpu import freed_memory_kept
from sil_cli.models.precision import half_precision, to_images
from sil_cli.models.synchronised_norm import synchronise_norms
from sil_cli.runs.checkpoint import Selected, TrainingState, from_bytes, save_checkpoint, to_bytes
from sil_cli.training.augment import erase, flip_and_crop
from sil_cli.training.held_out import held_out_map
from sil_cli.training.optimizer_step import Adam, OptimizerStep, learning_rate
from sil_cli.training.step import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from sil_cli.distributed.process_group import ProcessGroup
    from sil_cli.models.embedder import Embedder
    from sil_cli.runtime import Reporter, StopRequest
    from sil_cli.settings import TrainSettings
    from sil_cli.training.method import Method
    from sil_cli.training.sources import Source

    Prepared = tuple[list[Batch], np.random.Generator]

FUSED = ("cpu", "cuda")
"""Devices whose Adam updates all weights in one kernel; elsewhere torch chooses."""

EPOCHS_TO_DIVERGE = 3
FALLING = 0.99
"""A loss falls when it is at least 1 % lower after these epochs."""

OVERFLOWED = (
    "Try a smaller train.learning_rate or style.rho, a longer train.warmup_epochs, or --set train.precision=bfloat16 "
    "or float32"
)
"""What to do about NaN."""


class Training:
    """One training under way: everything that changes from iteration to iteration.

    Attributes:
        averaged: The exponential moving average of the weights and statistics, where the settings ask for it; it then
            is the model that is tested and kept.
    """

    def __init__(
        self,
        embedder: Embedder,
        sources: Sequence[Source],
        method: Method,
        settings: TrainSettings,
        *,
        device: torch.device,
        group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        """Put the model on the device; the method begins by `start` or `restore`."""
        if settings.batch_norm == "synchronised" and group.world_size > 1:
            synchronise_norms(embedder)
        self.group = group
        self.embedder = embedder.to(device).to(memory_format=torch.channels_last)
        self.sources = sources
        self.method = method
        self.settings = settings
        self.device = device
        optimizer = Adam(
            [each for each in (*self.embedder.parameters(), *method.parameters()) if each.requires_grad],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=device.type in FUSED or None,
        )
        self.optimizer_step = OptimizerStep(optimizer, half=half_precision(settings.precision, device), group=group)
        self.averaged = _average_of(self.embedder, settings.ema) if settings.ema else None
        self.iteration = 0
        self.loss_sum = 0.0
        self.seconds = 0.0
        self.history: list[dict[str, float]] = []
        self.selected: Selected | None = None

    @property
    def total_iterations(self) -> int:
        """Iterations from start to end."""
        return self.settings.epochs * self.settings.iterations

    @property
    def images_per_iteration(self) -> int:
        """Images that pass through the network for gradients, all sources together."""
        return sum(len(source.sampler.batch(0)) for source in self.sources)

    @property
    def images_per_second(self) -> float:
        """Mean rate over all iterations done, 0 before the first."""
        return self.iteration * self.images_per_iteration / self.seconds if self.seconds else 0.0

    @property
    def kept(self) -> Embedder:
        """The model that is tested and kept: the averaged one where there is one."""
        if self.averaged is None:
            return self.embedder
        return cast("Embedder", self.averaged.module)

    def start(self, reporter: Reporter) -> None:
        """Begin: the method sets what it needs by the model's first weights, in eval mode."""
        self.embedder.eval()
        self.method.start(self.embedder, self.sources, reporter, self.group)

    def restore(self, state: TrainingState) -> None:
        """Take up a saved state."""
        self.embedder.load_state_dict(state.embedder)
        self.optimizer_step.restore(state.optimizer_step)
        self.method.restore(state.method)
        if self.averaged is not None and state.averaged is not None:
            self.averaged.load_state_dict(state.averaged)
        self.iteration, self.loss_sum, self.seconds = state.iteration, state.loss_sum, state.seconds
        self.history, self.selected = list(state.history), state.selected

    def state(self) -> TrainingState:
        """All that the next iteration depends on."""
        return TrainingState(
            iteration=self.iteration,
            embedder=self.embedder.state_dict(),
            optimizer_step=self.optimizer_step.state(),
            method=self.method.state(),
            averaged=self.averaged.state_dict() if self.averaged is not None else None,
            loss_sum=self.loss_sum,
            seconds=self.seconds,
            history=self.history,
            selected=self.selected,
        )

    def share_state(self) -> None:
        """Give every process the state of the first one: its weights, whatever else it began with or restored."""
        state = self.group.from_first(lambda: to_bytes(self.state()))
        if not self.group.is_first:
            self.restore(from_bytes(state))

    def run(
        self,
        folder: Path,
        reporter: Reporter,
        stop: StopRequest,
        on_epoch: Callable[[list[dict[str, float]]], None],
    ) -> None:
        """Train to the end, with a checkpoint in `folder` before the first epoch and after every one.

        Args:
            folder: Where the first process writes the checkpoints.
            reporter: Shows loss, rate and time left.
            stop: Looked at after every iteration; a request in any process saves a checkpoint and raises in all.
            on_epoch: Called with the history after every epoch, before its checkpoint is written; in the first
                process alone.

        Raises:
            InterruptedWorkError: `stop` was requested; the checkpoint holds everything done.
            SilError: The loss or what is learnt is NaN or infinite, or the loss has diverged; the checkpoints
                that are there stay.
        """
        if self.iteration == 0:
            self._save(folder)
        with (
            freed_memory_kept(self.device),
            reporter.task("Training", self.total_iterations, "iterations") as task,
            Prefetcher(self._prepare, end=self.total_iterations, device=self.device) as ahead,
        ):
            task.advance(self.iteration)
            while self.iteration < self.total_iterations:
                epoch = self.iteration // self.settings.iterations
                started = time.perf_counter()
                loss = self._iterate(epoch, *ahead.take(self.iteration))
                self.seconds += time.perf_counter() - started
                self.loss_sum += loss
                self.iteration += 1
                at = f"{epoch + 1}/{self.settings.epochs}"
                task.advance(epoch=at, loss=loss, images_per_second=self.images_per_second)
                if self.iteration % self.settings.iterations == 0:
                    self._refuse_overflow()
                    self._end_epoch(epoch, reporter)
                    if self.group.is_first:
                        on_epoch(self.history)
                    self._save(folder)
                    self._stop_if_diverged(epoch)
                if self.group.any(stop.requested):
                    if self.iteration % self.settings.iterations:
                        self._refuse_overflow()
                        self._save(folder)
                    raise InterruptedWorkError(
                        f"Stopped after iteration {self.iteration} of {self.total_iterations}; nothing is lost.",
                        f"Resume it with `sil train --resume --run {quoted(folder)}`.",
                    )

    def selected_state(self) -> tuple[int, dict[str, Tensor]]:
        """The epoch (from 1) and the weights that the settings select."""
        if self.selected is not None:
            return self.selected.epoch, self.selected.embedder
        return self.settings.epochs, self.kept.state_dict()

    def _iterate(self, epoch: int, batches: list[Batch], rng: np.random.Generator) -> float:
        for weights in self.optimizer_step.optimizer.param_groups:
            weights["lr"] = learning_rate(epoch, self.settings)
        self.embedder.train()
        if self.settings.batch_norm == "frozen":
            _freeze_norms(self.embedder)
        self._seed_layers()
        loss = self.method.step(self.embedder, batches, self.optimizer_step, rng).item()
        if self.settings.batch_norm == "per-process":
            held, whole = sum(len(batch.images) for batch in batches), sum(len(batch.labels) for batch in batches)
            self.group.average_statistics(self.embedder, held / whole)
        if self.averaged is not None:
            self.averaged.update_parameters(self.embedder)
        if not math.isfinite(loss):
            raise SilError(
                f"The loss is NaN or infinite (iteration {self.iteration + 1}).",
                f"{OVERFLOWED}.",
            )
        return loss

    def _seed_layers(self) -> None:
        """Let random layers (dropout, stochastic depth) draw by the iteration's number, each process for its part.

        They know torch's own generator only. Seeded again each time, it has no state for a checkpoint to hold.
        """
        of_iteration = np.random.SeedSequence([self.settings.seed, self.iteration, self.group.rank])
        torch.manual_seed(int(of_iteration.generate_state(1)[0]))

    def _stop_if_diverged(self, epoch: int) -> None:
        losses = [facts["loss"] for facts in self.history]
        if has_diverged(losses, chance=self.method.chance, factor=self.settings.divergence):
            raise SilError(
                f"The loss diverges: {losses[-1]:.2f} after epoch {epoch + 1}, where chance is "
                f"{self.method.chance:.2f}.",
                "Try a smaller train.learning_rate, a longer train.warmup_epochs or a higher train.temperature; "
                "train.divergence = 0 never stops.",
            )

    def _refuse_overflow(self) -> None:
        """Keep NaN out of the checkpoints and of the model that is kept.

        The loss tells of the first pass only. What overflows in the second reaches prototypes and running statistics,
        and neither need ever show in a loss. Looked at once an epoch, because it waits for the device.
        """
        learnt = {f"model {name}": tensor for name, tensor in self.embedder.state_dict().items()}
        learnt |= {f"method {name}": tensor for name, tensor in self.method.state().items()}
        if self.averaged is not None:
            learnt |= {f"average {name}": tensor for name, tensor in self.kept.state_dict().items()}
        found = first_not_finite(learnt)
        if self.group.any(found is not None):  # asked of all, so that none waits for one that has stopped
            raise SilError(
                f"A trained value is NaN or infinite (iteration {self.iteration}): "
                f"{found or 'in another process'} has overflowed.",
                f"{OVERFLOWED}, in a new run; the last checkpoint is good and stays, but --resume from it would come "
                "to the same.",
            )

    def _save(self, folder: Path) -> None:
        self._refuse_drift()
        if self.group.is_first:
            save_checkpoint(folder, self.state(), keep=self.settings.keep_checkpoints)

    def _refuse_drift(self) -> None:
        """Compare the weights, statistics and prototypes of all processes, which must be equal to the bit."""
        other = self.group.first_different([*self.embedder.state_dict().values(), *self.method.state().values()])
        if other is not None:
            raise SilError(
                f"The weights of process {other} no longer equal those of process 0 (iteration {self.iteration}).",
                "Resume from the last checkpoint with `sil train --resume`; if it happens again, suspect that machine.",
            )

    def _prepare(self, iteration: int) -> Prepared:
        """The batches of an iteration, and the generator that goes on to draw in its step."""
        rng = np.random.default_rng([self.settings.seed, iteration])
        return [self._batch(source, iteration, rng) for source in self.sources], rng

    def _batch(self, source: Source, iteration: int, rng: np.random.Generator) -> Batch:
        shard = self.group.shard(source.sampler.identities_per_batch, source.sampler.instances)
        pixels, labels = source.batch(iteration, shard)
        flip, pad = self.settings.flip, self.settings.pad
        images = flip_and_crop(to_images(pixels, self.device), rng, flip=flip, pad=pad, shard=shard)
        if self.settings.erasing > 0.0:
            mean = self.embedder.architecture.mean
            images = erase(images, rng, probability=self.settings.erasing, colour=mean, shard=shard)
        return Batch(images=images, labels=torch.from_numpy(labels), shard=shard)

    def _end_epoch(self, epoch: int, reporter: Reporter) -> None:
        facts: dict[str, float] = {
            "epoch": epoch + 1,
            "loss": self.loss_sum / self.settings.iterations,
            "learning_rate": learning_rate(epoch, self.settings),
            "images_per_second": round(self.images_per_second, 1),
        }
        self.loss_sum = 0.0
        if self.settings.select == "held-out":
            score = held_out_map(
                self.kept, self.sources, device=self.device, half=self.optimizer_step.half, group=self.group
            )
            facts["held_out_mAP"] = score
            reporter.note(f"Epoch {epoch + 1}: mAP {score:.3f} on held-out source identities.")
            if self.selected is None or score > self.selected.score:
                state = {name: tensor.cpu().clone() for name, tensor in self.kept.state_dict().items()}
                self.selected = Selected(epoch=epoch + 1, score=score, embedder=state)
        self.history.append(facts)


def _freeze_norms(module: nn.Module) -> None:
    """Let batch norms use, and keep, the statistics that they have."""
    for each in module.modules():
        if isinstance(each, nn.modules.batchnorm._BatchNorm):
            each.eval()


def _average_of(embedder: Embedder, decay: float) -> AveragedModel:
    """θ̄ ← decay·θ̄ + (1 − decay)·θ after every iteration, batch norm's statistics included; it begins at the first θ."""
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    averaged = AveragedModel(embedder, multi_avg_fn=average, use_buffers=True)
    averaged.n_averaged.fill_(1)  # or else the first update would copy
    return averaged


def has_diverged(losses: Sequence[float], *, chance: float, factor: float) -> bool:
    """Whether the last three epochs lie far above chance and do not fall.

    A loss above chance is no failure in itself: with a low temperature a network with random weights begins there
    and comes down. So all three must lie above `factor` times chance, and the last must not be at least 1 % below
    the first of them.

    Args:
        losses: The mean loss of every epoch so far.
        chance: The loss of a model that can't tell anybody apart, for example ln K.
        factor: 0 for never.
    """
    recent = losses[-EPOCHS_TO_DIVERGE:]
    if factor <= 0 or len(recent) < EPOCHS_TO_DIVERGE:
        return False
    return min(recent) > factor * chance and recent[-1] > FALLING * recent[0]


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first floating tensor that holds an infinity or NaN; None where all are finite.

    The device is waited for once, however many tensors there are.

    Args:
        tensors: On one device, by their names.
    """
    floating = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    if not floating:
        return None
    finite = torch.stack([torch.isfinite(tensor).all() for tensor in floating.values()]).tolist()
    return next((name for name, whole in zip(floating, finite, strict=True) if not whole), None)


class Prefetcher:
    """Makes the batches of the next iteration in a thread while those of this one are used; a context manager.

    Batches are pure functions of the iteration's number, so nothing that is made ahead has to be saved: a run that
    stops and goes on makes the same ones again. One thread is enough, since reading, copying and augmenting let go of
    the interpreter; worker processes, and their copies of the data, are not needed.

    On CUDA they are copied and augmented in a stream of their own, beside the running step.

    Args:
        prepare: Makes the batches of an iteration, with the generator that goes on drawing in its step. Is called in
            a thread, for one iteration at a time, with each number once as a rule.
        end: The first iteration that is never asked for.
        device: Where the batches go.
    """

    def __init__(self, prepare: Callable[[int], Prepared], *, end: int, device: torch.device) -> None:
        self._prepare = prepare
        self._end = end
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="sil-batches")
        self._next: tuple[int, Future[Prepared]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def take(self, iteration: int) -> Prepared:
        """The batches of an iteration; those of the one after it are begun.

        Raises:
            Exception: What `prepare` raised for this iteration.
        """
        expected, future = self._next or (None, None)
        if future is None or expected != iteration:
            future = self._pool.submit(self._make, iteration)
        batches, rng = future.result()
        after = iteration + 1
        self._next = (after, self._pool.submit(self._make, after)) if after < self._end else None
        self._hand_over(batches)
        return batches, rng

    def _make(self, iteration: int) -> Prepared:
        with torch.cuda.stream(self._stream) if self._stream else contextlib.nullcontext():
            prepared = self._prepare(iteration)
        if self._stream:
            self._stream.synchronize()  # in this thread: whoever takes the batches finds them finished
        return prepared

    def _hand_over(self, batches: list[Batch]) -> None:
        """Keep the memory of batches made in another stream until the taker's stream is done with it."""
        if self._stream:
            current = torch.cuda.current_stream(self._stream.device)
            for batch in batches:
                batch.images.record_stream(current)
