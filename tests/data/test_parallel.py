from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest

from sil_cli.data.parallel import map_in_order


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
