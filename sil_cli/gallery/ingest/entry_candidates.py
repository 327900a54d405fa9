"""What becomes one entry of a gallery: an image, or a tracklet of several images of one visit to a camera."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.files import sha256_of_bytes
from sil_cli.gallery.entry import FOOTAGE_PLACE, FRAME_BOX, TRACKLET, TRACKLET_END, TRACKLET_IMAGES, GalleryEntry
from sil_cli.similarity.distance import mean_direction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from sil_cli.gallery.entry import Member
    from sil_cli.models.embed import EmbeddedBatch, ImageFile


@dataclass(frozen=True)
class EntryCandidate:
    """One entry to be.

    Attributes:
        entry: It; that of a tracklet is named by its representative image, which is the middle one.
        members: The images of a tracklet, be it of a single one; none where the entry is its own image.
    """

    entry: GalleryEntry
    members: tuple[Member, ...] = ()

    def files(self, gallery: Path) -> list[ImageFile]:
        """Where its images lie, seen from the gallery's folder, each with the box to cut out."""
        return [(gallery.joinpath(source, path), box) for source, path, box in self.members or (self.entry.key,)]


def make_candidates(images: Sequence[GalleryEntry], *, tracklets: bool) -> list[EntryCandidate]:
    """Gather images into what becomes one entry each.

    A tracklet's images share its name, source, identity and camera. Its hash covers the names and contents of all of
    them, so that one image more, less or changed makes another tracklet.

    Args:
        images: With their names in the gallery and their hashes; no two of one name and box.
        tracklets: Whether images with a tracklet name are gathered.
    """
    groups: defaultdict[object, list[GalleryEntry]] = defaultdict(list)
    for image in images:
        gathered = tracklets and TRACKLET in image.metadata
        together = (image.source, image.metadata.get(TRACKLET), image.identity, image.camera)
        groups[together if gathered else image.key].append(image)
    return [
        _tracklet(group) if tracklets and TRACKLET in group[0].metadata else EntryCandidate(group[0])
        for group in groups.values()
    ]


def _tracklet(group: Sequence[GalleryEntry]) -> EntryCandidate:
    ordered = sorted(group, key=lambda image: (image.time is None, image.time and image.time.timestamp(), image.path))
    middle = ordered[len(ordered) // 2]
    members = tuple(image.key for image in ordered)
    times = [image.time for image in ordered if image.time is not None]
    alike = set.intersection(*(set(image.metadata.items()) for image in ordered))
    known = {**dict(sorted(alike)), TRACKLET_IMAGES: str(len(ordered))}
    if FRAME_BOX in middle.metadata:  # the image that stands for the tracklet is found again in its footage
        known |= {name: middle.metadata[name] for name in FOOTAGE_PLACE if name in middle.metadata}
    if times:
        known[TRACKLET_END] = times[-1].isoformat()
    domains = {image.domain for image in ordered}
    entry = replace(
        middle,
        content_hash=tracklet_hash(members, [image.content_hash for image in ordered]),
        time=times[0] if times else None,
        domain=domains.pop() if len(domains) == 1 else None,
        metadata=known,
    )
    return EntryCandidate(entry, members)


def tracklet_hash(members: Sequence[Member], hashes: Sequence[str]) -> str:
    """The content hash of a tracklet: of the names and the SHA-256 of all its images, in whatever order."""
    contents = sorted(f"{member} {digest}\n" for member, digest in zip(members, hashes, strict=True))
    return sha256_of_bytes("".join(contents).encode("utf-8", "surrogateescape"))


def gather_embeddings(
    candidates: Sequence[EntryCandidate], batches: Iterable[EmbeddedBatch]
) -> Iterator[tuple[list[tuple[EntryCandidate, np.ndarray]], EmbeddedBatch]]:
    """Bring the embeddings of all candidates' images back to the candidates.

    Args:
        candidates: In the order in which their images, one after another, were embedded.
        batches: What became of these images.

    Yields:
        For each batch the candidates that it completes, each with its embedding of shape (D,), and the batch itself.
        Images that failed are left out of a mean; a candidate of which none is left is not among them.
    """
    owners = [number for number, candidate in enumerate(candidates) for _ in range(max(1, len(candidate.members)))]
    rows: dict[int, list[np.ndarray]] = defaultdict(list)
    begun = seen = 0
    for batch in batches:
        for position, embedding in zip(batch.positions, batch.embeddings, strict=True):
            rows[owners[position]].append(embedding)
        seen += len(batch.positions) + len(batch.failed)
        complete = owners[seen] if seen < len(owners) else len(candidates)
        done = [
            (_of_images(candidates[number], len(rows[number])), mean_direction(np.stack(rows.pop(number))))
            for number in range(begun, complete)
            if number in rows
        ]
        begun = complete
        yield done, batch


def _of_images(candidate: EntryCandidate, count: int) -> EntryCandidate:
    """The candidate, its tracklet said to be of so many images."""
    if not candidate.members:
        return candidate
    metadata = {**candidate.entry.metadata, TRACKLET_IMAGES: str(count)}
    return replace(candidate, entry=replace(candidate.entry, metadata=metadata))
