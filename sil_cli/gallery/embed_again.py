"""What a gallery's entries were made of, found on the disk again, to embed it once more."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.files import one_line, sha256_of_file
from sil_cli.gallery.ingest.entry_candidates import Subject, gather_embeddings, tracklet_hash
from sil_cli.models.embed import embed_batches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sil_cli.gallery.interface import Gallery
    from sil_cli.models.engines.engine import Engine


@dataclass(frozen=True)
class FoundAgain:
    """Entries whose images are there, and those of which one isn't.

    Attributes:
        subjects: By id, ascending; their content hash is of what the files hold now.
        lost: Why not, by id.
    """

    subjects: dict[int, Subject]
    lost: dict[int, str]


@dataclass(frozen=True)
class EmbeddedAgain:
    """Entries that were embedded once more.

    Attributes:
        subjects: By id, ascending.
        embeddings: (n, D) float32 rows of unit length, in the same order.
        failed: Why an entry could not be embedded, by id.
    """

    subjects: dict[int, Subject]
    embeddings: np.ndarray
    failed: dict[int, str]


def find_again(gallery: Gallery, ids: Sequence[int]) -> FoundAgain:
    """The images of entries: one each, or all of a tracklet."""
    members = gallery.members(ids)
    found = FoundAgain({}, {})
    for identifier, entry in sorted(gallery.entries(ids).items()):
        images = tuple(members.get(identifier, [entry.key]))
        files = tuple((gallery.folder / source / path, box) for source, path, box in images)
        tracklet = identifier in members
        hashes: list[str] = []
        try:
            for path, _ in files:
                hashes.append(sha256_of_file(path))
        except OSError as error:
            missing = f"{images[len(hashes)][1]} of its tracklet: " if tracklet else ""
            found.lost[identifier] = missing + one_line(error)
            continue
        digest = tracklet_hash(images, hashes) if tracklet else hashes[0]
        found.subjects[identifier] = Subject(replace(entry, content_hash=digest), images, files, tracklet=tracklet)
    return found


def embed_again(engine: Engine, subjects: Mapping[int, Subject], *, batch: int) -> EmbeddedAgain:
    """Embed entries' images; a tracklet's entry gets the mean of those that can be read, scaled to length 1.

    Args:
        engine: Computes the embeddings.
        subjects: By id, ascending.
        batch: Images per forward pass.
    """
    ids = {subject.entry.key: identifier for identifier, subject in subjects.items()}
    files = [file for subject in subjects.values() for file in subject.files]
    done: dict[int, Subject] = {}
    rows: list[np.ndarray] = [np.empty((0, engine.dimension), dtype=np.float32)]
    reasons: dict[object, str] = {}
    with closing(embed_batches(engine, files, batch=batch)) as parts:
        for complete, part in gather_embeddings(list(subjects.values()), parts):
            reasons.update(part.failed)
            for subject, embedding in complete:
                done[ids[subject.entry.key]] = subject
                rows.append(embedding[None])
    failed = {one: reasons[subject.files[0][0]] for one, subject in subjects.items() if one not in done}
    return EmbeddedAgain(done, np.concatenate(rows), failed)
