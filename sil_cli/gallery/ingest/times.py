"""Times as file names, tables and cameras write them, as moments in UTC.

The rule: a time that says its own offset keeps to it; any other is a clock's reading in the zone of `--timezone`.
Where clocks are put back and a reading happens twice, the first of the two moments is meant.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sil_cli.errors import UsageError, nearest

if TYPE_CHECKING:
    from datetime import tzinfo

NAMED_FORMATS = ("auto", "epoch", "epoch-ms")

_CLOCK = re.compile(
    r"(\d{4})[-:._]?(\d\d)[-:._]?(\d\d)[T _-]{0,2}(\d\d)[-:._h]?(\d\d)[-:._m]?(\d\d)(?:[.,](\d{1,9}))?s?"
    r"\s*(Z|[+-]\d\d(?::?\d\d)?)?"
)
"""ISO 8601, extended or basic, EXIF's 2024:05:31 13:45:00, and what cameras make of them in file names."""

_SECONDS = re.compile(r"\d{9,10}(\.\d+)?")
_MILLISECONDS = re.compile(r"\d{12,13}")
_FIRST_YEAR, _LAST_YEAR = 1970, 2200


class TimeReader:
    """Reads times of one format.

    Args:
        time_format: `auto` (ISO 8601, EXIF, or seconds or milliseconds since 1970, told apart by their looks),
            `epoch`, `epoch-ms`, or a pattern of strptime such as %d.%m.%Y-%H%M%S.
        zone: The zone of times that don't say theirs; None for the machine's own.

    Raises:
        UsageError: The format is not one of these.
    """

    def __init__(self, time_format: str = "auto", zone: tzinfo | None = UTC) -> None:
        if time_format not in NAMED_FORMATS and "%" not in time_format:
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
            ValueError: It stands for none in this format, or for one before 1970.
        """
        moment = self.settle(self._parse(text.strip()))
        if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
            raise ValueError(f"the year would be {moment.year}")
        return moment

    def settle(self, time: datetime) -> datetime:
        """The same moment in UTC, a time without an offset being read off a clock in the zone."""
        if time.tzinfo is None and self._zone is not None:
            time = time.replace(tzinfo=self._zone)
        return time.astimezone(UTC)  # of a time without a zone this asks the machine for its own

    def _parse(self, text: str) -> datetime:
        if "%" in self._format:
            return datetime.strptime(text, self._format)
        if self._format == "epoch" or (self._format == "auto" and _SECONDS.fullmatch(text)):
            return _since_1970(float(text))
        if self._format == "epoch-ms" or (self._format == "auto" and _MILLISECONDS.fullmatch(text)):
            return _since_1970(float(text) / 1000)
        clock = _CLOCK.fullmatch(text)
        if clock is None:
            return datetime.fromisoformat(text)
        year, month, day, hour, minute, second, fraction, offset = clock.groups()
        return datetime.fromisoformat(
            f"{year}-{month}-{day}T{hour}:{minute}:{second}.{(fraction or '0')[:6]:0<6}{offset or ''}"
        )


def _since_1970(seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError) as error:
        raise ValueError(f"{seconds:g} seconds are too many") from error
