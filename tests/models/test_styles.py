"""The styles against their text: by hand, closed-form moments, content unchanged, no gradient into the statistics."""

import numpy as np
import pytest
import torch
from scipy import stats
from styles_by_hand import apply_by_hand

from sil_cli.models.embedder import Architecture, Embedder
from sil_cli.models.styles import (
    ClampedStyle,
    DirichletBatchStyle,
    DirichletStyle,
    ExactMixStyle,
    GaussianBatchStyle,
    MixStyle,
    OccasionalStyle,
    OwnStyle,
    Statistics,
    StatisticsStyle,
    UncertainStyle,
    UniformBatchStyle,
    feature_statistics,
    make_style,
)
from sil_cli.settings import StyleSettings

NAMES = ("none", "mixstyle", "dsu", "efdmix", "dir-mixstyle", "batch-style", "dbs", "ubs")
VARIANTS = [(name, {}) for name in NAMES]
VARIANTS += [
    ("ubs", {"clamp": True}),
    ("ubs", {"rho": 8.0, "clamp": True}),
    ("batch-style", {"covariance": "diagonal"}),
]
VARIANTS += [("dbs", {"mix": "random"}), ("dir-mixstyle", {"samples": 4, "concentration": 1.5})]
VARIANTS += [("mixstyle", {"alpha": 2.0}), ("efdmix", {"alpha": 2.0}), ("ubs", {"rho": 1.0})]
every_style = pytest.mark.parametrize(
    ("name", "parameters"), VARIANTS, ids=[" ".join([name, *map(str, more.values())]) for name, more in VARIANTS]
)


def styled(maps: torch.Tensor, name: str, parameters: dict, seed: int = 3) -> torch.Tensor:
    return make_style(StyleSettings(name=name, **parameters)).apply(maps, np.random.default_rng(seed))


def content(maps: torch.Tensor) -> torch.Tensor:
    return (maps - maps.mean(dim=(2, 3), keepdim=True)) / maps.std(dim=(2, 3), correction=0, keepdim=True)


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


@every_style
def test_a_style_and_its_gradient_are_those_by_hand(name: str, parameters: dict) -> None:
    ours, hand = features().requires_grad_(), features().requires_grad_()
    weights = torch.from_numpy(np.random.default_rng(1).normal(size=tuple(ours.shape)))
    result = styled(ours, name, parameters)
    expected = apply_by_hand(name, hand, np.random.default_rng(3), **parameters)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)
    # By hand the statistics are plain numbers: a gradient that leaked into them would show here.
    (result * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, hand.grad, rtol=0, atol=1e-12)


@every_style
def test_the_content_stays(name: str, parameters: dict) -> None:
    maps = features()
    after = styled(maps, name, parameters)
    if name == "efdmix":  # of each channel the order of its values
        assert torch.equal(after.flatten(2).argsort(dim=2), maps.flatten(2).argsort(dim=2))
        return
    style = make_style(StyleSettings(name=name, **parameters))
    own = feature_statistics(maps)
    gamma = style.draw(own, np.random.default_rng(3)).std if isinstance(style, StatisticsStyle) else own.std
    kept = gamma.abs() > 1e-3
    expected = torch.sign(gamma)[:, :, None, None] * content(maps)
    assert kept.float().mean() > 0.5
    torch.testing.assert_close(content(after)[kept], expected[kept], rtol=0, atol=1e-9)


@every_style
def test_one_sample_alone_keeps_its_style(name: str, parameters: dict) -> None:
    maps = features(size=1)
    torch.testing.assert_close(styled(maps, name, parameters), maps, rtol=0, atol=1e-12)


@every_style
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_differs_by_its_rounding_alone(name: str, parameters: dict, dtype: torch.dtype) -> None:
    for size in (1, 6):
        half = (features(size) + 20).to(dtype)  # a mean far above the deviation, where half precision would lose σ
        after = styled(half, name, parameters)
        assert after.dtype == dtype
        exact = styled(half.double(), name, parameters)
        largest = exact.abs().amax().item()
        torch.testing.assert_close(after.double(), exact, rtol=0, atol=2 * torch.finfo(dtype).eps * largest)


@every_style
def test_the_same_seed_draws_the_same_style(name: str, parameters: dict) -> None:
    maps = features()
    assert torch.equal(styled(maps, name, parameters, seed=5), styled(maps, name, parameters, seed=5))
    assert name == "none" or not torch.equal(styled(maps, name, parameters, seed=5), styled(maps, name, parameters))


@every_style
def test_constant_channels_are_finite(name: str, parameters: dict) -> None:
    assert torch.isfinite(styled(torch.full((4, 2, 3, 3), 2.0), name, parameters)).all()
    assert torch.isfinite(styled(torch.rand(4, 2, 1, 1), name, parameters)).all()


def test_a_model_in_eval_mode_has_no_style() -> None:
    torch.manual_seed(0)
    embedder = Embedder(Architecture(backbone="resnet18", height=32, width=16)).eval()
    images, rng = torch.rand(3, 3, 32, 16), np.random.default_rng(0)

    def restyle(maps: torch.Tensor) -> torch.Tensor:
        return UniformBatchStyle().apply(maps, rng)

    plain = embedder(images)
    assert torch.equal(embedder(images, style=restyle, after_stages=(1, 3)), plain)
    embedder.train()
    assert not torch.equal(embedder(images, style=restyle), embedder(images))


def test_probability_is_the_share_of_batches() -> None:
    maps = features()
    never = make_style(StyleSettings(name="ubs", probability=0.0))
    assert all(never.apply(maps, np.random.default_rng(seed)) is maps for seed in range(50))
    half, rng = make_style(StyleSettings(name="ubs", probability=0.5)), np.random.default_rng(0)
    count = 2000
    stylised = sum(half.apply(maps, rng) is not maps for _ in range(count))
    assert abs(stylised / count - 0.5) < 4 * 0.5 / np.sqrt(count)
    # All of a batch or nothing of it.
    whole = next(out for out in iter(lambda: half.apply(maps, rng), None) if out is not maps)
    assert ((whole - maps).abs().amax(dim=(1, 2, 3)) > 1e-6).all()


@pytest.mark.parametrize("style", [MixStyle(0.5), ExactMixStyle(0.5)])
def test_lambda_is_beta_distributed_and_partners_are_a_permutation(style) -> None:
    # Two positions whose values are 0 and 2·number: the mean tells λ·own + (1 − λ)·partner's.
    count, size = 4000, 2
    maps = torch.zeros(size, 1, 1, 2, dtype=torch.float64)
    maps[1] += 1.0
    rng = np.random.default_rng(2)
    found = np.stack([style.apply(maps, rng).mean(dim=(1, 2, 3)).numpy() for _ in range(count)])
    moved = found[:, 0] != 0.0  # a permutation of two leaves each in its place half the time
    assert abs(moved.mean() - 0.5) < 4 * 0.5 / np.sqrt(count)
    assert (moved == (found[:, 1] != 1.0)).all()
    weights = 1.0 - found[moved, 0]  # the first sample's λ
    assert stats.kstest(weights, stats.beta(0.5, 0.5).cdf).pvalue > 0.001


def test_dsu_is_normal_around_its_own_statistics() -> None:
    own = feature_statistics(features())
    count = 20_000
    for values, drawn in zip((own.mean.numpy(), own.std.numpy()), draws(UncertainStyle(), own, count), strict=True):
        spread = values.std(axis=0)
        assert (np.abs(drawn.mean(axis=0) - values[0]) < 4.5 * spread / np.sqrt(count)).all()
        np.testing.assert_allclose(drawn.std(axis=0), spread, rtol=4.5 / np.sqrt(2 * count))
        together = np.corrcoef(drawn.T)
        assert np.abs(together - np.eye(len(together))).max() < 4.5 / np.sqrt(count)
        assert stats.kstest((drawn[:, 0] - values[0, 0]) / spread[0], "norm").pvalue > 0.001


def test_efdmix_with_its_own_partner_or_a_full_weight_changes_nothing() -> None:
    maps = features().clamp(min=0)  # many equal values, as after a ReLU
    alone = ExactMixStyle().apply(maps[:1], np.random.default_rng(0))
    torch.testing.assert_close(alone, maps[:1], rtol=0, atol=0)


def test_efdmix_at_no_weight_has_the_partners_distribution() -> None:
    class NoWeight:
        def beta(self, first: float, second: float, size: int) -> np.ndarray:
            return np.zeros(size)

        def permutation(self, size: int) -> np.ndarray:
            return np.roll(np.arange(size), 1)

    maps = features()
    after = ExactMixStyle().apply(maps, NoWeight())
    expected = maps.roll(1, dims=0).flatten(2).sort(dim=2).values
    torch.testing.assert_close(after.flatten(2).sort(dim=2).values, expected, rtol=0, atol=1e-12)


def test_a_drawn_z_is_uniform() -> None:
    own = feature_statistics(features())
    weights = []
    for seed in range(2000):
        rng, replay = np.random.default_rng(seed), np.random.default_rng(seed)
        both = DirichletBatchStyle(mix="random").draw(own, rng)
        first, second = DirichletStyle().draw(own, replay), GaussianBatchStyle().draw(own, replay)
        weights.append(((both.mean - second.mean) / (first.mean - second.mean))[0, 0].item())
    assert stats.kstest(weights, "uniform").pvalue > 0.001


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


@pytest.mark.parametrize(
    "style", [UniformBatchStyle, UncertainStyle, lambda **options: GaussianBatchStyle("diagonal", **options)]
)
def test_spreads_over_the_batch_are_divided_by_b_or_by_one_less(style) -> None:
    own = feature_statistics(features())
    size = len(own.mean)
    population, sample = (style(correction=each).draw(own, np.random.default_rng(4)) for each in (0, 1))
    centre = own.mean if style is UncertainStyle else own.mean.mean(dim=0)
    factor = (size / (size - 1)) ** 0.5
    torch.testing.assert_close(sample.mean - centre, (population.mean - centre) * factor)
    alone = Statistics(own.mean[:1], own.std[:1])  # B - 1 is nothing
    torch.testing.assert_close(style(correction=1).draw(alone, np.random.default_rng(4)).mean, alone.mean)


def test_ubs_draws_gamma_and_beta_and_channels_independently() -> None:
    own = feature_statistics(features())
    beta, gamma = draws(UniformBatchStyle(), own, 20_000)
    together = np.corrcoef(np.concatenate([beta, gamma], axis=1).T)
    assert np.abs(together - np.eye(len(together))).max() < 0.04  # 5.6 standard errors


def test_clamping_cuts_negative_gamma_only() -> None:
    own = feature_statistics(features())
    free = UniformBatchStyle(rho=8.0).draw(own, np.random.default_rng(2))
    cut = ClampedStyle(UniformBatchStyle(rho=8.0)).draw(own, np.random.default_rng(2))
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
    values = {"alpha": 0.7, "rho": 2.0, "samples": 4, "concentration": 0.2, "mix": 0.5, "covariance": "diagonal"}
    dirichlet, batch = DirichletStyle(4, 0.2), GaussianBatchStyle("diagonal")
    expected = {
        "none": OwnStyle,
        "mixstyle": MixStyle(0.7),
        "dsu": UncertainStyle(),
        "efdmix": ExactMixStyle(0.7),
        "dir-mixstyle": dirichlet,
        "batch-style": batch,
        "dbs": DirichletBatchStyle(dirichlet, batch, 0.5),
        "ubs": UniformBatchStyle(2.0),
    }
    assert isinstance(make_style(StyleSettings(name="none", **values)), expected.pop("none"))
    assert tuple(expected) == NAMES[1:]
    for name, style in expected.items():
        assert make_style(StyleSettings(name=name, **values)) == style
    assert make_style(StyleSettings(name="ubs", divisor="B-1")) == UniformBatchStyle(3.0, correction=1)
    assert make_style(StyleSettings(name="dsu", divisor="B-1")) == UncertainStyle(correction=1)
    assert make_style(StyleSettings(name="ubs", clamp=True, **values)) == ClampedStyle(UniformBatchStyle(2.0))
    assert make_style(StyleSettings(name="efdmix", clamp=True, **values)) == ExactMixStyle(0.7)
    occasional = make_style(StyleSettings(name="ubs", clamp=True, probability=0.3, **values))
    assert occasional == OccasionalStyle(ClampedStyle(UniformBatchStyle(2.0)), 0.3)
