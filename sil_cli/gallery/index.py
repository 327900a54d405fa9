"""`sil index-gallery`: from crops, wherever they are named, to a searchable gallery."""

from __future__ import annotations

import os
import shlex
import sys
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING

from sil_cli.data.images import pixels_in
from sil_cli.data.manifest import prepared_datasets
from sil_cli.defaults import RECORD_FILE, model_folder, target_folder
from sil_cli.errors import DataError, GalleryError, InterruptedWorkError, ModelError, UsageError, quoted
from sil_cli.evaluation.calibration import CALIBRATION_FILE, read_calibration, write_calibration
from sil_cli.files import require_reachable
from sil_cli.gallery.chance import renew_chance
from sil_cli.gallery.entry import TRACKLET, GalleryEntry
from sil_cli.gallery.ingest.run import IndexRun
from sil_cli.gallery.ingest.source_paths import SourcePaths
from sil_cli.gallery.ingest.sources import (
    NOT_MATCHED,
    STREAM,
    TIME_AMBIGUOUS,
    TIME_NOT_READ,
    SourceImages,
    SourceReader,
)
from sil_cli.gallery.interface import MODEL_FOLDER, has_policy
from sil_cli.gallery.kept_model import gallery_record, keep_model
from sil_cli.gallery.results import IndexResult
from sil_cli.gallery.stores import gallery_store_to_write
from sil_cli.models.embed import embed_batches
from sil_cli.models.engines.export import export_if_possible
from sil_cli.models.load import load
from sil_cli.models.record import ModelFiles, read_record
from sil_cli.runtime import SilentReporter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sil_cli.gallery.interface import GalleryStore, GalleryWriter
    from sil_cli.gallery.workers import Workers
    from sil_cli.models.model import Model
    from sil_cli.runtime import Launch, Reporter
    from sil_cli.settings import Settings

_LINGER = 2.0
"""Seconds that a path of a stream waits for others: a slow stream can be searched soon, a fast one is quick."""


def index_distributed(settings: Settings, reporter: Reporter, launch: Launch) -> IndexResult | None:
    """`index_gallery` by all processes of a launch; the result is that of the first, and None in the others.

    Raises:
        SilError: As of `index_gallery`, or the processes can't be joined.
    """
    if launch.world_size == 1:
        return index_gallery(settings, reporter)
    from sil_cli.distributed.command import connect
    from sil_cli.gallery.workers import Workers, run_worker

    group, _ = connect(launch, settings.device, timeout=settings.distributed.timeout)
    if not group.is_first:
        run_worker(settings, group, reporter)
        return None
    workers = Workers(group, timeout=settings.distributed.timeout)
    return index_gallery(settings, workers.reporter(reporter), workers)


def index_gallery(settings: Settings, reporter: Reporter, workers: Workers | None = None) -> IndexResult:
    """Embed what the gallery does not hold yet, and store it.

    Args:
        settings: All settings.
        reporter: Shows progress.
        workers: Other processes that share in the embedding; they are let go when it is done.

    Raises:
        SilError: There are no images or no model, or the gallery belongs to another model or writer.
    """
    wanted = settings.gallery.images or (_left_out(settings.data.folder),)
    reader = SourceReader(settings.gallery)
    fixed, stream = _read(wanted, reader, reporter)
    _refuse_useless_options(reader, fixed, streamed=stream is not None)
    model = model_folder(settings.gallery.model, settings.train.runs)
    store = gallery_store_to_write(settings)
    folder = store.folder
    require_reachable(folder / MODEL_FOLDER)
    known = [file for source in fixed for file in source.files]
    if settings.gallery.export and not _belongs_to_another(folder, model):
        most = pixels_in(settings.data.max_megapixels)
        export_if_possible(model, known, reporter, called="images of the gallery", max_pixels=most)
    loaded = load(model, settings, reporter, images=len(known))
    require_finished(loaded, model)
    if settings.gallery.index is not None:
        store.require_index(settings.gallery.index, loaded.engine.dimension)
    if workers is not None:
        workers.begin(model, len(known), loaded.engine)
    with store.writer(gallery_record(loaded)) as writer:
        writer.warn_of_set_aside(reporter)
        if _belongs_to_another(folder, model):  # a folder beside another store: no writer has looked at it
            raise GalleryError(
                f"{folder} keeps another model than that of {store.name}.", "Choose another folder with --gallery DIR."
            )
        keep_model(loaded, folder)
        keep_calibration(model, folder, loaded.record.fingerprint)
        paths = SourcePaths(folder, writer.sources())
        governed = has_policy(settings, folder)
        embed = embed_batches if workers is None else workers.embed
        run = IndexRun(writer, reader, paths, loaded.engine, embed)
        try:
            too_old = _leave_out_old(fixed, settings, folder) if governed else 0
            _take_all(run, fixed, stream, reporter)
            folders = [source.folder for source in fixed if source.folder is not None]
            run.sweep(folders, [one for source in fixed for one in source.unlisted])
            pruned = run.prune() if settings.gallery.prune else 0
            expired = _expire(writer, settings, reporter) if governed else 0
            if workers is not None:
                workers.end()
            writer.finish()
            writer.refresh_index(reporter, requested=settings.gallery.index)
        except KeyboardInterrupt:
            raise InterruptedWorkError(
                f"Stopped with {len(writer):,} images in {store.name}; all of them are searchable.",
                "Run the same command again to do the rest.",
            ) from None
    _refuse_nothing(run)
    moved = [_moved(source, paths, store) for source, paths in run.twice.items()]
    for line in moved:
        reporter.warn(line)
    result = _result(store, fixed, run, pruned, [*reader.warnings.report(reporter), *moved], reporter)
    return result.model_copy(update={"expired": expired, "too_old": too_old}) if governed else result


def _leave_out_old(fixed: Sequence[SourceImages], settings: Settings, folder: Path) -> int:
    """Leave out what the gallery would have to remove at once for its age; returns how many images that are."""
    from sil_cli.gallery.accountability.commands import is_too_old
    from sil_cli.gallery.accountability.policy import policy_of

    policy, now, before = policy_of(settings, folder), datetime.now(UTC), sum(len(source.items) for source in fixed)
    for source in fixed:
        source.items[:] = [
            item for item in source.items if not isinstance(item, GalleryEntry) or not is_too_old(item, policy, now)
        ]
    return before - sum(len(source.items) for source in fixed)


def _expire(writer: GalleryWriter, settings: Settings, reporter: Reporter) -> int:
    """Remove what is older than the gallery keeps; returns how many entries that were."""
    from sil_cli.gallery.accountability.commands import cut_old_lines, expired_ids, remove_expired
    from sil_cli.gallery.accountability.policy import policy_of

    policy = policy_of(settings, writer.folder)
    ids = expired_ids(writer, policy)
    if ids:
        remove_expired(writer, ids, settings, reporter)
    cut_old_lines(writer.folder, policy)
    return len(ids)


def _left_out(data_folder: Path) -> Path:
    """The data set that is indexed where no images are named.

    Raises:
        UsageError: No protocol leaves one out.
    """
    try:
        return target_folder(None, data_folder)
    except UsageError as error:
        there = [str(path) for path in prepared_datasets(data_folder)]
        example = there[0] if there else "CROPS"
        raise UsageError(
            "There are no images to index.",
            f"Name files, folders, tables or data sets: `sil index-gallery {quoted(example)}`"
            + ("." if there else "; or run `sil prepare-data` first."),
        ) from error


def _belongs_to_another(gallery: Path, model: Path) -> bool:
    """Whether the gallery keeps another model, and will refuse this one."""
    if not all((folder / RECORD_FILE).is_file() for folder in (gallery / MODEL_FOLDER, model)):
        return False
    return read_record(gallery / MODEL_FOLDER) != read_record(model)


def _read(
    wanted: Sequence[Path], reader: SourceReader, reporter: Reporter
) -> tuple[list[SourceImages], Iterator[SourceImages] | None]:
    """The sources that are there, read; and the stream, where it is one of them, with its first portion at hand."""
    if list(wanted).count(STREAM) > 1:
        raise UsageError("The stream - is named twice.", "Name it once.")
    fixed = [reader.read(source) for source in wanted if source != STREAM]
    if STREAM not in wanted:
        return fixed, None
    if sys.stdin.isatty():
        reporter.note("Type one path per line; end with Ctrl-D.")
    portions = reader.stream(sys.stdin.buffer, linger=_LINGER)
    first = next(portions, None)
    if first is None:
        if not fixed:
            raise DataError(
                "There was no path on stdin.", "Pipe one path per line into it: find crops -name '*.jpg' | sil …"
            )
        return fixed, None
    if reader.settings.tracklets == "off":
        return fixed, chain([first], portions)
    # A tracklet can only be averaged when all of its images are known, so the stream is read to its end.
    return [*fixed, first, *portions], None


def _refuse_useless_options(reader: SourceReader, fixed: Sequence[SourceImages], *, streamed: bool) -> None:
    """Refuse options that have no effect at all on what was read."""
    images = [image for source in fixed for image in source.images]
    unmatched, examples = reader.warnings.counts[NOT_MATCHED], reader.warnings.examples
    if images and unmatched == reader.read_images:
        raise UsageError(
            f"The pattern {reader.settings.pattern!r} matches none of {unmatched:,} names, such as {images[0].path}.",
            "It is matched against paths relative to their source; try it on this one.",
        )
    if streamed or not images:
        return
    if TIME_AMBIGUOUS in examples:
        raise UsageError(
            f"A time can be read in several ways: {examples[TIME_AMBIGUOUS]}.",
            "Say how all are written: --time-format epoch, epoch-ms, or a pattern such as '%d/%m/%Y %H:%M'.",
        )
    if TIME_NOT_READ in examples and all(image.time is None for image in images):
        raise UsageError(
            f"No time can be read: the first is {examples[TIME_NOT_READ]}.",
            "Give the format of the times, for example --time-format %d.%m.%Y-%H%M%S.",
        )
    if reader.settings.tracklets == "named" and all(TRACKLET not in image.metadata for image in images):
        raise UsageError(
            "No image has the name of a tracklet.",
            "Give one by a column tracklet or a group (?P<tracklet>…), or use --tracklets folder.",
        )


def _take_all(
    run: IndexRun, fixed: Sequence[SourceImages], stream: Iterator[SourceImages] | None, reporter: Reporter
) -> None:
    for source in fixed:
        run.failed += source.failed
    images = [image for source in fixed for image in source.images]
    if images:
        run.take(images, reporter)
    if stream is None:
        return
    with reporter.task("Indexing what comes on stdin", None, "images") as task:
        for source in stream:
            run.failed += source.failed
            run.take(source.images, SilentReporter())
            task.advance(len(source.images))


def require_finished(loaded: Model, model: Path) -> None:
    """Refuse a model that was made up from a checkpoint: there are no files of it to keep with a gallery.

    Raises:
        ModelError: It is one.
    """
    if loaded.files == ModelFiles():
        raise ModelError(
            f"{model} can't be kept with a gallery: its run is not finished.", "Finish it with `sil train --resume`."
        )


def keep_calibration(model: Path, folder: Path, fingerprint: str) -> None:
    """Copy the model's thresholds beside the gallery's copy of it; newer ones replace older ones.

    Raises:
        GalleryError: They were measured on another model.
    """
    calibration = read_calibration(model)
    if calibration is None:
        return
    if calibration.fingerprint != fingerprint:
        raise GalleryError(
            f"{model / CALIBRATION_FILE} was measured on model {calibration.fingerprint[:12]}, not on this one.",
            "Run `sil calibrate` again, or delete the file.",
        )
    if read_calibration(folder / MODEL_FOLDER) != calibration:
        write_calibration(folder / MODEL_FOLDER, calibration)


def _moved(source: str, paths: Sequence[str], store: GalleryStore) -> str:
    """What is said of entries that a gallery holds twice, since it was moved away from its images or they from it."""
    folder = os.path.normpath(store.folder / source)
    remove = f"sil gallery remove --where {shlex.quote(f'source={source}')}{store.option()}"
    return (
        f"{len(paths):,} images are in the gallery twice now, such as {paths[0]}: their old entries are of {folder}, "
        f"which is not there. If the gallery or its images were moved, `{remove}` removes the old ones."
    )


def _refuse_nothing(run: IndexRun) -> None:
    if run.failed and not run.taken:
        first = run.failed[0]
        raise DataError(
            f"None of the {len(run.failed):,} images can be used; the first is {first.path} ({first.reason}).",
            "Check that these are the right paths; the gallery is unchanged.",
        )


def _result(
    store: GalleryStore,
    fixed: Sequence[SourceImages],
    run: IndexRun,
    pruned: int,
    warnings: list[str],
    reporter: Reporter,
) -> IndexResult:
    datasets = [source.dataset for source in fixed if source.dataset is not None]
    examples = [dataset.image_path(record) for dataset in datasets for record in dataset.of_split("query")[:1]]
    with store.open() as gallery:
        chance = renew_chance(gallery, reporter)
        return IndexResult(
            **vars(run.counts),
            gallery=store.folder,
            option=store.option(),
            failed=run.failed,
            gone=[path for _, path in run.missing],
            pruned=pruned,
            warnings=warnings,
            total=len(gallery),
            dimension=gallery.dimension,
            index=gallery.describe_index(),
            model=gallery.model["fingerprint"],
            example=examples[0] if examples else None,
            calibrated=(store.folder / MODEL_FOLDER / CALIBRATION_FILE).is_file(),
            chance=chance,
        )
