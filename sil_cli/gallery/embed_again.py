"""What a gallery's entries were made of, found on the disk again, to embed it once more."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.files import one_line, sha256_of_file
from sil_cli.gallery.ingest.entry_candidates import EntryCandidate, gather_embeddings, tracklet_hash
from sil_cli.models.embed import embed_batches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sil_cli.gallery.interface import Gallery
    from sil_cli.models.engines.engine import Engine


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
