"""`sil gallery rebuild`: embed a gallery's images by another model, and put the result in its place in one step."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.errors import GalleryError, InterruptedWorkError
from sil_cli.files import one_line, sha256_of_file
from sil_cli.models.embedder import load_model
from sil_cli.retrieval.gallery import open_gallery
from sil_cli.retrieval.rebuild import Rebuild, rebuilding
from sil_cli.retrieval.tuning import refresh_index
from sil_cli.runtime import resolve_device
from sil_cli.workflows.embed import embed_files
from sil_cli.workflows.gallery_care import lost_entry
from sil_cli.workflows.gallery_results import LostEntry, RebuildResult
from sil_cli.workflows.index import COMMIT_IMAGES, keep_model, model_record
from sil_cli.workflows.locate import model_folder

if TYPE_CHECKING:
    import torch

    from sil_cli.models.embedder import Embedder
    from sil_cli.retrieval.store import GalleryEntry
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

SHOWN_GONE = 3


def rebuild_gallery(settings: Settings, reporter: Reporter, *, drop_missing: bool) -> RebuildResult:
    """Embed every image again; searching goes on in the old gallery until the new one takes its place.

    Raises:
        GalleryError: Images are gone and `drop_missing` is false: the old gallery stays, what was embedded is kept.
        InterruptedWorkError: Ctrl-C; the same command goes on where it stopped.
        SilError: There is no gallery or no model, or the gallery is being written.
    """
    folder = settings.gallery.folder
    model = model_folder(settings.gallery.model, settings.train.runs)
    embedder, record = load_model(model)
    device = resolve_device(settings.device)
    with rebuilding(folder, model_record(record)) as rebuild:
        keep_model(model, rebuild.folder)
        try:
            embedded, gone = _embed_all(rebuild, embedder.to(device), device, settings.gallery.batch, reporter)
        except KeyboardInterrupt:
            raise InterruptedWorkError(
                f"Stopped with {len(rebuild.new):,} of {len(rebuild.old):,} images embedded; {folder} is as it was.",
                "Run the same command again to go on with the rest.",
            ) from None
        if gone and not drop_missing:
            shown = [f"{one.path} ({one.reason})" for one in gone[:SHOWN_GONE]]
            names = ", ".join(shown + ["…"] * (len(gone) > SHOWN_GONE))
            raise GalleryError(
                f"{len(gone):,} images of {folder} can't be embedded again: {names}.",
                "Bring them back, or leave them out with --drop-missing; all others are embedded already.",
            )
        refresh_index(rebuild.new, reporter, wished=rebuild.old.summary().wished_index)
        old_model, total = str(rebuild.old.model["fingerprint"]), len(rebuild.new)
        rebuild.swap()
    with open_gallery(folder) as gallery:
        index = gallery.info().index
    return RebuildResult(
        gallery=folder,
        entries=total,
        embedded=embedded,
        dropped=gone,
        old_model=old_model,
        model=record.fingerprint,
        index=index,
    )


def _embed_all(
    rebuild: Rebuild, embedder: Embedder, device: torch.device, batch: int, reporter: Reporter
) -> tuple[int, list[LostEntry]]:
    """Embed what the new gallery lacks, a commit at a time; returns how many, and what can't be embedded."""
    ids = rebuild.to_do()
    gone: list[LostEntry] = []
    embedded = 0
    with reporter.task("Embedding again", len(ids), "images") as task:
        for start in range(0, len(ids), COMMIT_IMAGES):
            entries = rebuild.old.entries(ids[start : start + COMMIT_IMAGES].tolist())
            present = _present(rebuild, entries, gone)
            files = [(rebuild.old.folder / entry.source / entry.path, entry.box) for entry in present.values()]
            with closing(embed_files(embedder, files, device=device, batch=batch)) as parts:
                done: list[int] = []
                rows: list[np.ndarray] = []
                for part in parts:
                    done += [list(present)[position] for position in part.positions]
                    rows.append(part.embeddings)
                    failed = dict(part.failed)
                    for identifier, (path, _) in zip(present, files, strict=True):
                        if path in failed:
                            gone.append(lost_entry(identifier, present[identifier], failed[path]))
                    task.advance(len(part.positions) + len(part.failed))
            if done:
                rebuild.new.add([present[one] for one in done], np.concatenate(rows), ids=np.array(done))
            embedded += len(done)
    return embedded, gone


def _present(rebuild: Rebuild, entries: dict[int, GalleryEntry], gone: list[LostEntry]) -> dict[int, GalleryEntry]:
    """Those whose image is there, with the checksum of what it holds now."""
    present: dict[int, GalleryEntry] = {}
    for identifier, entry in sorted(entries.items()):
        try:
            digest = sha256_of_file(rebuild.old.folder / entry.source / entry.path)
        except OSError as error:
            gone.append(lost_entry(identifier, entry, one_line(error)))
        else:
            present[identifier] = replace(entry, content_hash=digest)
    return present
