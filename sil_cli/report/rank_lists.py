"""Rank lists: some queries with their first matches, right and wrong marked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from sil_cli.report.contact_sheet import Card, SheetRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from sil_cli.data.manifest import ImageRecord
    from sil_cli.evaluation.report_data import ReportData

    OpenImage = Callable[[ImageRecord], Image.Image | None]

Kind = Literal["best", "typical", "worst"]
KINDS: tuple[Kind, ...] = ("best", "typical", "worst")


@dataclass(frozen=True)
class RankedImage:
    """A gallery image in a rank list.

    Attributes:
        record: The image.
        score: Cosine similarity.
        right: It shows the query's person.
    """

    record: ImageRecord
    score: float
    right: bool


@dataclass(frozen=True)
class RankList:
    """A query and its first matches.

    Attributes:
        query: The image.
        average_precision: In 0..1.
        first_match: Rank of the first right one, from 1.
        matches: In rank order, at most ten.
    """

    query: ImageRecord
    average_precision: float
    first_match: int
    matches: tuple[RankedImage, ...]


def choose(details: ReportData, count: int) -> dict[Kind, list[RankList]]:
    """The queries of the highest, the middle and the lowest average precision, of each person at most one a kind.

    Equal values stand in the order of the queries; for the typical ones what is nearest to the median comes first.
    No query is shown twice.
    """
    arrays = details.arrays
    values = arrays.average_precision[arrays.listed]
    median = float(np.median(arrays.average_precision))
    orders = {"best": -values, "worst": values, "typical": np.abs(values - median)}
    taken: set[int] = set()
    chosen: dict[Kind, list[RankList]] = {}
    for kind in ("best", "worst", "typical"):
        lists: list[RankList] = []
        for at in np.argsort(orders[kind], kind="stable").tolist():
            if len(lists) == count:
                break
            one = _rank_list(details, at)
            if at not in taken and one.query.identity not in {other.query.identity for other in lists}:
                lists.append(one)
                taken.add(at)
        chosen[kind] = lists
    return {kind: chosen[kind] for kind in KINDS}


def _rank_list(details: ReportData, at: int) -> RankList:
    """The rank list of the query at a position of `ReportArrays.listed`."""
    images, arrays = details.record.images, details.arrays
    position = int(arrays.listed[at])
    query = images[arrays.query_image[position]]
    matches = [
        RankedImage(images[row], float(score), images[row].identity == query.identity)
        for row, score in zip(arrays.match_image[at].tolist(), arrays.match_score[at], strict=True)
        if row >= 0
    ]
    return RankList(query, float(arrays.average_precision[position]), int(arrays.first_match[position]), tuple(matches))


def sheet_row(one: RankList, open_image: OpenImage) -> SheetRow:
    """A rank list for a contact sheet."""
    matches = [
        Card(
            open_image(match.record),
            name=match.record.identity,
            facts=_facts(match.record),
            rank=rank,
            score=match.score,
            correct=match.right,
        )
        for rank, match in enumerate(one.matches, start=1)
    ]
    return SheetRow([Card(open_image(one.query), name=one.query.identity, facts=_facts(one.query))], matches)


def _facts(record: ImageRecord) -> list[str]:
    return [] if record.camera is None else [f"camera {record.camera}"]
