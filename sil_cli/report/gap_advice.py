"""What the gap between data sets suggests: what styles gained where generated networks differed about as much.

The study behind it is `comparison/gap-study.jsonl`, a line for each training and one for each kind of networks' gap
(`tests/benchmarks/bench_parts.py` adds to it; docs/generated-domains.md shows it as tables).
"""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sil_cli.data.measuring import clothes_colours, explained_share, measure, told_apart
from sil_cli.evaluation.intervals import Interval, mean_interval
from sil_cli.results import Result
from sil_cli.runtime import SilentReporter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sil_cli.data.manifest import Dataset, ImageRecord

NEAR_STYLE, NEAR_CLOTHES = 0.25, 0.1
"""Networks of the study count where their gaps are no further from the measured ones. What clothes say decides more: it
is what no change of feature statistics can bridge."""

PEOPLE, IMAGES = 60, 6
"""Of each data set, where a glance is enough: people, and images of each."""


class Gain(Result):
    """How much mAP one method gained over another, in 0..1: mean over left-out networks and seeds.

    Attributes:
        interval: 95 %, of that mean.
        pairs: Of a left-out network and a seed, each a training by either method.
    """

    mean: float
    interval: Interval
    pairs: int

    @property
    def is_clear(self) -> bool:
        """Whether it is above zero by more than chance."""
        return self.interval.low > 0


class GapAdvice(Result):
    """What the gap between data sets suggests.

    Attributes:
        style_gap: How much of the variance of style lies between the data sets, 0..1.
        clothes_gap: How far the colours of clothes, each relative to its own data set's, tell the data sets apart: 0
            for not at all, 1 for without fail.
        like: What the networks of the study differ in whose gaps are about these; empty where none are.
        second_pass: What a second pass without new styles gained over none, there.
        style: What Dir-MixStyle's mixed batches (`dbs`) in that pass gained over none of it, there.
        suggests: What gained there beyond chance: a style, or a second pass alone; None where neither did, or
            where nothing like these was measured.
    """

    style_gap: float
    clothes_gap: float
    like: list[str]
    second_pass: Gain | None
    style: Gain | None
    suggests: Literal["style", "second pass"] | None


def advise(style_gap: float | None, clothes_gap: float | None, study: Sequence[dict[str, Any]]) -> GapAdvice | None:
    """Look up what gained where networks differed about as much.

    Args:
        style_gap: As in `GapAdvice`.
        clothes_gap: Likewise.
        study: Lines of the study, see `read_study`.

    Returns:
        None where a gap is not known: of one data set, or of too few people.
    """
    if style_gap is None or clothes_gap is None:
        return None
    like = [
        row["condition"]
        for row in study
        if "pixels" in row
        and abs(row["pixels"] - style_gap) <= NEAR_STYLE
        and abs(row["clothes"] - clothes_gap) <= NEAR_CLOTHES
    ]
    second_pass, style = (_gain(study, like, better, than) for better, than in (("fbf", "fb"), ("dbs", "fbf")))
    suggests: Literal["style", "second pass"] | None = None
    if style is not None and style.is_clear:
        suggests = "style"
    elif second_pass is not None and second_pass.is_clear:
        suggests = "second pass"
    return GapAdvice(
        style_gap=round(style_gap, 4),
        clothes_gap=round(clothes_gap, 4),
        like=like,
        second_pass=second_pass,
        style=style,
        suggests=suggests,
    )


def read_study() -> list[dict[str, Any]]:
    """The lines of the study: `condition` with `method`, `left_out`, `seed`, `mAP`, `rank1`, or with its gaps."""
    text = (resources.files("sil_cli") / "comparison" / "gap-study.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def gaps_at_a_glance(datasets: Sequence[Dataset]) -> tuple[float | None, float | None]:
    """The style gap and the clothes gap of what would be learnt from, of a few images of a few people each."""
    styles, clothes = [], []
    for dataset in datasets:
        measures = measure(dataset, _some_of(dataset), reporter=SilentReporter(), workers=1)
        styles.append(measures.styles)
        clothes.append(clothes_colours(measures))
    if not all(map(len, styles)):
        return None, None
    return explained_share(styles), told_apart(clothes)


def in_words(advice: GapAdvice) -> str:
    """What it comes to, with the size of the evidence."""
    gaps = (
        f"{advice.style_gap:.0%} of the variance of style lies between the data sets, and clothes "
        f"{_how_far(advice.clothes_gap)} tell them apart"
    )
    if advice.style is None or advice.second_pass is None:
        return f"{gaps}. What gains on networks with such a gap isn't known: compare `--style dbs` with `--style none`."
    evidence = (
        f"On generated networks with such a gap (differing in: {', '.join(advice.like)}; {advice.style.pairs} pairs of "
        f"trainings) a second pass gained {_points(advice.second_pass)} points of mAP, and a style in it "
        f"{_points(advice.style)} more"
    )
    what = {
        "style": "use a style, such as `--style dbs`",
        "second pass": "a second pass is worth its time, also with `--style none`; a style isn't known to be",
        None: "neither is known to be worth its time here; compare them by `sil benchmark`",
    }
    return f"{gaps}. {evidence}: {what[advice.suggests]}."


def _gain(study: Sequence[dict[str, Any]], like: Sequence[str], better: str, than: str) -> Gain | None:
    """Over all pairs of such networks that both methods have."""
    scores: dict[str, dict[tuple[str, str, int], float]] = {better: {}, than: {}}
    for row in study:
        if row["condition"] in like and row.get("method") in scores:
            scores[row["method"]][row["condition"], row["left_out"], row["seed"]] = row["mAP"]
    pairs = sorted(scores[better].keys() & scores[than].keys())
    if len(pairs) < 2:
        return None
    values: NDArray[np.float64] = np.array([scores[better][pair] - scores[than][pair] for pair in pairs])
    return Gain(mean=float(values.mean()), interval=mean_interval(values, corrected=False), pairs=len(pairs))


def _some_of(dataset: Dataset) -> list[ImageRecord]:
    """Some images of some people of the training split, the same ones each time."""
    images: dict[str, list[ImageRecord]] = {}
    for record in dataset.of_split("train"):
        if record.is_named:
            images.setdefault(record.identity, []).append(record)
    rng = np.random.default_rng(0)
    names = sorted(images)
    people = [names[place] for place in sorted(rng.permutation(len(names))[:PEOPLE])]
    return [images[name][place] for name in people for place in sorted(rng.permutation(len(images[name]))[:IMAGES])]


def _how_far(clothes_gap: float) -> str:
    return "hardly" if clothes_gap < 0.1 else "partly" if clothes_gap < 0.2 else "clearly"


def _points(gain: Gain) -> str:
    low, high = 100 * gain.interval.low, 100 * gain.interval.high
    return f"{100 * gain.mean:+.1f} ({low:+.1f} to {high:+.1f})".replace("-", "−")
