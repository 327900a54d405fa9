from __future__ import annotations

import colorsys

import numpy as np
import pytest

from sil_cli.data.histogram import colour_histogram


def oracle(image: np.ndarray) -> np.ndarray:
    """Pixel by pixel, with the standard library's HSV."""
    image = image[:, image.shape[1] // 4 : image.shape[1] - image.shape[1] // 4]
    stripes = []
    for stripe in np.array_split(np.arange(image.shape[0]), 6):
        counts = np.zeros((8, 4, 4))
        for pixel in image[stripe].reshape(-1, 3):
            hue, saturation, value = colorsys.rgb_to_hsv(*(pixel / 255))
            counts[min(int(hue * 8), 7), min(int(saturation * 4), 3), min(int(value * 4), 3)] += 1
        stripes.append(counts.ravel() / counts.sum())
    joined = np.sqrt(np.concatenate(stripes))
    return joined / np.linalg.norm(joined)


def test_it_agrees_with_the_oracle() -> None:
    # Channels that keep clear of the cells' borders, where rounding decides.
    rng = np.random.default_rng(0)
    image = rng.choice(np.array([7, 20, 83, 150, 211, 250], np.uint8), size=(31, 9, 3))
    histogram = colour_histogram(image)
    assert histogram.dtype == np.float32
    assert histogram.shape == (768,)
    np.testing.assert_allclose(histogram, oracle(image), atol=1e-6)


def test_its_length_is_one_and_it_sees_stripes_not_places_within_them() -> None:
    image = np.zeros((60, 20, 3), np.uint8)
    image[:10, 6:12] = (200, 30, 30)
    moved = np.roll(image, 3, axis=1)
    lowered = np.roll(image, 30, axis=0)
    assert np.linalg.norm(colour_histogram(image)) == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(colour_histogram(image), colour_histogram(moved))
    assert colour_histogram(image) @ colour_histogram(lowered) < 0.9


def test_the_background_at_the_sides_is_left_out() -> None:
    image = np.full((60, 20, 3), 90, np.uint8)
    beside = image.copy()
    beside[:, :5] = (255, 0, 0)
    beside[:, 15:] = (0, 0, 255)
    np.testing.assert_array_equal(colour_histogram(beside), colour_histogram(image))


@pytest.mark.parametrize(
    "image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32), np.zeros((5, 8, 3), np.uint8)]
)
def test_other_shapes_and_types_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        colour_histogram(image)
