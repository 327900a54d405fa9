"""What becomes one entry of a gallery: an image, or a tracklet of several images of one sighting."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.files import sha256_of_bytes
from sil_cli.gallery.entry import TRACKLET, TRACKLET_END, TRACKLET_IMAGES, GalleryEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sil_cli.data.images import Box
    from sil_cli.gallery.entry import Member
    from sil_cli.gallery.ingest.ingested_image import SeenImage
    from sil_cli.gallery.ingest.source_paths import Placing
    from sil_cli.models.embed import EmbeddedBatch, ImageFile


@dataclass(frozen=True)
class Subject:
    """One entry to be, and the images that it is made of.

    Attributes:
        entry: Named by its representative image, which is the middle one.
        members: Source, path and box of all images.
        files: Where they lie, in the same order.
        tracklet: Whether it is a tracklet, be it of a single image.
    """

    entry: GalleryEntry
    members: tuple[Member, ...]
    files: tuple[ImageFile, ...]
    tracklet: bool = False


def make_subjects(
    images: Sequence[SeenImage], hashes: Mapping[tuple[str, Box | None], str], placing: Placing, *, tracklets: bool
) -> list[Subject]:
    """Gather images into what becomes one entry each.

    A tracklet's images share its name, source, identity and camera. Its hash covers the names and contents of all of
    them, so that one image more, less or changed makes another tracklet.

    Args:
        images: No two of one file and box.
        hashes: The SHA-256 of every file by (file, box); images without one are left out.
        placing: Names them in the gallery.
        tracklets: Whether images with a tracklet name are gathered.
    """
    groups: defaultdict[object, list[SeenImage]] = defaultdict(list)
    for number, image in enumerate(images):
        if (str(image.file), image.box) in hashes:
            together = (image.root, image.tracklet, image.identity, image.camera)
            groups[together if tracklets and image.tracklet is not None else number].append(image)
    return [
        _tracklet(group, hashes, placing)
        if tracklets and group[0].tracklet is not None
        else _single(group[0], hashes, placing)
        for group in groups.values()
    ]


def _single(image: SeenImage, hashes: Mapping[tuple[str, Box | None], str], placing: Placing) -> Subject:
    source, path = placing.place(image)
    known = dict(image.metadata)
    if image.tracklet is not None:
        known[TRACKLET] = image.tracklet
    entry = GalleryEntry(
        path=path,
        content_hash=hashes[str(image.file), image.box],
        source=source,
        identity=image.identity,
        camera=image.camera,
        time=image.time,
        domain=image.domain,
        box=image.box,
        metadata=known,
    )
    return Subject(entry, (entry.key,), ((image.file, image.box),))


def _tracklet(group: Sequence[SeenImage], hashes: Mapping[tuple[str, Box | None], str], placing: Placing) -> Subject:
    ordered = sorted(group, key=lambda image: (image.time is None, image.time and image.time.timestamp(), image.path))
    middle = ordered[len(ordered) // 2]
    members = tuple((*placing.place(image), image.box) for image in ordered)
    times = [image.time for image in ordered if image.time is not None]
    alike = dict(set.intersection(*(set(image.metadata.items()) for image in ordered)))
    known = {**dict(sorted(alike.items())), TRACKLET: str(middle.tracklet), TRACKLET_IMAGES: str(len(ordered))}
    if times:
        known[TRACKLET_END] = times[-1].isoformat()
    domains = {image.domain for image in ordered}
    source, path = placing.place(middle)
    entry = GalleryEntry(
        path=path,
        content_hash=tracklet_hash(members, [hashes[str(image.file), image.box] for image in ordered]),
        source=source,
        identity=middle.identity,
        camera=middle.camera,
        time=times[0] if times else None,
        domain=domains.pop() if len(domains) == 1 else None,
        box=middle.box,
        metadata=known,
    )
    return Subject(entry, members, tuple((image.file, image.box) for image in ordered), tracklet=True)


def tracklet_hash(members: Sequence[Member], hashes: Sequence[str]) -> str:
    """The content hash of a tracklet: of the names and the SHA-256 of all its images, in whatever order."""
    contents = sorted(f"{member} {digest}\n" for member, digest in zip(members, hashes, strict=True))
    return sha256_of_bytes("".join(contents).encode("utf-8", "surrogateescape"))


def mean_direction(embeddings: np.ndarray) -> np.ndarray:
    """The mean of unit vectors, scaled to length 1 again; of a single one, itself.

    Args:
        embeddings: Shape (n, D), n ≥ 1, rows of unit length.

    Returns:
        Shape (D,), in the same precision. Vectors that cancel out have no mean direction: then the first one.
    """
    total: np.ndarray = embeddings.astype(np.float64).sum(axis=0)
    length = float(np.sqrt((total * total).sum()))
    if len(embeddings) == 1 or length < 1e-6 * len(embeddings):
        first: np.ndarray = embeddings[0]
        return first
    return (total / length).astype(embeddings.dtype)


def gather_embeddings(
    subjects: Sequence[Subject], parts: Iterable[EmbeddedBatch]
) -> Iterator[tuple[list[tuple[Subject, np.ndarray]], EmbeddedBatch]]:
    """Bring the embeddings of all subjects' files back to the subjects.

    Args:
        subjects: In the order in which their files, one after another, were embedded.
        parts: What `embed_batches` made of these files.

    Yields:
        For each part the subjects that it completes, each with its embedding of shape (D,), and the part itself. Files
        that failed are left out of a mean; a subject of which none is left is not among them.
    """
    owners = [number for number, subject in enumerate(subjects) for _ in subject.files]
    rows: dict[int, list[np.ndarray]] = defaultdict(list)
    begun = seen = 0
    for part in parts:
        for position, embedding in zip(part.positions, part.embeddings, strict=True):
            rows[owners[position]].append(embedding)
        seen += len(part.positions) + len(part.failed)
        complete = owners[seen] if seen < len(owners) else len(subjects)
        done = [
            (_of_images(subjects[number], len(rows[number])), mean_direction(np.stack(rows.pop(number))))
            for number in range(begun, complete)
            if number in rows
        ]
        begun = complete
        yield done, part


def _of_images(subject: Subject, count: int) -> Subject:
    """The subject, its tracklet said to be of so many images."""
    if TRACKLET_IMAGES not in subject.entry.metadata:
        return subject
    metadata = {**subject.entry.metadata, TRACKLET_IMAGES: str(count)}
    return replace(subject, entry=replace(subject.entry, metadata=metadata))
