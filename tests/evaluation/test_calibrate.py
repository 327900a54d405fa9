"""Thresholds: at which rates, from which pairs, and of whom."""

from __future__ import annotations

import numpy as np
import pytest

from sil_cli.data.manifest import ImageRecord
from sil_cli.data.sampling import held_out_identities
from sil_cli.errors import DataError
from sil_cli.evaluation.calibrate import _draw, make_calibration
from sil_cli.evaluation.open_set import BINS, PairScores
from sil_cli.training.sources import make_source


def pairs(different: int, same: int = 40, seed: int = 0) -> PairScores:
    """Scores of so many pairs, each counted in both directions."""
    rng = np.random.default_rng(seed)
    width = 2 / BINS
    counts = [
        2
        * np.bincount(
            ((rng.normal(mean, 0.1, count).clip(-1, 1) + 1) / width).astype(int).clip(0, BINS - 1), minlength=BINS
        )
        for mean, count in ((0.7, same), (0.1, different))
    ]
    return PairScores(-1.0, width, *counts)


def calibrated(scores: PairScores, match: str = "1e-3", possible: str = "1e-2"):
    return make_calibration(scores, fingerprint="f", made_on="them", manifests=("m",), match=match, possible=possible)


@pytest.mark.parametrize(
    ("different", "rates"),
    [(200_000, ["1e-2", "1e-3", "1e-4"]), (99_000, ["1e-2", "1e-3"]), (10_000, ["1e-2", "1e-3"]), (9_900, ["1e-2"])],
)
def test_a_threshold_takes_ten_different_pairs_beyond_it(different, rates):
    found = calibrated(pairs(different))
    assert list(found.thresholds) == rates
    assert (found.same_pairs, found.different_pairs) == (40, different)
    assert list(found.thresholds.values()) == sorted(found.thresholds.values())
    finest = found.thresholds[rates[-1]]
    assert found.possible == found.thresholds["1e-2"]
    assert found.match == found.thresholds.get("1e-3", finest)


def test_other_rates_may_be_chosen():
    found = calibrated(pairs(200_000), match="1e-4", possible="1e-3")
    assert (found.match, found.possible) == (found.thresholds["1e-4"], found.thresholds["1e-3"])
    assert found.manifests == ("m",)


@pytest.mark.parametrize(("different", "same"), [(900, 40), (200_000, 0)])
def test_too_few_pairs_are_refused(different, same):
    with pytest.raises(DataError, match="too few for a threshold"):
        calibrated(pairs(different, same))


def test_whole_people_are_drawn_up_to_the_limit():
    records = [
        ImageRecord(path=f"{person}-{image}.jpg", identity=f"p{person}", split="query", domain="d")
        for person in range(20)
        for image in range(1 + person % 4)
    ]
    assert _draw(records, 10_000, seed=0) == records
    drawn = _draw(records, 20, seed=0)
    assert 16 <= len(drawn) <= 20
    assert drawn == _draw(records, 20, seed=0)
    assert drawn != _draw(records, 20, seed=1)
    people = {record.identity for record in drawn}
    assert drawn == [record for record in records if record.identity in people]


@pytest.mark.parametrize("share", [0.01, 0.3])
def test_who_was_held_out_can_be_told_afterwards(share):
    records = [
        ImageRecord(path=f"{n}.jpg", identity=f"p{n // 2}", split="train", domain="d", distractor=n >= 38)
        for n in range(40)
    ]
    pixels = np.zeros((40, 8, 4, 3), dtype=np.uint8)
    source = make_source("d", records, pixels, identities_per_batch=2, instances=2, seed=5, held_out=share)
    usable = [record.identity for record in reversed(records) if not record.distractor]
    assert held_out_identities(usable, share, 5) == set(source.held_out_identities)
    assert not held_out_identities(usable, 0.0, 5)
