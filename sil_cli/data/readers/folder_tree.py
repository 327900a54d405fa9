"""What the folders around images of one's own say: whose they are, by which camera, for training or for the test."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from shlex import quote
from typing import TYPE_CHECKING, Literal

from sil_cli.data.manifest import Skipped, Split
from sil_cli.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from pathlib import Path

SPLIT_NAMES: dict[str, Split | Literal["test"]] = {
    "train": "train",
    "training": "train",
    "trainval": "train",
    "bounding_box_train": "train",
    "query": "query",
    "queries": "query",
    "probe": "query",
    "probes": "query",
    "gallery": "gallery",
    "galleries": "gallery",
    "bounding_box_test": "gallery",
    "test": "test",
    "testing": "test",
}
_VALIDATION = frozenset({"val", "valid", "validation", "dev"})
"""Folders of images that are in no split of ours, but beside splits they are no people either."""

_PADDING = frozenset(
    [
        "image",
        "images",
        "img",
        "imgs",
        "crop",
        "crops",
        "set",
        "split",
        "data",
        "folder",
        "bbox",
        "bounding",
        "box",
        "mask",
        "rgb",
        "person",
        "persons",
        "people",
        "reid",
    ]
)
"""Words around a split's name, as in VeRi's image_train."""

_CAMERA = re.compile(
    r"(cam(era)?|kamera|cctv|view|channel|ch|c)[ _.-]?\d+(s\d+)?|cam(era)?[ _-].+|.+[ _-]cam(era)?", re.IGNORECASE
)
_NAMED = re.compile(
    r"(?P<identity>-1|(?:p|id|pid|person)?[_-]?\d+)[_-]?c(?:am(?:era)?)?[_-]?(?P<camera>\d+)(?![0-9a-ru-z]).*",
    re.IGNORECASE,
)
"""Names that say identity and camera as Market-1501's, DukeMTMC's, VeRi's and MARS's do: 0002_c1s1_000451_03.jpg."""

_IN_NAME = re.compile(r"(?:^|[_-])c(?:am(?:era)?)?[_-]?(?P<camera>\d+)(?=s\d|[_-])", re.IGNORECASE)
_JUNK, _DISTRACTOR = "-1", "0000"
_MOST_NAMED = 4


@dataclass(frozen=True)
class FoundImage:
    """One image before it has a split; the other fields are those of `ImageRecord`.

    Attributes:
        split: None where unknown; `test` where the sides of the test are yet to be told apart.
    """

    path: str
    identity: str
    camera: str | None = None
    split: Split | Literal["test"] | None = None
    time: datetime | None = None
    frame: int | None = None
    box: tuple[int, int, int, int] | None = None
    distractor: bool = False


@dataclass
class FolderTree:
    """What a tree of folders says of the images in it.

    Attributes:
        images: In the order of their paths.
        skipped: The images of which it says too little, and why.
        warnings: What was taken for what, where that could be meant otherwise.
    """

    images: list[FoundImage] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def skip(self, path: str, reason: str) -> None:
        """Leave an image out."""
        self.skipped.append(Skipped(path=path, reason=reason))


@dataclass(frozen=True)
class _Place:
    """Where one image lies: below which split, and in which folders there."""

    path: str
    split: Split | Literal["test"] | None
    folders: tuple[str, ...]

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name


def split_of(text: str) -> Split | Literal["test"] | None:
    """The split that a folder's name or a table's cell stands for; None when it stands for none.

    Case and words such as image or set don't matter: `image_train`, `TestSet` and `test_query` are understood.
    """
    known = SPLIT_NAMES.get(text.strip().lower())
    if known is not None:
        return known
    words = re.findall(r"[^\W_]+", re.sub(r"(?i)(?<=[a-z])(set|images?)\b", r" \1", text).lower())
    splits = [SPLIT_NAMES.get(word) for word in words if word not in _PADDING]
    if splits and all(splits):
        sides = [split for split in splits if split in ("query", "gallery")]
        return splits[0] if len(splits) == 1 else sides[0] if len(sides) == 1 else None
    return None


def is_camera(folder: str) -> bool:
    """Whether a folder is named as cameras are: cam1, c1, camera_02, front-cam."""
    return _CAMERA.fullmatch(folder) is not None


def read_tree(root: Path, paths: Sequence[str]) -> FolderTree:
    """Take folders for splits, cameras and identities by their names.

    Folders that lie around everything are passed, such as the one that an archive enclosed. Below them, or below
    folders named after splits, come a folder per identity; or per camera with identities in it; or per identity
    with cameras in it. Where images lie directly in the splits, their names say identity and camera, or else the
    tree is refused. Where no folder says the camera, the names may: `c1_0001.jpg`.

    Args:
        root: The folder, for messages.
        paths: Of images, relative to it, sorted.

    Raises:
        DataError: The folders are splits or cameras, and nothing says who is who.
    """
    tree = FolderTree()
    inner = {path: PurePosixPath(path).parts[:-1] for path in paths}
    start = _around_all(list(inner.values()))
    places = [_place(path, folders[start:]) for path, folders in inner.items()]
    tops = dict.fromkeys(folders[start] for folders in inner.values() if len(folders) > start)
    splits = [top for top in tops if split_of(top)]
    if splits:
        tops = {top: None for top in tops if top.lower() not in _VALIDATION}
    nested = any(place.split and place.folders for place in places)
    if not splits:
        _refuse_several(root, [folders[start:] for folders in inner.values()])
    elif not nested and len(splits) == 1 < len(tops):
        tree.warnings.append(f"{splits[0]} is taken for a person, as the other folders are.")
        places = [_Place(path, None, folders[start:]) for path, folders in inner.items()]
    elif any(place.split is None and place.folders for place in places):
        outside = [place for place in places if place.split is None]
        places = [place for place in places if place.split is not None]
        for place in outside:
            tree.skip(place.path, "outside the folders train, query and gallery")
    grouped: dict[Split | Literal["test"] | None, list[_Place]] = {}
    for place in places:
        grouped.setdefault(place.split, []).append(place)
    flat = [split for split, inside in grouped.items() if split and not any(place.folders for place in inside)]
    named = _by_names(root, splits, [place for place in places if place.split in flat], tree)
    in_folders = _by_folders(root, [place for place in places if place.split not in flat], tree)
    images = named | in_folders
    tree.images += [images[path] for path in paths if path in images]
    return tree


def _around_all(folders: list[tuple[str, ...]]) -> int:
    """How many folders lie around everything, and say nothing."""
    start = 0
    while True:
        tops = {inner[start] for inner in folders if len(inner) > start}
        below = {inner[start + 1] for inner in folders if len(inner) > start + 1}
        if len(tops) != 1 or not below or any(split_of(top) or is_camera(top) for top in tops):
            return start
        holds_images = any(len(inner) == start + 1 for inner in folders)
        deeper = any(len(inner) > start + 2 for inner in folders)
        if not any(map(split_of, below)) and (holds_images or (len(below) == 1 and not deeper)):
            return start  # one person, in whose folder there may be others
        start += 1


def _place(path: str, folders: tuple[str, ...]) -> _Place:
    """The split that leading folders stand for, such as test/query, and the folders below."""
    split: Split | Literal["test"] | None = None
    for depth, folder in enumerate(folders):
        named = split_of(folder)
        if named is None or split in ("query", "gallery"):
            return _Place(path, split, folders[depth:])
        split = split if split == "train" else named
    return _Place(path, split, ())


def _refuse_several(root: Path, folders: Iterable[tuple[str, ...]]) -> None:
    """Refuse a tree whose splits lie inside of several other folders."""
    around: dict[str, set[str]] = {}
    for inner in folders:
        if len(inner) > 1 and split_of(inner[1]):
            around.setdefault(inner[0], set()).add(inner[1])
    if len(set().union(*around.values())) > 1:
        tops, splits = list(around), sorted(set().union(*around.values()))
        raise DataError(
            f"{root} has {_listed(splits)} inside of {_listed(tops)}: those are data sets of their own, or people "
            "whose images are divided.",
            f"Prepare data sets one by one (sil prepare-data folders {quote(str(root / tops[0]))}); of people say so: "
            f"sil prepare-data regex {quote(str(root))} --pattern '^(?P<identity>[^/]+)/(?P<split>[^/]+)/'",
        )


def _by_names(root: Path, splits: Sequence[str], places: Sequence[_Place], tree: FolderTree) -> dict[str, FoundImage]:
    """Images that lie directly in their splits' folders."""
    if not places:
        return {}
    matches = {place.path: _NAMED.fullmatch(place.name) for place in places}
    if 10 * sum(match is not None for match in matches.values()) < 9 * len(places):
        odd = next(place for place in places if matches[place.path] is None)
        folder = PurePosixPath(odd.path).parent
        raise DataError(
            f"{root} has images directly in {folder}: that is a split ({_listed(splits)}), not a person, and names "
            f"such as {odd.name} don't say who is in them.",
            "Give each person a folder in each split, or say what the names mean: sil prepare-data regex "
            f"{quote(str(root))} --pattern '(?P<split>{'|'.join(map(re.escape, splits))})/(?P<identity>[^_/]+)_'",
        )
    nobody = all(
        place.split in ("gallery", "test")
        for place in places
        if (match := matches[place.path]) and match["identity"] == _DISTRACTOR
    )
    found: dict[str, FoundImage] = {}
    for place in places:
        match = matches[place.path]
        if match is None:
            tree.skip(place.path, "not named like 0002_c1_000451.jpg")
        elif match["identity"] == _JUNK:
            tree.skip(place.path, "junk by its name")
        else:
            identity = match["identity"]
            distractor = nobody and identity == _DISTRACTOR
            found[place.path] = FoundImage(place.path, identity, match["camera"], place.split, distractor=distractor)
    if found:
        first = next(iter(found.values()))
        tree.warnings.append(
            f"images lie directly in the splits; their names are read as IDENTITY_cCAMERA: "
            f"{PurePosixPath(first.path).name} is person {first.identity}, camera {first.camera}."
        )
    return found


def _by_folders(root: Path, places: Sequence[_Place], tree: FolderTree) -> dict[str, FoundImage]:
    """Images in folders of identities and cameras."""
    firsts = dict.fromkeys(place.folders[0] for place in places if place.folders)
    seconds = dict.fromkeys(place.folders[1] for place in places if len(place.folders) > 1)
    camera_first = bool(firsts) and all(map(is_camera, firsts))
    if camera_first and not seconds:
        raise DataError(
            f"{root}: {_listed(firsts)} are named as cameras are, and no folder in them says who is who.",
            "Give each person a folder, or say what the names mean: sil prepare-data regex "
            f"{quote(str(root))} --pattern '(?P<camera>[^/]+)/(?P<identity>[^_/]+)_[^/]*$' (of people named "
            "so: '(?P<identity>[^/]+)/[^/]*$')",
        )
    camera_second = not camera_first and bool(seconds) and all(map(is_camera, seconds))
    found: dict[str, FoundImage] = {}
    for place in places:
        if len(place.folders) < 1 + camera_first:
            tree.skip(place.path, "not in an identity's folder")
            continue
        identity = place.folders[1 if camera_first else 0]
        camera = None
        if camera_first or (camera_second and len(place.folders) > 1):
            camera = place.folders[0 if camera_first else 1]
        found[place.path] = FoundImage(place.path, identity, camera, place.split)
    if camera_first or camera_second:
        cameras = Counter(image.camera for image in found.values() if image.camera is not None)
        people: dict[str, set[str | None]] = {}
        for image in found.values():
            people.setdefault(image.identity, set()).add(image.camera)
        several = sum(len(seen) > 1 for seen in people.values())
        tree.warnings.append(
            f"{_listed(sorted(cameras))} {'is' if len(cameras) == 1 else 'are'} taken for cameras: "
            f"{len(cameras):,} cameras, {len(people):,} people, {several:,} of them seen by several."
        )
        return found
    return _with_named_cameras(found, tree)


def _with_named_cameras(images: dict[str, FoundImage], tree: FolderTree) -> dict[str, FoundImage]:
    """Cameras by the names of files, where each says one and there are several."""
    named = {path: _IN_NAME.search(PurePosixPath(path).name) for path in images}
    cameras = {match["camera"] for match in named.values() if match}
    if not all(named.values()) or not 1 < len(cameras) <= len(images) / 2:
        return images
    path, match = next((path, match) for path, match in named.items() if match)
    tree.warnings.append(
        f"cameras are read from the names: {PurePosixPath(path).name} is camera {match['camera']} "
        f"({len(cameras):,} cameras)."
    )
    return {
        path: FoundImage(path, image.identity, match["camera"] if match else None, image.split)
        for (path, image), match in zip(images.items(), named.values(), strict=True)
    }


def _listed(names: Iterable[str]) -> str:
    first = list(names)
    return ", ".join(first[:_MOST_NAMED]) + (", …" if len(first) > _MOST_NAMED else "")
