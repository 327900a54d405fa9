"""Do the intervals that answers give hold the truth?

    python tests/benchmarks/bench_asking.py MODEL DATASET [DATASET ...] [--answers 50 200] [--trials 100]

MODEL is a run folder, a data set a prepared one. All of its images are taken for a gallery with nothing known but
cameras. In each trial entries are numbered anew, half of them stand for queries, pairs are drawn as `sil calibrate
--gallery --ask` draws them, and answered by the labels. Printed: how many of the pairs of one person are within reach;
the true rates of `match` and `possible`; how often their 95 % intervals hold these (TAR, right and FAR of each); and
how wide those of TAR and right are.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import sil_cli
from sil_cli.data.manifest import load_dataset
from sil_cli.evaluation.chance import Reference, learn_chance
from sil_cli.people.accept_rates import Answers, PairFrame, accept_rates, draw_pairs, reach_of, searches

MATCH, POSSIBLE = 0.1, 5.0
RATES = ("true_accept_rate", "right", "false_accept_rate")


@dataclass(frozen=True)
class Population:
    """All pairs within reach of a gallery, each in both directions, and what is true of it."""

    entries: int
    others: float
    first: np.ndarray
    second: np.ndarray
    expected: np.ndarray
    cameras: np.ndarray
    same: np.ndarray
    same_in_all: int

    def truth(self, most: float) -> tuple[float, float, float]:
        """The true accept rate within reach, the share that is right, and the false accept rate of a decision."""
        accepted, different = self.expected <= most, self.entries * self.others - self.same_in_all
        found = int((accepted & self.same).sum())
        wrong = int((accepted & ~self.same).sum())
        return found / max(1, int(self.same.sum())), found / max(1, int(accepted.sum())), wrong / different


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("datasets", type=Path, nargs="+")
    parser.add_argument("--answers", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--trials", type=int, default=100)
    options = parser.parse_args()
    model = sil_cli.load_model(options.model)
    print("| data set | within reach | answers | true: match | possible | held | wide |")
    print("|---|---|---|---|---|---|---|")
    for folder in options.datasets:
        dataset = load_dataset(folder)
        records = [record for record in dataset.records if not record.junk]
        vectors = model.embed([(dataset.image_path(record), record.box) for record in records])
        people = np.array([record.identity for record in records])
        cameras = np.array([record.camera or "" for record in records])
        whole = population(vectors, people, cameras)
        for count in options.answers:
            print(f"| {dataset.name} | {row(whole, count, options.trials)} |", flush=True)


def population(vectors: np.ndarray, people: np.ndarray, cameras: np.ndarray) -> Population:
    """All pairs of different cameras within reach."""
    entries = len(vectors)
    reference = Reference(vectors, cameras)
    chance = learn_chance(reference, np.full(entries, np.nan), fingerprint="", entries=entries)
    assert chance is not None
    names, number = np.unique(cameras, return_inverse=True)
    parts, others, same = [], 0, 0
    for query in range(entries):
        elsewhere = np.flatnonzero(cameras != cameras[query])
        others += len(elsewhere)
        same += int((people[elsewhere] == people[query]).sum())
        scores = vectors[elsewhere] @ vectors[query]
        (z,) = reference.measure(vectors[query][None], [scores], [cameras[elsewhere].tolist()])
        expected = entries * chance.tail.above(z)
        near = elsewhere[expected <= reach_of(POSSIBLE)]
        pairs = number[query] * len(names) + number[near]
        own = people[near] == people[query]
        parts.append((np.full(len(near), query), near, expected[expected <= reach_of(POSSIBLE)], pairs, own))
    columns = [np.concatenate(each) for each in zip(*parts, strict=True)]
    return Population(entries, others / entries, *columns, same_in_all=same)


def row(whole: Population, count: int, trials: int) -> str:
    """What is printed of so many answers."""
    truth = np.array([whole.truth(MATCH), whole.truth(POSSIBLE)])
    queries = whole.entries // 2
    held, width, told = np.zeros((2, 3)), np.zeros((2, 3)), 0
    for trial in range(trials):
        ids = np.random.default_rng(trial).permutation(whole.entries)
        first, second = ids[whole.first], ids[whole.second]
        kept = (first < queries) & searches(first, second)
        frame = PairFrame(
            first[kept], second[kept], whole.expected[kept], whole.cameras[kept],
            queries, queries / whole.entries, whole.others, whole.entries,
        )  # fmt: skip
        free = np.ones(len(frame.first), dtype=bool)
        rows, chances = draw_pairs(frame, free, count, match=MATCH, possible=POSSIBLE, seed=trial)
        same, known = whole.same[kept], np.full(len(free), -1, dtype=np.int8)
        known[rows] = same[rows]
        answers = Answers(frame.expected[rows], same[rows], 1 / chances, np.zeros(len(rows), dtype=np.int64))
        rates = accept_rates(frame, known, answers, match=MATCH, possible=POSSIBLE).decisions
        for at, each in enumerate(rates):
            found = [getattr(each, name) for name in RATES]
            held[at] += [one.low <= value <= one.high for one, value in zip(found, truth[at], strict=True)]
            width[at] += [one.high - one.low for one in found]
        told += bool(rates)
    words = [f"TAR {a:.2f}, right {b:.2f}, FAR {c:.1e}" for a, b, c in truth]
    share = whole.same.sum() / whole.same_in_all
    wide = ", ".join(f"{each:.2f}" for each in (width / max(told, 1))[:, :2].ravel())
    holds = ", ".join(f"{each:.2f}" for each in (held / max(told, 1)).ravel())
    return f"{share:.2f} | {count} | {' | '.join(words)} | {holds} | {wide}"


if __name__ == "__main__":
    main()
