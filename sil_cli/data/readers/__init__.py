"""Readers: functions that each turn the folder of a data set into a `Reading`.

A reader looks at names and lists only; `prepare` opens the images. To add one, write it and name it here.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sil_cli.data.readers import cuhk03, cuhk_sysu, motchallenge, msmt17, named_sets, own_images, partitioned_sets

if TYPE_CHECKING:
    from collections.abc import Callable

    from sil_cli.data.readers.layout import FolderLayout
    from sil_cli.data.reading import Reading


@dataclass(frozen=True)
class Reader:
    """A reader as a user sees it.

    Attributes:
        read: Called with ROOT and the reader's own options as keywords.
        description: What it reads, on one line.
        layout: How its folder is recognised; None for the generic readers.
        notice: What a user of this data set must know, shown each time it is read.
    """

    read: Callable[..., Reading]
    description: str
    layout: FolderLayout | None = None
    notice: str | None = None

    @property
    def takes(self) -> frozenset[str]:
        """The names of the keywords that `read` takes."""
        return frozenset(list(inspect.signature(self.read).parameters)[1:])


READERS: dict[str, Reader] = {
    "market1501": Reader(
        named_sets.read_market1501,
        "Market-1501: bounding_box_train, query, bounding_box_test; 0002_c1s1_000451_03.jpg",
        named_sets.MARKET1501,
    ),
    "dukemtmc": Reader(
        named_sets.read_dukemtmc,
        "DukeMTMC-reID (withdrawn): bounding_box_train, query, bounding_box_test; 0005_c2_f0046985.jpg",
        named_sets.DUKEMTMC,
        named_sets.DUKEMTMC_NOTICE,
    ),
    "msmt17": Reader(msmt17.read_msmt17, "MSMT17 V1 and V2: list_train.txt, … beside train and test", msmt17.MSMT17),
    "cuhk02": Reader(named_sets.read_cuhk02, "CUHK02: Dataset/P1 to P5 with cam1 and cam2", named_sets.CUHK02),
    "cuhk03": Reader(
        cuhk03.read_cuhk03, "CUHK03: cuhk-03.mat, images_detected and images_labeled, or CUHK03-NP", cuhk03.CUHK03
    ),
    "cuhk-sysu": Reader(
        cuhk_sysu.read_cuhk_sysu, "CUHK-SYSU: crops in three layouts, or frames and annotation", cuhk_sysu.CUHK_SYSU
    ),
    "prid2011": Reader(
        partitioned_sets.read_prid2011, "PRID2011, single shot: single_shot/cam_a and cam_b", partitioned_sets.PRID2011
    ),
    "grid": Reader(
        partitioned_sets.read_grid, "GRID: probe, gallery, features_and_partitions.mat", partitioned_sets.GRID
    ),
    "viper": Reader(partitioned_sets.read_viper, "VIPeR: cam_a and cam_b; 000_45.bmp", partitioned_sets.VIPER),
    "ilids": Reader(partitioned_sets.read_ilids, "QMUL-iLIDS: Persons; 0001001.jpg", partitioned_sets.ILIDS),
    "randperson": Reader(named_sets.read_randperson, "RandPerson (rendered): randperson_subset", named_sets.RANDPERSON),
    "clonedperson": Reader(
        named_sets.read_clonedperson,
        "ClonedPerson (rendered): train, test/query, test/gallery",
        named_sets.CLONEDPERSON,
    ),
    "motchallenge": Reader(
        motchallenge.read_motchallenge,
        "MOTChallenge (MOT15 to MOT20): sequences with gt/gt.txt and img1; for training",
        motchallenge.MOTCHALLENGE,
    ),
    "folders": Reader(
        own_images.read_folders, "a folder per identity, below train, query and gallery where there are such"
    ),
    "regex": Reader(
        own_images.read_regex, "any names: a regular expression with the groups identity, camera, split, frame"
    ),
    "annotations": Reader(
        own_images.read_annotated, "COCO's .json, CVAT's .xml for images or FiftyOne's samples.json; with identities"
    ),
    "csv": Reader(own_images.read_csv, "a table with the columns path, identity and, where known, camera, split, time"),
}
