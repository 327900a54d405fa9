"""Whether the two sides of a test write their labels alike: cameras, and the people themselves.

Evaluation ignores a gallery image of the query's person by the query's camera, and takes labels as they stand. A camera
that is "1" here and "c1" there is two cameras: nothing is ignored, and every figure rises though nothing looks wrong.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from numbers import Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterable, Mapping

    from sil_cli.data.manifest import ImageRecord

    Labelled = Callable[[], Iterable[tuple[Hashable, Hashable]]]
    """Gives the identity and the camera of each image of a side, as often as it is asked."""

    Counts = Counter[tuple[Hashable, Hashable]]
    """Images by identity and camera."""

_CAMERA_WORDS, _IDENTITY_WORDS = "cameras?|kamera|cam|c", "persons?|identity|ident|pid|id|p"
_NO_NAMES = {"", "-1", "nan", "none", "null", "na", "n/a", "<na>", "unknown", "?"}
"""What tables and programs write where nothing is known."""

_SHOWN = 3


def label_warnings(query: Labelled, gallery: Labelled | None = None) -> list[str]:
    """What makes the figures of a test doubtful, judged by the labels of its two sides alone.

    Sides whose cameras are disjoint because the protocol has it so (one camera against others, as in VIPeR) are not
    doubted, nor are cameras that only one of the sides has.

    Args:
        query: The queries, without junk.
        gallery: The gallery, without junk; None where each image is compared with all others.

    Returns:
        A sentence or two each: what is wrong, with counts and examples, and what to do.
    """
    queries = Counter(query())
    if gallery is None:
        return [*_unknown_cameras({"images": queries}), *_misnamed_cameras(queries, queries)]
    people = {identity for identity, _ in queries}
    images = Counter(each for each in gallery() if each[0] in people)
    missing = people - {identity for identity, _ in images}
    found = _misspelt_people(missing, gallery, nobody=missing == people) if missing else []
    found += _unknown_cameras({"queries": queries, "gallery images of their people": images})
    return [*found, *_misnamed_cameras(queries, images)]


def of_records(records: Iterable[ImageRecord]) -> Labelled:
    """The labels of some records of a manifest."""
    kept = [(record.identity, record.camera) for record in records if not record.junk]
    return lambda: kept


def is_unknown(camera: Any) -> bool:
    """Whether a camera's label says that the camera is unknown: None, a negative number, "", "nan" and the like."""
    if camera is None or camera != camera:  # NaN
        return True
    return camera < 0 if isinstance(camera, Real) else _text(camera).casefold() in _NO_NAMES


def _misspelt_people(missing: set[Hashable], gallery: Labelled, *, nobody: bool) -> list[str]:
    """Gallery identities pass by one at a time: millions of distractors need no memory here."""

    def spelt(identity: Hashable) -> str:
        text = _spelling(identity, _IDENTITY_WORDS)
        return re.sub(r"^\D+(?=\d[\d-]*$)", "", text) if nobody else text  # where nobody is found, by the number alone

    wanted = {spelt(identity): identity for identity in missing}
    pairs: dict[Hashable, Hashable] = {}
    for identity, _ in gallery():
        one = wanted.get(spelt(identity))
        if one is not None:
            pairs[one] = identity
            if len(pairs) == len(wanted):
                break
    if not pairs:
        return []
    return [
        f"{len(pairs):,} of the queries' people are written differently in the gallery ({_pairs(pairs.items())}): "
        "their images there count as other people's. Write each person alike on both sides."
    ]


def _unknown_cameras(sides: Mapping[str, Counts]) -> list[str]:
    unknown = {name: sum(count for (_, at), count in side.items() if is_unknown(at)) for name, side in sides.items()}
    totals = {name: side.total() for name, side in sides.items()}
    written = {repr(at) for side in sides.values() for _, at in side if isinstance(at, str | bytes) and is_unknown(at)}
    if not any(unknown.values()) or (unknown == totals and not written - {"''"}):
        return []
    counts = " and ".join(f"{count:,} of {totals[name]:,} {name}" for name, count in unknown.items() if count)
    how = f" (written {_listed(written)}, which counts as a camera of that name)" if written - {"''"} else ""
    return [
        f"The cameras of {counts} are unknown{how}: without both cameras an image of the query's person by the query's "
        "own camera is not ignored, which flatters the figures. Name the camera of every image, or of none."
    ]


def _misnamed_cameras(queries: Counts, images: Counts) -> list[str]:
    here, there = ({at for _, at in side if not is_unknown(at)} for side in (queries, images))
    only_here, only_there = here - there, there - here
    alike = {
        (one, other)
        for one, other in _alike(here, there, _CAMERA_WORDS)
        if one != other and (one in only_here or other in only_there or re.search(r"\d", _text(one)))
    }
    if alike:
        count = _count_pairs(queries, images, lambda one, other: (one, other) in alike)
        return [
            f"Cameras are written in more than one way ({_pairs(alike)}): {count:,} pairs of one person by one camera "
            "count that should be ignored, which flatters the figures. Write each camera alike everywhere."
        ]
    count = _count_pairs(queries, images, lambda one, other: one in only_here and other in only_there)
    by_protocol = here == only_here and min(len(here), len(there)) == 1
    if not count or by_protocol:
        return []
    what = (
        "No camera is on both sides"
        if here == only_here
        else f"{len(only_here):,} of the queries' {len(here):,} cameras are not in the gallery, and "
        f"{len(only_there):,} of the gallery's {len(there):,} not among the queries"
    )
    return [
        f"{what} (only queries: {_listed(map(repr, only_here))}; only gallery: "
        f"{_listed(map(repr, only_there))}): between these no image is "
        f"ignored for its camera. If any two are one camera, some of {count:,} pairs flatter the figures: write each "
        "camera alike everywhere."
    ]


def _count_pairs(
    queries: Counts,
    images: Counts,
    concerned: Callable[[Hashable, Hashable], bool],
) -> int:
    """How many pairs of a query and a gallery image of one person are by two cameras of such a kind."""
    of_person: dict[Hashable, list[tuple[Hashable, int]]] = {}
    for (identity, camera), count in images.items():
        of_person.setdefault(identity, []).append((camera, count))
    return sum(
        count * others
        for (identity, camera), count in queries.items()
        for other, others in of_person.get(identity, ())
        if concerned(camera, other)
    )


def _alike(here: Collection[Hashable], there: Collection[Hashable], words: str) -> list[tuple[Hashable, Hashable]]:
    """The labels of two sides that are equal up to their spelling."""
    sides = [{each: _spelling(each, words) for each in side} for side in (here, there)]
    prefixes = [_common_prefix(side.values()) for side in sides]
    if not all(prefixes):  # "site3-c1" here and "c1" there; but a1 here and b1 there are two cameras
        sides = [
            {each: text[len(prefix) :] for each, text in side.items()}
            for side, prefix in zip(sides, prefixes, strict=True)
        ]
    others: dict[str, list[Hashable]] = {}
    for each, text in sides[1].items():
        others.setdefault(text, []).append(each)
    return [(one, other) for one, text in sides[0].items() for other in others.get(text, ())]


def _common_prefix(texts: Iterable[str]) -> str:
    """The letters before the number that all of some labels begin with; "" where they differ."""
    found = {match[1] if (match := re.fullmatch(r"(\D*)\d[\d-]*", text)) else None for text in texts}
    return found.pop() or "" if len(found) == 1 else ""


def _spelling(label: Hashable, words: str) -> str:
    """A label without what writing adds to it: case, leading zeros, ".0", separators, "cam" before a number."""
    text = unicodedata.normalize("NFKC", _text(label)).casefold().strip()
    text = re.sub(r"(?<=\d)\.0+$", "", text)
    text = re.sub(rf"^(?:{words})(?:[\W_]+(?=\w)|(?=\d))", "", text)
    text = re.sub(r"(?<=\d)[\W_]+(?=\d)", "-", text)
    text = re.sub(r"(?<!\d)[\W_]+|[\W_]+(?!\d)", "", text)
    return re.sub(r"(?<!\d)0+(?=\d)", "", text)


def _text(label: Hashable) -> str:
    return label.decode("utf-8", "replace").strip() if isinstance(label, bytes) else str(label).strip()


def _pairs(pairs: Iterable[tuple[Hashable, Hashable]]) -> str:
    return _listed({" and ".join(sorted(map(repr, both))) for both in pairs})


def _listed(texts: Iterable[str]) -> str:
    listed = sorted(texts)
    return ", ".join(listed[:_SHOWN]) + (f" and {len(listed) - _SHOWN:,} more" if len(listed) > _SHOWN else "")
