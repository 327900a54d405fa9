"""The look of a network's pictures: what lens, sensor, light, weather and compression do to pixels.

Each network has a style of its own, each camera a smaller variation of it, each image a smaller one still. The
networks' styles are spread like a Latin hypercube: in each block of four networks every quarter of every
property's range is used once, so a handful of networks already differs in everything.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from sil_cli.synthetic.fabric import Array
from sil_cli.synthetic.seeds import Purpose, stream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sil_cli.settings.fields import NetworkKind

_BLOCK = 4  # networks that share out the quarters of each range among them


@dataclass(frozen=True)
class PictureStyle:
    """A place in the space of styles; 0 is neutral, −1 and 1 are the ends of the whole range.

    Attributes:
        warmth: Blue to orange.
        tint: Magenta to green.
        hue: All colours turned one way or the other round the colour circle, as sensors differ.
        exposure: Dark to bright.
        contrast: Flat to hard.
        saturation: Grey to vivid.
        haze: Above 0, a veil of light.
        vignette: Above 0, dark corners.
        sharpness: Blurred to sharpened with halos.
        detail: Low resolution to full.
        noise: Above 0, a grainy sensor.
        quality: Heavy JPEG compression to light.
        tone: Shadows crushed to shadows lifted.
    """

    warmth: float = 0.0
    tint: float = 0.0
    hue: float = 0.0
    exposure: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    haze: float = 0.0
    vignette: float = 0.0
    sharpness: float = 0.0
    detail: float = 0.0
    noise: float = 0.0
    quality: float = 0.0
    tone: float = 0.0


@dataclass(frozen=True)
class NetworkView:
    """How a network's cameras hang and its crops are cut; 0 is usual, −1 and 1 are the ends of the whole range.

    Attributes:
        height: Cameras look straight ahead, or down.
        course: People walk towards the cameras and away, or past them sideways.
        closeness: Crops with a margin, or so tight that they cut people.
        low: Crops that sit too high, or too low.
        bustle: People stand about, or all walk.
    """

    height: float = 0.0
    course: float = 0.0
    closeness: float = 0.0
    low: float = 0.0
    bustle: float = 0.0


_NAMES = tuple(field.name for field in fields(PictureStyle))
# Which part of the gap between networks each property belongs to.
_PARTS = {
    **dict.fromkeys(("warmth", "tint", "hue", "saturation"), "colour"),
    **dict.fromkeys(("exposure", "contrast", "haze", "vignette", "tone"), "exposure"),
    **dict.fromkeys(("sharpness", "detail", "noise", "quality"), "detail"),
}


@dataclass(frozen=True)
class Reach:
    """How far a property's values lie from their centre: networks at most, cameras and images usually."""

    networks: float
    cameras: float
    images: float


# Networks of the kind `wardrobes`. At the whole range of 1 a small model trained on three networks reached mAP 0.57 on
# one of them and 0.06 on the fourth (untrained: 0.04); at 0.6 it was 0.45 and 0.14, so that something carries over.
# Cameras of a network differ most in colour: those of one make share lens and compression, but not their light.
_LIGHT, _MAKE = Reach(0.6, 0.29, 0.10), Reach(0.6, 0.22, 0.06)
_WARDROBES = dict.fromkeys(_NAMES, _MAKE) | dict.fromkeys(
    ("warmth", "tint", "hue", "saturation", "exposure", "contrast", "tone"), _LIGHT
)
# Networks of the kind `cameras`: so that colour, exposure and detail vary between networks, between cameras of one and
# between images of one camera as they do in photographs and rendered people (docs/generated-domains.md).
_BY_PART = {"colour": Reach(0.1, 0.1, 0.1), "exposure": Reach(0.9, 0.3, 0.25), "detail": Reach(0.3, 0.2, 0.1)}
_REACH = {"wardrobes": _WARDROBES, "cameras": {name: _BY_PART[_PARTS[name]] for name in _NAMES}}
_CENTRES = {"wardrobes": PictureStyle(), "cameras": PictureStyle(contrast=1.0)}


def network_style(kind: NetworkKind, seed: int, domain: int, strengths: Mapping[str, float]) -> PictureStyle:
    """The style of one network.

    Args:
        kind: What tells networks apart.
        seed: The data set's seed.
        domain: The network's number.
        strengths: How far from neutral it is in colour, exposure and detail, against the usual.
    """
    places = spread(stream(Purpose.NETWORK_STYLE, seed, domain // _BLOCK), domain % _BLOCK, _NAMES)
    reach, centre = _REACH[kind], _CENTRES[kind]
    return PictureStyle(
        **{
            name: getattr(centre, name) + strengths[_PARTS[name]] * reach[name].networks * place
            for name, place in places.items()
        }
    )


def network_view(seed: int, domain: int, strength: float) -> NetworkView:
    """How one network's cameras hang and its crops are cut; at strength 0 as in any other."""
    names = tuple(field.name for field in fields(NetworkView))
    places = spread(stream(Purpose.NETWORK_VIEW, seed, domain // _BLOCK), domain % _BLOCK, names)
    return NetworkView(**{name: strength * place for name, place in places.items()})


def spread(rng: np.random.Generator, place: int, names: tuple[str, ...]) -> dict[str, float]:
    """A Latin hypercube: where the network at this place of its block of four lies in each range, from −1 to 1."""
    values = {}
    for name in names:
        quarter = rng.permutation(_BLOCK)[place]
        within = rng.uniform(0.2, 0.8, _BLOCK)[place]
        values[name] = float((quarter + within) / _BLOCK * 2 - 1)
    return values


def _vary(style: PictureStyle, rng: np.random.Generator, deviations: Mapping[str, float]) -> PictureStyle:
    """A style nearby."""
    steps = zip(_NAMES, rng.standard_normal(len(_NAMES)), strict=True)
    return PictureStyle(
        **{name: getattr(style, name) + deviations[name] * float(np.clip(step, -2, 2)) for name, step in steps}
    )


def camera_style(kind: NetworkKind, style: PictureStyle, rng: np.random.Generator, strength: float) -> PictureStyle:
    """One camera's style within its network's, `strength` times as far from it as usual."""
    return _vary(style, rng, {name: strength * reach.cameras for name, reach in _REACH[kind].items()})


def image_style(kind: NetworkKind, style: PictureStyle, rng: np.random.Generator, strength: float) -> PictureStyle:
    """One image's style within its camera's, `strength` times as far from it as usual."""
    return _vary(style, rng, {name: strength * reach.images for name, reach in _REACH[kind].items()})


def _over(value: float) -> float:
    return max(value, 0.0)


def photograph(image: Array, style: PictureStyle, rng: np.random.Generator, *, body: int | None = None) -> bytes:
    """Take the picture: apply a style to clean pixels and compress them.

    Args:
        image: (height, width, 3) in 0..1.
        style: What to apply.
        rng: For the noise.
        body: How tall people are in it, in pixels, by which the lens blurs; None: as the image.

    Returns:
        The bytes of a JPEG file.
    """
    height, width = image.shape[:2]
    image = _lens(_colours(image, style), style, body or height)
    image = image + _noise(rng, image.shape, style)
    picture = Image.fromarray(_to_bytes(image))
    share = float(np.clip(0.85 + 0.4 * style.detail, 0.38, 1.0))
    if share < 0.97:
        small = picture.resize((max(int(width * share), 8), max(int(height * share), 16)), Image.Resampling.BILINEAR)
        picture = small.resize((width, height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    quality = int(np.clip(80 + 40 * min(style.quality, 0.4) + 12 * style.quality, 22, 95))
    picture.save(buffer, "JPEG", quality=quality, subsampling=2 if quality < 75 else 0)
    return buffer.getvalue()


def _colours(image: Array, style: PictureStyle) -> Array:
    gains = np.asarray(
        [
            1 + 0.24 * style.warmth - 0.04 * style.tint,
            1 + 0.02 * style.warmth + 0.09 * style.tint,
            1 - 0.28 * style.warmth - 0.05 * style.tint,
        ],
        np.float32,
    )
    grey = (image @ np.asarray([0.30, 0.59, 0.11], np.float32))[..., None]
    image = grey + (image - grey) * np.float32(0.9 * 2 ** (0.6 * min(style.saturation, 1.0)))
    image = image @ _hue_turn(0.4 * style.hue)
    image = image * (np.clip(gains, 0.5, 1.6) * np.float32(2 ** (0.45 * np.clip(style.exposure, -1.2, 1.2))))
    middle = image.mean()
    image = (image - middle) * np.float32(np.clip(1 + 0.34 * style.contrast, 0.5, 1.7)) + middle
    bright = np.maximum(image - np.float32(0.7), 0.0)  # film rolls off its highlights, it does not cut them
    image = np.clip(np.minimum(image, 0.7) + bright / (1 + 2 * bright), 0.0, 1.0)
    image += np.float32(0.45 * style.tone) * image * (1 - image) * (1 - image)
    veil = np.float32(min(0.3 * _over(style.haze), 0.45))
    toned: Array = image + veil * (np.asarray([0.78, 0.82, 0.86], np.float32) - image)
    return toned


def _hue_turn(angle: float) -> Array:
    """The matrix that turns colours by an angle around the grey axis (Rodrigues' rotation formula)."""
    cosine, sine = np.cos(angle), np.sin(angle) / np.sqrt(3)
    shared = (1 - cosine) / 3
    turn: Array = np.full((3, 3), shared) + cosine * np.eye(3)
    turn = turn + sine * np.asarray([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    return turn.astype(np.float32)


def _lens(image: Array, style: PictureStyle, body: int) -> Array:
    height, width = image.shape[:2]
    corner = 0.65 * _over(style.vignette)
    if corner > 0.02:
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] ** 2
        x = np.linspace(-1, 1, width, dtype=np.float32)[None, :] ** 2
        image = image * (1 - np.float32(min(corner, 0.9) / 2) * (x + y))[..., None]
    sharp = style.sharpness
    if abs(sharp) < 0.12:
        return image
    picture = Image.fromarray(_to_bytes(image))
    if sharp > 0:
        halo = ImageFilter.UnsharpMask(radius=body / 100, percent=int(130 * min(sharp, 1.6)), threshold=0)
        picture = picture.filter(halo)
    else:
        picture = picture.filter(ImageFilter.GaussianBlur(body / 128 * 1.0 * min(-sharp, 1.5)))
    return np.asarray(picture, np.float32) * np.float32(1 / 255)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], style: PictureStyle) -> Array:
    strength = np.float32(0.008 + 0.055 * _over(style.noise) ** 1.5)
    return strength * rng.standard_normal(shape, dtype=np.float32)


def _to_bytes(image: Array) -> NDArray[np.uint8]:
    """Values in 0..1 as rounded values in 0..255."""
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
