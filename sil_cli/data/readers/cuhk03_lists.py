"""Who is trained on and who is tested in CUHK03: the lists, wherever and in whichever form they lie."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from sil_cli.data.readers.cuhk03_mat import Kind, classic_test
from sil_cli.data.readers.layout import child_folders
from sil_cli.data.readers.matlab import load_v5
from sil_cli.errors import DataError
from sil_cli.files import read_json

if TYPE_CHECKING:
    from pathlib import Path

    from sil_cli.data.manifest import Split

MAT_FILE = "cuhk-03.mat"
CROP = re.compile(r"(?P<pair>\d)_(?P<person>\d{3,4})_(?P<view>[12])_(?P<number>\d{2})\.png")

_SIDES: tuple[Split, ...] = ("train", "query", "gallery")


def config_file(kind: Kind) -> str:
    """The name of the new protocol's list by its authors (MATLAB v5)."""
    return f"cuhk03_new_protocol_config_{kind}.mat"


def find_file(root: Path, name: str) -> Path | None:
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


def new_protocol(root: Path, kind: Kind) -> tuple[str, dict[str, Split]]:
    """The new protocol (767/700; Zhong et al., CVPR 2017): the list's name, and the split of each file name.

    Raises:
        DataError: The list is missing or damaged.
    """
    config = find_file(root, config_file(kind))
    if config is not None:
        return config.name, _from_config(config)
    table = find_file(root, f"splits_new_{kind}.json")
    if table is None:
        raise DataError(
            f"{root} has the images of CUHK03, but not {config_file(kind)}, which says how they are split.",
            "Get it from github.com/zhunzhong07/person-re-ranking, evaluation/data/CUHK03, and put it there.",
        )
    split = _json_split(table, 1)
    return table.name, {name: side for side in _SIDES for name in _names(table, split, side)}


def classic_protocol(root: Path, kind: Kind, partition: int) -> frozenset[tuple[int, int]]:
    """The people tested in a classic split (1,367/100; Li et al., CVPR 2014), as (pair, person).

    Raises:
        DataError: Neither cuhk-03.mat nor a list that was made from it is there, or it is damaged.
    """
    mat = find_file(root, MAT_FILE)
    if mat is not None:
        return classic_test(mat, partition)
    table = find_file(root, f"splits_classic_{kind}.json")
    if table is None:
        raise DataError(
            f"{root} has neither {MAT_FILE} nor splits_classic_{kind}.json, which hold the 20 classic splits.",
            f"Put one of them there, or leave --partition out for the new protocol ({config_file(kind)}).",
        )
    matches = (CROP.fullmatch(name) for name in _names(table, _json_split(table, partition), "query"))
    return frozenset((int(match["pair"]), int(match["person"])) for match in matches if match)


def _from_config(path: Path) -> dict[str, Split]:
    variables = load_v5(path, "filelist", "train_idx", "query_idx", "gallery_idx")
    try:
        names = [str(entry.item() if entry.size == 1 else entry) for entry in variables["filelist"].ravel()]
        return {
            names[_place(number, len(names))]: side
            for side in _SIDES
            for number in variables[f"{side}_idx"].ravel().tolist()
        }
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not the list of CUHK03's new protocol.", "Download it anew.") from error


def _place(number: int, count: int) -> int:
    """MATLAB counts from 1."""
    if not 1 <= number <= count:
        raise IndexError(number)
    return int(number) - 1


def _json_split(path: Path, number: int) -> Any:
    fix = f"Make it anew, or put {MAT_FILE} and the protocol's .mat files there instead."
    splits = read_json(path, what="CUHK03's splits", fix=fix)
    if not isinstance(splits, list) or len(splits) < number or not isinstance(splits[number - 1], dict):
        raise DataError(f"{path} has no split {number}.", fix)
    return splits[number - 1]


def _names(path: Path, split: Any, side: str) -> list[str]:
    """The file names of one side; the folders in such lists are those of another machine."""
    try:
        return [re.split(r"[\\/]", str(entry[0]))[-1] for entry in split[side]]
    except (KeyError, IndexError, TypeError) as error:
        raise DataError(f"{path} is not a list of CUHK03's splits.", "Make it anew, or delete it.") from error
