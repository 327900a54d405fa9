"""One image: a person in a place at a moment, seen by a camera of a network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.synthetic.body import View, draw_pose
from sil_cli.synthetic.fabric import Array, Colour
from sil_cli.synthetic.figure import draw_person as paint_person
from sil_cli.synthetic.identity import Colourway, Person, draw_person, season
from sil_cli.synthetic.outfit import Outfit, make_outfit
from sil_cli.synthetic.scene import (
    OCCLUDERS,
    Plate,
    cast_shade,
    cast_shadow,
    cut_background,
    draw_occluder,
    draw_plate,
    halve,
    scenery_of,
)
from sil_cli.synthetic.seeds import Purpose, stream
from sil_cli.synthetic.style import (
    NetworkView,
    PictureStyle,
    camera_style,
    image_style,
    network_style,
    network_view,
    photograph,
)
from sil_cli.synthetic.tube import Light

if TYPE_CHECKING:
    from sil_cli.settings import SyntheticSettings

_OVERSAMPLING = 2  # canvas pixels along each side of an image's pixel
_OCCLUDED = 0.14  # the part of images with something before the person
_CROWDED = 0.12  # the part with somebody else in the picture
_SHADED = 0.3  # the part where something throws its shade on the person
_STRANGER = 1_000_000  # passers-by are numbered from here: nobody's identity
_STRANGERS = 60  # of a network: few enough to keep them dressed


@dataclass(frozen=True)
class Camera:
    """What one camera adds to its network.

    Attributes:
        plate: Its place.
        style: Its look.
        view: How its network's cameras hang and crops are cut.
        light: Where its light comes from.
        tilt: How far it looks down, radians.
        turns: The two directions in which people pass it, radians.
        occluder: What stands before it.
        occluder_colour: Of what colour that is.
        shadow: The strength of shadows on its floor.
    """

    plate: Plate
    style: PictureStyle
    view: NetworkView
    light: Light
    tilt: float
    turns: tuple[float, float]
    occluder: str
    occluder_colour: Colour
    shadow: float


@lru_cache(maxsize=16)
def colourways_of(settings: SyntheticSettings, domain: int) -> tuple[Colourway, ...]:
    """What is worn in a network."""
    return season(settings.seed, domain, settings.style_gap, own=settings.strengths["clothes"])


def _leaning(course: float, lean: float) -> float:
    """A direction of walking, turned towards the camera's axis (lean −1: onto it) or across it (1)."""
    axis = math.pi / 2 if lean > 0 else 0.0
    nearest = axis + math.pi * round((course - axis) / math.pi)
    return course + min(abs(lean), 1.0) * (nearest - course)


@lru_cache(maxsize=64)
def camera_of(settings: SyntheticSettings, domain: int, camera: int) -> Camera:
    """A camera of a network; kept, since its place takes as long to draw as several images."""
    rng = stream(Purpose.CAMERA, settings.seed, domain, camera)
    strengths = settings.strengths
    view = network_view(settings.seed, domain, strengths["pose"])
    tilt = max(float(rng.uniform(0.03, 0.42)) + 0.2 * view.height, 0.0)
    course = _leaning(float(rng.uniform(0, 2 * math.pi)), view.course)
    size = (settings.height * _OVERSAMPLING, settings.width * _OVERSAMPLING)
    grey = float(rng.uniform(0.15, 0.7))
    place = scenery_of(rng, domain, min(strengths["background"], 1.0))
    return Camera(
        plate=draw_plate(stream(Purpose.PLATE, settings.seed, domain, camera), place, tilt, size),
        style=camera_style(
            settings.networks,
            network_style(settings.networks, settings.seed, domain, strengths),
            rng,
            strengths["cameras"],
        ),
        view=view,
        light=Light(float(rng.uniform(-1.1, 1.1)), float(rng.uniform(0.45, 0.75))),
        tilt=tilt,
        turns=(course, course + math.pi * float(rng.uniform(0.7, 1.1))),
        occluder=str(rng.choice(OCCLUDERS)),
        occluder_colour=(grey, grey * float(rng.uniform(0.8, 1.1)), grey * float(rng.uniform(0.75, 1.15))),
        shadow=float(rng.uniform(0.3, 0.65)),
    )


@dataclass(frozen=True)
class DressedPerson:
    """A person and their textures."""

    person: Person
    outfit: Outfit


def dressed(settings: SyntheticSettings, domain: int, number: int) -> DressedPerson:
    """The person of this number, dressed."""
    person = draw_person(settings.seed, domain, number, colourways_of(settings, domain))
    return DressedPerson(person, make_outfit(person))


@lru_cache(maxsize=_STRANGERS)
def _stranger_of(settings: SyntheticSettings, domain: int, number: int) -> DressedPerson:
    return dressed(settings, domain, _STRANGER + number)


def take_image(
    settings: SyntheticSettings, domain: int, camera: int, number: int, shot: int, who: DressedPerson
) -> bytes:
    """The JPEG of one person by one camera; its arguments alone decide its bytes.

    Args:
        settings: What is drawn.
        domain: The network's number.
        camera: The camera's number in it.
        number: The person's number in the network.
        shot: The image's number among those of this person by this camera.
        who: What `dressed` gives for that person.
    """
    rng = stream(Purpose.SHOT, settings.seed, domain, camera, number, shot)
    seen_by = camera_of(settings, domain, camera)
    size = (settings.height * _OVERSAMPLING, settings.width * _OVERSAMPLING)
    canvas = cut_background(rng, seen_by.plate, size)
    if rng.random() < _CROWDED:
        _passer_by(canvas, settings, domain, seen_by, rng)
    scale = size[0] * (float(np.clip(rng.normal(0.90, 0.055), 0.74, 1.10)) + 0.12 * seen_by.view.closeness)
    low = 0.5 + 0.05 * seen_by.view.low
    foot = (
        size[1] * (0.5 + float(np.clip(rng.normal(0, 0.07), -0.2, 0.2))),
        size[0] * (low + float(np.clip(rng.normal(0, 0.025), -0.08, 0.08))) + scale * 0.47,
    )
    _stand(canvas, who, seen_by, rng, scale, foot)
    if rng.random() < _OCCLUDED:
        draw_occluder(canvas, seen_by.occluder, rng, seen_by.light, seen_by.occluder_colour)
    picture = halve(canvas)
    if rng.random() < _SHADED:
        cast_shade(picture, rng)
    return photograph(picture, image_style(settings.networks, seen_by.style, rng, settings.strengths["images"]), rng)


def _stand(
    canvas: Array, who: DressedPerson, camera: Camera, rng: np.random.Generator, scale: float, foot: tuple[float, float]
) -> None:
    """Put a person into the picture, walking one of the camera's ways."""
    pose = draw_pose(rng, standing_share=0.22 - 0.2 * camera.view.bustle)
    turn = camera.turns[int(rng.integers(2))] + float(rng.normal(0, 0.4))
    tilt = max(camera.tilt + float(rng.normal(0, 0.03)), 0.0)
    cast_shadow(canvas, foot, scale, camera.light.angle, camera.shadow)
    paint_person(canvas, who.person, who.outfit, pose, View(turn, tilt, scale, foot, pose.lean), camera.light)


def _passer_by(
    canvas: Array, settings: SyntheticSettings, domain: int, camera: Camera, rng: np.random.Generator
) -> None:
    """Somebody else, farther away and at the picture's edge."""
    stranger = _stranger_of(settings, domain, int(rng.integers(_STRANGERS)))
    scale = canvas.shape[0] * float(rng.uniform(0.55, 0.85))
    side = float(rng.choice([-1, 1])) * float(rng.uniform(0.32, 0.5))
    foot = (canvas.shape[1] * (0.5 + side), canvas.shape[0] * float(rng.uniform(0.8, 0.9)))
    _stand(canvas, stranger, camera, rng, scale, foot)
