"""The manifest: the one contract between a raw data set and everything that comes after it.

A prepared data set is a folder with two files that are readable without this program:

- `manifest.jsonl`: one `ImageRecord` a line, in a fixed order;
- `dataset.json`: a `DatasetInfo`: where the images lie, what was counted, what was left out, a checksum.

Nothing downstream knows a data set by name. The same input gives the same bytes.
"""

from __future__ import annotations

import json
import mmap
import os
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, get_args
from unicodedata import normalize

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sil_cli.data.images import MAX_PIXELS, load_image
from sil_cli.errors import DataError, SilError, in_plain_words, one_line, quoted
from sil_cli.files import (
    MOST_LINES,
    composed,
    open_file,
    read_bytes,
    read_json,
    require_reachable,
    sha256_of_bytes,
    write_bytes,
    write_json,
)
from sil_cli.settings import Name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from PIL import Image

Split = Literal["train", "query", "gallery"]
SPLITS: tuple[Split, ...] = get_args(Split)
MANIFEST_FILE = "manifest.jsonl"
INFO_FILE = "dataset.json"
_PATH_AT = len(b'{"path":')  # in a line
_FEW_NAMES = 4  # to find one takes 10 to 30 ms of 500,000 lines, to look at each line 0.1 to 0.2 s


class StrictModel(BaseModel):
    """What is read from a file of ours: no key may be unknown, and nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageRecord(StrictModel):
    """One image of one person seen by one camera.

    Attributes:
        path: POSIX path relative to the data set's root; never absolute, never through `..`.
        identity: The person, unique within the data set.
        camera: The camera, unique within the data set; None where unknown.
        split: `train`, or one of the two sides of the test: `query` and `gallery`.
        domain: The camera network, which is the data set's name.
        time: When the image was taken, where the source has a clock.
        frame: The frame's number in its camera's recording, where known.
        box: (left, top, width, height) in pixels of a larger image that the crop is to be cut from.
        distractor: A gallery image of nobody who is a query: it stays in the gallery, and is not trained on.
        junk: An image that evaluation ignores.
    """

    path: str = Field(min_length=1)
    identity: str = Field(min_length=1)
    camera: str | None = None
    split: Split
    domain: str = Field(min_length=1)
    time: datetime | None = None
    frame: int | None = None
    box: tuple[int, int, int, int] | None = None
    distractor: bool = False
    junk: bool = False

    @property
    def is_named(self) -> bool:
        """Whether its identity is one person's, and the image one that counts."""
        return not (self.distractor or self.junk)

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts or set(path) & {"\\", "\0"} or Path(path).drive:
            raise ValueError("must be relative to the data set's root, with forward slashes and no '..'")
        return path

    @field_validator("identity", "camera", "domain")
    @classmethod
    def _one_spelling(cls, name: str | None) -> str | None:
        return name if name is None else composed(name)


class Skipped(StrictModel):
    """A file that was left out, and why."""

    path: str
    reason: str


class SplitCounts(StrictModel):
    """What one split holds; cameras is 0 where none is known."""

    images: int
    identities: int
    cameras: int


class DatasetInfo(StrictModel):
    """What `dataset.json` says of a prepared data set.

    Attributes:
        root: The images' folder, relative to the folder of this file.
        options: The reader's options that made this manifest.
        generated: The people are drawn, not photographed.
    """

    format: Literal[1] = 1
    name: Name
    reader: str
    reader_version: int
    options: dict[str, Any]
    generated: bool
    root: str
    manifest_sha256: str
    splits: dict[Split, SplitCounts]
    skipped: list[Skipped]


@dataclass(frozen=True)
class Dataset:
    """A prepared data set that has been loaded.

    Attributes:
        folder: Where `dataset.json` lies.
        info: What it says.
        records: All records, in the manifest's order.
        max_pixels: The most pixels of an image that `load_image` reads.
    """

    folder: Path
    info: DatasetInfo
    records: tuple[ImageRecord, ...]
    max_pixels: int = MAX_PIXELS

    @property
    def name(self) -> str:
        """The domain's name."""
        return self.info.name

    @property
    def root(self) -> Path:
        """The folder that record paths are relative to."""
        return Path(os.path.normpath(self.folder / self.info.root))

    def of_split(self, split: Split) -> list[ImageRecord]:
        """The records of one split, in order."""
        return [record for record in self.records if record.split == split]

    def image_path(self, record: ImageRecord) -> Path:
        """Where a record's image lies."""
        return self.root / record.path

    def load_image(self, record: ImageRecord) -> Image.Image:
        """A record's crop, decoded as `images.load_image` does it.

        Raises:
            ImageError: It can't be read, or is larger than `max_pixels`.
        """
        return load_image(self.image_path(record), max_pixels=self.max_pixels, box=record.box)

    def files(self) -> Iterator[Path]:
        """Its files, the images wherever they lie."""
        yield from (self.folder / name for name in (MANIFEST_FILE, INFO_FILE))
        yield from (self.image_path(record) for record in self.records)


def count_splits(records: Iterable[ImageRecord]) -> dict[Split, SplitCounts]:
    """Images, identities and cameras of each split, all three splits always present.

    Distractors and junk count as images, not as identities.
    """
    images: Counter[Split] = Counter()
    identities: dict[Split, set[str]] = {split: set() for split in SPLITS}
    cameras: dict[Split, set[str]] = {split: set() for split in SPLITS}
    for record in records:
        images[record.split] += 1
        if record.is_named:
            identities[record.split].add(record.identity)
        if record.camera is not None:
            cameras[record.split].add(record.camera)
    return {
        split: SplitCounts(images=images[split], identities=len(identities[split]), cameras=len(cameras[split]))
        for split in SPLITS
    }


def write_dataset(
    folder: Path,
    records: Sequence[ImageRecord],
    *,
    name: str,
    reader: str,
    reader_version: int,
    root: Path,
    options: dict[str, Any],
    skipped: Sequence[Skipped] = (),
    generated: bool = False,
) -> Dataset:
    """Write `manifest.jsonl`, then `dataset.json` that seals it with a checksum.

    Args:
        folder: Where both files go; made when missing.
        records: In the order to keep.
        name: The domain's name.
        reader: The reader that made the records.
        reader_version: Its version.
        root: The images' folder; stored relative to `folder`.
        options: The reader's options (JSON values).
        skipped: The files left out.
        generated: The people are drawn, not photographed.

    Raises:
        OSError: The folder can't be written.
    """
    lines = [record.model_dump_json(exclude_defaults=True) for record in records]
    content = "".join(line + "\n" for line in lines).encode("utf-8")
    info = DatasetInfo(
        name=name,
        reader=reader,
        reader_version=reader_version,
        options=options,
        generated=generated,
        root=Path(os.path.relpath(root.resolve(), folder.resolve())).as_posix(),
        manifest_sha256=sha256_of_bytes(content),
        splits=count_splits(records),
        skipped=list(skipped),
    )
    write_bytes(folder / MANIFEST_FILE, content)
    write_json(folder / INFO_FILE, info.model_dump(mode="json"))
    return Dataset(folder=folder, info=info, records=tuple(records))


def is_dataset(folder: Path) -> bool:
    """Whether `folder` is a prepared data set."""
    return (folder / INFO_FILE).is_file()


def manifest_checksum(folder: Path) -> str | None:
    """What a prepared data set says of its manifest's checksum; None where there is none, or it can't be read."""
    try:
        raw = read_json(folder / INFO_FILE, what="what was prepared", fix="")
    except (OSError, SilError):
        return None
    return raw.get("manifest_sha256") if isinstance(raw, dict) else None


def prepared_datasets(folder: Path) -> list[Path]:
    """The prepared data sets directly in `folder`, by name."""
    if not folder.is_dir():
        return []
    return sorted(child for child in folder.iterdir() if is_dataset(child))


def load_dataset(folder: Path | str, *, max_pixels: int = MAX_PIXELS) -> Dataset:
    """Load a prepared data set and check it against its checksum.

    Args:
        folder: Where it lies.
        max_pixels: The most pixels of an image that is read of it.

    Raises:
        DataError: It is missing, damaged, edited by hand, or its images have moved away.
    """
    folder = Path(folder)
    again = "Run `sil prepare-data` again to replace it."
    require_reachable(folder / INFO_FILE)
    if not is_dataset(folder):
        raise DataError(
            f"{folder} is not a prepared data set: it has no {INFO_FILE}.",
            "Make one with `sil prepare-data [READER ROOT] --out DIR`.",
        )
    raw = read_json(folder / INFO_FILE, what="what was prepared", fix=again)
    try:
        info = DatasetInfo.model_validate(raw)
    except ValidationError as error:
        raise DataError(f"{folder / INFO_FILE} is not valid: {first_problem(error)}.", again) from error
    try:
        content = read_bytes(folder / MANIFEST_FILE, most=MOST_LINES)
    except OSError as error:
        raise DataError(f"{folder / MANIFEST_FILE} can't be read: {one_line(error)}.", again) from error
    if sha256_of_bytes(content) != info.manifest_sha256:
        raise DataError(
            f"{folder / MANIFEST_FILE} is not the file that prepare-data wrote (its checksum differs).", again
        )
    dataset = Dataset(folder=folder, info=info, records=tuple(_parse(folder, content, again)), max_pixels=max_pixels)
    if not dataset.root.is_dir():
        raise DataError(
            f"The images of {info.name} are no longer at {dataset.root}.",
            f"Move them back, or run `sil prepare-data {info.reader} NEW_ROOT --out {quoted(folder)}`.",
        )
    return dataset


def find_records(folder: Path, images: Iterable[Path]) -> dict[Path, list[ImageRecord]]:
    """The records of some images of a prepared data set: looked up in its lines, of which only theirs are parsed.

    Names are compared as they are shown: composed letters (NFC) are the decomposed ones (NFD) that macOS keeps. An
    image may be named by a link to it, and its record may name a link.

    Args:
        folder: Of the data set.
        images: Their files, in any spelling.

    Returns:
        For each image its records, several where they are boxes in a larger image; nothing at all where the data set
        can't be read.
    """
    by_path: dict[str, list[ImageRecord]] = {}
    try:
        root = os.path.realpath(folder / DatasetInfo.model_validate_json(read_bytes(folder / INFO_FILE)).root)
        names = {image: _names_within(root, image) for image in images}
        wanted = {composed(name) for some in names.values() for name in some}
        with (
            open_file(folder / MANIFEST_FILE) as file,
            mmap.mmap(
                file.fileno(), min(os.fstat(file.fileno()).st_size, MOST_LINES), access=mmap.ACCESS_READ
            ) as manifest,
        ):
            for line in _lines_of(wanted, manifest):
                record = ImageRecord.model_validate_json(line)
                by_path.setdefault(record.path, []).append(record)
    except (OSError, ValueError):
        return {}
    alike: dict[str, list[ImageRecord]] = {}
    for path, records in by_path.items():
        alike.setdefault(composed(path), []).extend(records)
    return {
        image: [record for name in some for record in by_path.get(name) or alike.get(composed(name), [])]
        for image, some in names.items()
    }


def _names_within(root: str, image: Path) -> set[str]:
    """The paths from a data set's root that an image has: as it is spelt, and as the file that links lead to."""
    whole = Path(os.path.realpath(image))
    spelt = Path(os.path.normpath(image.absolute()))
    ways = [whole, spelt] if os.path.realpath(spelt) == str(whole) else [whole]
    above = ((way, folder) for way in ways for folder in way.parents if os.path.realpath(folder) == root)
    return {way.relative_to(folder).as_posix() for way, folder in above}


def _lines_of(names: Iterable[str], manifest: mmap.mmap) -> Iterator[bytes]:
    """The lines that may be of these names: few are looked for one by one, many as all lines pass by."""
    spellings = (normalize(form, name) for name in names for form in ("NFC", "NFD"))
    texts = {json.dumps(name, ensure_ascii=escaped) for name in spellings for escaped in (False, True)}
    quoted = {text.encode("utf-8", "surrogateescape") for text in texts}
    if len(quoted) > _FEW_NAMES:
        begins = {text[: text.find(b'"', 1)] for text in quoted}
        lines = iter(manifest.readline, b"")
        yield from (line for line in lines if line[_PATH_AT : line.find(b'"', _PATH_AT + 1)] in begins)
        return
    for text in quoted:
        at = manifest.find(text)
        while at >= 0:
            end = manifest.find(b"\n", at) % (len(manifest) + 1)  # -1 is the end of the file
            yield manifest[manifest.rfind(b"\n", 0, at) + 1 : end]
            at = manifest.find(text, end)


def _parse(folder: Path, content: bytes, fix: str) -> Iterable[ImageRecord]:
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            yield ImageRecord.model_validate_json(line)
        except ValidationError as error:
            where = f"{folder / MANIFEST_FILE}, line {number}"
            raise DataError(f"{where}: {first_problem(error)}.", fix) from error


def first_problem(error: ValidationError) -> str:
    """The first thing that a pydantic validation complains of, on one line."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    said = in_plain_words(problem["msg"])
    return f"{where}: {said}" if where else said
