"""The counts that the field has published for each data set, and how what was found compares with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sil_cli.data.manifest import SplitCounts, count_splits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sil_cli.data.manifest import ImageRecord, Split

What = Literal["images", "identities", "cameras"]
ALL = "all"
"""Stands for the three splits together."""


@dataclass(frozen=True)
class Expected:
    """The published counts of one split (or of all together); None where nothing was published."""

    split: Split | Literal["all"]
    images: int | None = None
    identities: int | None = None
    cameras: int | None = None


@dataclass(frozen=True)
class Publication:
    """What was published of a data set, as far as it is read with certain options.

    Attributes:
        reader: The reader's name.
        source: Who counted.
        expected: Junk left away; distractors count as images, not as identities.
        options: The options that this holds for; options that aren't named may be anything.
        label: What these options mean, for people.
    """

    reader: str
    source: str
    expected: tuple[Expected, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""


@dataclass(frozen=True)
class Comparison:
    """One count: what was published, and what was found.

    Attributes:
        cause: Where they differ, what is likely wrong.
    """

    split: Split | Literal["all"]
    what: What
    expected: int
    found: int
    cause: str | None = None

    @property
    def agrees(self) -> bool:
        """Whether the two are equal."""
        return self.expected == self.found


_NP = "Zhong et al., CVPR 2017 (CUHK03-NP's read-me)"

PUBLISHED: tuple[Publication, ...] = (
    Publication(
        "market1501",
        "Zheng et al., ICCV 2015",
        (Expected("train", 12_936, 751, 6), Expected("query", 3_368, 750, 6), Expected("gallery", 15_913, 750, 6)),
    ),
    Publication(
        "dukemtmc",
        "Zheng et al., ICCV 2017",
        (Expected("train", 16_522, 702, 8), Expected("query", 2_228, 702, 8), Expected("gallery", 17_661, 1_110, 8)),
    ),
    Publication(
        "msmt17",
        "Wei et al., CVPR 2018",
        (
            Expected("train", 32_621, 1_041, 15),
            Expected("query", 11_659, 3_060, 15),
            Expected("gallery", 82_161, 3_060, 15),
            Expected("all", 126_441, 4_101, 15),
        ),
    ),
    Publication(
        "cuhk02",
        "Li and Wang, CVPR 2013: 971 + 306 + 107 + 193 + 239 people, two images in each of two cameras",
        (
            Expected("train", 6_308, 1_577, 8),
            Expected("query", 478, 239, 1),
            Expected("gallery", 478, 239, 1),
            Expected("all", 7_264, 1_816, 10),
        ),
    ),
    Publication(
        "cuhk03",
        _NP,
        (Expected("train", 7_365, 767), Expected("query", 1_400, 700), Expected("gallery", 5_332, 700)),
        {"labelled": False, "partition": None},
        "the detected crops by the new protocol",
    ),
    Publication(
        "cuhk03",
        _NP,
        (Expected("train", 7_368, 767), Expected("query", 1_400, 700), Expected("gallery", 5_328, 700)),
        {"labelled": True, "partition": None},
        "the labelled crops by the new protocol",
    ),
    Publication(
        "cuhk03",
        "Li et al., CVPR 2014: 20 splits",
        (Expected("train", None, 1_367), Expected("query", None, 100), Expected("gallery", None, 100)),
        label="a classic split",
    ),
    Publication("cuhk-sysu", "the release's read-me: Person.mat", (Expected("train", 34_574, 11_934),)),
    Publication(
        "prid2011",
        "Hirzer et al., SCIA 2011: 385 and 749 people, 200 of them the same",
        (Expected("train", 200, 100, 2), Expected("query", 100, 100, 1), Expected("gallery", 649, 100, 1)),
    ),
    Publication(
        "grid",
        "Loy et al., CVPR 2009: 250 people and 775 distractors",
        (
            Expected("train", 250, 125),
            Expected("query", 125, 125),
            Expected("gallery", 900, 125),
            Expected("all", 1_275, 250, 8),
        ),
    ),
    Publication(
        "viper",
        "Gray et al., PETS 2007",
        (Expected("train", 632, 316, 2), Expected("query", 316, 316, 1), Expected("gallery", 316, 316, 1)),
    ),
    Publication(
        "ilids",
        "Zheng et al., BMVC 2009: 119 people",
        (
            Expected("train", None, 59),
            Expected("query", 60, 60),
            Expected("gallery", 60, 60),
            Expected("all", None, 119),
        ),
    ),
    Publication(
        "randperson",
        "its read-me, and Wang et al., ACM MM 2020",
        (Expected("train", 132_145, 8_000, 19),),
        {"subset": True},
        "the published subset",
    ),
    Publication(
        "randperson",
        "its read-me, and Wang et al., ACM MM 2020",
        (Expected("train", 1_801_816, 8_000, 19),),
        {"subset": False},
        "all images",
    ),
    Publication("clonedperson", "its read-me", (Expected("all", 887_766, 5_621),)),
)

_KNOWN_CAUSES: dict[tuple[str, str, str, int], str] = {
    ("market1501", "gallery", "images", 19_732): "the 3,819 junk images (identity -1) are counted",
    ("market1501", "gallery", "images", 13_115): "the 2,798 distractors (identity 0) are missing",
    ("market1501", "gallery", "identities", 751): "the distractors are counted as an identity",
    ("market1501", "train", "identities", 1_501): "train, query and gallery are together",
    ("market1501", "train", "identities", 1_502): "train, query and gallery are together, distractors as an identity",
    ("market1501", "train", "images", 29_419): "train, query and gallery are together",
    ("dukemtmc", "train", "images", 36_411): "train, query and gallery are together",
    ("dukemtmc", "gallery", "identities", 702): "the 408 people who are no query are missing",
    ("msmt17", "train", "images", 30_248): "list_val.txt is empty: the field trains on list_train and list_val",
    ("msmt17", "train", "images", 126_441): "train, query and gallery are together",
    ("cuhk-sysu", "train", "identities", 5_532): "only the people whom person search trains on",
    ("cuhk-sysu", "train", "identities", 8_432): "only the people who are a query in person search",
    ("prid2011", "gallery", "images", 100): "camera B's people above 200 are missing",
    ("grid", "gallery", "images", 125): "the 775 distractors (identity 0000) are missing",
}


def publication(reader: str, options: Mapping[str, Any]) -> Publication | None:
    """What was published of the data set that this reader reads with these options; None when nothing was."""
    return next((each for each in PUBLISHED if each.reader == reader and each.options.items() <= options.items()), None)


def compare(
    reader: str, options: Mapping[str, Any], records: Sequence[ImageRecord], *, left_out: int = 0
) -> list[Comparison]:
    """Compare what was read with what was published, count by count.

    Args:
        reader: The reader's name.
        options: The options that it recorded.
        records: All records, junk among them or not.
        left_out: How many images of the data set were left out as damaged or missing, for the causes.

    Returns:
        The counts that were published, in their order; none for a data set of which nothing was.
    """
    published = publication(reader, options)
    if published is None:
        return []
    found = _found(record for record in records if not record.junk)
    return [
        _compared(published, expected.split, what, number, getattr(found[expected.split], what), left_out)
        for expected in published.expected
        for what in _WHATS
        if (number := getattr(expected, what)) is not None
    ]


_WHATS: tuple[What, ...] = ("images", "identities", "cameras")


def _found(records: Iterable[ImageRecord]) -> dict[str, SplitCounts]:
    records = list(records)
    known = [record for record in records if not record.distractor]
    together = SplitCounts(
        images=len(records),
        identities=len({record.identity for record in known}),
        cameras=len({record.camera for record in records if record.camera is not None}),
    )
    return {ALL: together} | {str(split): counts for split, counts in count_splits(records).items()}


def _compared(
    published: Publication, split: Split | Literal["all"], what: What, expected: int, found: int, left_out: int
) -> Comparison:
    cause = None if found == expected else _cause(published, split, what, expected, found, left_out)
    return Comparison(split, what, expected, found, cause)


def _cause(published: Publication, split: str, what: What, expected: int, found: int, left_out: int) -> str:
    known = _KNOWN_CAUSES.get((published.reader, split, what, found))
    if known:
        return known
    others = (other for other in PUBLISHED if other.reader == published.reader and other is not published)
    for other in others:
        if any(each.split == split and getattr(each, what) == found for each in other.expected):
            return f"that is the count of {other.label}"
    if found == 0:
        return "nothing of it was found: a folder or list is empty"
    if found > expected:
        return "something else lies there too, or images are doubled"
    if what == "images" and expected - found <= left_out:
        return "images that were left out, which the list of them names"
    return "unpacked in part, or another edition of the data set"
