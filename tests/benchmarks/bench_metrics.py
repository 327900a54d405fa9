"""Time the evaluator against the bare matrix product and against sorting every row, in one run.

    python tests/benchmarks/bench_metrics.py --size market --argsort
    python tests/benchmarks/bench_metrics.py --size msmt17
    python tests/benchmarks/bench_metrics.py --size msmt17 --part 0.1 --data noise

`--part` times a part of the queries: both times grow in proportion to them. `--data noise` are embeddings that tell
nobody apart, the most work for an exact ranking; `--data untrained` all point nearly the same way.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score

from sil_cli.evaluation.metrics import mean_scores, score_queries
from sil_cli.evaluation.pairs import EmbeddingSet
from sil_cli.evaluation.ranking import rank_matches
from sil_cli.evaluation.score import score

SIZES = {  # queries, gallery images, identities, cameras
    "small": (500, 3000, 150, 6),
    "market": (3368, 15913, 750, 6),
    "msmt17": (11659, 82161, 3060, 15),
}
CHUNK = 400


@dataclass
class Case:
    query: EmbeddingSet
    gallery: EmbeddingSet


def make_case(size: str, data: str, dimension: int, part: float) -> Case:
    queries, images, identities, cameras = SIZES[size]
    rng = np.random.default_rng(0)
    latent = dimension if data == "noise" else min(64, dimension)  # real embeddings vary in few directions
    spread = rng.standard_normal((latent, dimension), dtype=np.float32)
    people = rng.standard_normal((identities, latent), dtype=np.float32)
    views = rng.standard_normal((cameras, latent), dtype=np.float32) / 3

    def side(count: int) -> EmbeddingSet:
        who, where = rng.integers(identities, size=count), rng.integers(cameras, size=count)
        rows = rng.standard_normal((count, latent), dtype=np.float32)
        if data != "noise":  # noise: no structure at all, every cosine is near 0
            rows = (people[who] + views[where] + rows) @ spread
        if data == "untrained":  # all images point nearly the same way: every cosine is near 1
            rows += 50.0
        return EmbeddingSet(rows, [f"p{one}" for one in who], [f"c{one}" for one in where])

    return Case(side(max(1, int(queries * part))), side(images))


def bare_product(case: Case) -> None:
    gallery = case.gallery.embeddings.T
    for start in range(0, len(case.query), CHUNK):
        case.query.embeddings[start : start + CHUNK] @ gallery


def argsort_evaluator(case: Case) -> tuple[float, float, float]:
    """The usual way (open-reid's and its descendants'): sort the whole distance matrix, drop what is ignored.

    scikit-learn then finds each AP; CMC is another function, which sorts again.

    Returns:
        mAP, Rank-1, and the seconds until mAP was known.
    """
    started = time.perf_counter()
    query, gallery = case.query, case.gallery
    # Numbers, as such code has them: comparing texts would take it longer.
    _, identities = np.unique([*query.identities, *gallery.identities], return_inverse=True)
    _, cameras = np.unique([str(each) for each in (*query.cameras, *gallery.cameras)], return_inverse=True)
    people, views = identities[: len(query)], cameras[: len(query)]
    identities, cameras = identities[len(query) :], cameras[len(query) :]
    left, right = (
        side.embeddings / np.linalg.norm(side.embeddings, axis=1, keepdims=True) for side in (query, gallery)
    )
    distances = left @ right.T
    np.subtract(1, distances, out=distances)
    order = np.argsort(distances, axis=1)
    precisions = []
    for distance, row, identity, camera in zip(distances, order, people, views, strict=True):
        keep = (identities[row] != identity) | (cameras[row] != camera)
        hits = (identities[row] == identity)[keep]
        if hits.any():
            precisions.append(average_precision_score(hits, -distance[row][keep]))
    until_map = time.perf_counter() - started
    order = np.argsort(distances, axis=1)
    first = []
    for row, identity, camera in zip(order, people, views, strict=True):
        keep = (identities[row] != identity) | (cameras[row] != camera)
        hits = np.flatnonzero((identities[row] == identity)[keep])
        if len(hits):
            first.append(hits[0])
    return float(np.mean(precisions)), float((np.array(first) == 0).mean()), until_map


def seconds(work) -> tuple[float, object]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--data", choices=["clusters", "untrained", "noise"], default="clusters")
    parser.add_argument("--metric", choices=["cosine", "euclidean"], default="cosine")
    parser.add_argument("--dimension", type=int, default=2048)
    parser.add_argument("--part", type=float, default=1.0, help="share of the queries to time")
    parser.add_argument("--argsort", action="store_true", help="time argsort and scikit-learn too")
    arguments = parser.parse_args()
    case = make_case(arguments.size, arguments.data, arguments.dimension, arguments.part)
    before = peak_gib()
    product, _ = seconds(lambda: bare_product(case))
    ours, scores = seconds(
        lambda: mean_scores(score_queries(rank_matches(case.query, case.gallery, metric=arguments.metric)))
    )
    whole, _ = seconds(lambda: score(case.query, case.gallery, metric=arguments.metric))
    peak = peak_gib() - before
    print(f"{len(os.sched_getaffinity(0))} cores, {platform.processor() or platform.machine()}, NumPy {np.__version__}")
    print(f"{len(case.query)} x {len(case.gallery)} x {arguments.dimension}, {arguments.data}, {arguments.metric}")
    print(f"bare product {product:.2f} s, mAP, CMC and mINP {ours:.2f} s: {ours / product:.2f} times")
    print(f"with open-set rates and intervals, as `sil evaluate`: {whole:.2f} s, {whole / product:.2f} times")
    print(f"peak beyond the embeddings {peak:.2f} GiB; mAP {scores.mAP:.6f}")
    if arguments.argsort:
        theirs, (mean, first, until_map) = seconds(lambda: argsort_evaluator(case))
        print(
            f"argsort and scikit-learn: mAP {mean:.6f} after {until_map:.2f} s, Rank-1 {first:.6f} after {theirs:.2f} s"
        )
        print(f"ours: mAP {scores.mAP:.6f}, Rank-1 {scores.cmc[1]:.6f}, and mINP after {ours:.2f} s")
        print(f"ours is {theirs / ours:.1f} times faster; {until_map / ours:.1f} times if theirs leaves CMC out")
        apart = (theirs - product) / max(ours - product, 1e-9)
        print(
            f"beyond the product that both need: {theirs - product:.2f} s and {ours - product:.2f} s, {apart:.1f} times"
        )
        print(
            f"the product alone is {product / theirs:.0%} of theirs: at most {theirs / product:.1f} times is possible"
        )


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
