"""The samplers against their text: closed-form moments, content unchanged, no gradient into the statistics."""

import numpy as np
import pytest
import torch

from sil_cli.models.stylize import (
    DirichletBatchStyle,
    DirichletStyle,
    GaussianBatchStyle,
    OwnStyle,
    Statistics,
    UniformBatchStyle,
    feature_statistics,
    make_style,
    stylize,
)

STYLES = {
    "none": OwnStyle(),
    "ubs": UniformBatchStyle(),
    "ubs, clamped": UniformBatchStyle(clamp=True),
    "dir-mixstyle": DirichletStyle(),
    "batch-style": GaussianBatchStyle(),
    "batch-style, diagonal": GaussianBatchStyle("diagonal"),
    "dbs": DirichletBatchStyle(),
}


def features(size: int = 6, channels: int = 5, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    rng = np.random.default_rng(7)
    scale = rng.uniform(0.5, 3.0, size=(size, channels, 1, 1))
    shift = rng.normal(size=(size, channels, 1, 1))
    return torch.from_numpy(rng.normal(size=(size, channels, 4, 3)) * scale + shift).to(dtype)


def draws(style, own: Statistics, count: int) -> tuple[np.ndarray, np.ndarray]:
    """β and γ of the first sample over many draws: (count, C) each."""
    rng = np.random.default_rng(11)
    drawn = [style.draw(own, rng) for _ in range(count)]
    return np.stack([one.mean[0].numpy() for one in drawn]), np.stack([one.std[0].numpy() for one in drawn])


def test_statistics_are_the_mean_and_population_std_over_positions() -> None:
    maps = features()
    own = feature_statistics(maps)
    for sample in range(maps.shape[0]):
        for channel in range(maps.shape[1]):
            values = maps[sample, channel].numpy().ravel()
            assert own.mean[sample, channel].item() == pytest.approx(values.mean(), abs=1e-12)
            expected = np.sqrt(((values - values.mean()) ** 2).mean() + 1e-6)
            assert own.std[sample, channel].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", STYLES)
def test_only_the_style_changes(name: str) -> None:
    maps = features()
    rng = np.random.default_rng(3)
    own = feature_statistics(maps)
    drawn = STYLES[name].draw(own, np.random.default_rng(3))
    styled = stylize(maps, STYLES[name], rng)
    content = (maps - own.mean[:, :, None, None]) / own.std[:, :, None, None]
    expected = drawn.std[:, :, None, None] * content + drawn.mean[:, :, None, None]
    torch.testing.assert_close(styled, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", STYLES)
def test_one_sample_alone_and_half_precision_behave(name: str) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        maps = features(size=1, dtype=dtype)
        styled = stylize(maps, STYLES[name], np.random.default_rng(3))
        assert styled.dtype == dtype
        assert torch.isfinite(styled).all()


@pytest.mark.parametrize("name", STYLES)
def test_alone_in_its_batch_a_sample_keeps_its_style(name: str) -> None:
    maps = features(size=1)
    styled = stylize(maps, STYLES[name], np.random.default_rng(3))
    torch.testing.assert_close(styled, maps, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", STYLES)
def test_the_same_seed_draws_the_same_style(name: str) -> None:
    maps = features()
    first, again = (stylize(maps, STYLES[name], np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(first, again)


def test_a_constant_channel_is_finite() -> None:
    maps = torch.full((4, 2, 3, 3), 2.0)
    assert torch.isfinite(stylize(maps, UniformBatchStyle(), np.random.default_rng(0))).all()


def test_no_gradient_flows_into_the_statistics() -> None:
    maps = features().requires_grad_()
    styled = stylize(maps, UniformBatchStyle(), np.random.default_rng(0))
    styled.sum().backward()
    own = feature_statistics(maps)
    drawn = UniformBatchStyle().draw(own, np.random.default_rng(0))
    # With μ and σ constant, d(γ(F − μ)/σ + β)/dF is γ/σ everywhere.
    expected = (drawn.std / own.std)[:, :, None, None].expand_as(maps)
    torch.testing.assert_close(maps.grad, expected, rtol=0, atol=1e-12)


def test_none_returns_the_features_as_they_are() -> None:
    maps = features()
    torch.testing.assert_close(stylize(maps, OwnStyle(), np.random.default_rng(0)), maps, rtol=0, atol=1e-12)


def test_ubs_is_uniform_around_the_batch_mean() -> None:
    own = feature_statistics(features())
    rho, count = 3.0, 20_000
    for values, drawn in zip(
        (own.mean.numpy(), own.std.numpy()), draws(UniformBatchStyle(rho), own, count), strict=True
    ):
        centre, spread = values.mean(axis=0), values.std(axis=0)
        assert (drawn >= centre - rho * spread - 1e-9).all()
        assert (drawn <= centre + rho * spread + 1e-9).all()
        deviation = rho * spread / np.sqrt(3)  # of a uniform distribution of half width ρ·spread
        assert np.abs(drawn.mean(axis=0) - centre).max() < 5 * deviation.max() / np.sqrt(count)
        np.testing.assert_allclose(drawn.std(axis=0), deviation, rtol=0.02)


def test_ubs_draws_gamma_and_beta_and_channels_independently() -> None:
    own = feature_statistics(features())
    beta, gamma = draws(UniformBatchStyle(), own, 20_000)
    together = np.corrcoef(np.concatenate([beta, gamma], axis=1).T)
    assert np.abs(together - np.eye(len(together))).max() < 0.04  # 5.6 standard errors


def test_clamping_cuts_negative_gamma_only() -> None:
    own = feature_statistics(features())
    free = UniformBatchStyle(rho=8.0).draw(own, np.random.default_rng(2))
    cut = UniformBatchStyle(rho=8.0, clamp=True).draw(own, np.random.default_rng(2))
    assert (free.std < 0).any()
    assert torch.equal(cut.std, free.std.clamp(min=0))
    assert torch.equal(cut.mean, free.mean)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_batch_style_has_the_batch_mean_and_covariance(covariance) -> None:
    own = feature_statistics(features())
    count = 40_000
    for values, drawn in zip(
        (own.mean.numpy(), own.std.numpy()), draws(GaussianBatchStyle(covariance), own, count), strict=True
    ):
        expected = np.cov(values.T, bias=True)  # 1/B
        if covariance == "diagonal":
            expected = np.diag(np.diag(expected))
        scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected))).max()
        assert np.abs(drawn.mean(axis=0) - values.mean(axis=0)).max() < 5 * np.sqrt(np.diag(expected).max() / count)
        assert np.abs(np.cov(drawn.T, bias=True) - expected).max() < 8 * scale / np.sqrt(count)


def test_dirichlet_mixes_own_and_drawn_statistics() -> None:
    own = feature_statistics(features())
    size, count, others, concentration = own.mean.shape[0], 40_000, 2, 0.1
    beta, gamma = draws(DirichletStyle(others, concentration), own, count)
    for values, drawn in ((own.mean.numpy(), beta), (own.std.numpy(), gamma)):
        expected = (values[0] + others * values.mean(axis=0)) / (others + 1)  # E λ_t = 1/(T + 1)
        assert np.abs(drawn.mean(axis=0) - expected).max() < 5 * values.std(axis=0).max() / np.sqrt(count)
        # Inside the convex hull, channel by channel.
        assert (drawn >= values.min(axis=0) - 1e-9).all()
        assert (drawn <= values.max(axis=0) + 1e-9).all()
    # One λ for γ, β and all channels: (γ, β) is a convex combination of B joint vectors.
    joint = np.concatenate([own.mean.numpy(), own.std.numpy()], axis=1)
    weights, residual, _, _ = np.linalg.lstsq(
        np.vstack([joint.T, np.ones(size)]), np.append(np.concatenate([beta[0], gamma[0]]), 1.0), rcond=None
    )
    assert (residual < 1e-18).all()
    assert (weights > -1e-9).all()


def test_the_variance_of_lambda_is_that_of_a_dirichlet() -> None:
    # Two samples with statistics 0 and 1: β of the first is the weight that falls on the second.
    own = Statistics(mean=torch.tensor([[0.0], [1.0]], dtype=torch.float64), std=torch.ones(2, 1, dtype=torch.float64))
    beta, _ = draws(DirichletStyle(2, 0.1), own, 40_000)
    # Σ_t λ_t·n_t with n_t ~ Bernoulli(1/2) for t = 1, 2: moments by the Dirichlet's own.
    parts, total = 3, 0.3
    second = (0.1 + 1) / (parts * (total + 1))  # E λ_t²
    cross = 0.1 / (parts * (total + 1))  # E λ_s·λ_t
    expected_square = 2 * second / 2 + 2 * cross / 4
    assert (beta**2).mean() == pytest.approx(expected_square, abs=5 * 0.5 / np.sqrt(40_000))


def test_dbs_is_the_weighted_sum_of_its_parts() -> None:
    own = feature_statistics(features())
    rng, replay = np.random.default_rng(4), np.random.default_rng(4)
    both = DirichletBatchStyle(mix=0.9).draw(own, rng)
    first, second = DirichletStyle().draw(own, replay), GaussianBatchStyle().draw(own, replay)
    torch.testing.assert_close(both.mean, 0.9 * first.mean + 0.1 * second.mean, rtol=0, atol=1e-15)
    torch.testing.assert_close(both.std, 0.9 * first.std + 0.1 * second.std, rtol=0, atol=1e-15)


def test_styles_are_made_by_name_with_their_parameters() -> None:
    values = {"rho": 2.0, "samples": 4, "concentration": 0.2, "mix": 0.5, "covariance": "diagonal", "clamp": True}
    assert isinstance(make_style("none", **values), OwnStyle)
    assert make_style("ubs", **values) == UniformBatchStyle(rho=2.0, clamp=True)
    expected = DirichletBatchStyle(DirichletStyle(4, 0.2), GaussianBatchStyle("diagonal"), mix=0.5, clamp=True)
    assert make_style("dbs", **values) == expected
