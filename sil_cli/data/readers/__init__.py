"""Readers: one module a data set; each is a function that turns a folder into a `Reading`.

A reader looks at names and lists only; `prepare` opens the images. To add one, write its module and name it here.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sil_cli.data.readers import (
    cuhk02,
    cuhk03,
    cuhk_sysu,
    dukemtmc,
    grid,
    ilids,
    market1501,
    msmt17,
    prid2011,
    rendered,
    viper,
)
from sil_cli.data.readers.csv_file import read_csv
from sil_cli.data.readers.folders import read_folders
from sil_cli.data.readers.regex import read_regex

if TYPE_CHECKING:
    from collections.abc import Callable

    from sil_cli.data.readers.layout import Layout
    from sil_cli.data.reading import Reading


@dataclass(frozen=True)
class Reader:
    """A reader as a user sees it.

    Attributes:
        read: Called with ROOT and the reader's own options as keywords.
        description: What it reads, on one line.
        layout: How its folder is recognised; None for the generic readers.
        notice: What a user of this data set must be told, each time it is read.
    """

    read: Callable[..., Reading]
    description: str
    layout: Layout | None = None
    notice: str | None = None

    @property
    def takes(self) -> frozenset[str]:
        """The names of the keywords that `read` takes."""
        return frozenset(list(inspect.signature(self.read).parameters)[1:])


READERS: dict[str, Reader] = {
    "market1501": Reader(
        market1501.read_market1501,
        "Market-1501: bounding_box_train, query, bounding_box_test; 0002_c1s1_000451_03.jpg",
        market1501.LAYOUT,
    ),
    "dukemtmc": Reader(
        dukemtmc.read_dukemtmc,
        "DukeMTMC-reID (withdrawn): bounding_box_train, query, bounding_box_test; 0005_c2_f0046985.jpg",
        dukemtmc.LAYOUT,
        dukemtmc.NOTICE,
    ),
    "msmt17": Reader(msmt17.read_msmt17, "MSMT17 V1 and V2: list_train.txt, … beside train and test", msmt17.LAYOUT),
    "cuhk02": Reader(cuhk02.read_cuhk02, "CUHK02: Dataset/P1 to P5 with cam1 and cam2", cuhk02.LAYOUT),
    "cuhk03": Reader(
        cuhk03.read_cuhk03, "CUHK03: cuhk-03.mat, images_detected and images_labeled, or CUHK03-NP", cuhk03.LAYOUT
    ),
    "cuhk-sysu": Reader(
        cuhk_sysu.read_cuhk_sysu, "CUHK-SYSU: crops in three layouts, or frames and annotation", cuhk_sysu.LAYOUT
    ),
    "prid2011": Reader(prid2011.read_prid2011, "PRID2011, single shot: single_shot/cam_a and cam_b", prid2011.LAYOUT),
    "grid": Reader(grid.read_grid, "GRID: probe, gallery, features_and_partitions.mat", grid.LAYOUT),
    "viper": Reader(viper.read_viper, "VIPeR: cam_a and cam_b; 000_45.bmp", viper.LAYOUT),
    "ilids": Reader(ilids.read_ilids, "QMUL-iLIDS: Persons; 0001001.jpg", ilids.LAYOUT),
    "randperson": Reader(rendered.read_randperson, "RandPerson (rendered): randperson_subset", rendered.RANDPERSON),
    "clonedperson": Reader(
        rendered.read_clonedperson, "ClonedPerson (rendered): train, test/query, test/gallery", rendered.CLONEDPERSON
    ),
    "folders": Reader(read_folders, "a folder per identity, below train, query and gallery where there are such"),
    "regex": Reader(read_regex, "any names: a regular expression with the groups identity, camera, split, frame"),
    "csv": Reader(read_csv, "a table with the columns path, identity and, where known, camera, split, time"),
}
