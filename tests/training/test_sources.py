"""Sources: labels, held-out identities, and what is too little."""

import numpy as np
import pytest

from sil_cli.data.manifest import ImageRecord
from sil_cli.errors import DataError
from sil_cli.training.sources import make_source


def records(*identities: str, **more) -> list[ImageRecord]:
    return [
        ImageRecord(path=f"{number}.jpg", identity=identity, camera=f"c{number % 2}", split="train", domain="d", **more)
        for number, identity in enumerate(identities)
    ]


def source(found, **options):
    pixels = np.arange(len(found), dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), dtype=np.uint8)
    return make_source("d", found, pixels, **({"identities_per_batch": 2, "instances": 2, "seed": 0} | options))


def test_labels_belong_to_their_pixels() -> None:
    identities = ["b", "a", "b", "c", "a", "a"]
    made = source(records(*identities))
    assert made.identities == 3
    for iteration in range(5):
        pixels, labels = made.batch(iteration)
        assert pixels.shape == (4, 2, 2, 3)
        assert [identities[row] for row in pixels[:, 0, 0, 0]] == [["a", "b", "c"][label] for label in labels]


def test_distractors_and_junk_are_not_trained_on() -> None:
    made = source(records("a", "b") + records("x", distractor=True) + records("y", junk=True))
    assert made.identities == 2
    assert made.rows.tolist() == [0, 1]


def test_held_out_identities_are_apart_and_at_least_one() -> None:
    found = records(*"aabbccddee")
    made = source(found, held_out=0.01)
    assert len(set(made.held_out_identities)) == 1
    assert made.identities == 4
    trained = {found[row].identity for row in made.rows}
    assert trained.isdisjoint(made.held_out_identities)
    assert sorted([*made.rows, *made.held_out_rows]) == list(range(10))
    assert source(found, held_out=0.01).held_out_rows.tolist() == made.held_out_rows.tolist()


def test_a_single_identity_is_too_few() -> None:
    with pytest.raises(DataError, match="d has 1 identities"):
        source(records("a", "a", "a"))
