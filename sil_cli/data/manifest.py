"""The manifest: the one contract between a raw data set and everything that comes after it.

A prepared data set is a folder with two files that are readable without this program:

- `manifest.jsonl`: one `ImageRecord` a line, in a fixed order;
- `dataset.json`: a `DatasetInfo`: where the images lie, what was counted, what was left out, a checksum.

Nothing downstream knows a data set by name. The same input gives the same bytes.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import to_json

from sil_cli.errors import DataError, in_plain_words
from sil_cli.files import one_line, read_bytes, read_json, sha256_of_bytes, write_bytes, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Split = Literal["train", "query", "gallery"]
SPLITS: tuple[Split, ...] = get_args(Split)
MANIFEST_FILE = "manifest.jsonl"
INFO_FILE = "dataset.json"


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

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts or set(path) & {"\\", "\0"} or PureWindowsPath(path).drive:
            raise ValueError("must be relative to the data set's root, with forward slashes and no '..'")
        return path


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
    name: str
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
    """

    folder: Path
    info: DatasetInfo
    records: tuple[ImageRecord, ...]

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
        if not (record.distractor or record.junk):
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


def prepared_datasets(folder: Path) -> list[Path]:
    """The prepared data sets directly in `folder`, by name."""
    if not folder.is_dir():
        return []
    return sorted(child for child in folder.iterdir() if is_dataset(child))


def load_dataset(folder: Path) -> Dataset:
    """Load a prepared data set and check it against its checksum.

    Raises:
        DataError: It is missing, damaged, edited by hand, or its images have moved away.
    """
    again = "Run `sil prepare-data` again to replace it."
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
        content = read_bytes(folder / MANIFEST_FILE)
    except OSError as error:
        raise DataError(f"{folder / MANIFEST_FILE} can't be read: {one_line(error)}.", again) from error
    if sha256_of_bytes(content) != info.manifest_sha256:
        raise DataError(
            f"{folder / MANIFEST_FILE} is not the file that prepare-data wrote (its checksum differs).", again
        )
    dataset = Dataset(folder=folder, info=info, records=tuple(_parse(folder, content, again)))
    if not dataset.root.is_dir():
        raise DataError(
            f"The images of {info.name} are no longer at {dataset.root}.",
            f"Move them back, or run `sil prepare-data {info.reader} NEW_ROOT --out {folder}`.",
        )
    return dataset


def find_record(folder: Path, image: Path) -> ImageRecord | None:
    """The record of one image of a prepared data set, found without loading the others.

    Args:
        folder: Of the data set.
        image: Its file, with links followed.

    Returns:
        None where the data set doesn't name the image, or can't be read.
    """
    try:
        root = (folder / DatasetInfo.model_validate_json(read_bytes(folder / INFO_FILE)).root).resolve()
        path = image.relative_to(root).as_posix()
        named = [line for line in read_bytes(folder / MANIFEST_FILE).splitlines() if to_json(path) in line]
        records = [ImageRecord.model_validate_json(line) for line in named]
    except (OSError, ValueError):
        return None
    return next((record for record in records if record.path == path), None)


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
    where = ".".join(str(part) for part in problem["loc"])
    said = in_plain_words(problem["msg"])
    return f"{where}: {said}" if where else said
