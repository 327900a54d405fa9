"""The numbers that papers and repositories report for a protocol, with what is known of how they were obtained."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class PublishedResult:
    """One reported pair of numbers.

    Attributes:
        mAP: In percent, as reported.
        rank1: In percent, as reported.
        source: Who reports it.
        conditions: What is known of how it was obtained.
    """

    protocol: str
    method: str
    backbone: str
    target: str
    mAP: float  # noqa: N815 - the field's name for it
    rank1: float
    source: str
    conditions: str


def published_results(protocol: str) -> list[PublishedResult]:
    """All numbers reported for a protocol, in the file's order; none for one that nobody else uses."""
    text = (resources.files("sil_cli") / "comparison" / "published.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(text.splitlines()) if row["protocol"] == protocol]
    return [PublishedResult(mAP=float(row.pop("map")), rank1=float(row.pop("rank1")), **row) for row in rows]
