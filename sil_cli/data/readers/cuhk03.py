"""CUHK03 (Li et al., CVPR 2014): from its .mat file, from extracted images, or as CUHK03-NP's folders."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sil_cli.data.manifest import ImageRecord, Skipped, Split
from sil_cli.data.readers.common import check_partition, left_out, named_files
from sil_cli.data.readers.cuhk03_lists import (
    CROP,
    MAT_FILE,
    classic_protocol,
    config_file,
    find_file,
    new_protocol,
)
from sil_cli.data.readers.cuhk03_mat import CLASSIC_SPLITS, Kind, extracted
from sil_cli.data.readers.layout import NEARBY, Layout, Sign, check_layout, has, image_named, locked_folder
from sil_cli.data.readers.market1501 import ENTRIES, FOLDERS
from sil_cli.data.reading import Reading
from sil_cli.errors import DataError, UsageError
from sil_cli.runtime import SilentReporter

if TYPE_CHECKING:
    from pathlib import Path

    from sil_cli.runtime import Reporter

VERSION = 1

_KINDS: tuple[Kind, ...] = ("detected", "labeled")
_NP_NAME = re.compile(r"(?P<identity>\d+)_c(?P<camera>[12])_\d+\.png")
_NP_BASES = {"detected": ("detected/", "detect/"), "labeled": ("labeled/", "labelled/", "label/")}
_NP_TRAINING = {"detected": 7365, "labeled": 7368}


def _crop_folder(folder: Path, kind: Kind) -> str | None:
    """The folder of extracted images."""
    name = f"images_{kind}"
    return name if image_named(folder / name, CROP) else None


def _np_base(folder: Path, kind: Kind) -> str | None:
    """Where CUHK03-NP's three folders lie; "" when they lie right here, of whichever kind they are."""
    for base in (*_NP_BASES[kind], ""):
        there = has(folder, *(base + entry for entry in ENTRIES))
        if there and image_named(folder / base / "bounding_box_train", _NP_NAME):
            return base
    return None


def _mat_file(folder: Path) -> Path | None:
    """`cuhk-03.mat` here, or in `cuhk03_release` when that lies here."""
    found = find_file(folder, MAT_FILE)
    return found if found and found.is_relative_to(folder) else None


def _signs(folder: Path) -> Sign | None:
    crops = [kind for kind in _KINDS if _crop_folder(folder, kind)]
    if crops:
        what = " and ".join(f"images_{kind}" for kind in crops)
        return _sign(f"{what}, with names such as 1_001_1_01.png", crops)
    bases = {kind: base for kind in _KINDS if (base := _np_base(folder, kind)) is not None}
    if bases:
        here = [_kind_by_count(folder) or "detected"] if "" in bases.values() else list(bases)
        return _sign("three folders of CUHK03-NP, with names such as 0001_c1_1.png", here)
    mat = _mat_file(folder)
    # One level above cuhk03_release is CUHK03's folder only where something else of CUHK03 lies there.
    if mat is not None and (mat.parent == folder or _lists_in(folder)):
        return _sign(mat.relative_to(folder).as_posix(), list(_KINDS))
    return None


def _sign(why: str, kinds: list[Kind]) -> Sign:
    return Sign(why, {} if "detected" in kinds else {"labelled": True})


def _lists_in(folder: Path) -> bool:
    lists = (find_file(folder, config_file(kind)) for kind in _KINDS)
    return any(found is not None and found.parent == folder for found in lists)


LAYOUT = Layout(
    "CUHK03",
    "cuhk-03.mat (or cuhk03_release with it), images_detected or images_labeled, or CUHK03-NP's detected and labeled",
    _signs,
)


def read_cuhk03(
    root: Path,
    *,
    name: str | None = None,
    labelled: bool = False,
    partition: int | None = None,
    extract_to: Path | None = None,
    reporter: Reporter | None = None,
) -> Reading:
    """Read CUHK03, by the new protocol (767/700) or one of the 20 classic splits (1,367/100).

    Results on detected and on labelled crops can't be compared, so the domain's name says which they are. A
    camera is a pair and a view of it (`1-2`). In a classic split, view 1 holds the queries and view 2 the gallery.

    Args:
        root: The folder that holds cuhk-03.mat, images_detected and images_labeled, or detected and labeled; the
            new protocol's list (cuhk03_new_protocol_config_….mat or splits_new_….json) lies there too, but for
            CUHK03-NP, which needs none.
        name: The domain's name; `cuhk03-detected` or `cuhk03-labelled` when None.
        labelled: Read the crops that were cut by hand, not those of the detector.
        partition: A classic split, 1 to 20; None is the new protocol.
        extract_to: Where the crops in cuhk-03.mat are written as PNG files, when there are no extracted ones.
        reporter: Is told the progress of that.

    Raises:
        DataError: Images or lists are missing or damaged, `extract_to` is needed, or h5py or scipy is not installed.
        UsageError: There is no such partition, or not of this layout.
    """
    check_layout(root, LAYOUT)
    if partition is not None:
        check_partition(partition, CLASSIC_SPLITS)
    kind: Kind = "labeled" if labelled else "detected"
    domain = name or f"cuhk03-{'labelled' if labelled else 'detected'}"
    options = {"labelled": labelled, "partition": partition}
    folder = _crop_folder(root, kind)
    base = _np_base(root, kind)
    if folder is None and base is not None:
        return _read_np(root, base, kind, domain, options)
    images = root
    if folder is None:
        mat = _mat_file(root)
        if mat is None:
            raise _other_kind(root, labelled)
        if extract_to is None:
            raise DataError(f"The images of {mat} must be extracted.", "Say where to, with `extract_to`.")
        folder, images = extracted(mat, kind, extract_to, reporter or SilentReporter()), extract_to
    records, skipped = _read_crops(root, images, folder, kind, partition, domain)
    return Reading(domain, "cuhk03", VERSION, images, records, skipped, options)


def _read_crops(
    root: Path, images: Path, folder: str, kind: Kind, partition: int | None, domain: str
) -> tuple[list[ImageRecord], list[Skipped]]:
    """Read `images/folder` by the lists in `root`."""
    files, skipped = named_files(images, [folder], CROP, "1_001_1_01.png")
    table: dict[str, Split] = {}
    tested: frozenset[tuple[int, int]] = frozenset()
    source = ""
    if partition is None:
        source, table = new_protocol(root, kind)
    else:
        tested = classic_protocol(root, kind, partition)
    records: list[ImageRecord] = []
    unlisted = 0
    for file in files:
        split = table.pop(file.match.string, None) if partition is None else _classic_side(file.match, tested)
        if split is None:
            unlisted += 1
            continue
        pair = file.match["pair"]
        records.append(
            ImageRecord(
                path=file.path,
                identity=f"{pair}-{file.match['person']}",
                camera=f"{pair}-{file.match['view']}",
                split=split,
                domain=domain,
            )
        )
    skipped += left_out(f"{folder}/*", unlisted, f"not in {source}")
    skipped += [Skipped(path=f"{folder}/{name}", reason=f"not there, but in {source}") for name in table]
    return records, skipped


def _classic_side(match: re.Match[str], tested: frozenset[tuple[int, int]]) -> Split:
    if (int(match["pair"]), int(match["person"])) not in tested:
        return "train"
    return "query" if match["view"] == "1" else "gallery"


def _read_np(root: Path, base: str, kind: Kind, domain: str, options: dict[str, Any]) -> Reading:
    """Read the three folders of CUHK03-NP, whose names don't tell the pair of cameras."""
    if options["partition"] is not None:
        raise UsageError("CUHK03-NP's folders are of the new protocol only.", "Leave --partition out.")
    if not base and _kind_by_count(root) not in (kind, None):
        raise _other_kind(root, options["labelled"])
    folders = {base + folder: split for folder, split in FOLDERS.items()}
    files, skipped = named_files(root, folders, _NP_NAME, "0001_c1_1.png")
    records = [
        ImageRecord(
            path=file.path,
            identity=file.match["identity"],
            camera=file.match["camera"],
            split=folders[file.folder],
            domain=domain,
        )
        for file in files
    ]
    return Reading(domain, "cuhk03", VERSION, root, records, skipped, options)


def _kind_by_count(folder: Path) -> Kind | None:
    """Which crops three folders without a name hold, told by the published number of training images."""
    count = len(named_files(folder, ["bounding_box_train"], _NP_NAME, "")[0])
    return next((kind for kind in _KINDS if _NP_TRAINING[kind] == count), None)


def _other_kind(root: Path, labelled: bool) -> DataError:
    asked, there = ("labelled", "detected") if labelled else ("detected", "labelled")
    locked = locked_folder(root, depth=NEARBY)
    if locked:
        return DataError(f"{root} has no {asked} crops that can be read.", f"Change the permissions of {locked}.")
    return DataError(
        f"{root} has no {asked} crops, but {there} ones.",
        "Leave --labelled out." if labelled else "Add --labelled; such results are not comparable with detected ones.",
    )
