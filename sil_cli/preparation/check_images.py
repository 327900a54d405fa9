"""From a reading to a prepared data set: every image is opened once, and what can't be used is named."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

from sil_cli.data.images import DRAWN, MAX_PIXELS, ImageError, is_drawn, load_image, quiet_decoders
from sil_cli.data.labels import label_warnings, of_records
from sil_cli.data.manifest import Dataset, ImageRecord, Skipped, Split, write_dataset
from sil_cli.errors import DataError, one_line
from sil_cli.files import sha256_of_file
from sil_cli.runtime import map_in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sil_cli.data.reading import Reading
    from sil_cli.runtime import Reporter


def prepare(
    reading: Reading,
    folder: Path,
    *,
    reporter: Reporter,
    workers: int,
    max_pixels: int = MAX_PIXELS,
    accept: Callable[[Sequence[ImageRecord]], None] | None = None,
) -> Dataset:
    """Check every image of a reading and write the data set.

    The records keep their order, whatever the number of workers: the same files give the same bytes.

    Args:
        reading: What a reader found.
        folder: Where `manifest.jsonl` and `dataset.json` go.
        reporter: Shows the progress, and what looks wrong with the data.
        workers: How many threads decode.
        max_pixels: Larger images are left out.
        accept: Called with the records that are kept, before anything is written; it may raise to stop that.

    Raises:
        DataError: No image is left, an image comes twice, or `folder` can't be written.
    """
    _check_writable(folder)
    _check_unique(reading)
    kept, dropped = _check_images(reading, reporter, workers, max_pixels)
    skipped = [*reading.skipped, *dropped]
    if not kept:
        raise _nothing_left(reading, skipped)
    if accept is not None:
        accept(kept)
    for warning in [*warnings_of(kept), *_copied_queries(reading.root, kept)]:
        reporter.warn(f"{reading.name}: {warning}")
    try:
        return write_dataset(
            folder,
            kept,
            name=reading.name,
            reader=reading.reader,
            reader_version=reading.reader_version,
            root=reading.root,
            options=reading.options,
            skipped=skipped,
            generated=reading.generated,
        )
    except OSError as error:
        raise _cannot_write(folder, error) from error


def _check_images(
    reading: Reading, reporter: Reporter, workers: int, max_pixels: int
) -> tuple[list[ImageRecord], list[Skipped]]:
    """Open every image; the records that can be used, and what is wrong with the others, in order."""
    kept: list[ImageRecord] = []
    dropped: list[Skipped] = []

    def check(record: ImageRecord) -> tuple[ImageRecord, str | None]:
        path = reading.root / record.path
        try:
            load_image(path, max_pixels=max_pixels, box=record.box)
            return record, DRAWN if is_drawn(path) else None
        except ImageError as error:
            return record, error.reason
        except OSError as error:  # between the two
            return record, one_line(error)

    with (
        reporter.task(f"Checking {reading.name}", len(reading.records), "images") as task,
        quiet_decoders(),
        closing(map_in_order(check, reading.records, workers=workers)) as results,
    ):
        for checked in results:
            for record, reason in checked:
                if reason is None:
                    kept.append(record)
                else:
                    dropped.append(Skipped(path=record.path, reason=reason))
            task.advance(len(checked))
    return kept, dropped


def warnings_of(records: Sequence[ImageRecord]) -> list[str]:
    """What looks wrong with records that are each valid, one line each."""
    found: list[str] = []
    train = {record.identity for record in records if record.split == "train"}
    query = {record.identity for record in records if record.split == "query"}
    gallery = {record.identity for record in records if record.split == "gallery" and not record.distractor}
    if all(record.camera is None for record in records):
        found.append("no camera is known, so matches within a camera will count in evaluation.")
    if query and not gallery:
        found.append("there are queries but no gallery to search: it can't be evaluated on.")
    if gallery and not query:
        found.append("there is a gallery but no query: it can't be evaluated on.")
    if gallery and query - gallery:
        found.append(f"{len(query - gallery)} of {len(query)} query identities are not in the gallery.")
    if train & (query | gallery):
        shared = len(train & (query | gallery))
        found.append(f"{shared} identities are both trained on and tested: results will flatter.")
    if query and gallery:
        sides = [[record for record in records if record.split == split] for split in ("query", "gallery")]
        found += label_warnings(*map(of_records, sides))
    folded = Counter(record.path.casefold() for record in {record.path: record for record in records}.values())
    twins = sum(count for count in folded.values() if count > 1)
    if twins:
        found.append(f"{twins} file names differ only in case, which Windows and macOS can't keep apart.")
    return found


def _copied_queries(root: Path, records: Sequence[ImageRecord]) -> list[str]:
    """What is said of queries whose very file lies in the gallery too, and counts as a match (or as a wrong one)."""
    by_size: dict[Split, dict[int, list[ImageRecord]]] = {"query": {}, "gallery": {}}
    for record in records:
        if record.split in by_size and not record.junk:
            by_size[record.split].setdefault((root / record.path).stat().st_size, []).append(record)
    found: list[tuple[ImageRecord, ImageRecord]] = []
    for size in by_size["query"].keys() & by_size["gallery"].keys():
        there: dict[object, list[ImageRecord]] = {}
        for record in by_size["gallery"][size]:
            there.setdefault((sha256_of_file(root / record.path), record.box), []).append(record)
        for query in by_size["query"][size]:
            copies = there.get((sha256_of_file(root / query.path), query.box), [])
            found += [(query, copy) for copy in copies if not _is_ignored(query, copy)][:1]
    if not found:
        return []
    query, copy = min(found, key=lambda pair: pair[0].path)
    return [
        f"{len(found):,} queries have a copy in the gallery ({query.path} is {copy.path}): a model finds those without "
        "knowing anybody. Leave the copies out of one side."
    ]


def _is_ignored(query: ImageRecord, image: ImageRecord) -> bool:
    """Whether evaluation ignores an image for a query: the same person by the same camera."""
    return query.identity == image.identity and query.camera is not None and query.camera == image.camera


def _check_unique(reading: Reading) -> None:
    counts = Counter((record.path, record.box) for record in reading.records)
    twice = next((path for (path, _), count in counts.items() if count > 1), None)
    if twice is not None:
        raise DataError(f"{reading.name} has the image {twice} twice.", "Name each image once.")


def _check_writable(folder: Path) -> None:
    """Fail before the work, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(folder, error) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _cannot_write(folder, PermissionError(13, "Permission denied"))


def _cannot_write(folder: Path, error: OSError) -> DataError:
    return DataError(
        f"{folder} can't be written: {one_line(error)}.",
        "Choose another folder with --out, or free some space and check its permissions.",
    )


def _nothing_left(reading: Reading, skipped: Sequence[Skipped]) -> DataError:
    if not skipped:
        return DataError(
            f"There are no images in {reading.root} that the reader '{reading.reader}' knows.",
            "Check the path, or choose another reader.",
        )
    first = skipped[0]
    return DataError(
        f"No image of {reading.root} can be used: {len(skipped)} left out, such as {first.path} ({first.reason}).",
        "Check that this is the right folder and the right reader.",
    )
