"""The sides of a test, embedded; random splits of one data set share their images, each of which is embedded once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.errors import DataError
from sil_cli.evaluation.inference_options import TestedModel, fuse
from sil_cli.evaluation.pairs import EmbeddingSet
from sil_cli.models.embed import embed_batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sil_cli.data.manifest import Dataset, ImageRecord
    from sil_cli.models.embed import ImageFile
    from sil_cli.models.engines.engine import Engine
    from sil_cli.runtime import Reporter
    from sil_cli.settings import EvaluateSettings


@dataclass(frozen=True)
class SharedImages:
    """The images of several tests, embedded by the models that are tested.

    Attributes:
        models: These models.
        rows: For each image its row.
        embeddings: Shape (N, D), float32.
    """

    models: list[TestedModel]
    rows: dict[ImageFile, int]
    embeddings: NDArray[np.float32]

    def side(self, dataset: Dataset, records: list[ImageRecord]) -> EmbeddingSet:
        """One side of one of the tests."""
        return _side(records, self.embeddings[[self.rows[file] for file in _files(dataset, records)]])


def images_of_tests(datasets: Sequence[Dataset]) -> list[ImageFile]:
    """The queries and galleries of several data sets, each image once, in order."""
    sides = [(dataset, dataset.of_split(split)) for dataset in datasets for split in ("query", "gallery")]
    return list(dict.fromkeys(file for dataset, records in sides for file in _files(dataset, records)))


def share_images(
    models: list[TestedModel], files: list[ImageFile], options: EvaluateSettings, reporter: Reporter
) -> SharedImages:
    """Embed images that several tests have in common.

    Raises:
        DataError: An image can't be read any more.
    """
    rows = {file: row for row, file in enumerate(files)}
    return SharedImages(models, rows, _embed_by_all(models, files, "Images of all splits", options, reporter))


def embed_by_all(
    models: Sequence[TestedModel],
    dataset: Dataset,
    records: list[ImageRecord],
    label: str,
    options: EvaluateSettings,
    reporter: Reporter,
) -> EmbeddingSet:
    """One side of a test, embedded by each model, and fused where there are several.

    Raises:
        DataError: An image can't be read any more.
    """
    return _side(records, _embed_by_all(models, _files(dataset, records), label, options, reporter))


def embed_side(
    dataset: Dataset, records: list[ImageRecord], label: str, engine: Engine, batch: int, reporter: Reporter
) -> EmbeddingSet:
    """Some of a data set's images, embedded by one model, in order.

    Raises:
        DataError: An image can't be read any more.
    """
    return _side(records, _embed(engine, _files(dataset, records), label, batch, reporter))


def _embed_by_all(
    models: Sequence[TestedModel], files: list[ImageFile], label: str, options: EvaluateSettings, reporter: Reporter
) -> NDArray[np.float32]:
    return fuse([_embed(model.engine, files, label, options.batch, reporter, flip=options.flip) for model in models])


def _embed(
    engine: Engine, files: list[ImageFile], label: str, batch: int, reporter: Reporter, *, flip: bool = False
) -> NDArray[np.float32]:
    """Embed images in order; with `flip`, as the mean of each and its mirror."""
    embeddings = []
    with reporter.task(label, len(files), "images") as task:
        for part in embed_batches(engine, files, batch=batch, flip=flip):
            if part.failed:
                path, reason = part.failed[0]
                raise DataError(f"{path}: {reason}.", "Prepare the data set again: its images have changed.")
            embeddings.append(part.embeddings)
            task.advance(len(part.embeddings))
    return np.concatenate(embeddings)


def _files(dataset: Dataset, records: list[ImageRecord]) -> list[ImageFile]:
    return [(dataset.image_path(record), record.box) for record in records]


def _side(records: list[ImageRecord], embeddings: NDArray[np.float32]) -> EmbeddingSet:
    return EmbeddingSet(
        embeddings=embeddings,
        identities=[record.identity for record in records],
        cameras=[record.camera for record in records],
        junk=[record.junk for record in records],
        keys=[record.path if record.box is None else f"{record.path}#{record.box}" for record in records],
    )
