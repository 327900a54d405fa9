from __future__ import annotations

import numpy as np
import pytest

from sil_cli.errors import UsageError
from sil_cli.report import projection
from sil_cli.report.projection import principal_components, project, resolve_projection


def clusters(of_each: int = 15, dimension: int = 20) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((3, dimension))
    rows = np.repeat(centres, of_each, axis=0) + 0.05 * rng.standard_normal((3 * of_each, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_principal_components_are_the_eigenvectors_of_the_covariance():
    rows = np.random.default_rng(1).standard_normal((40, 6)) * [5, 3, 1, 1, 1, 1]
    points = principal_components(rows, 2)
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    expected = (rows - rows.mean(axis=0)) @ vectors[:, [-1, -2]]
    for axis in (0, 1):
        assert abs(points[:, axis] @ expected[:, axis]) == pytest.approx(expected[:, axis] @ expected[:, axis])
    assert points.var(axis=0, ddof=1) == pytest.approx(values[[-1, -2]])


def test_axes_do_not_flip_with_the_order_of_the_images():
    rows = clusters()
    order = np.random.default_rng(2).permutation(len(rows))
    assert project(rows[order], "pca") == pytest.approx(project(rows, "pca")[order], abs=1e-6)


@pytest.mark.parametrize("shape", [(0, 4), (1, 4), (2, 4), (7, 1)])
@pytest.mark.parametrize("how", ["pca", "tsne"])
def test_few_images_have_points_too(shape, how):
    points = project(np.ones(shape, np.float16), how)
    assert points.shape == (shape[0], 2)
    assert np.isfinite(points).all()


def test_tsne_keeps_clusters_together_and_repeats():
    rows = clusters(of_each=6)
    points = project(rows, "tsne")
    assert np.array_equal(points, project(rows, "tsne"))
    within = max(np.ptp(part, axis=0).max() for part in points.reshape(3, 6, 2))
    centres = points.reshape(3, 6, 2).mean(axis=1)
    apart = min(np.linalg.norm(centres[one] - centres[other]) for one, other in ((0, 1), (0, 2), (1, 2)))
    assert apart > within / 2


def test_without_scikit_learn_auto_is_pca_and_tsne_is_refused(monkeypatch):
    monkeypatch.setattr(projection, "find_spec", lambda name: None)
    assert resolve_projection("auto") == "pca"
    with pytest.raises(UsageError, match="scikit-learn"):
        resolve_projection("tsne")
    monkeypatch.undo()
    assert resolve_projection("auto") == resolve_projection("tsne") == "tsne"
