"""The counts of a data set beside the published ones, and what is said where they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sil_cli.data.published import compare, publication
from sil_cli.errors import DataError
from sil_cli.results import ComparedCount

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sil_cli.data.manifest import ImageRecord
    from sil_cli.runtime import Reporter

SHOWN_COUNTS = 3


@dataclass(frozen=True)
class Counts:
    """What was counted of a data set, where counts of it were published.

    Attributes:
        name: The data set's name.
        source: Who published counts; None where nobody did.
        compared: Those counts beside what was found.
    """

    name: str
    source: str | None
    compared: list[ComparedCount]

    @property
    def wrong(self) -> list[ComparedCount]:
        """Those that differ."""
        return [each for each in self.compared if each.found != each.expected]


def count(
    name: str, reader: str, options: Mapping[str, Any], records: Sequence[ImageRecord], *, left_out: int
) -> Counts:
    """Count records as the published counts do.

    Args:
        name: The data set's name.
        reader: Who read it.
        options: By which options.
        records: What is in it.
        left_out: Images that were named but could not be used.
    """
    published = publication(reader, options)
    compared = [
        ComparedCount(split=each.split, what=each.what, expected=each.expected, found=each.found, cause=each.cause)
        for each in compare(reader, options, records, left_out=left_out)
    ]
    return Counts(name, published.source if published else None, compared)


def check_counts(counts: Counts, reporter: Reporter, *, strict: bool) -> None:
    """Warn of every count that is not the published one.

    Raises:
        DataError: There is one, and `strict` is set.
    """
    wrong = counts.wrong
    for cause in dict.fromkeys(each.cause for each in wrong):
        those = [each for each in wrong if each.cause == cause]
        shown = [f"{each.found:,} {each.what} in {each.split}, not {each.expected:,}" for each in those]
        more = f"; and {len(shown) - SHOWN_COUNTS} more" if len(shown) > SHOWN_COUNTS else ""
        reporter.warn(f"{counts.name} is not as published: {'; '.join(shown[:SHOWN_COUNTS])}{more}. Likely: {cause}.")
    if strict and wrong:
        raise DataError(
            f"{counts.name} is not as published ({counts.source}): {len(wrong)} counts differ.",
            "Mend what the warnings say, or leave --strict out.",
        )
