from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from sil_cli.gallery.people import Verdict, in_order
from sil_cli.people.deciding import decide

NOW = datetime(2024, 5, 1, tzinfo=UTC)


def key(number):
    return "photos", f"{number}.jpg", None


def said(first, second, answer, by="ann"):
    return Verdict(key(first), key(second), answer, by, NOW)


def groups(found):
    return {frozenset(int(path[:-4]) for _, path, _ in group) for group in found}


def test_same_joins_over_a_chain_and_different_keeps_apart():
    found = decide([said(1, 2, "same"), said(2, 3, "same"), said(4, 5, "same"), said(1, 4, "different")])
    assert groups(found.people) == {frozenset({1, 2, 3}), frozenset({4, 5})}
    assert len(found.people[0]) == 3
    assert found.apart == {in_order(key(1), key(4))}
    assert found.contradictions == found.torn == []


def test_unsure_decides_nothing():
    found = decide([said(1, 2, "unsure")])
    assert (found.people, found.apart, found.contradictions) == ([], set(), [])


def test_a_contradiction_is_named_with_the_chain_that_makes_it():
    joining = [said(1, 2, "same"), said(2, 3, "same")]
    apart = said(3, 1, "different")
    found = decide([*joining, said(2, 9, "same"), said(5, 6, "same"), apart])
    assert groups(found.torn) == {frozenset({1, 2, 3, 9})}
    assert groups(found.people) == {frozenset({5, 6})}
    (contradiction,) = found.contradictions
    assert contradiction.different == (apart,)
    assert set(contradiction.same) == set(joining)
    assert found.apart == set()


def test_two_people_who_disagree_on_a_pair_are_a_contradiction():
    found = decide([said(1, 2, "same", "ann"), said(1, 2, "different", "bob")])
    assert groups(found.torn) == {frozenset({1, 2})}
    assert [one.by for one in found.contradictions[0].different + found.contradictions[0].same] == ["bob", "ann"]


def test_answers_from_labels_never_contradict_each_other_and_join_no_two_people():
    rng = np.random.default_rng(0)
    person = rng.integers(0, 12, 60)
    pairs = {tuple(sorted(rng.choice(60, 2, replace=False).tolist())) for _ in range(400)}
    found = decide([said(a, b, "same" if person[a] == person[b] else "different") for a, b in sorted(pairs)])
    assert found.contradictions == []
    expected = [{a} for a in range(60)]  # slow and obvious: merge until nothing changes
    for _ in range(60):
        for a, b in pairs:
            if person[a] == person[b]:
                joined = expected[a] | expected[b]
                for one in joined:
                    expected[one] = joined
    assert groups(found.people) == {frozenset(group) for group in expected if len(group) > 1}
