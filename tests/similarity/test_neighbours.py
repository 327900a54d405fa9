"""Nearest neighbours of all rows against sorting every row."""

from __future__ import annotations

import numpy as np
import pytest

from sil_cli.similarity import neighbours
from sil_cli.similarity.distance import squared_distances, unit_rows
from sil_cli.similarity.neighbours import BlockDistances, nearest_neighbours


def rows_of(kind: str, count: int, dimension: int, dtype=np.float32) -> np.ndarray:
    rng = np.random.default_rng(7)
    rows = {
        "smooth": lambda: rng.standard_normal((count, dimension)),
        "clusters": lambda: (
            rng.standard_normal((5, dimension))[rng.integers(5, size=count)]
            + 0.1 * rng.standard_normal((count, dimension))
        ),
        "copies": lambda: rng.standard_normal((4, dimension))[rng.integers(4, size=count)],
        "alike": lambda: 50 + rng.standard_normal((count, dimension)),  # every cosine is near 1
        "one": lambda: np.ones((count, dimension)),
    }[kind]()
    return unit_rows(rows.astype(dtype))


def sorted_rows(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    squared = np.array([squared_distances(one, units) for one in units]).round(12)
    return np.argsort(squared, axis=1, kind="stable"), squared


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["smooth", "clusters", "copies", "alike", "one"])
@pytest.mark.parametrize("block", [7, 64, 4096])
def test_neighbours_equal_sorting(kind, dtype, block, monkeypatch) -> None:
    monkeypatch.setattr(neighbours, "_TILE", 50)
    units = rows_of(kind, 150, 24, dtype)
    order, squared = sorted_rows(units)
    for k in (1, 5, 21):
        found = nearest_neighbours(BlockDistances(units), k, block=block)
        assert found.rows.tolist() == order[:, :k].tolist()
        largest = squared.max()
        assert found.squared == pytest.approx(np.take_along_axis(squared, order[:, :k], axis=1), abs=2e-6 * largest)
        assert found.farthest == pytest.approx(squared.max(axis=1), abs=2e-6 * largest)


@pytest.mark.parametrize("block", [7, 64, 4096])
@pytest.mark.parametrize("first", [1, 64, 70, 149])
def test_distances_between_the_first_rows_and_the_others_are_kept(block, first, monkeypatch) -> None:
    monkeypatch.setattr(neighbours, "_TILE", 10)
    units = rows_of("smooth", 150, 24, np.float64)
    kept = np.full((first, 150 - first), np.nan)
    nearest_neighbours(BlockDistances(units), 5, keep=kept, block=block)
    assert kept == pytest.approx(sorted_rows(units)[1][:first, first:], abs=1e-12)


@pytest.mark.parametrize("count", [1, 2, 10])
def test_more_neighbours_than_rows_are_all_of_them(count) -> None:
    units = rows_of("smooth", count, 4)
    found = nearest_neighbours(BlockDistances(units), 50)
    assert found.rows.tolist() == sorted_rows(units)[0].tolist()


def test_near_ties_beyond_the_spare_candidates_are_searched_in_float64(monkeypatch) -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((3, 512))[rng.integers(3, size=200)] + 1e-5 * rng.standard_normal((200, 512))
    units = unit_rows(rows.astype(np.float32))
    searched = []
    search = neighbours._search_wide
    monkeypatch.setattr(neighbours, "_search_wide", lambda *all_: searched.append(len(all_[1])) or search(*all_))
    found = nearest_neighbours(BlockDistances(units), 6)
    assert sum(searched) > 0
    assert found.rows.tolist() == sorted_rows(units)[0][:, :6].tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["smooth", "alike"])
@pytest.mark.parametrize("dimension", [3, 512, 2048])
def test_the_margin_covers_the_error_of_block_distances(kind, dtype, dimension) -> None:
    units = rows_of(kind, 200, dimension, dtype)
    distances = BlockDistances(units)
    exact = np.array([squared_distances(one, units) for one in units])
    for part in (slice(0, 200), np.array([3, 100, 7])):
        assert np.abs(distances.between(part, slice(0, 200)) - exact[part]).max() <= distances.margin / 2


def test_alike_rows_keep_their_digits() -> None:
    units = rows_of("alike", 100, 64)
    exact = np.array([squared_distances(one, units) for one in units])
    assert exact.max() < 0.01
    found = BlockDistances(units).between(slice(0, 100), slice(0, 100))
    assert found == pytest.approx(exact, abs=1e-6 * exact.max())
