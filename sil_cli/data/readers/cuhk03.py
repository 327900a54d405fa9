"""CUHK03 (Li et al., CVPR 2014): from its .mat file, from extracted images, or as CUHK03-NP's folders."""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from sil_cli.data.manifest import ImageRecord, Skipped, Split
from sil_cli.data.readers.cuhk03_mat import CLASSIC_SPLITS, Kind, classic_test, extracted
from sil_cli.data.readers.layout import (
    NEARBY,
    FolderLayout,
    Sign,
    check_layout,
    child_folders,
    has,
    image_named,
    locked_folder,
)
from sil_cli.data.readers.matlab import load_v5
from sil_cli.data.readers.named_files import NamedFile, check_partition, left_out, named_files
from sil_cli.data.readers.named_sets import MARKET_ENTRIES, MARKET_FOLDERS
from sil_cli.data.reading import Reading
from sil_cli.errors import DataError, UsageError
from sil_cli.files import read_json
from sil_cli.runtime import SilentReporter

if TYPE_CHECKING:
    from pathlib import Path

    from sil_cli.runtime import Reporter

MAT_FILE = "cuhk-03.mat"

_CROP = re.compile(r"(?P<pair>\d)_(?P<person>\d{3,4})_(?P<view>[12])_(?P<number>\d{2})\.(?:png|jpe?g)")
_SIDES: tuple[Split, ...] = ("train", "query", "gallery")
_KINDS: tuple[Kind, ...] = ("detected", "labeled")
_NP_NAME = re.compile(r"(?P<identity>\d+)_c(?P<camera>[12])_\d+\.(?:png|jpe?g)")
_NP_BASES = {"detected": ("detected/", "detect/"), "labeled": ("labeled/", "labelled/", "label/")}
_NP_TRAINING = {"detected": 7365, "labeled": 7368}


def _crop_folder(folder: Path, kind: Kind) -> str | None:
    """The folder of extracted images."""
    name = f"images_{kind}"
    return name if image_named(folder / name, _CROP) else None


def _np_base(folder: Path, kind: Kind) -> str | None:
    """Where CUHK03-NP's three folders lie; "" when they lie right here, of whichever kind they are."""
    for base in (*_NP_BASES[kind], ""):
        there = has(folder, *(base + entry for entry in MARKET_ENTRIES))
        if there and image_named(folder / base / "bounding_box_train", _NP_NAME):
            return base
    return None


def _mat_file(folder: Path) -> Path | None:
    """`cuhk-03.mat` here, or in `cuhk03_release` when that lies here."""
    found = _find_file(folder, MAT_FILE)
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
    lists = (_find_file(folder, _config_file(kind)) for kind in _KINDS)
    return any(found is not None and found.parent == folder for found in lists)


CUHK03 = FolderLayout(
    "CUHK03",
    "cuhk-03.mat (or cuhk03_release with it), images_detected or images_labeled, or CUHK03-NP's detected and labeled",
    look=_signs,
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
        reporter: Shows the progress of that.

    Raises:
        DataError: Images or lists are missing or damaged, `extract_to` is needed, or h5py is not installed.
        UsageError: There is no such partition, or not of this layout.
    """
    check_layout(root, CUHK03)
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
            raise DataError(f"The images of {mat} must be extracted.", "Say where with `extract_to`.")
        folder, images = extracted(mat, kind, extract_to, reporter or SilentReporter()), extract_to
    records, skipped = _read_crops(root, images, folder, kind, partition, domain)
    return Reading(domain, "cuhk03", images, records, skipped, options)


def _read_crops(
    root: Path, images: Path, folder: str, kind: Kind, partition: int | None, domain: str
) -> tuple[list[ImageRecord], list[Skipped]]:
    """Read `images/folder` by the lists in `root`."""
    files, skipped = named_files(images, [folder], _CROP, "1_001_1_01.png")
    table: dict[str, Split] = {}
    tested: frozenset[tuple[int, int]] = frozenset()
    source = ""
    if partition is None:
        source, table = _new_protocol(root, kind)
    else:
        tested = _classic_protocol(root, kind, partition)
    records: list[ImageRecord] = []
    unlisted = 0
    for file in files:
        split = _listed_side(file, table) if partition is None else _classic_side(file.match, tested)
        if split is None:
            unlisted += 1
            continue
        pair = file.match["pair"]
        identity, camera = f"{pair}-{file.match['person']}", f"{pair}-{file.match['view']}"
        records.append(file.record(domain, split, identity=identity, camera=camera))
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
    folders = {base + folder: split for folder, split in MARKET_FOLDERS.items()}
    files, skipped = named_files(root, folders, _NP_NAME, "0001_c1_1.png")
    records = [file.record(domain, folders[file.folder]) for file in files]
    return Reading(domain, "cuhk03", root, records, skipped, options)


def _kind_by_count(folder: Path) -> Kind | None:
    """Which crops three folders without a name hold, recognised by the published number of training images."""
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


def _config_file(kind: Kind) -> str:
    """The name of the new protocol's list by its authors (MATLAB v5)."""
    return f"cuhk03_new_protocol_config_{kind}.mat"


def _find_file(root: Path, name: str) -> Path | None:
    """Look for a file in `root`, in folders in it that are named after CUHK, and around it, whatever its case."""
    wanted = name.casefold()
    inside = (child for child in child_folders(root) if "cuhk" in child.name.casefold())
    for folder in (root, *inside, root.resolve().parent):
        try:
            with os.scandir(folder) as listing:
                found = next((entry.name for entry in listing if entry.name.casefold() == wanted), None)
        except OSError:
            continue
        if found is not None:
            return folder / found
    return None


def _new_protocol(root: Path, kind: Kind) -> tuple[str, dict[str, Split]]:
    """The new protocol (767/700; Zhong et al., CVPR 2017): the list's name, and the split of each file name."""
    config = _find_file(root, _config_file(kind))
    if config is not None:
        return config.name, _from_config(config)
    table = _find_file(root, f"splits_new_{kind}.json")
    if table is None:
        raise DataError(
            f"{root} has the images of CUHK03, but not {_config_file(kind)}, which says how they are split.",
            "Get it from github.com/zhunzhong07/person-re-ranking, evaluation/data/CUHK03, and put it there.",
        )
    split = _json_split(table, 1)
    return table.name, {name: side for side in _SIDES for name in _names(table, split, side)}


def _listed_side(file: NamedFile, sides: dict[str, Split]) -> Split | None:
    """The split of an image by a list, which may say .png of what others have extracted as .jpg; taken off the list."""
    path = PurePosixPath(file.path)
    names = (path.name, f"{path.stem}.png", f"{path.stem}.jpg")
    return sides.pop(next((name for name in names if name in sides), ""), None)


def _classic_protocol(root: Path, kind: Kind, partition: int) -> frozenset[tuple[int, int]]:
    """The people tested in a classic split (1,367/100; Li et al., CVPR 2014), as (pair, person)."""
    mat = _find_file(root, MAT_FILE)
    if mat is not None:
        return classic_test(mat, partition)
    table = _find_file(root, f"splits_classic_{kind}.json")
    if table is None:
        raise DataError(
            f"{root} has neither {MAT_FILE} nor splits_classic_{kind}.json, which hold the 20 classic splits.",
            f"Put one of them there, or leave --partition out for the new protocol ({_config_file(kind)}).",
        )
    matches = (_CROP.fullmatch(name) for name in _names(table, _json_split(table, partition), "query"))
    return frozenset((int(match["pair"]), int(match["person"])) for match in matches if match)


def _from_config(path: Path) -> dict[str, Split]:
    variables = load_v5(path, "filelist", "train_idx", "query_idx", "gallery_idx")
    try:
        names = [str(entry.item() if entry.size == 1 else entry) for entry in variables["filelist"].ravel()]
        by_number = dict(enumerate(names, start=1))  # MATLAB counts from 1
        return {by_number[number]: side for side in _SIDES for number in variables[f"{side}_idx"].ravel().tolist()}
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not the list of CUHK03's new protocol.", "Download it again.") from error


def _json_split(path: Path, number: int) -> Any:
    fix = f"Make it again, or put {MAT_FILE} and the protocol's .mat files there instead."
    splits = read_json(path, what="CUHK03's splits", fix=fix, most=200_000_000)
    if not isinstance(splits, list) or len(splits) < number or not isinstance(splits[number - 1], dict):
        raise DataError(f"{path} has no split {number}.", fix)
    return splits[number - 1]


def _names(path: Path, split: Any, side: str) -> list[str]:
    """The file names of one side; the folders in such lists are those of another machine."""
    try:
        return [re.split(r"[\\/]", str(entry[0]))[-1] for entry in split[side]]
    except (KeyError, IndexError, TypeError) as error:
        raise DataError(f"{path} is not a list of CUHK03's splits.", "Make it again, or delete it.") from error
