from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sil_cli.errors import UsageError
from sil_cli.settings import find_zone
from sil_cli.times import AmbiguousTimeError, TimeReader

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
        "20240531-134507",
        "20240531T134507.000Z",
        "20240531134507000",
        "240531134507",
        "240531_134507",
        "2024-05-31T13.45.07",
        "2024-05-31 13-45-07",
        "2024_05_31_13_45_07",
        "2024/05/31 13:45:07",
        "2024-05-31_13h45m07s",
        "2024-05-31 13:45:07 UTC",
        "2024-05-31T13:45:07,0",
        "31.05.2024 13:45:07",
        "31/05/2024, 13:45:07",
        "05/31/2024 13:45:07",
        "5/31/2024 1:45:07 PM",
        "31-05-24 13:45:07",
        "2024-W22-5T13:45:07",
        "2024-05-31T08:45:07-05",
        "20240531084507-0500",
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
    "text",
    [
        "",
        "noon",
        "000451",
        "00012345",
        "2024-13-01T00:00:00",
        "2024-02-30",
        "2024:05:31 25:00:00",
        "2024-05-31T24:00:01",
        "2024-05-31T13:45:60",
        "9" * 13,
        "13:45:07",
        "13.45.07",
        "12-10-07",
        "134507",
        "240531",
        "20240531_13",
        "2024-05-31 13-45-07-05",
        "5/31/2024 13:45 PM",
        "946684799",
        "4102444800",
        "1717163107Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:00:00-05:00",
        "２０２４-05-31",
    ],
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        TimeReader().read(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("202405311345", datetime(2024, 5, 31, 13, 45)),
        ("2405311345", datetime(2024, 5, 31, 13, 45)),
        ("2024053113", datetime(2024, 5, 31, 13)),
        ("20240531", datetime(2024, 5, 31)),
        ("20240531134507123", datetime(2024, 5, 31, 13, 45, 7, 123_000)),
        ("991231_235959", datetime(1999, 12, 31, 23, 59, 59)),
        ("946684800", datetime(2000, 1, 1)),
        ("31.05.2024 13:45", datetime(2024, 5, 31, 13, 45)),
        ("05/05/2024", datetime(2024, 5, 5)),
        ("20240531-0500", datetime(2024, 5, 31, 5)),
        ("2024-05-31T13:45-07", datetime(2024, 5, 31, 20, 45)),
        ("12/31/2023 12:05 am", datetime(2023, 12, 31, 0, 5)),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1)),
        ("2017-01-01T08:59:60+09:00", datetime(2017, 1, 1)),
        ("2024-05-31T24:00", datetime(2024, 6, 1)),
        ("20231231240000", datetime(2024, 1, 1)),
    ],
)
def test_forms_of_the_calendar_come_before_seconds(text, moment):
    assert TimeReader().read(text) == moment.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "readings", "time_format", "meant"),
    [
        ("05/06/2024", "2024-06-05T00:00:00 or 2024-05-06T00:00:00", "%d/%m/%Y", datetime(2024, 6, 5)),
        ("10.11.12 13:45", "2010-11-12T13:45:00 or 2012-11-10T", "%y.%m.%d %H:%M", datetime(2010, 11, 12, 13, 45)),
        ("201012101112", "2010-12-10T11:12:00 or 2020-10-12T10:11:12", "%Y%m%d%H%M", datetime(2010, 12, 10, 11, 12)),
        ("1712010203", r"2017-12-01T02:03:00 or 2024-04-01T22:23:23\+00:00", "epoch", datetime(2024, 4, 1, 22, 23, 23)),
    ],
)
def test_what_can_be_read_in_several_ways_needs_a_format(text, readings, time_format, meant):
    with pytest.raises(AmbiguousTimeError, match=readings):
        TimeReader().read(text)
    assert TimeReader(time_format).read(text) == meant.replace(tzinfo=UTC)


def test_no_moment_leaves_the_years_there_are():
    for name in ("Asia/Tokyo", "America/New_York"):
        reader = TimeReader("auto", find_zone(name))
        with pytest.raises(ValueError, match=r"outside the years 1 to 9999|the year would be"):
            reader.read("0001-01-01T00:00:00")
        with pytest.raises(ValueError, match=r"outside the years 1 to 9999|the year would be"):
            reader.read("9999-12-31T23:59:59")
    for text in ("nan", "inf", "1e99", "-1"):
        with pytest.raises(ValueError, match=r".+"):
            TimeReader("epoch").read(text)


@given(st.text(alphabet="0123456789-:./_ TZhmsAPM+,", max_size=26))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_moment_or_none(text):
    with contextlib.suppress(ValueError):
        assert 1970 <= TimeReader().read(text).year <= 2200


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
    with pytest.raises(UsageError, match="'%Y%Y' is not a time format"):
        TimeReader("%Y%Y")
    with pytest.raises(UsageError, match="'%Q' is not a time format"):
        TimeReader("%Q")
    for zone in ("Europe/Bonn", "../etc/passwd", "", "a." * 3000, "a/" * 3000 + "a", "os.path/x", "Europe/\u0411"):
        with pytest.raises(UsageError, match="not a time zone"):
            find_zone(zone)
