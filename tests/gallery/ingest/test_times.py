from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sil_cli.errors import UsageError
from sil_cli.gallery.ingest.times import TimeReader
from sil_cli.settings import find_zone

MOMENT = datetime(2024, 5, 31, 13, 45, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-31T13:45:07",
        "2024-05-31 13:45:07Z",
        "2024-05-31T15:45:07+02:00",
        "20240531T134507",
        "20240531134507",
        "20240531_134507",
        "20240531T154507+0200",
        "2024-05-31_13-45-07",
        "2024.05.31 13.45.07",
        "2024:05:31 13:45:07",
        "2024:05:31 15:45:07+02:00",
        "1717163107",
        "1717163107.0",
        "1717163107000",
        " 2024-05-31T13:45:07 ",
    ],
)
def test_one_moment_in_many_hands(text):
    assert TimeReader().read(text) == MOMENT


def test_fractions_are_kept():
    assert TimeReader().read("2024:05:31 13:45:07.25").microsecond == 250_000
    assert TimeReader().read("2024-05-31T13:45:07.123456789Z").microsecond == 123_456
    assert TimeReader().read("2024-05-31") == datetime(2024, 5, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["", "noon", "000451", "00012345", "2024-13-01T00:00:00", "2024:05:31 25:00:00", "9" * 13]
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        TimeReader().read(text)


def test_clocks_are_read_in_the_zone_and_offsets_outrank_it():
    berlin = TimeReader("auto", find_zone("Europe/Berlin"))
    assert berlin.read("2024-05-31T15:45:07") == MOMENT  # summer time
    assert berlin.read("2024-01-31T14:45:07") == datetime(2024, 1, 31, 13, 45, 7, tzinfo=UTC)
    assert berlin.read("2024-05-31T13:45:07Z") == MOMENT
    # Clocks go back at 3 o'clock on 27 October 2024: the first 02:30 is meant, which is still summer time.
    assert berlin.read("2024-10-27T02:30:00") == datetime(2024, 10, 27, 0, 30, tzinfo=UTC)
    assert berlin.settle(datetime(2024, 5, 31, 15, 45, 7)) == MOMENT


def test_the_machines_own_zone(monkeypatch):
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert TimeReader("auto", find_zone("local")).read("2024-05-31T22:45:07") == MOMENT
    finally:
        monkeypatch.undo()
        time.tzset()


def test_formats_of_ones_own():
    assert TimeReader("%d.%m.%Y-%H%M%S").read("31.05.2024-134507") == MOMENT
    assert TimeReader("epoch").read("1717163107") == MOMENT
    assert TimeReader("epoch-ms").read("1717163107000") == MOMENT
    with pytest.raises(ValueError, match="does not match"):
        TimeReader("%d.%m.%Y").read("2024-05-31")


def test_wrong_formats_and_zones_are_named():
    with pytest.raises(UsageError, match="'epochs' is not a time format"):
        TimeReader("epochs")
    with pytest.raises(UsageError, match="Did you mean 'epoch'"):
        TimeReader("epochs")
    for zone in ("Europe/Bonn", "../etc/passwd", ""):
        with pytest.raises(UsageError, match="not a time zone"):
            find_zone(zone)
