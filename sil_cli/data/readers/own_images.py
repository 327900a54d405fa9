"""Images of one's own: a folder per identity, names that a regular expression takes apart, a table, or annotations."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sil_cli.data.annotations import FIFTYONE_FILE, read_annotations
from sil_cli.data.images import Box, parse_box
from sil_cli.data.manifest import ImageRecord, Skipped
from sil_cli.data.readers.folder_tree import SPLIT_NAMES, FoundImage, read_tree, split_of
from sil_cli.data.readers.layout import check_root, children_of
from sil_cli.data.reading import Reading
from sil_cli.data.tables import TABLE_SUFFIXES, read_rows, require_columns
from sil_cli.data.walking import find_image_files
from sil_cli.errors import DataError, UsageError, did_you_mean, quoted
from sil_cli.files import composed, path_below
from sil_cli.patterns import PathPattern
from sil_cli.settings import check_name
from sil_cli.times import AmbiguousTimeError, TimeReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sil_cli.data.annotations import Annotation

SplitMode = Literal["train", "test", "half"]
"""What to do with images of no known split: `train`, all are training images; `test`, all belong to the test, as
query and gallery; `half`, half of the identities (drawn by the seed) are trained on and the others tested."""

GROUPS = ("identity", "camera", "split", "frame")
NEEDED = ("path", "identity")
OPTIONAL = ("camera", "split", "time", "box")
_NOBODY = frozenset({"na", "n/a", "nan", "null", "none", "<na>", "unknown"})
"""What programs write where they know nothing; people and cameras are taken to be called so, and it is said."""

_LONGEST_SLUG = 100
_PATTERN = r"(?P<identity>\d+)_c(?P<camera>\d+)"


def slug(text: str) -> str:
    """`text` as a name that any file system takes (`check_name`), of letters, digits, dots and dashes; or nothing."""
    plain = re.sub(r"[^\w.]+", "-", unicodedata.normalize("NFKC", text).lower())
    name = plain.encode()[:_LONGEST_SLUG].decode(errors="ignore").strip("-._")
    try:
        return check_name(name) if name else name
    except ValueError:  # Windows keeps it for itself
        return f"data-{name}"


def read_folders(root: Path, *, name: str | None = None, split: SplitMode = "train", seed: int = 0) -> Reading:
    """Read `ROOT/IDENTITY/….jpg`, or `ROOT/train/IDENTITY/….jpg` with `query`, `gallery` or `test` beside `train`.

    `read_tree` says what else is understood: folders named after cameras, names that say identity and camera. Other
    folders inside an identity's folder belong to that identity.

    Args:
        root: The folder of folders.
        name: The domain's name; from the folder's name when None.
        split: What to do with images of no known split (see `SplitMode`).
        seed: Draws the identities for `half`.

    Raises:
        DataError: `root` is missing or not a folder, or nothing in it says who is who.
    """
    check_root(root)
    found = find_image_files(root)
    tree = read_tree(root, found.paths)
    reading = _reading(
        "folders", root, name, tree.images, [*found.skipped, *tree.skipped], {"split": split, "seed": seed}
    )
    return replace(reading, warnings=tree.warnings, reader_version=2)


def read_regex(
    root: Path, *, pattern: str, name: str | None = None, split: SplitMode = "train", seed: int = 0
) -> Reading:
    r"""Read images by a regular expression that is searched in each path relative to ROOT.

    For example `(?P<identity>\d+)_c(?P<camera>\d+)` reads `0002_c1s1_000451_03.jpg`. Only the group `identity`
    is needed. The group `split` may match train, query, gallery, test or the names that Market-1501 gives
    them. Anchor the pattern with ^ and $ where it could match too much. Paths have forward slashes.

    Args:
        root: The folder to look through.
        pattern: The expression, with the named groups identity, camera, split, frame.
        name: The domain's name; from the folder's name when None.
        split: What to do with images of no known split (see `SplitMode`).
        seed: Draws the identities for `half`.

    Raises:
        UsageError: The pattern is not valid, or its groups are not those.
        DataError: `root` is missing or not a folder.
    """
    expression = _compile(pattern)
    check_root(root)
    found = find_image_files(root)
    images: list[FoundImage] = []
    skipped = list(found.skipped)
    for path in found.paths:
        image = _by_pattern(path, expression)
        if isinstance(image, FoundImage):
            images.append(image)
        else:
            skipped.append(Skipped(path=path, reason=image))
    return _reading("regex", root, name, images, skipped, {"pattern": pattern, "split": split, "seed": seed})


def _compile(pattern: str) -> PathPattern:
    expression = PathPattern(pattern, example=_PATTERN)
    for group in expression.groups:
        if group not in GROUPS:
            raise UsageError(f"The pattern has an unknown group '{group}'.", did_you_mean(group, GROUPS))
    if "identity" not in expression.groups:
        raise UsageError(
            "The pattern has no group (?P<identity>…).", f"Name the part that tells people apart: '{_PATTERN}'."
        )
    return expression


def _by_pattern(path: str, expression: PathPattern) -> FoundImage | str:
    """What the path says, or why it says nothing."""
    groups = expression.search(path)
    if groups is None:
        return "the pattern doesn't match"
    identity, split, frame = groups["identity"], groups.get("split"), groups.get("frame")
    if not identity:
        return "the pattern finds no identity"
    if split and split_of(split) is None:
        return _unknown_split(split)
    if frame and not frame.isdecimal():
        return f"frame '{frame}' is not a whole number"
    return FoundImage(
        path,
        identity=identity,
        camera=groups.get("camera") or None,
        split=split_of(split) if split else None,
        frame=int(frame) if frame else None,
    )


def _unknown_split(split: str) -> str:
    return f"split '{split}' is not one of {', '.join(SPLIT_NAMES)}"


def read_csv(
    root: Path, *, images: Path | None = None, name: str | None = None, split: SplitMode = "train", seed: int = 0
) -> Reading:
    """Read a table with a header line (`read_rows`).

    Its columns are path and identity and, where known, camera, split, time and box. Paths are relative to the table's
    folder, or to `images`. Further columns are ignored. A box, `left,top,width,height` in pixels, is cut from an image
    that may come in several rows.

    Args:
        root: The table; or a folder that has one table, to which paths are relative.
        images: What paths are relative to instead.
        name: The domain's name; when None that of the table, where ROOT is one, or else of the folder.
        split: What to do with images of no known split (see `SplitMode`).
        seed: Draws the identities for `half`.

    Raises:
        DataError: There is no such table, a column is missing, a path leaves ROOT, or an image or box comes twice.
    """
    table: Path | None = None
    if _is_file(root):
        root, table = root.parent, root
        name = name or slug(table.stem)
    check_root(root)
    table = table or _only_table(root)
    base = images or root
    check_root(base)
    found: list[FoundImage] = []
    skipped: list[Skipped] = []
    first_line: dict[tuple[str, Box | None], int] = {}
    for line, row in read_rows(table, lambda columns: _check_columns(table, columns)):
        image = _by_row(row, line, table, base)
        if isinstance(image, Skipped):
            skipped.append(image)
            continue
        first = first_line.setdefault((image.path, image.box), line)
        if first != line:
            raise DataError(f"{table} names {image.path} twice, in lines {first} and {line}.", "Keep one of them.")
        found.append(image)
    options = {"table": table.name, "split": split, "seed": seed}
    return replace(_reading("csv", base, name, found, skipped, options), warnings=_nobodies(found))


def read_annotated(
    root: Path, *, images: Path | None = None, name: str | None = None, split: SplitMode = "train", seed: int = 0
) -> Reading:
    """Read the people of a document of COCO, CVAT for images or FiftyOne (`read_annotations`).

    Who somebody is says the attribute identity; camera, split and time are read where they are given. Records name
    the image and the box in it. Paths are relative to the document's folder, or to `images`.

    Args:
        root: The document, or FiftyOne's folder around its samples.json.
        images: What paths are relative to instead, or a folder below which they lie.
        name: The domain's name; that of the document, or of its folder where that is FiftyOne's, when None.
        split: What to do with images of no known split (see `SplitMode`).
        seed: Draws the identities for `half`.

    Raises:
        DataError: The document can't be read, or a path leaves the folder.
    """
    document = root / FIFTYONE_FILE if root.is_dir() else root
    base = images or document.parent
    check_root(base)
    name = name or slug((document.parent.resolve() if document.name == FIFTYONE_FILE else document).stem) or None
    found: list[FoundImage] = []
    skipped: list[Skipped] = []
    seen: set[tuple[str, Box | None]] = set()
    for number, each in enumerate(read_annotations(document), 1):
        image = _by_annotation(each, number, document, base)
        if isinstance(image, FoundImage) and (image.path, image.box) in seen:
            image = Skipped(path=image.path, reason="the same box a second time")
        if isinstance(image, Skipped):
            skipped.append(image)
            continue
        seen.add((image.path, image.box))
        found.append(image)
    options = {"document": document.name, "split": split, "seed": seed}
    return replace(_reading("annotations", base, name, found, skipped, options), warnings=_nobodies(found))


def _by_annotation(each: Annotation, number: int, document: Path, root: Path) -> FoundImage | Skipped:
    cells = {key: each.attributes.get(key, "") for key in ("identity", "camera", "split", "time")}
    box = "" if each.box is None else ",".join(map(str, each.box))
    written = each.file
    if written and (".." in PurePath(written).parts or path_below(root, written) is None):
        written = str(document.parent.resolve() / written)  # as its folder sees it, where `root` is another
    row = cells | {"path": written, "box": box}
    found = _by_row(row, number, document, root)
    if isinstance(found, Skipped):
        return Skipped(path=each.file or f"frame {each.frame}", reason=found.reason.replace("line", "person", 1))
    return found


def _check_columns(table: Path, columns: list[str]) -> None:
    if "identity" not in columns and {"path", "tracklet"} <= set(columns):
        raise DataError(
            f"{table} has no column 'identity': a tracklet is somebody whom one camera saw once, and others may be of "
            "the same person.",
            f"Find out who is who (sil index-gallery {quoted(table)} --tracklets named; sil people find; sil gallery "
            "export --dataset DIR), or add the column yourself.",
        )
    require_columns(table, columns, NEEDED, OPTIONAL)


def _nobodies(images: Sequence[FoundImage]) -> list[str]:
    """What is said of people and cameras called as programs call what they don't know."""
    identities = Counter(image.identity for image in images if image.identity.casefold() in _NOBODY)
    cameras = Counter(image.camera for image in images if image.camera and image.camera.casefold() in _NOBODY)
    return [
        f"'{name}' is taken for the name of a {what} ({count:,} images); leave the cell empty where it is unknown."
        for what, names in (("person", identities), ("camera", cameras))
        for name, count in names.items()
    ]


def _is_file(root: Path) -> bool:
    try:
        return root.is_file()
    except OSError:  # a folder above it is locked, which `check_root` then says
        return False


def _only_table(root: Path) -> Path:
    tables = tables_in(root)
    if len(tables) == 1:
        return tables[0]
    names = ", ".join(table.name for table in tables[:5])
    what = f"{root} has {len(tables)} tables: {names}." if tables else f"{root} has no .csv file."
    raise DataError(what, "Give the table itself as ROOT.")


def tables_in(folder: Path) -> list[Path]:
    """The .csv and .tsv files that lie directly in a folder, sorted."""
    return [child for child in children_of(folder) if child.suffix.lower() in TABLE_SUFFIXES]


def _time(text: str) -> datetime:
    try:
        return TimeReader().parse(text)
    except AmbiguousTimeError:
        raise
    except ValueError:  # at the ends of the calendar a moment can be written that UTC has no year for
        return datetime.fromisoformat(text)


def _by_row(row: dict[str, str], line: int, table: Path, root: Path) -> FoundImage | Skipped:
    written, identity, split = row.get("path", ""), row.get("identity", ""), row.get("split", "")
    time: datetime | None = None
    box: Box | None = None
    reason = None
    if "" in row:
        reason = f"line {line} has more cells than the header"
    elif not written or not identity:
        reason = f"line {line} has no {'identity' if written else 'path'}"
    elif split and split_of(split) is None:
        reason = f"line {line}: {_unknown_split(split)}"
    elif row.get("time"):
        try:
            time = _time(row["time"])
        except AmbiguousTimeError as error:
            reason = f"line {line}: time '{row['time']}' can be read in several ways ({error})"
        except ValueError:
            reason = f"line {line}: time '{row['time']}' is not like 2024-05-31T13:45:00"
    if row.get("box") and not reason:
        try:
            box = parse_box(row["box"])
        except (ValueError, OverflowError):
            reason = f"line {line}: box '{row['box']}' is not left,top,width,height in pixels"
    if reason:
        return Skipped(path=written or f"line {line}", reason=reason)
    path = path_below(root, written)
    if path is None:
        raise DataError(
            f"{table}, line {line}: {written} lies outside {root}.",
            "Write paths relative to ROOT, and choose ROOT so that all images lie below it.",
        )
    return FoundImage(
        path=path,
        identity=identity,
        camera=row.get("camera") or None,
        split=split_of(split) if split else None,
        time=time,
        box=box,
    )


def _reading(
    reader: str,
    root: Path,
    name: str | None,
    images: Sequence[FoundImage],
    skipped: Sequence[Skipped],
    options: dict[str, Any],
) -> Reading:
    """What all three hand over; without a name, the domain gets that of its folder ("My Cameras": my-cameras)."""
    domain = name or slug(root.resolve().name) or "dataset"
    records = to_records(images, domain=domain, split=options["split"], seed=options["seed"])
    return Reading(domain, reader, root, records, skipped, options)


def _one_spelling(image: FoundImage) -> FoundImage:
    """An image with its labels in composed letters, as records have them."""
    identity, camera = composed(image.identity), image.camera and composed(image.camera)
    return (
        image
        if (identity, camera) == (image.identity, image.camera)
        else replace(image, identity=identity, camera=camera)
    )


def to_records(images: Sequence[FoundImage], *, domain: str, split: SplitMode, seed: int) -> list[ImageRecord]:
    """Give every image a split and make it a record; the order stays.

    Images of the test are told apart by `query_positions`.

    Args:
        images: All images, in a fixed order.
        domain: The domain's name.
        split: What to do with images of no known split.
        seed: Draws the identities for `half`; no other mode is random.
    """
    images = [_one_spelling(image) for image in images]
    tested: frozenset[str] = frozenset()
    if split == "half":
        unknown = sorted({image.identity for image in images if image.split is None})
        drawn = np.random.default_rng(seed).permutation(len(unknown))[: len(unknown) // 2]
        tested = frozenset(unknown[index] for index in drawn)
    has_queries = any(image.split == "query" for image in images)
    wanted = [image.split or ("test" if split == "test" or image.identity in tested else "train") for image in images]
    if has_queries:  # beside query or probe, test is the gallery
        wanted = ["gallery" if target == "test" else target for target in wanted]
    queries = query_positions((at, images[at]) for at, target in enumerate(wanted) if target == "test")
    return [
        ImageRecord(
            path=image.path,
            identity=image.identity,
            camera=image.camera,
            split=target if target != "test" else "query" if at in queries else "gallery",
            domain=domain,
            time=image.time,
            frame=image.frame,
            box=image.box,
            distractor=image.distractor,
        )
        for at, (image, target) in enumerate(zip(images, wanted, strict=True))
    ]


def query_positions(images: Iterable[tuple[int, FoundImage]]) -> set[int]:
    """Choose the queries among the images of a test.

    The first image of an identity in each camera is a query and the others are gallery images. So that a query
    finds somebody, a camera that saw an identity once keeps that image for the gallery; an identity of which
    every camera has one image gives its first as the query. An identity with a single image is never a query.

    Args:
        images: Pairs of a position and the image there, in order.

    Returns:
        The positions of the queries.
    """
    by_identity: dict[str, dict[str | None, list[int]]] = {}
    for position, image in images:
        by_identity.setdefault(image.identity, {}).setdefault(image.camera, []).append(position)
    queries: set[int] = set()
    for cameras in by_identity.values():
        firsts = [positions[0] for positions in cameras.values() if len(positions) > 1]
        if not firsts and len(cameras) > 1:
            firsts = [min(positions[0] for positions in cameras.values())]
        queries.update(firsts)
    return queries
