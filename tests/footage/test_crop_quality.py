from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from sil_cli.footage.quality import BestCrops, choose_crops, crop_quality


def frame(height: int = 300, width: int = 400) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_tall_sharp_free_and_whole_is_better() -> None:
    image = frame()
    blurred = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(6)))
    good = crop_quality(image, [(100, 50, 60, 150)])[0]
    assert 0.5 < good <= 1
    assert crop_quality(image, [(100, 50, 24, 60)])[0] < 0.6 * good
    assert crop_quality(blurred, [(100, 50, 60, 150)])[0] < 0.6 * good
    assert crop_quality(image, [(0, 50, 60, 150)])[0] == pytest.approx(0.4 * good, rel=0.1)
    assert crop_quality(image, [(0, 150, 60, 150)])[0] == pytest.approx(0.16 * good, rel=0.1)
    assert crop_quality(image, [(50, 50, 150, 150)])[0] < 0.6 * good
    assert crop_quality(image, []).shape == (0,)


def test_the_nearer_one_hides_the_farther_and_not_the_other_way_round() -> None:
    image = frame()
    far, near = (100, 40, 60, 150), (130, 60, 60, 160)
    alone = [crop_quality(image, [box])[0] for box in (far, near)]
    together = crop_quality(image, [far, near])
    assert together[1] == pytest.approx(alone[1])
    hidden = 30 * 130 / (60 * 150)
    assert together[0] == pytest.approx(alone[0] * (1 - hidden) ** 2)


def hidden_by_hand(boxes: list[tuple[int, int, int, int]]) -> list[float]:
    """Pixel by pixel, for each two boxes."""
    shares = []
    for one in boxes:
        pixels = {(x, y) for x in range(one[0], one[0] + one[2]) for y in range(one[1], one[1] + one[3])}
        covered = [
            len(pixels & {(x, y) for x in range(left, left + wide) for y in range(top, top + high)}) / len(pixels)
            for left, top, wide, high in boxes
            if top + high > one[1] + one[3]
        ]
        shares.append(max(covered, default=0.0))
    return shares


box = st.tuples(*(st.integers(2, 20) for _ in range(2)), *(st.integers(4, 12) for _ in range(2)))


@given(st.lists(box, min_size=1, max_size=6, unique_by=lambda each: each[1] + each[3]))
def test_overlap_is_what_counting_pixels_gives(boxes: list[tuple[int, int, int, int]]) -> None:
    image = frame(60, 60)
    alone = np.asarray([crop_quality(image, [each])[0] for each in boxes])
    together = crop_quality(image, boxes)
    assert together == pytest.approx(alone * (1 - np.asarray(hidden_by_hand(boxes))) ** 2)


def chosen_by_hand(seconds: list[float], quality: list[float], keep: int) -> list[int]:
    """Part by part of the tracklet's time, the best crop in it."""
    if not seconds:
        return []
    length = seconds[-1] - seconds[0]
    chosen = []
    for part in range(keep):
        inside = [
            at
            for at, second in enumerate(seconds)
            if (length == 0 and part == 0)
            or (length > 0 and (min(int((second - seconds[0]) / length * keep), keep - 1) == part))
        ]
        if inside:
            chosen.append(max(inside, key=lambda at: (quality[at], -at)))
    return chosen


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 4)), max_size=25).map(sorted), st.integers(1, 6))
def test_the_best_of_each_part_of_the_time_is_chosen(crops: list[tuple[int, int]], keep: int) -> None:
    seconds, quality = [float(each[0]) for each in crops], [each[1] / 4 for each in crops]
    assert choose_crops(seconds, quality, keep) == chosen_by_hand(seconds, quality, keep)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=120), st.integers(1, 5))
def test_few_are_held_the_best_among_them_and_spread_over_the_time(qualities: list[int], keep: int) -> None:
    best: BestCrops[int] = BestCrops(keep)
    let_go = []
    for at, quality in enumerate(qualities):
        dropped = best.offer(float(at), quality / 9, at)
        let_go += [] if dropped is None else [dropped]
        assert len(best.held()) <= 2 * keep
    held = [item for _, _, item in best.held()]
    assert sorted([*held, *let_go]) == list(range(len(qualities)))
    assert max(qualities[at] for at in held) == max(qualities)
    chosen = best.chosen()
    assert len(chosen) <= keep
    assert chosen == sorted(chosen)
    assert max(qualities[at] for at in chosen) == max(qualities)
    if len(qualities) > 8 * keep > 8 and len(set(qualities)) == 1:
        assert chosen[-1] - chosen[0] > len(qualities) / 3


def test_it_goes_on_from_what_is_held_as_if_it_had_never_stopped() -> None:
    rng = np.random.default_rng(0)
    whole: BestCrops[int] = BestCrops(3)
    parted: BestCrops[int] = BestCrops(3)
    for at in range(50):
        quality = float(rng.random())
        again: BestCrops[int] = BestCrops(3)
        for each in parted.held():
            again.offer(*each)
        parted = again
        assert parted.offer(at / 10, quality, at) == whole.offer(at / 10, quality, at)
    assert parted.chosen() == whole.chosen()
