"""`sil gallery export`: a gallery's embeddings and metadata in files of other programs."""

from __future__ import annotations

import csv
import io
import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sil_cli.data.annotations import SUFFIXES, Annotation, write_annotations
from sil_cli.data.images import ImageError, pixels_in, upright_size
from sil_cli.errors import UsageError, as_cell, json_for_terminals
from sil_cli.files import replacing, writing
from sil_cli.gallery.accountability.log import log_event
from sil_cli.gallery.entry import TRACKLET
from sil_cli.gallery.filters import as_stored, make_filter
from sil_cli.gallery.interface import has_policy
from sil_cli.gallery.results import ExportResult
from sil_cli.gallery.stores import gallery_store
from sil_cli.installing import extra_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from sil_cli.gallery.interface import Gallery
    from sil_cli.runtime import Reporter, Task
    from sil_cli.settings import Settings

COLUMNS = ("id", "source", "path", "box", "identity", "camera", "time", "domain", "content_hash", "metadata")
PLURALS = {"identity": "identities", "box": "boxes", "content_hash": "content_hashes", "metadata": "metadata"}
ROWS_AT_ONCE = 8192

Row = tuple[int, str, str, str | None, str | None, str | None, str | None, str | None, str, str | None]


def export_gallery(settings: Settings, out: Path, reporter: Reporter) -> ExportResult:
    """Write the entries that pass the filter, with their embeddings.

    `.npz` holds `gallery_embeddings`, `gallery_identities` and `gallery_cameras` (what evaluations read) and the other
    columns; `.parquet` a table with a column of embeddings; `.csv` a table, with the embeddings in a .npy file beside.
    `.xml` is CVAT's, `samples.json` FiftyOne's and other `.json` COCO's, without embeddings and without entries whose
    images are missing.

    Raises:
        UsageError: The file's type is another.
        GalleryError: There is no gallery, or it is damaged.
    """
    writers: dict[str, Callable[[Path, _Export, Task], list[Path]]] = {
        ".npz": _write_npz,
        ".csv": _write_csv,
        ".parquet": _write_parquet,
        **dict.fromkeys(SUFFIXES, _write_annotations),
    }
    write = writers.get(out.suffix.lower())
    if write is None:
        raise UsageError(
            f"A gallery can't be exported as {out.name}.",
            "Use a name that ends in .npz, .csv or .parquet, or for annotation tools in .json or .xml.",
        )
    with gallery_store(settings).open() as gallery:
        wanted = as_stored(gallery.count_passing, make_filter(settings))
        ids = gallery.ids_passing(wanted) if wanted else gallery.ids()
        if has_policy(settings, gallery.folder):
            chosen = settings.query.filter.model_dump(mode="json", exclude_defaults=True)
            log_event(settings, gallery.folder, "export", {"to": out.name, "filter": chosen, "count": len(ids)})
        with reporter.task("Exporting", len(ids), "entries") as task:
            files = write(out, _Export(gallery, ids, settings, reporter), task)
    return ExportResult(gallery=settings.gallery.folder, entries=len(ids), files=files)


class _Export:
    """What is exported, some at a time: a gallery may be larger than the memory."""

    def __init__(self, gallery: Gallery, ids: np.ndarray, settings: Settings, reporter: Reporter) -> None:
        self.gallery = gallery
        self.ids = ids
        self.max_pixels = pixels_in(settings.data.max_megapixels)
        self.reporter = reporter

    def parts(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self.ids), ROWS_AT_ONCE):
            yield self.ids[start : start + ROWS_AT_ONCE]

    def rows(self, ids: np.ndarray) -> list[Row]:
        entries = self.gallery.entries(ids.tolist())
        return [
            (
                one,
                entry.source,
                entry.path,
                json.dumps(entry.box) if entry.box else None,
                entry.identity,
                entry.camera,
                entry.time.isoformat() if entry.time else None,
                entry.domain,
                entry.content_hash,
                json_for_terminals(json.dumps(dict(entry.metadata), ensure_ascii=False)) if entry.metadata else None,
            )
            for one, entry in sorted(entries.items())
        ]

    def write_embeddings(self, stream: Any, task: Task) -> None:
        """Write all embeddings as the content of a .npy file."""
        shape = (len(self.ids), self.gallery.dimension)
        np.lib.format.write_array_header_2_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for ids in self.parts():
            stream.write(self.gallery.vectors(ids.tolist()).astype("<f4").tobytes())
            task.advance(len(ids))


def _write_npz(out: Path, export: _Export, task: Task) -> list[Path]:
    rows = [row for ids in export.parts() for row in export.rows(ids)]
    with writing(out) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        with archive.open("gallery_embeddings.npy", "w", force_zip64=True) as member:
            export.write_embeddings(member, task)
        for position, name in enumerate(COLUMNS):
            values = [row[position] for row in rows]
            texts = np.array(["" if value is None else value for value in values], dtype=None if name == "id" else str)
            plural = PLURALS.get(name, f"{name}s")
            with archive.open(f"gallery_{plural}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, texts, allow_pickle=False)
    return [out]


def _write_csv(out: Path, export: _Export, task: Task) -> list[Path]:
    embeddings = out.with_suffix(".npy")
    with writing(out) as stream:
        _write_table(stream, export)
    with replacing(embeddings) as stream:
        export.write_embeddings(stream, task)
    return [out, embeddings]


def _write_table(stream: BinaryIO, export: _Export) -> None:
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
    table = csv.writer(text)
    table.writerow(COLUMNS)
    for ids in export.parts():
        table.writerows([as_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in export.rows(ids))
    text.flush()
    text.detach()


def _write_parquet(out: Path, export: _Export, task: Task) -> list[Path]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError("Writing Parquet needs pyarrow.", f"Install it with `{extra_command('parquet')}`.") from error
    dimension = export.gallery.dimension
    fields = [(name, pa.int64() if name == "id" else pa.string()) for name in COLUMNS]
    schema = pa.schema([*fields, ("embedding", pa.list_(pa.float32(), dimension))])
    with writing(out) as stream, pq.ParquetWriter(stream, schema) as table:
        for ids in export.parts():
            columns = list(zip(*export.rows(ids), strict=True))
            arrays = [pa.array(values, type=field.type) for values, field in zip(columns, schema, strict=False)]
            vectors = pa.array(export.gallery.vectors(ids.tolist()).reshape(-1), type=pa.float32())
            arrays.append(pa.FixedSizeListArray.from_arrays(vectors, dimension))
            table.write_table(pa.Table.from_arrays(arrays, schema=schema))
            task.advance(len(ids))
    return [out]


def _write_annotations(out: Path, export: _Export, task: Task) -> list[Path]:
    folder = Path(os.path.realpath(out.parent))
    missing: list[str] = []

    def people() -> Iterator[Annotation]:
        for ids in export.parts():
            for one, entry in sorted(export.gallery.entries(ids.tolist()).items()):
                file = Path(os.path.realpath(entry.file(export.gallery.folder)))
                try:
                    size = upright_size(file, max_pixels=export.max_pixels)
                except ImageError as error:
                    missing.append(f"{entry.path} ({error.reason})")
                    continue
                known = {
                    "identity": entry.identity,
                    "camera": entry.camera,
                    "time": entry.time.isoformat() if entry.time else None,
                    "tracklet": entry.metadata.get(TRACKLET),
                    "domain": entry.domain,
                    "gallery_id": str(one),
                }
                named = {name: value for name, value in known.items() if value}
                yield Annotation(Path(os.path.relpath(file, folder)).as_posix(), size, entry.box, attributes=named)
            task.advance(len(ids))

    files = write_annotations(out, people())
    if missing:
        export.reporter.warn(f"{len(missing):,} entries are left out, as their images can't be read: {missing[0]}, …")
    return files
