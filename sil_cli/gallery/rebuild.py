"""`sil gallery rebuild`: embed a gallery's images by another model, and put the result in its place in one step."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.data.images import pixels_in
from sil_cli.defaults import model_folder
from sil_cli.errors import GalleryError, InterruptedWorkError, one_line
from sil_cli.files import sha256_of_file
from sil_cli.gallery.chance import renew_chance
from sil_cli.gallery.index import keep_calibration, require_finished
from sil_cli.gallery.ingest.entry_candidates import EntryCandidate, gather_embeddings, tracklet_hash
from sil_cli.gallery.ingest.run import COMMIT_IMAGES
from sil_cli.gallery.kept_model import gallery_record, keep_model
from sil_cli.gallery.people import carried
from sil_cli.gallery.results import LostEntry, RebuildResult, lost_entry
from sil_cli.gallery.stores import gallery_store_to_write
from sil_cli.models.embed import embed_batches
from sil_cli.models.engines.export import export_if_possible
from sil_cli.models.load import load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sil_cli.data.images import Box
    from sil_cli.gallery.interface import Gallery, GalleryRebuild
    from sil_cli.models.engines.engine import Engine
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings


@dataclass(frozen=True)
class FoundAgain:
    """Entries whose images are there, and those of which one isn't.

    Attributes:
        candidates: By id, ascending; their content hash is of what the files hold now.
        lost: Why not, by id.
    """

    candidates: dict[int, EntryCandidate]
    lost: dict[int, str]


@dataclass(frozen=True)
class EmbeddedAgain:
    """Entries that were embedded once more.

    Attributes:
        candidates: By id, ascending.
        embeddings: (n, D) float32 rows of unit length, in the same order.
        failed: Why an entry could not be embedded, by id.
    """

    candidates: dict[int, EntryCandidate]
    embeddings: np.ndarray
    failed: dict[int, str]


def find_again(gallery: Gallery, ids: Sequence[int]) -> FoundAgain:
    """The images of entries: one each, or all of a tracklet."""
    members = gallery.members(ids)
    found = FoundAgain({}, {})
    for identifier, entry in sorted(gallery.entries(ids).items()):
        candidate = EntryCandidate(entry, tuple(members.get(identifier, ())))
        hashes: list[str] = []
        try:
            for path, _ in candidate.files(gallery.folder):
                hashes.append(sha256_of_file(path))
        except OSError as error:
            missing = f"{candidate.members[len(hashes)][1]} of its tracklet: " if candidate.members else ""
            found.lost[identifier] = missing + one_line(error)
            continue
        digest = tracklet_hash(candidate.members, hashes) if candidate.members else hashes[0]
        found.candidates[identifier] = replace(candidate, entry=replace(entry, content_hash=digest))
    return found


def embed_again(engine: Engine, candidates: Mapping[int, EntryCandidate], folder: Path, *, batch: int) -> EmbeddedAgain:
    """Embed entries' images; a tracklet's entry gets the mean of those that can be read, scaled to length 1.

    Args:
        engine: Computes the embeddings.
        candidates: By id, ascending.
        folder: The gallery's.
        batch: Images per forward pass.
    """
    ids = {candidate.entry.key: identifier for identifier, candidate in candidates.items()}
    files = [file for candidate in candidates.values() for file in candidate.files(folder)]
    done: dict[int, EntryCandidate] = {}
    rows: list[np.ndarray] = [np.empty((0, engine.dimension), dtype=np.float32)]
    reasons: dict[object, str] = {}
    with closing(embed_batches(engine, files, batch=batch)) as batches:
        for complete, part in gather_embeddings(list(candidates.values()), batches):
            reasons.update(part.failed)
            for candidate, embedding in complete:
                done[ids[candidate.entry.key]] = candidate
                rows.append(embedding[None])
    failed = {one: reasons[each.files(folder)[0][0]] for one, each in candidates.items() if one not in done}
    return EmbeddedAgain(done, np.concatenate(rows), failed)


SHOWN_MISSING = 3
COMPARED_ON = 256
"""Entries whose images an export is compared on; those that can't be read are passed over."""


def rebuild_gallery(settings: Settings, reporter: Reporter, *, drop_missing: bool) -> RebuildResult:
    """Embed every image again; searching goes on in the old gallery until the new one takes its place.

    Raises:
        GalleryError: Images are missing and `drop_missing` is false: the old gallery stays, what was embedded is kept.
        InterruptedWorkError: Ctrl-C; the same command goes on where it stopped.
        SilError: There is no gallery or no model, or the gallery is being written.
    """
    store = gallery_store_to_write(settings)
    model = model_folder(settings.gallery.model, settings.train.runs)
    with store.open() as gallery:
        count, known = len(gallery), _some_images(gallery)
    if settings.gallery.export and known:
        most = pixels_in(settings.data.max_megapixels)
        export_if_possible(model, known, reporter, called="images of the gallery", max_pixels=most)
    loaded = load(model, settings, reporter, images=count)
    require_finished(loaded, model)
    record = gallery_record(loaded)
    with store.rebuilding(record) as rebuild:
        keep_model(loaded, rebuild.folder)
        keep_calibration(model, rebuild.folder, loaded.record.fingerprint)
        try:
            embedded, missing = _embed_all(rebuild, loaded.engine, settings.gallery.batch, reporter)
        except KeyboardInterrupt:
            raise InterruptedWorkError(
                f"Stopped with {len(rebuild.new):,} of {len(rebuild.old):,} embedded; {store.name} is as it was.",
                "Run the same command again to do the rest.",
            ) from None
        if missing and not drop_missing:
            shown = [f"{one.path} ({one.reason})" for one in missing[:SHOWN_MISSING]]
            names = ", ".join(shown + ["…"] * (len(missing) > SHOWN_MISSING))
            raise GalleryError(
                f"{len(missing):,} images of {store.name} can't be embedded again: {names}.",
                "Restore them, or leave them out with --drop-missing; all others are embedded already.",
            )
        rebuild.new.refresh_index(reporter, requested=rebuild.old.requested_index())
        old_model, total = str(rebuild.old.model["fingerprint"]), len(rebuild.new)
        with carried(store.folder, rebuild.folder):
            rebuild.swap()
    with store.open() as gallery:
        index = gallery.describe_index()
        renew_chance(gallery, reporter)
    return RebuildResult(
        gallery=store.folder,
        entries=total,
        embedded=embedded,
        dropped=missing,
        old_model=old_model,
        model=record["fingerprint"],
        index=index,
    )


def _some_images(gallery: Gallery) -> list[tuple[Path, Box | None]]:
    """The image files of some entries, with their boxes."""
    entries = gallery.entries(gallery.sample(COMPARED_ON)).values()
    return [(one.file(gallery.folder), one.box) for one in entries]


def _embed_all(rebuild: GalleryRebuild, engine: Engine, batch: int, reporter: Reporter) -> tuple[int, list[LostEntry]]:
    """Embed what the new gallery lacks, a commit at a time; returns how many, and what can't be embedded."""
    ids = rebuild.to_do()
    missing: list[LostEntry] = []
    embedded = 0
    with reporter.task("Embedding again", len(ids), "entries") as task:
        for start in range(0, len(ids), COMMIT_IMAGES):
            some = ids[start : start + COMMIT_IMAGES].tolist()
            found = find_again(rebuild.old, some)
            again = embed_again(engine, found.candidates, rebuild.old.folder, batch=batch)
            if again.candidates:
                candidates = again.candidates.values()
                rebuild.new.add(
                    [candidate.entry for candidate in candidates],
                    again.embeddings,
                    members=[candidate.members for candidate in candidates],
                    ids=list(again.candidates),
                )
            embedded += len(again.candidates)
            reasons = found.lost | again.failed
            entries = rebuild.old.entries(list(reasons))
            missing += [lost_entry(one, entries[one], reasons[one]) for one in sorted(reasons)]
            task.advance(len(some))
    return embedded, missing
