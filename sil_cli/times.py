"""Times as file names, tables, cameras and people write them.

The rule: a text is read only where it can stand for one moment. A run of digits is seconds or milliseconds since 1970
only where that falls between 2000 and tomorrow and no form of a calendar fits; what can be read in several ways needs a
format. A time that says its own offset keeps to it; any other is a clock's reading in the zone of `--timezone`.
Where clocks are put back and a reading happens twice, the first of the two moments is meant.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

from sil_cli.errors import UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import tzinfo

NAMED_FORMATS = ("auto", "epoch", "epoch-ms")

_ZONE = r"(?:\s?(?P<zone>Z|UTC|GMT|[+-]\d\d(?::?\d\d)?))?"
_RUN = re.compile(rf"(?P<digits>\d+)(?:[.,](?P<fraction>\d{{1,9}}))?{_ZONE}", re.ASCII | re.IGNORECASE)
_WRITTEN = re.compile(
    r"(?P<date>\d{8}|\d{6}|\d{1,4}(?P<mark>[-./:_])\d\d?(?P=mark)\d{1,4})"
    r"(?:(?:T|,?\s{1,2}|[_-]{1,2}|\s-\s)"
    r"(?P<clock>\d{6}[.,]?\d{0,9}|\d{4}|\d\d?(?P<sign>[-.:_])\d\d(?:(?P=sign)\d\d(?:[.,]\d{1,9})?)?"
    r"|\d\d?h\d\d(?:m(?:\d\d(?:[.,]\d{1,9})?s?)?)?)"
    rf"(?:\s?(?P<half>[AP])\.?M\.?)?{_ZONE})?",
    re.ASCII | re.IGNORECASE,
)
"""ISO 8601, EXIF's 2024:05:31 13:45:00, 31.05.2024 13:45, 20240531_134507, and the like."""

_COMPACT = {4: (0, 2, 4, *range(6, 16)), 2: (4, 6)}
"""The digits of a time of day that may follow a date, by those of its year: none to hour, minute, second, fraction."""

_FIRST_YEAR, _LAST_YEAR = 1970, 2200
_FIRST_COUNTED = datetime(2000, 1, 1, tzinfo=UTC)


class AmbiguousTimeError(ValueError):
    """A text that can be read as several moments; the message names two of them."""


class TimeReader:
    """Reads times of one format.

    Args:
        time_format: `auto` (any that can be read in one way), `epoch` or `epoch-ms` (seconds or milliseconds since
            1970), or a pattern of strptime such as %d.%m.%Y-%H%M%S.
        zone: The zone of times that don't say theirs; None for the machine's own.

    Raises:
        UsageError: The format is not one of these.
    """

    def __init__(self, time_format: str = "auto", zone: tzinfo | None = UTC) -> None:
        if time_format not in NAMED_FORMATS and not _is_pattern(time_format):
            near = nearest(time_format, NAMED_FORMATS)
            guess = f"Did you mean '{near}'? " if near else ""
            raise UsageError(
                f"'{time_format}' is not a time format.",
                f"{guess}Use {', '.join(NAMED_FORMATS)}, or a pattern such as %Y%m%d-%H%M%S.",
            )
        self._format = time_format
        self._zone = zone

    def read(self, text: str) -> datetime:
        """The moment that a text stands for, in UTC.

        Raises:
            AmbiguousTimeError: It can be read in several ways.
            ValueError: It stands for none in this format, or for one before 1970 or after 2200.
        """
        moment = self.settle(self.parse(text))
        if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
            raise ValueError(f"the year would be {moment.year}")
        return moment

    def settle(self, time: datetime) -> datetime:
        """The same moment in UTC, a time without an offset being read off a clock in the zone.

        Raises:
            ValueError: That lies before the year 1 or after 9999.
        """
        if time.tzinfo is None and self._zone is not None:
            time = time.replace(tzinfo=self._zone)
        try:
            return time.astimezone(UTC)  # of a time without a zone this asks the machine for its own
        except (OverflowError, OSError) as error:
            raise ValueError(f"{time.isoformat()} lies outside the years 1 to 9999 of UTC") from error

    def parse(self, text: str) -> datetime:
        """A text as it says it: without a zone where it says none.

        Raises:
            AmbiguousTimeError: It can be read in several ways.
            ValueError: It stands for no moment in this format.
        """
        text = text.strip()
        if self._format == "auto":
            time = _only_reading(text)
        elif self._format in NAMED_FORMATS:
            time = _since_1970(float(text) / (1000 if self._format == "epoch-ms" else 1))
        else:
            time = datetime.strptime(text, self._format)
        self.settle(time)
        return time


def _is_pattern(time_format: str) -> bool:
    try:
        datetime.strptime("", time_format)
    except ValueError as error:
        return "%" in time_format and "directive" not in str(error) and "stray" not in str(error)
    except re.error:  # one directive twice
        return False
    return False


def _only_reading(text: str) -> datetime:
    readings = list(dict.fromkeys(_readings(text)))
    if len(readings) > 1:
        raise AmbiguousTimeError(" or ".join(one.isoformat() for one in readings[:2]))
    if readings:
        return readings[0]
    if "T" in text or "W" in text:  # hours alone, weeks: fromisoformat would take any letter for the T
        return datetime.fromisoformat(text)
    raise ValueError(f"'{text}' is no time of a known form")


def _readings(text: str) -> Iterator[datetime]:
    """The moments that a text can stand for."""
    written = _WRITTEN.fullmatch(text)
    if written is not None and (written["clock"] or written["mark"]):
        if written["sign"] == "-" and (written["zone"] or "")[:1] == "-":
            return  # 13-45-07-05: hundredths as well as an offset
        clock = re.findall(r"\d+", written["clock"] or "00")
        if len(clock[0]) > 2:
            digits = "".join(clock)
            clock = [digits[:2], digits[2:4], digits[4:6], digits[6:]]
        for date in _dates(written["date"], written["mark"], timed=written["clock"] is not None):
            yield from _moment(date, clock, written["zone"], half=written["half"])
        return
    run = _RUN.fullmatch(text)
    if run is None:
        return
    digits, fraction, zone = run["digits"], run["fraction"] or "", run["zone"]
    for year, lengths in _COMPACT.items():
        date = (digits[:year], digits[year : year + 2], digits[year + 2 : year + 4])
        rest = digits[year + 4 :]
        if len(rest) in lengths and not (fraction and len(rest) != 6) and not (zone and not rest):
            for moment in _moment(date, [rest[:2], rest[2:4], rest[4:6], rest[6:] or fraction], zone):
                if _FIRST_YEAR <= moment.year <= _LAST_YEAR:
                    yield moment
    count = {9: 1, 10: 1, 12: 1000, 13: 1000}.get(len(digits))
    if count and not zone:
        moment = _since_1970(float(f"{digits}.{fraction}") / count)
        if _FIRST_COUNTED <= moment <= _tomorrow():
            yield moment


def _dates(text: str, mark: str | None, *, timed: bool) -> Iterator[tuple[str, str, str]]:
    """Year, month and day, in all orders that are in use."""
    if mark is None:
        year = len(text) - 4
        yield text[:year], text[year : year + 2], text[year + 2 :]
        return
    first, second, third = text.split(mark)
    if len(first) == 4:
        yield first, second, third
    elif len(third) == 4 and mark != ":":
        yield third, second, first
        yield third, first, second
    elif timed and len(first) == len(third) == 2 and mark != ":":  # without a time it might be one
        yield first, second, third
        yield third, second, first
        yield third, first, second


def _moment(
    date: tuple[str, str, str], clock: Sequence[str], zone: str | None, *, half: str | None = None
) -> Iterator[datetime]:
    """The moment of these parts, if there is one: a leap second is the next one, 24:00 the next day's beginning.

    Args:
        date: Year, month, day; a year of two digits is the latest that is not yet to come.
        clock: Hour and, as far as they are known, minute, second and the digits of its fraction.
        zone: Its offset.
        half: A or P, of a clock that counts to 12.
    """
    hour, minute, second, fraction = (*(text or "0" for text in clock), "0", "0", "0")[:4]
    seconds, micro = int(second), int(f"{fraction[:6]:0<6}")
    hours, minutes = int(hour), int(minute)
    if half is not None:
        if not 1 <= hours <= 12:
            return
        hours = hours % 12 + (12 if half in "Pp" else 0)
    leap, midnight = (minutes, seconds) == (59, 60), (hours, minutes, seconds, micro) == (24, 0, 0, 0)
    try:
        year, month, day = map(int, date)
        of_day = (0 if midnight else hours, minutes, 59 if leap else seconds, micro)
        tz = _zone_of(zone)
        if len(date[0]) < 4:
            is_past = datetime(2000 + year, month, day, *of_day, tzinfo=tz or UTC) <= _tomorrow()
            year += 2000 if is_past else 1900
        if len(date[0]) < 4 and year < _FIRST_YEAR:
            return
        moment = datetime(year, month, day, *of_day, tzinfo=tz)
        yield moment + timedelta(days=midnight, seconds=leap)
    except (ValueError, OverflowError):
        return


def _zone_of(text: str | None) -> tzinfo | None:
    if text is None:
        return None
    if text[0] not in "+-":
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[3:].removeprefix(":") or 0))
    return timezone(-offset if text[0] == "-" else offset)


def _tomorrow() -> datetime:
    return datetime.now(UTC) + timedelta(days=1)


def _since_1970(seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError) as error:
        raise ValueError(f"{seconds:g} seconds are too many") from error
