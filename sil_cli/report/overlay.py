"""A similarity map over its picture: orange where two images agree, blue where they speak against each other."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

AGREES, DISAGREES = (230, 97, 1), (0, 84, 166)
STRONGEST = 0.75


def overlay(picture: Image.Image, contributions: np.ndarray, *, scale: float) -> Image.Image:
    """The picture, paled and in grey, under the colours of what each place contributes.

    Args:
        picture: Of any size.
        contributions: (h, w), in the picture's orientation; enlarged bilinearly.
        scale: The absolute contribution that is coloured most strongly, above 0. The strength grows with the square
            of the share in it: where most of a picture agrees, that leaves the places that agree most to be seen.

    Returns:
        An RGB image of the picture's size.
    """
    ground = np.asarray(ImageOps.grayscale(picture), dtype=np.float32)[:, :, None] * 0.85 + 38.0
    coarse = Image.fromarray(np.ascontiguousarray(contributions, dtype=np.float32))
    fine = np.asarray(coarse.resize(picture.size, Image.Resampling.BILINEAR))[:, :, None] / scale
    strength = STRONGEST * np.clip(np.abs(fine), 0.0, 1.0) ** 2
    colour = np.where(fine >= 0, np.array(AGREES, np.float32), np.array(DISAGREES, np.float32))
    mixed = (1 - strength) * ground + strength * colour
    return Image.fromarray(np.clip(np.rint(mixed), 0, 255).astype(np.uint8))
