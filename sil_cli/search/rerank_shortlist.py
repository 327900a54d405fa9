"""`sil query --rerank`: the gallery's best matches of a query, put in a better order by what they say of each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.similarity.distance import unit_rows
from sil_cli.similarity.rerank import KReciprocalDistances

if TYPE_CHECKING:
    from collections.abc import Sequence, Set

    from sil_cli.gallery.entry import Match
    from sil_cli.gallery.filters import Filter
    from sil_cli.gallery.interface import Gallery
    from sil_cli.settings import RerankSettings


@dataclass(frozen=True)
class RerankedSearch:
    """A search in a gallery whose short list is re-ranked by k-reciprocal encoding.

    Only the query and its short list are each other's neighbours, so a query gets the same answer on its own and
    among others. Matches keep their cosine as score.

    Attributes:
        gallery: Open.
        shortlist: How many matches are re-ranked among each other.
        options: k1, k2 and λ.
        only: What the entries that may be found must fulfil; None for all.
    """

    gallery: Gallery
    shortlist: int
    options: RerankSettings
    only: Filter | None = None

    def __call__(
        self, embeddings: np.ndarray, k: int, *, exclude: Sequence[Set[int]] | None = None
    ) -> list[list[Match]]:
        """For each row of embeddings its best matches, in the new order, ranks from 1.

        Args:
            embeddings: Shape (Q, D), of any length but zero.
            k: At least so many are found, where so many exist: those beyond the short list follow it as they are, and
                a short list that is longer is given whole.
            exclude: For each query the ids that it mustn't find.

        Raises:
            SilError: As `Gallery.search`.
        """
        found = self.gallery.search(embeddings, max(k, self.shortlist), where=self.only, exclude=exclude)
        units = unit_rows(embeddings.astype(np.float32, copy=False), what="query")
        return [self._reranked(unit, matches) for unit, matches in zip(units, found, strict=True)]

    def _reranked(self, query: np.ndarray, matches: list[Match]) -> list[Match]:
        if not matches:
            return matches
        listed, rest = matches[: self.shortlist], matches[self.shortlist :]
        vectors = self.gallery.vectors([match.id for match in listed])
        reranked = KReciprocalDistances(np.concatenate([query[None], vectors]), 1, self.options)
        distances = reranked.exact(0, np.arange(len(listed)))
        order = np.argsort(distances, kind="stable")  # ties as before
        return [replace(match, rank=rank) for rank, match in enumerate([*(listed[at] for at in order), *rest], start=1)]
