"""What can be done with a trained model beyond plain embedding, and how sides of a test come about.

Every function leaves plain evaluation alone when its option is off.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.data.images import ImageError
from sil_cli.errors import DataError, UsageError
from sil_cli.evaluation.pairs import EmbeddingSet
from sil_cli.models.embed import embed
from sil_cli.similarity.distance import unit_rows
from sil_cli.similarity.expansion import augment_gallery, expand_queries

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from numpy.typing import NDArray

    from sil_cli.data.manifest import Dataset, ImageRecord
    from sil_cli.models.embed import ImageFile
    from sil_cli.models.engines.engine import Engine
    from sil_cli.runtime import Reporter
    from sil_cli.settings import EvaluateSettings


@dataclasses.dataclass(frozen=True)
class EmbeddedImages:
    """The images of one test or several, each embedded once: random splits of one data set share theirs.

    Attributes:
        rows: For each image its row.
        embeddings: Shape (N, D), float32.
    """

    rows: dict[ImageFile, int]
    embeddings: NDArray[np.float32]

    def side(self, dataset: Dataset, records: Sequence[ImageRecord]) -> EmbeddingSet:
        """One side of one of the tests."""
        rows = np.array([self.rows[file] for file in _files(dataset, records)])
        together = slice(int(rows[0]), int(rows[-1]) + 1)  # a view takes no memory
        return EmbeddingSet(
            embeddings=self.embeddings[together if (np.diff(rows) == 1).all() else rows],
            identities=[record.identity for record in records],
            cameras=[record.camera for record in records],
            junk=[record.junk for record in records],
            keys=[record.path if record.box is None else f"{record.path}#{record.box}" for record in records],
        )


def embed_images(
    engines: Sequence[Engine],
    sides: Sequence[tuple[Dataset, Sequence[ImageRecord]]],
    label: str,
    reporter: Reporter,
    *,
    batch: int,
    flip: bool = False,
) -> EmbeddedImages:
    """Embed the images of some sides, by each of the models, fused where there are several.

    Args:
        engines: Compute the models.
        sides: Data sets and which of their images; the images of one side stand in its order.
        label: What they are, for the bar.
        reporter: Shows progress.
        batch: Images per forward pass.
        flip: Take the mean of each image and its mirror image.

    Raises:
        DataError: An image can't be read any more.
    """
    files = list(dict.fromkeys(file for dataset, records in sides for file in _files(dataset, records)))
    embeddings = []
    for engine in engines:
        with reporter.task(label, len(files), "images") as task:
            try:
                embeddings.append(embed(engine, files, batch=batch, flip=flip, task=task))
            except ImageError as error:
                raise DataError(
                    f"{error.path}: {error.reason}.",
                    "Prepare the data set again, or give the data.max_megapixels that it was prepared with.",
                ) from error
    return EmbeddedImages({file: row for row, file in enumerate(files)}, fuse(embeddings))


def _files(dataset: Dataset, records: Sequence[ImageRecord]) -> list[ImageFile]:
    return [(dataset.image_path(record), record.box) for record in records]


def fuse(embeddings: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Put the embeddings of several models side by side, each scaled so that the whole has length 1.

    The cosine of two such rows is the mean of the models' cosines.

    Args:
        embeddings: One array (N, D_m) of unit rows for each model.

    Returns:
        Shape (N, ΣD_m); the array itself where there is one model.
    """
    if len(embeddings) == 1:
        return embeddings[0]
    fused = np.concatenate(embeddings, axis=1)
    fused *= np.float32(len(embeddings) ** -0.5)
    return fused


def prepare_sides(
    query: EmbeddingSet, gallery: EmbeddingSet, options: EvaluateSettings, reporter: Reporter
) -> tuple[EmbeddingSet, EmbeddingSet]:
    """Fuse tracklets, augment the gallery, expand the queries, in this order, whichever of it is asked for."""
    if options.tracklets:
        images = len(query)
        query = average_tracklets(query)
        if len(query) == images:
            reporter.warn("No two queries share a person and a camera: every tracklet is a single image.")
    alpha = options.expansion_alpha
    if options.augment_gallery:
        kept = np.flatnonzero(~gallery.junk_flags())
        units = unit_rows(gallery.embeddings, what="gallery")
        if len(kept):
            units[kept] = augment_gallery(units[kept], options.augment_gallery, alpha=alpha, reporter=reporter)
        gallery = dataclasses.replace(gallery, embeddings=units)
    if options.expand_queries:
        expanded = expand_queries(
            unit_rows(query.embeddings, what="query"),
            unit_rows(gallery.embeddings, what="gallery"),
            options.expand_queries,
            alpha=alpha,
            unusable=unusable_for_expansion(query, gallery),
            reporter=reporter,
        )
        query = dataclasses.replace(query, embeddings=expanded)
    return query, gallery


def refuse_contradictions(options: EvaluateSettings) -> None:
    """Refuse what compares unit embeddings by their angle together with another metric.

    Raises:
        UsageError: The metric is not the cosine, and such an option is on.
    """
    if options.metric != "cosine" and (options.rerank or options.expand_queries or options.augment_gallery):
        raise UsageError(
            "Re-ranking, query expansion and gallery augmentation compare embeddings by their cosine.",
            "Leave --metric out, or leave these options out.",
        )


def average_tracklets(query: EmbeddingSet) -> EmbeddingSet:
    """Multi-image queries: those of one identity and camera become one, the mean of their unit embeddings.

    Only test queries are grouped by identity, as a user does who puts several images of one person into a query. The
    queries of an unknown camera, and junk, stay single. A tracklet stands where its first image stood.
    """
    members: dict[tuple[Hashable, ...], list[int]] = {}
    junk = query.junk_flags()
    for index, (identity, camera) in enumerate(zip(query.identities, query.cameras, strict=True)):
        alone = camera is None or junk[index]
        members.setdefault((index,) if alone else (identity, camera), []).append(index)
    units = unit_rows(query.embeddings, what="query")
    first = [indices[0] for indices in members.values()]
    means = np.stack([units[indices].mean(axis=0, dtype=np.float64) for indices in members.values()])
    kept = query.subset(np.array(first))
    return dataclasses.replace(kept, embeddings=unit_rows(means, what="tracklet").astype(units.dtype))


def unusable_for_expansion(query: EmbeddingSet, gallery: EmbeddingSet) -> Callable[[int], NDArray[np.int64]]:
    """For each query what it may not be expanded with: junk, its own camera's images, and itself; no identity is read.

    Evaluation ignores the images that a query's own camera took of the same person, which are the easiest to find.
    Without identities they can't be told from the camera's other images, so that camera is left out whole.
    """
    junk = np.flatnonzero(gallery.junk_flags())
    cameras = np.array([str(camera) for camera in gallery.cameras], dtype=object)
    of_camera = {camera: np.flatnonzero(cameras == camera) for camera in set(cameras)}
    of_key: dict[str, list[int]] = {}
    for row, key in enumerate(gallery.keys if gallery.keys is not None else ()):
        of_key.setdefault(key, []).append(row)
    nowhere = np.empty(0, dtype=np.int64)

    def unusable(index: int) -> NDArray[np.int64]:
        camera = query.cameras[index]
        same_camera = nowhere if camera is None else of_camera.get(str(camera), nowhere)
        itself = of_key.get(query.keys[index], []) if query.keys is not None else []
        return np.concatenate([junk, same_camera, np.array(itself, dtype=np.int64)])

    return unusable
