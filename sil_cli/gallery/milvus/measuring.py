"""How many cells of a collection's index must be looked into: measured on its own vectors, as in the local store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from sil_cli.errors import GalleryError
from sil_cli.gallery.local.tuning import STALE_SHARE, WISHED_RECALL, Bench, Measured, least_effort
from sil_cli.gallery.milvus.searching import MilvusSearcher, worth_measuring

if TYPE_CHECKING:
    from sil_cli.gallery.milvus.generation import Generation
    from sil_cli.runtime import Reporter


def measure_index(generation: Generation, reporter: Reporter) -> None:
    """Measure the least number of cells with the wished recall, where the gallery is large and nothing fresh is known.

    Until then every search looks into all cells.
    """
    total = generation.collection.count()
    kind, _, measured = generation.index()
    if not kind.cells or not worth_measuring(total):
        return
    if measured is not None and abs(total - measured["count"]) <= STALE_SHARE * measured["count"]:
        return
    exact, quick = _measured(generation, total, WISHED_RECALL)
    faster = exact.batch_seconds / quick.batch_seconds
    reporter.note(
        f"Index: {kind}, {quick.effort} cells give recall@10 {quick.recall:.4f} at {faster:.1f} times the speed of all."
    )


def tune_index(generation: Generation, reporter: Reporter, recall: float) -> tuple[list[Measured], Measured]:
    """Measure exact search and the index at its least sufficient effort, and keep that.

    Raises:
        GalleryError: The gallery is empty.
    """
    total = generation.collection.count()
    if not total:
        raise GalleryError("An empty gallery can't be tuned.", "Put images into it with `sil index-gallery IMAGES`.")
    kind, _, _ = generation.index()
    if not kind.cells:
        exact = _bench(generation, total)[0].exact
        return [exact], exact
    with reporter.task("Measuring", None):
        exact, quick = _measured(generation, total, recall)
    return [exact, quick], quick


def _measured(generation: Generation, total: int, recall: float) -> tuple[Measured, Measured]:
    bench, searcher = _bench(generation, total)
    kind, _, _ = generation.index()
    effort, found = least_effort(bench, cast("Any", searcher), kind.efforts(), recall)
    quick = bench.measure(cast("Any", searcher), str(kind), found)
    record = {"index": str(kind), "count": total, "effort": effort, "recall": found}
    generation.catalogue.put("measured", json.dumps(record))
    return bench.exact, quick


def _bench(generation: Generation, total: int) -> tuple[Bench, MilvusSearcher]:
    kind, _, _ = generation.index()
    searcher = MilvusSearcher(generation.collection, kind, total=total)
    return Bench(cast("Any", searcher)), searcher
