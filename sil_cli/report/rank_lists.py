"""Rank lists: some queries with their first matches, right and wrong marked."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from sil_cli.report.contact_sheet import SheetRow, Tile
from sil_cli.report.html import Html, data_uri, element

if TYPE_CHECKING:
    from collections.abc import Callable

    from sil_cli.data.manifest import ImageRecord
    from sil_cli.evaluation.report_files import Details

    OpenImage = Callable[[ImageRecord], Image.Image | None]

Kind = Literal["best", "typical", "worst"]
KINDS: tuple[Kind, ...] = ("best", "typical", "worst")
THUMBNAIL = (96, 192)  # pixels


@dataclass(frozen=True)
class Found:
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
        found: In rank order, at most ten.
    """

    query: ImageRecord
    average_precision: float
    first_match: int
    found: tuple[Found, ...]


def choose(details: Details, count: int) -> dict[Kind, list[RankList]]:
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
            one = rank_list(details, at)
            if len(lists) < count and at not in taken and one.query.identity not in {o.query.identity for o in lists}:
                lists.append(one)
                taken.add(at)
        chosen[kind] = lists
    return {kind: chosen[kind] for kind in KINDS}


def rank_list(details: Details, at: int) -> RankList:
    """The rank list of the query at a position of `DetailArrays.listed`."""
    images, arrays = details.record.images, details.arrays
    position = int(arrays.listed[at])
    query = images[arrays.query_image[position]]
    found = [
        Found(images[row], float(score), images[row].identity == query.identity)
        for row, score in zip(arrays.match_image[at].tolist(), arrays.match_score[at], strict=True)
        if row >= 0
    ]
    return RankList(query, float(arrays.average_precision[position]), int(arrays.first_match[position]), tuple(found))


def rank_list_html(one: RankList, open_image: OpenImage) -> Html:
    """A rank list as a strip of thumbnails."""
    items = [_item("query", "query", one.query, open_image)]
    for rank, found in enumerate(one.found, start=1):
        mark = element("span", "✓" if found.right else "✗")
        label = element("b", mark, f" {rank} · {found.score:.2f}")
        items.append(_item("right" if found.right else "wrong", label, found.record, open_image))
    text = f"Average precision {100 * one.average_precision:.1f} %, first right match at rank {one.first_match}."
    return element("article", element("p", text), element("ol", *items, class_="strip"), class_="ranked")


def sheet_row(one: RankList, open_image: OpenImage) -> SheetRow:
    """A rank list for a contact sheet."""
    tiles = [_tile(found.record, open_image, rank, found.score) for rank, found in enumerate(one.found, start=1)]
    return SheetRow(query=_tile(one.query, open_image), matches=tiles)


def thumbnail(image: Image.Image, size: tuple[int, int] = THUMBNAIL) -> bytes:
    """A small JPEG of an image, its aspect kept."""
    small = image.convert("RGB")
    small.thumbnail(size, Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    small.save(stream, format="JPEG", quality=82)
    return stream.getvalue()


def image_html(image: Image.Image | None, alternative: str) -> Html:
    """A thumbnail, or words where there is no image."""
    if image is None:
        return element("span", "no image")
    return element("img", src=data_uri(thumbnail(image), "image/jpeg"), alt=alternative)


def _item(kind: str, label: str, record: ImageRecord, open_image: OpenImage) -> Html:
    where = "" if record.camera is None else f"camera {record.camera}"
    return element(
        "li",
        element("div", image_html(open_image(record), f"{kind}: {record.identity}"), class_="frame"),
        label if isinstance(label, Html) else element("b", label),
        element("i", record.identity),
        element("i", where) if where else "",
        class_=kind,
        title=record.path,
    )


def _tile(
    record: ImageRecord,
    open_image: OpenImage,
    rank: int | None = None,
    score: float | None = None,
) -> Tile:
    return Tile(
        image=open_image(record),
        identity=record.identity,
        camera=record.camera,
        rank=rank,
        score=score,
        name=record.path,
        domain=record.domain,
    )
