"""The counts that the field has published for each data set, and how what was found compares with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sil_cli.data.manifest import Split, SplitCounts, count_splits
from sil_cli.errors import DataError
from sil_cli.results import Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sil_cli.data.manifest import ImageRecord, Split
    from sil_cli.runtime import Reporter


class ComparedCount(Result):
    """A count that was published, beside what was found.

    Attributes:
        split: A split, or `all` of them together.
        what: `images`, `identities` or `cameras`.
        cause: Where the two differ, what is likely wrong.
    """

    split: Split | Literal["all"]
    what: str
    expected: int
    found: int
    cause: str | None


WHATS = ("images", "identities", "cameras")
SHOWN_COUNTS = 3


@dataclass(frozen=True)
class Publication:
    """What was published of a data set, as far as it is read with certain options.

    Attributes:
        reader: The reader's name.
        source: Who counted.
        expected: Images, identities and cameras of each split, or of all together; None where nothing was published.
            Junk is left away; distractors count as images, not as identities.
        options: The options that this holds for; options that aren't named may be anything.
        label: What these options mean, for people.
    """

    reader: str
    source: str
    expected: Mapping[Split | Literal["all"], tuple[int | None, int | None, int | None]]
    options: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""


_NP = "Zhong et al., CVPR 2017 (CUHK03-NP's read-me)"

PUBLISHED: tuple[Publication, ...] = (
    Publication(
        "market1501",
        "Zheng et al., ICCV 2015",
        {"train": (12_936, 751, 6), "query": (3_368, 750, 6), "gallery": (15_913, 750, 6)},
    ),
    Publication(
        "dukemtmc",
        "Zheng et al., ICCV 2017",
        {"train": (16_522, 702, 8), "query": (2_228, 702, 8), "gallery": (17_661, 1_110, 8)},
    ),
    Publication(
        "msmt17",
        "Wei et al., CVPR 2018",
        {
            "train": (32_621, 1_041, 15),
            "query": (11_659, 3_060, 15),
            "gallery": (82_161, 3_060, 15),
            "all": (126_441, 4_101, 15),
        },
    ),
    Publication(
        "cuhk02",
        "Li and Wang, CVPR 2013: 971 + 306 + 107 + 193 + 239 people, two images in each of two cameras",
        {
            "train": (6_308, 1_577, 8),
            "query": (478, 239, 1),
            "gallery": (478, 239, 1),
            "all": (7_264, 1_816, 10),
        },
    ),
    Publication(
        "cuhk03",
        _NP,
        {"train": (7_365, 767, None), "query": (1_400, 700, None), "gallery": (5_332, 700, None)},
        {"labelled": False, "partition": None},
        "the detected crops by the new protocol",
    ),
    Publication(
        "cuhk03",
        _NP,
        {"train": (7_368, 767, None), "query": (1_400, 700, None), "gallery": (5_328, 700, None)},
        {"labelled": True, "partition": None},
        "the labelled crops by the new protocol",
    ),
    Publication(
        "cuhk03",
        "Li et al., CVPR 2014: 20 splits",
        {"train": (None, 1_367, None), "query": (None, 100, None), "gallery": (None, 100, None)},
        label="a classic split",
    ),
    Publication("cuhk-sysu", "the release's read-me: Person.mat", {"train": (34_574, 11_934, None)}),
    Publication(
        "prid2011",
        "Hirzer et al., SCIA 2011: 385 and 749 people, 200 of them the same",
        {"train": (200, 100, 2), "query": (100, 100, 1), "gallery": (649, 100, 1)},
    ),
    Publication(
        "grid",
        "Loy et al., CVPR 2009: 250 people and 775 distractors",
        {
            "train": (250, 125, None),
            "query": (125, 125, None),
            "gallery": (900, 125, None),
            "all": (1_275, 250, 8),
        },
    ),
    Publication(
        "viper",
        "Gray et al., PETS 2007",
        {"train": (632, 316, 2), "query": (316, 316, 1), "gallery": (316, 316, 1)},
    ),
    Publication(
        "ilids",
        "Zheng et al., BMVC 2009: 119 people",
        {
            "train": (None, 59, None),
            "query": (60, 60, None),
            "gallery": (60, 60, None),
            "all": (None, 119, None),
        },
    ),
    Publication(
        "randperson",
        "its read-me, and Wang et al., ACM MM 2020",
        {"train": (132_145, 8_000, 19)},
        {"subset": True},
        "the published subset",
    ),
    Publication(
        "randperson",
        "its read-me, and Wang et al., ACM MM 2020",
        {"train": (1_801_816, 8_000, 19)},
        {"subset": False},
        "all images",
    ),
    Publication("clonedperson", "its read-me", {"all": (887_766, 5_621, None)}),
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


def counted_by(reader: str, options: Mapping[str, Any]) -> str | None:
    """Who published counts of such a data set; None where nobody did."""
    published = publication(reader, options)
    return None if published is None else published.source


def compare(
    reader: str, options: Mapping[str, Any], records: Sequence[ImageRecord], *, left_out: int = 0
) -> list[ComparedCount]:
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
    counted = [record for record in records if not record.junk]
    found = {"all": _count_all(counted)} | {str(split): counts for split, counts in count_splits(counted).items()}
    compared = []
    for split, numbers in published.expected.items():
        for what, expected in zip(WHATS, numbers, strict=True):
            if expected is not None:
                number: int = getattr(found[split], what)
                cause = None if number == expected else _cause(published, split, what, expected, number, left_out)
                compared.append(ComparedCount(split=split, what=what, expected=expected, found=number, cause=cause))
    return compared


def check_counts(
    name: str, source: str | None, compared: Sequence[ComparedCount], reporter: Reporter, *, strict: bool
) -> None:
    """Warn of every count that is not the published one.

    Args:
        name: The data set's name.
        source: Who published counts of it.
        compared: What `compare` returned for it.
        reporter: Is warned.
        strict: Take differences for an error.

    Raises:
        DataError: There is one, and `strict` is set.
    """
    wrong = [each for each in compared if each.found != each.expected]
    for cause in dict.fromkeys(each.cause for each in wrong):
        those = [each for each in wrong if each.cause == cause]
        shown = [f"{each.found:,} {each.what} in {each.split}, not {each.expected:,}" for each in those]
        more = f"; and {len(shown) - SHOWN_COUNTS} more" if len(shown) > SHOWN_COUNTS else ""
        reporter.warn(
            f"{name} differs from what was published: {'; '.join(shown[:SHOWN_COUNTS])}{more}. Likely: {cause}."
        )
    if strict and wrong:
        raise DataError(
            f"{name} differs from what was published ({source}) in {len(wrong)} counts.",
            "Fix what the warnings name, or leave --strict out.",
        )


def _count_all(records: Sequence[ImageRecord]) -> SplitCounts:
    return SplitCounts(
        images=len(records),
        identities=len({record.identity for record in records if not record.distractor}),
        cameras=len({record.camera for record in records if record.camera is not None}),
    )


def _cause(published: Publication, split: str, what: str, expected: int, found: int, left_out: int) -> str:
    known = _KNOWN_CAUSES.get((published.reader, split, what, found))
    if known:
        return known
    for other in PUBLISHED:
        if other.reader == published.reader and other is not published:
            numbers = [values[WHATS.index(what)] for key, values in other.expected.items() if key == split]
            if found in numbers:
                return f"that is the count of {other.label}"
    if found == 0:
        return "nothing of it was found: a folder or list is empty"
    if found > expected:
        return "something else lies there too, or images are doubled"
    if what == "images" and expected - found <= left_out:
        return "images that were left out, which the list of them names"
    return "unpacked in part, or another edition of the data set"
