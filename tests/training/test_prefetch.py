"""One batch ahead, and never another one than was asked for."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from sil_cli.training.loop import Prefetcher
from sil_cli.training.step import Batch

CPU = torch.device("cpu")


class Maker:
    """Makes batches that say which iteration they are of, and notes where and when."""

    def __init__(self, device: torch.device = CPU, fails_at: int | None = None) -> None:
        self.device = device
        self.fails_at = fails_at
        self.made: list[int] = []
        self.threads: set[int] = set()

    def __call__(self, iteration: int):
        self.made.append(iteration)
        self.threads.add(threading.get_ident())
        if iteration == self.fails_at:
            raise ValueError("a picture is gone")
        rng = np.random.default_rng([7, iteration])
        images = torch.from_numpy(rng.integers(0, 256, (4, 3, 8, 4), dtype=np.uint8)).to(self.device)
        return [Batch(images=images, labels=torch.full((4,), iteration, device=self.device))], rng


def same(one, other) -> bool:
    (batches, rng), (others, other_rng) = one, other
    return (
        all(torch.equal(a.images.cpu(), b.images.cpu()) for a, b in zip(batches, others, strict=True))
        and all(torch.equal(a.labels.cpu(), b.labels.cpu()) for a, b in zip(batches, others, strict=True))
        and rng.bit_generator.state == other_rng.bit_generator.state
    )


def test_the_batches_are_those_that_are_made_when_they_are_asked_for() -> None:
    maker = Maker()
    with Prefetcher(maker, end=6, device=CPU) as ahead:
        for iteration in range(6):
            assert same(ahead.take(iteration), Maker()(iteration))
    assert maker.made == list(range(6))  # each once, and none past the end
    assert threading.get_ident() not in maker.threads


def test_the_next_is_made_while_this_is_used() -> None:
    maker = Maker()
    with Prefetcher(maker, end=9, device=CPU) as ahead:
        ahead.take(3)
        for _ in range(1000):
            if maker.made == [3, 4]:
                break
            time.sleep(0.005)
        assert maker.made == [3, 4]  # one ahead, not two


def test_another_iteration_than_the_next_may_be_asked_for() -> None:
    with Prefetcher(Maker(), end=9, device=CPU) as ahead:
        for iteration in (2, 7, 0, 8, 8):
            assert same(ahead.take(iteration), Maker()(iteration))


def test_an_error_is_raised_where_the_batch_is_taken() -> None:
    with Prefetcher(Maker(fails_at=1), end=9, device=CPU) as ahead:
        ahead.take(0)
        with pytest.raises(ValueError, match="a picture is gone"):
            ahead.take(1)


def test_leaving_ends_the_thread() -> None:
    before = threading.active_count()
    with Prefetcher(Maker(), end=100, device=CPU) as ahead:
        ahead.take(0)
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


@pytest.mark.gpu
def test_on_cuda_the_batches_are_the_same_while_the_device_is_busy() -> None:
    device = torch.device("cuda")
    weights = torch.randn(4096, 4096, device=device)
    with Prefetcher(Maker(device), end=200, device=device) as ahead:
        for iteration in range(200):
            prepared = ahead.take(iteration)
            weights = torch.nn.functional.normalize(weights @ weights)
            assert same(prepared, Maker()(iteration))
