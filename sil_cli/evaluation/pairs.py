"""The two sides of a test, and which of their pairs count."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np

from sil_cli.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from numpy.typing import NDArray

_LABELS_AT_A_TIME = 2**16


@dataclass(frozen=True)
class EmbeddingSet:
    """Embedded images and whom they show: one side of a test, the queries or the gallery.

    Attributes:
        embeddings: Shape (N, D), float32 or float64; may be a memory map, which is read in blocks.
        identities: N of them, text or whole numbers, alike on both sides. A distractor is a gallery image whose
            identity no query has.
        cameras: N of them, None where unknown; by default all are unknown.
        junk: N flags, images that evaluation ignores on either side; None means no image is.
        keys: N names of the image files, so that a query that is itself in the gallery isn't found; None
            where the two sides share no image.

    Raises:
        DataError: The lengths differ.
    """

    embeddings: NDArray[np.floating]
    identities: Sequence[Hashable] | NDArray[Any]
    cameras: Sequence[Hashable] | NDArray[Any] = ()
    junk: Sequence[bool] | NDArray[np.bool_] | None = None
    keys: Sequence[str] | NDArray[Any] | None = None

    def __post_init__(self) -> None:
        if not len(self.cameras):
            object.__setattr__(self, "cameras", [None] * len(self.embeddings))
        for name in ("identities", "cameras", "junk", "keys"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.embeddings):
                raise DataError(
                    f"There are {len(self.embeddings)} embeddings but {len(values)} {name}.",
                    "Each image needs one of each, in the same order.",
                )

    def __len__(self) -> int:
        return len(self.embeddings)

    def junk_flags(self) -> NDArray[np.bool_]:
        """Shape (N,), which images are junk."""
        return np.zeros(len(self), dtype=bool) if self.junk is None else np.asarray(self.junk, dtype=bool)

    def labelled(self) -> Iterator[tuple[Hashable, Hashable]]:
        """The identity and the camera of each image that isn't junk."""
        both = zip(labels(self.identities), labels(self.cameras), strict=True)
        return both if self.junk is None else compress(both, ~self.junk_flags())

    def subset(self, rows: NDArray[np.int64]) -> EmbeddingSet:
        """Some of the images, in the order given."""
        return EmbeddingSet(
            embeddings=self.embeddings[rows],
            identities=[self.identities[row] for row in rows],
            cameras=[self.cameras[row] for row in rows],
            junk=None if self.junk is None else [bool(self.junk[row]) for row in rows],
            keys=None if self.keys is None else [self.keys[row] for row in rows],
        )


def check_sides(query: EmbeddingSet, gallery: EmbeddingSet) -> None:
    """Refuse two sides that can't be compared.

    Raises:
        DataError: One is empty, or their dimensions or precisions differ.
    """
    for name, side in {"query": query, "gallery": gallery}.items():
        if len(side) == 0:
            raise DataError(f"The {name} is empty.", "A test needs at least one image on each side.")
    one, other = query.embeddings, gallery.embeddings
    if one.shape[1:] != other.shape[1:] or one.dtype != other.dtype:
        raise DataError(
            f"Query embeddings are {one.shape} {one.dtype} but gallery embeddings {other.shape} {other.dtype}.",
            "Embed both sides with the same model, in the same precision.",
        )


class PairRules:
    """Which gallery images match a query, and which are not compared with it.

    A gallery image is ignored for a query when it is junk, when it has the query's identity *and* camera, or
    when it is the query itself (equal keys). Memory grows with the matches, not with the gallery.

    Attributes:
        junk: Gallery positions that count for nobody, ascending.
        gallery_size: Gallery images without junk.
        queries: Which queries aren't junk, ascending.
    """

    def __init__(self, query: EmbeddingSet, gallery: EmbeddingSet) -> None:
        self._query, self._gallery = query, gallery
        junk = gallery.junk_flags()
        self.junk = np.flatnonzero(junk)
        self.gallery_size = len(gallery) - len(self.junk)
        self.queries = np.flatnonzero(~query.junk_flags())
        self._identities = list(labels(query.identities))
        self._cameras = list(labels(query.cameras))
        self._of_identity = _positions(gallery.identities, set(self._identities), junk)
        self._keys: list[Hashable] | None = None
        self._of_key: dict[Hashable, NDArray[np.int64]] = {}
        if query.keys is not None and gallery.keys is not None:
            self._keys = list(labels(query.keys))
            self._of_key = _positions(gallery.keys, set(self._keys), junk)

    def groups(self) -> list[NDArray[np.int64]]:
        """The positions in `queries` of each identity's queries, ascending."""
        places: dict[Hashable, list[int]] = {}
        for place, index in enumerate(self.queries.tolist()):
            places.setdefault(self._identities[index], []).append(place)
        return [np.array(each, dtype=np.int64) for each in places.values()]

    def of_identity(self, index: int) -> NDArray[np.int64]:
        """The gallery images of query `index`'s identity, junk left out, ascending."""
        return self._of_identity.get(self._identities[index], _NOWHERE)

    def _itself(self, index: int) -> NDArray[np.int64]:
        return _NOWHERE if self._keys is None else self._of_key.get(self._keys[index], _NOWHERE)

    def matches(self, index: int) -> NDArray[np.int64]:
        """The valid true matches of query `index`, ascending."""
        same = self.of_identity(index)
        camera = self._cameras[index]
        if camera is not None:
            same = np.array([row for row in same if self._gallery.cameras[row] != camera], dtype=np.int64)
        itself = self._itself(index)
        return np.setdiff1d(same, itself, assume_unique=True) if len(itself) else same

    def not_impostors(self, index: int) -> NDArray[np.int64]:
        """What shows no other person than query `index`: its identity's images and itself, ascending, without junk."""
        itself = self._itself(index)
        return np.union1d(self.of_identity(index), itself) if len(itself) else self.of_identity(index)


_NOWHERE: NDArray[np.int64] = np.empty(0, dtype=np.int64)


def labels(values: Sequence[Hashable] | NDArray[Any]) -> Iterator[Hashable]:
    """The values one by one, as Python's own objects."""
    for start in range(0, len(values), _LABELS_AT_A_TIME):
        part = values[start : start + _LABELS_AT_A_TIME]
        yield from part.tolist() if isinstance(part, np.ndarray) else part


def _positions(
    values: Sequence[Hashable] | NDArray[Any], wanted: set[Hashable], junk: NDArray[np.bool_]
) -> dict[Hashable, NDArray[np.int64]]:
    positions: dict[Hashable, list[int]] = {}
    for row, value in enumerate(labels(values)):
        if value in wanted and not junk[row]:
            positions.setdefault(value, []).append(row)
    return {value: np.array(rows, dtype=np.int64) for value, rows in positions.items()}
