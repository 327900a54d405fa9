"""Readers: one module a layout; each is a function that turns a folder into a `Reading`.

A reader looks at names and lists only; `prepare` opens the images. To add one, write its module and name it here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sil_cli.data.readers.csv_file import read_csv
from sil_cli.data.readers.folders import read_folders
from sil_cli.data.readers.market1501 import read_market1501
from sil_cli.data.readers.regex import read_regex

if TYPE_CHECKING:
    from collections.abc import Callable

    from sil_cli.data.reading import Reading


@dataclass(frozen=True)
class Reader:
    """A reader as a user sees it.

    Attributes:
        read: Called with ROOT and the reader's own options as keywords.
        description: What it reads, on one line.
    """

    read: Callable[..., Reading]
    description: str


READERS: dict[str, Reader] = {
    "market1501": Reader(
        read_market1501, "Market-1501: bounding_box_train, query, bounding_box_test; 0002_c1s1_000451_03.jpg"
    ),
    "folders": Reader(read_folders, "a folder per identity, below train, query and gallery where there are such"),
    "regex": Reader(read_regex, "any names: a regular expression with the groups identity, camera, split, frame"),
    "csv": Reader(read_csv, "a table with the columns path, identity and, where known, camera, split, time"),
}
