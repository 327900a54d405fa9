from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sil_cli.synthetic.body import ANKLE, Pose, View, pose_body
from sil_cli.synthetic.fabric import Pattern, weave
from sil_cli.synthetic.figure import draw_person as paint_person
from sil_cli.synthetic.identity import (
    _LOWER_PATTERNS,
    _PATTERN_WEIGHTS,
    PALETTE,
    draw_person,
    season,
)
from sil_cli.synthetic.outfit import make_outfit
from sil_cli.synthetic.style import _CENTRES, _PARTS, _REACH, network_style, network_view
from sil_cli.synthetic.tube import Light

if TYPE_CHECKING:
    from sil_cli.settings.fields import NetworkKind

WALK = Pose(phase=0.8, stride=0.4, swing=0.3, elbow=0.2, raised=0, lean=0.0, look=0.0, splay=0.1)


def test_many_people_share_few_colours_and_none_shares_all() -> None:
    ways = season(1, 0, 1.0)
    people = [draw_person(1, 0, number, ways) for number in range(120)]
    worn = Counter(person.colours for person in people)
    assert set(worn) <= set(ways)
    assert min(worn.values()) >= 8
    assert {colour for way in ways for colour in (way.main, way.accent, way.lower, way.extra)} <= set(PALETTE.values())
    assert len(set(people)) == 120


def test_a_person_depends_on_seed_network_and_number_alone() -> None:
    ways = season(3, 2, 1.0)
    assert draw_person(3, 2, 7, ways) == draw_person(3, 2, 7, season(3, 2, 1.0))
    others = {draw_person(3, 2, 8, ways), draw_person(3, 1, 7, ways), draw_person(4, 2, 7, ways)}
    assert len(others | {draw_person(3, 2, 7, ways)}) == 4


@pytest.mark.parametrize("kind", sorted(set(_PATTERN_WEIGHTS) | set(_LOWER_PATTERNS)))
def test_every_pattern_shows_both_colours_but_the_plain_one(kind: str) -> None:
    pattern = Pattern(kind, 0.06, 0.5, 4)  # type: ignore[arg-type]
    cloth = weave(pattern, (0.0, 0.0, 0.0), (0.8, 0.8, 0.8), around=0.6, along=0.34, texels=(64, 64))
    assert cloth.shape == (64, 64, 3)
    assert (cloth < 0.1).mean() > 0.1
    assert ((cloth > 0.4).mean() > 0.1) == (kind != "plain")


def test_the_lower_foot_stands_on_the_ground_in_every_phase() -> None:
    person = draw_person(1, 0, 0, season(1, 0, 1.0))
    for phase in np.linspace(0, 2 * math.pi, 9):
        pose = Pose(**{**vars(WALK), "phase": float(phase)})
        skeleton = pose_body(person, pose)
        assert min(leg.end[1] for leg in skeleton.legs) == pytest.approx(ANKLE)
        assert skeleton.hips[1] < skeleton.neck[1] < skeleton.crown[1] < 1.2


def test_the_camera_sees_the_sides_it_is_turned_to() -> None:
    left_hand, nose = (0.2, 0.5, 0.0), (0.0, 0.9, 0.1)
    front = View(turn=0.0, tilt=0.0, scale=100.0, foot=(50.0, 100.0), lean=0.0)
    assert front.point(left_hand) == pytest.approx((70.0, 50.0))
    back = View(turn=math.pi, tilt=0.0, scale=100.0, foot=(50.0, 100.0), lean=0.0)
    assert back.point(left_hand) == pytest.approx((30.0, 50.0))
    from_left = View(turn=math.pi / 2, tilt=0.0, scale=100.0, foot=(50.0, 100.0), lean=0.0)
    assert from_left.point(nose) == pytest.approx((40.0, 10.0))
    assert from_left.depth(left_hand) == pytest.approx(0.2)


@pytest.mark.parametrize("number", range(12))
def test_figures_fill_their_place_from_every_side(number: int) -> None:
    person = draw_person(2, 0, number, season(2, 0, 1.0))
    outfit = make_outfit(person)
    for turn in np.linspace(0, 2 * math.pi, 5):
        canvas = np.full((256, 128, 3), -1.0, np.float32)
        view = View(float(turn), 0.1, 220.0, (64.0, 245.0), 0.0)
        paint_person(canvas, person, outfit, WALK, view, Light(0.3, 0.6))
        drawn = (canvas > -0.5).all(axis=2)
        assert np.isfinite(canvas).all()
        rows = np.where(drawn.any(axis=1))[0]
        assert rows.min() < 50
        assert rows.max() > 230
        assert 0.12 < drawn.mean() < 0.6


ALL = {"colour": 1.0, "exposure": 1.0, "detail": 1.0}


@pytest.mark.parametrize("kind", ["wardrobes", "cameras"])
def test_four_networks_share_out_each_propertys_range(kind: NetworkKind) -> None:
    styles = [vars(network_style(kind, 9, domain, ALL)) for domain in range(4)]
    for name in styles[0]:
        centre, reach = getattr(_CENTRES[kind], name), _REACH[kind][name].networks
        quarters = sorted(math.floor(((style[name] - centre) / reach + 1) * 2) for style in styles)
        assert quarters == [0, 1, 2, 3], name
    views = [vars(network_view(9, domain, 1.0)) for domain in range(4)]
    for name in views[0]:
        assert sorted(math.floor((view[name] + 1) * 2) for view in views) == [0, 1, 2, 3], name


def test_without_a_gap_all_networks_share_the_neutral_style() -> None:
    none = dict.fromkeys(ALL, 0.0)
    assert len({network_style("wardrobes", 9, domain, none) for domain in range(6)}) == 1
    assert set(vars(network_style("wardrobes", 9, 3, none)).values()) == {0.0}
    assert network_style("cameras", 9, 3, none) == _CENTRES["cameras"]
    assert set(vars(network_view(9, 3, 0.0)).values()) == {0.0}


@pytest.mark.parametrize("part", sorted(ALL))
def test_a_part_of_the_gap_moves_its_own_properties_alone(part: str) -> None:
    whole = vars(network_style("cameras", 9, 2, ALL))
    alone = vars(network_style("cameras", 9, 2, dict.fromkeys(ALL, 0.0) | {part: 1.0}))
    for name, belongs in _PARTS.items():
        assert alone[name] == (whole[name] if belongs == part else getattr(_CENTRES["cameras"], name)), name


def test_clothes_are_a_networks_own_or_everybodys() -> None:
    own, others = season(3, 2, 1.0), season(3, 1, 1.0)
    assert len(own) == 4
    assert own != others
    shared = season(3, 2, 1.0, own=0.0)
    assert shared == season(3, 1, 1.0, own=0.0)
    assert len(shared) == 12
    half = season(3, 2, 1.0, own=0.5)
    assert half[6:] == shared[6:]
    assert set(half[:6]) == set(own)
