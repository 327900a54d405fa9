"""Who a person is: body, head, clothes and carried things, drawn by chance.

Clothing colours come from a few colourways that many people of a network share, so that colour narrows a search
down but pattern, cut, hair, build and carried things must finish it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np

from sil_cli.synthetic.fabric import Colour, Pattern, PatternKind
from sil_cli.synthetic.seeds import Purpose, choose, stream

HairStyle = Literal["bald", "buzz", "short", "parted", "quiff", "bob", "long", "ponytail", "bun", "afro", "curls"]
UpperKind = Literal["tee", "shirt", "hoodie", "jacket", "coat", "dress", "vest"]
LowerKind = Literal["slim", "straight", "wide", "shorts", "skirt", "maxi"]
CarriedKind = Literal["none", "backpack", "crossbody", "tote", "suitcase"]
HatKind = Literal["none", "cap", "beanie", "brim"]
PrintKind = Literal["none", "disc", "square", "triangle", "bar", "cross", "ring"]

PALETTE: dict[str, Colour] = {
    "black": (0.13, 0.13, 0.15),
    "charcoal": (0.27, 0.28, 0.31),
    "grey": (0.52, 0.53, 0.55),
    "white": (0.90, 0.89, 0.87),
    "navy": (0.14, 0.19, 0.36),
    "denim": (0.30, 0.42, 0.60),
    "beige": (0.76, 0.67, 0.53),
    "brown": (0.40, 0.27, 0.19),
    "olive": (0.37, 0.40, 0.24),
    "burgundy": (0.47, 0.14, 0.20),
    "red": (0.78, 0.20, 0.18),
    "mustard": (0.85, 0.64, 0.20),
    "teal": (0.13, 0.47, 0.49),
    "rose": (0.84, 0.56, 0.60),
}
SKIN: tuple[Colour, ...] = (
    (0.93, 0.76, 0.65), (0.87, 0.69, 0.56), (0.78, 0.59, 0.45),
    (0.70, 0.51, 0.37), (0.55, 0.38, 0.27), (0.38, 0.26, 0.19),
)  # fmt: skip
HAIR: tuple[Colour, ...] = (
    (0.10, 0.08, 0.08), (0.22, 0.15, 0.11), (0.36, 0.24, 0.15), (0.55, 0.38, 0.22),
    (0.80, 0.66, 0.42), (0.55, 0.24, 0.13), (0.66, 0.65, 0.64),
)  # fmt: skip
_COLOURS_WORN = 5  # in one network
_COLOURWAYS = 4  # of these colours
_SHARED_COLOURWAYS = 12  # where all networks wear the same: three times as many, of all colours

_HAIR_WEIGHTS: dict[str, float] = dict.fromkeys(get_args(HairStyle), 1.0) | {"bald": 0.6, "afro": 0.7}
_UPPER_WEIGHTS = {"tee": 1.6, "shirt": 1.3, "hoodie": 1.1, "jacket": 1.3, "coat": 0.9, "dress": 0.8, "vest": 0.6}
_LOWER_WEIGHTS = {"slim": 1.3, "straight": 1.4, "wide": 0.9, "shorts": 1.0, "skirt": 0.8, "maxi": 0.5}
_CARRIED_WEIGHTS = {"none": 1.3, "backpack": 1.2, "crossbody": 1.0, "tote": 0.9, "suitcase": 0.5}
_HAT_WEIGHTS = {"none": 4.2, "cap": 0.8, "beanie": 0.7, "brim": 0.5}
_PATTERN_WEIGHTS: dict[str, float] = dict.fromkeys(get_args(PatternKind), 1.0) | {"plain": 2.4}
_LOWER_PATTERNS = {"plain": 3.5, "stripes": 0.6, "tartan": 0.5, "checks": 0.4, "patches": 0.5, "dots": 0.4}
_PRINT_WEIGHTS: dict[str, float] = dict.fromkeys(get_args(PrintKind), 1.0) | {"none": 1.5}


@dataclass(frozen=True)
class Colourway:
    """Colours that go together; many people wear the same."""

    main: Colour
    accent: Colour
    lower: Colour
    extra: Colour


@dataclass(frozen=True)
class Person:
    """Everything about a person that stays the same from camera to camera.

    Attributes:
        build: Width against the usual, 0.85 (slight) to 1.35 (stout).
        shoulders, hips: Their widths against the usual for the build.
        legs: Leg length against the usual.
        head: Head size against the usual.
        sleeve: The part of the arm that is covered, 0 to 1.
        hem: Where the upper garment ends on the torso, as a fraction of it.
        contrast_sleeves: The sleeves are of the accent colour.
        inner: The colour under an open jacket.
        side_stripe: Trousers have a stripe down their sides.
        carried_side: −1 (right) or 1 (left): the side on which things are carried.
        texture_seed: For what is drawn by chance on hair and bags.
    """

    build: float
    shoulders: float
    hips: float
    legs: float
    head: float
    skin: Colour
    hair: HairStyle
    hair_colour: Colour
    beard: bool
    glasses: bool
    upper: UpperKind
    colours: Colourway
    pattern: Pattern
    print_front: PrintKind
    print_back: PrintKind
    sleeve: float
    contrast_sleeves: bool
    hem: float
    inner: Colour
    lower: LowerKind
    lower_pattern: Pattern
    side_stripe: bool
    shoe: Colour
    sole: Colour
    boots: bool
    carried: CarriedKind
    carried_colour: Colour
    carried_side: int
    hat: HatKind
    hat_colour: Colour
    scarf: bool
    texture_seed: int


def season(seed: int, domain: int, strength: float, *, own: float = 1.0) -> tuple[Colourway, ...]:
    """The colourways worn in one network, each by as many people.

    Args:
        seed: The data set's seed.
        domain: The network's number.
        strength: How far it leans to some colours; at 0 all are as likely in every network.
        own: The share of people in colourways of this network alone, 0..1: at 1, four combinations of five colours that
            it leans towards; the others wear what is worn in all networks, combinations of all colours.
    """
    lean = stream(Purpose.SEASON, seed, domain)
    weights = np.exp(min(strength, 1.0) * lean.normal(0.0, 0.6, len(PALETTE)))
    worn = lean.choice(len(PALETTE), size=_COLOURS_WORN, replace=False, p=weights / weights.sum())
    ways = _colourways(lean, [list(PALETTE.values())[index] for index in worn], _COLOURWAYS)
    if own == 1:
        return ways
    shared = _colourways(stream(Purpose.SEASON, seed), list(PALETTE.values()), _SHARED_COLOURWAYS)
    count = round(own * _SHARED_COLOURWAYS)
    return tuple(ways[index % _COLOURWAYS] for index in range(count)) + shared[count:]


def _colourways(rng: np.random.Generator, colours: list[Colour], count: int) -> tuple[Colourway, ...]:
    ways = []
    for _ in range(count):
        drawn = [Colourway(*(colours[index] for index in rng.permutation(len(colours))[:4])) for _ in range(4)]
        ways.append(max(drawn, key=_clarity))
    return tuple(ways)


def _clarity(way: Colourway) -> float:
    """How well patterns show in these colours: the smaller of their contrasts, in luminance above all."""
    main, accent, lower, extra = (np.asarray(c) for c in (way.main, way.accent, way.lower, way.extra))
    weights = np.asarray([0.6, 1.2, 0.4])
    return float(min(np.abs((main - accent) @ weights), np.abs((lower - extra) @ weights)))


def _pattern(rng: np.random.Generator, weights: dict[str, float]) -> Pattern:
    kind = cast("PatternKind", choose(rng, weights))
    return Pattern(kind, float(rng.uniform(0.035, 0.085)), float(rng.uniform(0.3, 0.7)), int(rng.integers(2**31)))


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    return colours[int(rng.integers(len(colours)))]


def draw_person(seed: int, domain: int, number: int, colourways: tuple[Colourway, ...]) -> Person:
    """The person of this number in this network; the same arguments give the same person.

    Args:
        seed: The data set's seed.
        domain: The network's number.
        number: The person's number in the network.
        colourways: What is worn there, from `season`.
    """
    rng = stream(Purpose.PERSON, seed, domain, number)
    colours = colourways[int(rng.integers(len(colourways)))]
    upper = cast("UpperKind", choose(rng, _UPPER_WEIGHTS))
    lower = cast("LowerKind", choose(rng, _LOWER_WEIGHTS))
    things = (colours.accent, colours.extra, colours.lower, colours.main, PALETTE["black"])
    bare = {"tee": (0.2, 0.34), "vest": (0.0, 0.02), "dress": (0.0, 0.6)}
    low, high = bare.get(upper, (0.85, 0.95))
    hair = cast("HairStyle", choose(rng, _HAIR_WEIGHTS))
    return Person(
        build=float(rng.uniform(0.86, 1.32)),
        shoulders=float(rng.uniform(0.9, 1.12)),
        hips=float(rng.uniform(0.9, 1.15)),
        legs=float(rng.uniform(0.93, 1.07)),
        head=float(rng.uniform(0.92, 1.1)),
        skin=_pick(rng, SKIN),
        hair=hair,
        hair_colour=_pick(rng, HAIR),
        beard=bool(hair in ("bald", "buzz", "short", "parted", "quiff", "afro") and rng.random() < 0.35),
        glasses=bool(rng.random() < 0.22),
        upper=upper,
        colours=colours,
        pattern=_pattern(rng, _PATTERN_WEIGHTS),
        print_front=cast("PrintKind", choose(rng, _PRINT_WEIGHTS)),
        print_back=cast("PrintKind", choose(rng, _PRINT_WEIGHTS)),
        sleeve=float(rng.uniform(low, high)),
        contrast_sleeves=bool(rng.random() < 0.3),
        hem=float(rng.choice([0.84, 0.93, 1.0])),
        inner=_pick(rng, (PALETTE["white"], PALETTE["black"], colours.accent)),
        lower=lower,
        lower_pattern=_pattern(rng, _LOWER_PATTERNS),
        side_stripe=bool(rng.random() < 0.22),
        shoe=_pick(rng, (PALETTE["black"], PALETTE["white"], PALETTE["brown"], colours.extra)),
        sole=_pick(rng, (PALETTE["white"], PALETTE["black"], PALETTE["beige"])),
        boots=bool(rng.random() < 0.22),
        carried=cast("CarriedKind", choose(rng, _CARRIED_WEIGHTS)),
        carried_colour=_pick(rng, things),
        carried_side=int(rng.choice([-1, 1])),
        hat=cast("HatKind", choose(rng, _HAT_WEIGHTS)),
        hat_colour=_pick(rng, things),
        scarf=bool(rng.random() < 0.14),
        texture_seed=int(rng.integers(2**31)),
    )
