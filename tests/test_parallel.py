from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest

from sil_cli.runtime import map_in_order, one_ahead


@pytest.mark.parametrize("workers", [0, 1, 5])
@pytest.mark.parametrize("count", [0, 1, 32, 33, 1000])
def test_results_come_in_order(workers, count):
    def slow_at_first(number: int) -> int:
        time.sleep(0.002 if number < 3 else 0)
        return number * number

    lists = list(map_in_order(slow_at_first, range(count), workers=workers))
    assert [result for results in lists for result in results] == [number * number for number in range(count)]
    assert all(0 < len(results) <= 32 for results in lists)


def test_few_are_under_way_at_any_time():
    begun: list[int] = []
    for done, _ in enumerate(map_in_order(begun.append, range(10_000), workers=2), start=1):
        assert len(begun) <= (done + 2 * 4 + 1) * 32


def test_an_exception_in_a_worker_reaches_the_caller_and_stops_the_rest():
    begun: list[int] = []

    def fail(number: int) -> None:
        begun.append(number)
        if number == 40:
            raise ValueError("forty")

    with pytest.raises(ValueError, match="forty"):
        list(map_in_order(fail, range(10_000), workers=2))
    assert len(begun) < 1000


def test_leaving_early_ends_every_worker_after_the_item_at_hand():
    begun: list[int] = []

    def slow(number: int) -> None:
        begun.append(number)
        time.sleep(0.005)

    with closing(map_in_order(slow, range(10_000), workers=3)) as results:
        next(results)
    count = len(begun)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sil-images")]
    time.sleep(0.02)
    assert len(begun) == count < 200


class Made:
    """Makes 0, 1, 2… and notes what was made, in which threads, and that it was closed."""

    def __init__(self, count: int, fails_at: int | None = None) -> None:
        self.made: list[int] = []
        self.threads: set[int] = set()
        self.closed = False
        self.fails_at, self.count = fails_at, count

    def items(self):
        try:
            for number in range(self.count):
                self.threads.add(threading.get_ident())
                if number == self.fails_at:
                    raise ValueError("a bad one")
                self.made.append(number)
                yield number
        finally:
            self.closed = True


@pytest.mark.parametrize("count", [0, 1, 5])
def test_one_ahead_gives_the_same_items_made_in_another_thread(count):
    made = Made(count)
    assert list(one_ahead(made.items())) == list(range(count))
    assert made.closed
    assert len(made.threads) == min(1, count)
    assert threading.get_ident() not in made.threads


def test_one_ahead_makes_one_while_another_is_used_and_no_more():
    made = Made(10)
    with closing(one_ahead(made.items())) as items:
        assert next(items) == 0
        deadline = time.monotonic() + 10
        while len(made.made) < 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)
        assert made.made == [0, 1]
    assert made.closed
    assert made.made == [0, 1]


def test_what_fails_ahead_reaches_the_caller_after_what_came_before():
    made = Made(5, fails_at=2)
    items = one_ahead(made.items())
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ValueError, match="a bad one"):
        next(items)
    assert made.closed
