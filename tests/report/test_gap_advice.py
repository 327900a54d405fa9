from __future__ import annotations

import itertools

import pytest
from commands import sil

from sil_cli.report.gap_advice import advise, in_words, read_study

PEOPLE = ("--set", "data.synthetic.train_identities=12", "--set", "data.synthetic.test_identities=2")
SMALL = ("--set", "data.synthetic.cameras=2", "--set", "data.synthetic.images_per_camera=2")


def condition(name, pixels, clothes, *, second_pass=0.0, style=0.0, seeds=2):
    """Lines of a study in which each method gains so much on every network, but for a little noise."""
    rows = [{"condition": name, "pixels": pixels, "clothes": clothes, "features": 0.5}]
    for number, (left_out, seed) in enumerate(itertools.product(("a", "b"), range(1, seeds + 1))):
        noise = 0.01 if number % 2 else -0.01
        scores = {"fb": 0.3, "fbf": 0.3 + second_pass + noise, "dbs": 0.3 + second_pass + style + 2 * noise}
        rows += [
            {"condition": name, "method": method, "left_out": left_out, "seed": seed, "mAP": score, "rank1": 0.0}
            for method, score in scores.items()
        ]
    return rows


STUDY = [
    *condition("colour", 0.4, 0.0, second_pass=0.02, style=0.05),
    *condition("wardrobes", 0.6, 0.3, second_pass=0.03, style=-0.01),
    *condition("nothing", 0.0, 0.0),
]


@pytest.mark.parametrize(
    ("gaps", "like", "suggests", "words"),
    [
        ((0.45, 0.02), ["colour"], "style", "use a style"),
        ((0.65, 0.35), ["wardrobes"], "second pass", "a second pass is worth its time, also with `--style none`"),
        ((0.1, 0.09), ["nothing"], None, "neither is known to be worth its time here"),
        ((0.95, 0.9), [], None, "What gains on networks with such a gap isn't known"),
    ],
)
def test_it_suggests_what_gained_where_networks_differed_as_much(gaps, like, suggests, words):
    advice = advise(*gaps, STUDY)
    assert (advice.like, advice.suggests) == (like, suggests)
    assert words in in_words(advice)


def test_gains_are_means_over_pairs_of_network_and_seed():
    advice = advise(0.4, 0.0, STUDY)
    assert advice.second_pass.pairs == advice.style.pairs == 4
    assert advice.second_pass.mean == pytest.approx(0.02)
    assert advice.style.mean == pytest.approx(0.05)
    assert advice.style.interval.low <= 0.05 <= advice.style.interval.high
    assert "4 pairs of trainings) a second pass gained +2.0 (+1.0 to +3.0) points of mAP" in in_words(advice)


def test_a_single_training_is_no_evidence():
    rows = [row for row in STUDY if row.get("method") != "dbs" or (row["left_out"], row["seed"]) == ("a", 1)]
    advice = advise(0.4, 0.0, rows)
    assert (advice.style, advice.suggests) == (None, "second pass")


def test_nothing_is_suggested_where_a_gap_is_unknown():
    assert advise(None, 0.1, STUDY) is None
    assert advise(0.1, None, STUDY) is None


def test_the_study_that_is_shipped_can_be_read():
    rows = read_study()
    conditions = {row["condition"] for row in rows if "pixels" in row}
    assert "wardrobes" in conditions
    assert {row["condition"] for row in rows if "method" in row} == conditions
    assert all(0 <= row[name] <= 1 for row in rows for name in ("mAP", "rank1", "pixels") if name in row)


@pytest.fixture
def networks(empty, monkeypatch):
    """Two generated networks, and a study in which a style pays at every gap."""
    grid = itertools.product(range(0, 101, 25), range(-20, 101, 10))
    study = [row for x, y in grid for row in condition(f"{x} {y}", x / 100, y / 100, style=0.1)]
    for module in ("sil_cli.training.train", "sil_cli.report.show"):
        monkeypatch.setattr(f"{module}.read_study", lambda: study)
    assert sil("prepare-data", "--set", "data.synthetic.domains=3", *PEOPLE, *SMALL).code == 0
    return empty


def test_show_and_train_say_what_the_gap_suggests(networks):
    outcome = sil("show", "data/harbour", "data/orchard", "--out", "none")
    assert "use a style, such as `--style dbs`" in " ".join(outcome.out.split())
    advice = sil("show", "data/harbour", "data/orchard", "--out", "none", "--json").document["advice"]
    assert advice["suggests"] == "style"
    assert sil("show", "data/harbour", "--out", "none", "--json").document["advice"] is None
    tiny = ("--set", "train.identities=2", "--set", "train.epochs=1", "--set", "train.iterations=1")
    outcome = sil("train", "--source", "data/harbour", "--source", "data/orchard", *tiny)
    assert outcome.code == 0, outcome.error
    assert "use a style, such as `--style dbs`" in " ".join(outcome.error.split())
    assert sil("train", "--source", "data/harbour", *tiny).error.count("use a style") == 0
