"""Do as many false matches come up as are expected?

    python tests/benchmarks/bench_chance.py MODEL DATASET [DATASET ...] [--queries 400]
    python tests/benchmarks/bench_chance.py --drawn 300 3000 30000 300000

MODEL is a run folder (of `sil train` or `sil import-model`). All images of a prepared data set are embedded, and taken
for a gallery of which nothing is known but cameras and times. What comes up by chance is learnt from it, and queries
are asked whose person is taken out: how many entries come to at most 0.1, 1 and 10 expected false matches, on average?
As many as that, if it holds. Beside it stand the share of a query's own images by other cameras that are found at the
same numbers, and by an oracle that knows the scores of other people, at 1; how often other people are accepted at a
nominal false accept rate of 1e-3; and how many mates of each entry were left out.

With --drawn, galleries of so many entries are drawn instead, without images: people are directions in 64 dimensions,
with 2 to 40 images each (12 on average) by two to eight of eight cameras, which shift embeddings; images scatter around
their person, some far more than others.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import sil_cli
from sil_cli.data.manifest import load_dataset
from sil_cli.evaluation.chance import SAMPLE, Reference, learn_chance
from sil_cli.gallery.entry import instant_of

EXPECTED = (0.1, 1.0, 10.0)
RATE = 1e-3


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("datasets", type=Path, nargs="*")
    parser.add_argument("--drawn", type=int, nargs="+", default=[], metavar="ENTRIES")
    parser.add_argument("--queries", type=int, default=400)
    options = parser.parse_args()
    print(
        "| data set | entries | false matches at 0.1, 1, 10 | own found at 0.1, 1 | by oracle at 1 | at 1e-3 | mates |"
    )
    print("|---|---|---|---|---|---|---|")
    for entries in options.drawn:
        print(f"| drawn | {row(*draw(entries), options.queries)} |", flush=True)
    if options.model is None:
        return
    model = sil_cli.load_model(options.model)
    for folder in options.datasets:
        dataset = load_dataset(folder)
        records = [record for record in dataset.records if not record.junk]
        vectors = model.embed([(dataset.image_path(record), record.box) for record in records])
        people = np.array([record.identity for record in records])
        cameras = np.array([record.camera or "" for record in records])
        instants = np.array([np.nan if record.time is None else instant_of(record.time) for record in records])
        print(f"| {dataset.name} | {row(vectors, people, cameras, instants, options.queries)} |", flush=True)


def draw(entries: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings, people, cameras and times of a gallery that was never photographed."""
    rng = np.random.default_rng(seed)
    images = np.minimum(2 + rng.geometric(1 / 11, size=entries), 40)
    people = np.repeat(np.arange(entries), images)[:entries]
    centres = rng.standard_normal((people.max() + 1, 64)) * np.linspace(1.6, 0.4, 64)  # some directions tell more
    cameras = rng.permuted(np.tile(np.arange(8), (people.max() + 1, 1)), axis=1)  # each person's own order of cameras
    seen_by = cameras[people, rng.integers(rng.integers(2, 9, size=people.max() + 1)[people])]
    vectors = centres[people] + 0.5 * rng.standard_normal((8, 64))[seen_by]
    vectors += rng.gamma(6, 0.15, size=(entries, 1)) * rng.standard_normal((entries, 64))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), people, np.array([f"c{each}" for each in seen_by]), np.full(entries, np.nan)


def row(vectors: np.ndarray, people: np.ndarray, cameras: np.ndarray, instants: np.ndarray, queries: int) -> str:
    """What is printed of one gallery."""
    sample = np.random.default_rng(0).permutation(len(vectors))[:SAMPLE]
    chance = learn_chance(
        Reference(vectors[sample], cameras[sample]), instants[sample], fingerprint="", entries=len(vectors)
    )
    if chance is None:
        return f"{len(vectors):,} | nothing could be learnt | | | |"
    false, found, accepted = np.zeros(3), np.zeros(3), []
    mates, best = 0, []
    for query in np.random.default_rng(5).permutation(len(vectors))[:queries]:
        elsewhere = cameras != cameras[query]
        others = people[elsewhere] != people[query]
        scores = vectors[elsewhere] @ vectors[query]
        kept = sample[people[sample] != people[query]]
        reference = Reference(vectors[kept], cameras[kept])
        (z,) = reference.measure(vectors[query][None], [scores], [cameras[elsewhere].tolist()])
        chances = chance.tail.above(z)
        expected = others.sum() * chances
        false += [(expected[others] <= most).sum() for most in EXPECTED]
        found += [(expected[~others] <= most).sum() for most in EXPECTED]
        mates += int((~others).sum())
        accepted.append((chances[others] <= RATE).mean())
        best.append((z[others], z[~others]))
    asked = len(accepted)
    told = np.concatenate([one for one, _ in best])
    threshold = np.sort(told)[-asked]  # one false match a query
    oracle = np.mean(np.concatenate([one for _, one in best]) >= threshold)
    return (
        f"{len(vectors):,} | {', '.join(f'{each:.2g}' for each in false / asked)} | "
        f"{', '.join(f'{each:.2f}' for each in found[:2] / max(mates, 1))} | {oracle:.2f} | {np.mean(accepted):.1e} | "
        f"{chance.mates:.1f}"
    )


if __name__ == "__main__":
    main()
