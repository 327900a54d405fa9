"""`sil index-gallery`: from a folder of crops or a prepared data set to a searchable gallery."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sil_cli.data.manifest import Dataset, is_dataset, load_dataset
from sil_cli.data.parallel import map_in_order
from sil_cli.data.walking import find_image_files
from sil_cli.errors import DataError, InterruptedWorkError, UsageError
from sil_cli.files import one_line, sha256_of_file, staging_folder
from sil_cli.models.embedder import RECORD_FILE, WEIGHTS_FILE, ModelRecord, load_model
from sil_cli.retrieval.gallery import open_gallery
from sil_cli.retrieval.store import GalleryEntry
from sil_cli.retrieval.tuning import refresh_index, require_factory
from sil_cli.retrieval.writer import GalleryWriter, gallery_writer
from sil_cli.runtime import cpu_count, resolve_device
from sil_cli.workflows.embed import embed_files
from sil_cli.workflows.locate import model_folder, target_folder
from sil_cli.workflows.results import FailedImage, IndexResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from sil_cli.data.images import Box
    from sil_cli.models.embedder import Embedder
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

MODEL_FOLDER = "model"
COMMIT_IMAGES = 1024
"""Embeddings gathered before they are made durable together; at most this many are embedded again after a kill."""


def index_gallery(settings: Settings, reporter: Reporter) -> IndexResult:
    """Embed what the gallery does not hold yet, and store it.

    Raises:
        SilError: There are no images or no model, or the gallery belongs to another model or writer.
    """
    images = settings.gallery.images or target_folder(None, settings.data.folder)
    model = model_folder(settings.gallery.model, settings.train.runs)
    folder = settings.gallery.folder
    dataset = load_dataset(images) if is_dataset(images) else None
    root = dataset.root if dataset else images
    source = Path(os.path.relpath(root.resolve(), folder.resolve())).as_posix()
    entries, failed = _dataset_entries(dataset, source) if dataset else _folder_entries(images, source)
    embedder, record = load_model(model)
    device = resolve_device(settings.device)
    embedder.to(device)
    if settings.gallery.index is not None:
        require_factory(settings.gallery.index, record.dimension)
    with gallery_writer(folder, model_record(record)) as writer:
        keep_model(model, folder)
        indexing = _Indexing(writer, root, failed, reporter)
        try:
            wanted = indexing.unindexed(entries)
            indexing.embed_and_add(wanted, embedder, device, settings.gallery.batch)
        except KeyboardInterrupt:
            raise InterruptedWorkError(
                f"Stopped with {len(writer):,} images in {folder}; all of them can be searched.",
                "Run the same command again to go on with the rest.",
            ) from None
        writer.finish()
        refresh_index(writer, reporter, wished=settings.gallery.index)
    return _result(folder, dataset, indexing)


def model_record(record: ModelRecord) -> dict[str, Any]:
    """What a gallery remembers of its model."""
    return record.model_dump(mode="json")


def _dataset_entries(dataset: Dataset, source: str) -> tuple[list[GalleryEntry], list[FailedImage]]:
    """The gallery side of a data set; all of it where it has no test."""
    records = [record for record in dataset.of_split("gallery") or dataset.records if not record.junk]
    entries = [
        GalleryEntry(
            path=record.path,
            content_hash="",
            source=source,
            identity=record.identity,
            camera=record.camera,
            time=record.time,
            domain=record.domain,
            box=record.box,
        )
        for record in records
    ]
    return entries, []


def _folder_entries(images: Path, source: str) -> tuple[list[GalleryEntry], list[FailedImage]]:
    if not images.exists():
        raise UsageError(f"There is no folder {images}.", "Name a folder of crops or a prepared data set.")
    if not images.is_dir():
        raise UsageError(f"{images} is a file, not a folder.", "Name the folder that holds it, or a prepared data set.")
    found = find_image_files(images)
    if not found.paths:
        raise DataError(f"There is no image in {images}.", "Name a folder of crops (jpg, png, bmp, webp, tif, ppm).")
    entries = [GalleryEntry(path=path, content_hash="", source=source) for path in found.paths]
    return entries, [FailedImage(path=skipped.path, reason=skipped.reason) for skipped in found.skipped]


def keep_model(model: Path, folder: Path) -> None:
    """Copy the model into the gallery, so that it can be queried wherever it goes."""
    kept = folder / MODEL_FOLDER
    if (kept / RECORD_FILE).is_file():
        return
    with staging_folder(folder) as staging:
        for name in (WEIGHTS_FILE, RECORD_FILE):
            shutil.copyfile(model / name, staging / name)
        shutil.rmtree(kept, ignore_errors=True)
        staging.rename(kept)


class _Indexing:
    """One run of indexing: what it did so far."""

    def __init__(self, writer: GalleryWriter, root: Path, failed: list[FailedImage], reporter: Reporter) -> None:
        self.failed = failed
        self.added = self.replaced = self.unchanged = 0
        self._writer = writer
        self._root = root
        self._reporter = reporter
        self._known: dict[tuple[str, Box | None], str] = {}

    def unindexed(self, entries: Sequence[GalleryEntry]) -> list[GalleryEntry]:
        """The entries that the gallery lacks or holds with other content, with their content's hash."""
        self._known = self._writer.known(entries[0].source, [entry.path for entry in entries])
        wanted: list[GalleryEntry] = []
        remaining = iter(entries)
        with (
            self._reporter.task("Looking for what is new", len(entries), "images") as task,
            closing(map_in_order(self._digest, entries, workers=cpu_count())) as chunks,
        ):
            for chunk in chunks:
                for digest in chunk:
                    entry = next(remaining)
                    if isinstance(digest, OSError):
                        self._fail(entry.path, one_line(digest))
                    elif self._known.get((entry.path, entry.box)) == digest:
                        self.unchanged += 1
                    else:
                        wanted.append(replace(entry, content_hash=digest))
                task.advance(len(chunk))
        return wanted

    def embed_and_add(
        self, wanted: Sequence[GalleryEntry], embedder: Embedder, device: torch.device, batch: int
    ) -> None:
        """Embed entries and add them, some at a time."""
        files = [(self._root / entry.path, entry.box) for entry in wanted]
        waiting: list[GalleryEntry] = []
        embeddings: list[np.ndarray] = []
        with (
            self._reporter.task("Indexing", len(files), "images") as task,
            closing(embed_files(embedder, files, device=device, batch=batch)) as parts,
        ):
            for part in parts:
                waiting += [wanted[position] for position in part.positions]
                embeddings.append(part.embeddings)
                for path, reason in part.failed:
                    self._fail(path.relative_to(self._root).as_posix(), reason)
                if len(waiting) >= COMMIT_IMAGES:
                    self._commit(waiting, embeddings)
                task.advance(len(part.positions) + len(part.failed))
        self._commit(waiting, embeddings)

    def _commit(self, waiting: list[GalleryEntry], embeddings: list[np.ndarray]) -> None:
        if waiting:
            self._writer.add(waiting, np.concatenate(embeddings))
            again = sum(entry.key[1:] in self._known for entry in waiting)
            self.replaced += again
            self.added += len(waiting) - again
        waiting.clear()
        embeddings.clear()

    def _digest(self, entry: GalleryEntry) -> str | OSError:
        try:
            return sha256_of_file(self._root / entry.path)
        except OSError as error:
            return error

    def _fail(self, path: str, reason: str) -> None:
        self.failed.append(FailedImage(path=path, reason=reason))


def _result(folder: Path, dataset: Dataset | None, indexing: _Indexing) -> IndexResult:
    with open_gallery(folder) as gallery:
        info = gallery.info()
    queries = dataset.of_split("query") if dataset else []
    return IndexResult(
        gallery=folder,
        added=indexing.added,
        unchanged=indexing.unchanged,
        replaced=indexing.replaced,
        failed=indexing.failed,
        total=info.count,
        dimension=info.dimension,
        index=info.index,
        model=info.model["fingerprint"],
        example=dataset.image_path(queries[0]) if dataset and queries else None,
    )
