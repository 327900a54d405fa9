"""Stylisation layers: new feature statistics, drawn from those of the batch.

For features F of shape (B, C, H, W), the statistics μ(F) and σ(F), of shape (B, C), are the mean and standard
deviation of every sample and channel over its H·W positions, detached from the graph. Most styles draw (γ, β) for
each sample and return γ·(F − μ)/σ + β: the content (F − μ)/σ stays, the style changes.
(Tan et al., "Style Interleaved Learning for Generalizable Person Re-identification", arXiv 2207.03132, section III.)

All numbers are drawn on the CPU by the NumPy generator that is handed in, so that a seed gives the same styles on
every device. Where several processes share a batch, each gathers the statistics of all samples, draws for all, and
uses the draws for its own: the styles do not depend on the number of processes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch

from sil_cli.distributed.batch_shard import WHOLE_BATCH, BatchShard
from sil_cli.models.precision import to_device, widened

if TYPE_CHECKING:
    from torch import Tensor

    from sil_cli.settings import StyleSettings
    from sil_cli.settings.fields import StyleName

STATISTICS_EPSILON = 1e-6
"""Added to the variance, so that a constant channel divides by 1e-3 and not by zero."""


class Style(Protocol):
    """Gives every sample of a batch a new style."""

    def apply(self, features: Tensor, rng: np.random.Generator, shard: BatchShard = WHOLE_BATCH) -> Tensor:
        """Stylised features: the shape (B, C, H, W) and type of `features`, which are this part of the batch."""


@dataclass(frozen=True)
class Statistics:
    """Per-sample, per-channel feature statistics.

    Attributes:
        mean: μ, shape (B, C), float32 or wider.
        std: σ, shape (B, C), positive.
    """

    mean: Tensor
    std: Tensor


def feature_statistics(features: Tensor) -> Statistics:
    """μ and σ of features (B, C, H, W) over H and W, detached, in float32 or wider.

    σ is the population standard deviation (divided by H·W), so that a 1×1 map is not NaN.
    """
    values = widened(features.detach())
    # In two passes: on a CPU torch's own variance in one pass takes 1.4 to 1.9 times as long.
    mean = values.mean(dim=(2, 3), keepdim=True)
    variance = (values - mean).square_().mean(dim=(2, 3))
    return Statistics(mean=mean[:, :, 0, 0], std=(variance + STATISTICS_EPSILON).sqrt())


class StatisticsStyle(ABC):
    """The family that replaces (μ, σ) of every sample by a draw (β, γ)."""

    @abstractmethod
    def draw(self, own: Statistics, rng: np.random.Generator) -> Statistics:
        """New statistics (β as `mean`, γ as `std`) for a batch whose own statistics are `own`."""

    def apply(self, features: Tensor, rng: np.random.Generator, shard: BatchShard = WHOLE_BATCH) -> Tensor:
        """γ·(F − μ)/σ + β, with no gradient through any statistic."""
        own = feature_statistics(features)
        new = self.draw(Statistics(mean=shard.gather(own.mean), std=shard.gather(own.std)), rng)
        scale = shard.own(new.std) / own.std
        shift = shard.own(new.mean) - own.mean * scale
        return torch.addcmul(shift[:, :, None, None], widened(features), scale[:, :, None, None]).to(features.dtype)


class OwnStyle:
    """`none`: every sample keeps its own style (the FBF baseline)."""

    def apply(self, features: Tensor, rng: np.random.Generator, shard: BatchShard = WHOLE_BATCH) -> Tensor:
        """The features that came in."""
        del rng, shard
        return features


@dataclass(frozen=True)
class MixStyle(StatisticsStyle):
    """`mixstyle`: a convex pair with one other sample (Zhou et al., "Domain Generalization with MixStyle", ICLR 2021).

    λ ~ Beta(α, α), one a sample, shared by γ, β and all channels: λ·(own) + (1 − λ)·(partner's), with the partners a
    random permutation of the batch.

    Attributes:
        alpha: α; 0.1 is theirs, which makes most λ nearly 0 or 1.
    """

    alpha: float = 0.1

    def draw(self, own: Statistics, rng: np.random.Generator) -> Statistics:
        """Mixed pairs."""
        weights, partner = _pairs(own.mean, self.alpha, rng)
        weights = weights[:, None]
        return Statistics(
            mean=weights * own.mean + (1 - weights) * own.mean[partner],
            std=weights * own.std + (1 - weights) * own.std[partner],
        )


@dataclass(frozen=True)
class UncertainStyle(StatisticsStyle):
    """`dsu`: β ~ N(μ, Σ(μ)), γ ~ N(σ, Σ(σ)) around each sample's own statistics, channels independent.

    Σ is the variance of the statistics over the batch, the batch's estimate of how uncertain they are (Li et al.,
    "Uncertainty Modeling for Out-of-Distribution Generalization", ICLR 2022). As in their text it is divided by B,
    so that a single image has the spread 0; their code divides by B − 1.

    Attributes:
        correction: 0, or 1 to divide by B − 1.
    """

    correction: int = 0

    def draw(self, own: Statistics, rng: np.random.Generator) -> Statistics:
        """Normal draws for both statistics, independent of each other."""
        return Statistics(mean=self._around(own.mean, rng), std=self._around(own.std, rng))

    def _around(self, values: Tensor, rng: np.random.Generator) -> Tensor:
        spread, _ = _spread_and_mean(values, self.correction)
        return values + _on(values, rng.standard_normal(tuple(values.shape))) * spread


@dataclass(frozen=True)
class ExactMixStyle:
    """`efdmix`: the sorted values themselves are mixed with those of another sample, not only mean and deviation.

    In each channel the i-th smallest value x becomes x + (1 − λ)·(y − ⟨x⟩), with y the i-th smallest of the partner
    and ⟨·⟩ without gradient; λ and partners as in `mixstyle`. The order of the values stays. (Zhang et al., "Exact
    Feature Distribution Matching for Arbitrary Style Transfer and Domain Generalization", CVPR 2022, EFDMix.)
    The partner's values are a style and get no gradient either.

    Attributes:
        alpha: α of λ ~ Beta(α, α).
    """

    alpha: float = 0.1

    def apply(self, features: Tensor, rng: np.random.Generator, shard: BatchShard = WHOLE_BATCH) -> Tensor:
        """Features with mixed distributions; equal values are told apart by their position."""
        own = widened(features.detach()).flatten(2)
        ordered, order = own.sort(dim=2, stable=True)
        everyone = shard.gather(ordered)  # all values, since a partner may lie in another process
        weights, partner = _pairs(everyone, self.alpha, rng)
        weights, partner = shard.own(weights), shard.own(partner)
        move = (1 - weights)[:, None, None] * (everyone[partner] - ordered)
        moves = torch.empty_like(own).scatter_(2, order, move)
        return (features + moves.view(features.shape)).to(features.dtype)


@dataclass(frozen=True)
class DirichletStyle(StatisticsStyle):
    """`dir-mixstyle`: a Dirichlet-weighted mix of a sample's own statistics and those of T others.

    The others are drawn from the batch uniformly and with replacement; λ ~ Dirichlet(ε, …, ε) has T + 1 parts,
    one λ a sample, shared by γ, β and all channels.

    Attributes:
        samples: T.
        concentration: ε of every part.
    """

    samples: int = 2
    concentration: float = 0.1

    def draw(self, own: Statistics, rng: np.random.Generator) -> Statistics:
        """Σ_t λ_t·(μ, σ)(F^t), with F^0 the sample itself."""
        size = own.mean.shape[0]
        weights = rng.dirichlet([self.concentration] * (self.samples + 1), size=size)
        others = rng.integers(0, size, size=(size, self.samples))
        partners = np.concatenate([np.arange(size)[:, None], others], axis=1)
        mixing = np.zeros((size, size))
        np.add.at(mixing, (np.arange(size)[:, None], partners), weights)
        matrix = _on(own.mean, mixing)
        return Statistics(mean=matrix @ own.mean, std=matrix @ own.std)


@dataclass(frozen=True)
class GaussianBatchStyle(StatisticsStyle):
    """`batch-style`: β ~ N(mean of μ, covariance of μ) and γ ~ N(mean of σ, covariance of σ) over the batch (1/B).

    With the full covariance, mean + B^(-1/2)·Σ_b g_b·d_b with g ~ N(0, I_B) and d_b a sample's deviation from the
    mean has exactly that distribution, in O(B·C) a draw and without a C×C matrix.

    Attributes:
        covariance: `full` (the paper's), or `diagonal`: channels independent.
        correction: Of the diagonal one: 0, or 1 to divide by B − 1, as in a public research file.
    """

    covariance: Literal["full", "diagonal"] = "full"
    correction: int = 0

    def draw(self, own: Statistics, rng: np.random.Generator) -> Statistics:
        """Normal draws for both statistics, independent of each other."""
        return Statistics(mean=self._normal(own.mean, rng), std=self._normal(own.std, rng))

    def _normal(self, values: Tensor, rng: np.random.Generator) -> Tensor:
        size = values.shape[0]
        spread, centre = _spread_and_mean(values, self.correction)
        if self.covariance == "diagonal":
            return centre + _on(values, rng.standard_normal(tuple(values.shape))) * spread
        noise = _on(values, rng.standard_normal((size, size)) / np.sqrt(size))
        return centre + noise @ (values - centre)


@dataclass(frozen=True)
class DirichletBatchStyle(StatisticsStyle):
    """`dbs`, Dirichlet-Batch Stylization: z·dir-mixstyle + (1 − z)·batch-style, on both γ and β (arXiv v1).

    Attributes:
        dirichlet: The first part.
        batch: The second part.
        mix: z; `random` draws it for each sample, uniform in 0..1.
    """

    dirichlet: DirichletStyle = DirichletStyle()
    batch: GaussianBatchStyle = GaussianBatchStyle()
    mix: float | Literal["random"] = 0.9

    def draw(self, own: Statistics, rng: np.random.Generator) -> Statistics:
        """The weighted sum of one draw of each part."""
        first, second = self.dirichlet.draw(own, rng), self.batch.draw(own, rng)
        weight = _on(own.mean, rng.random((len(own.mean), 1))) if self.mix == "random" else self.mix
        return Statistics(
            mean=weight * first.mean + (1 - weight) * second.mean,
            std=weight * first.std + (1 - weight) * second.std,
        )


@dataclass(frozen=True)
class UniformBatchStyle(StatisticsStyle):
    """`ubs`: per sample and channel, uniform in [mean − ρ·std, mean + ρ·std] of the batch's statistics.

    γ and β are independent. The interleaved style generator of the paper's final version.

    Attributes:
        rho: ρ, half the interval's width in standard deviations over the batch.
        correction: 0 for the population's (1/B), or 1 for the sample's (1/(B − 1)), as in the authors' code.
    """

    rho: float = 3.0
    correction: int = 0

    def draw(self, own: Statistics, rng: np.random.Generator) -> Statistics:
        """Uniform draws for both statistics."""
        return Statistics(mean=self._uniform(own.mean, rng), std=self._uniform(own.std, rng))

    def _uniform(self, values: Tensor, rng: np.random.Generator) -> Tensor:
        spread, centre = _spread_and_mean(values, self.correction)
        offset = _on(values, rng.uniform(-self.rho, self.rho, size=tuple(values.shape)))
        return centre + offset * spread


@dataclass(frozen=True)
class ClampedStyle(StatisticsStyle):
    """Another style with its negative γ cut to 0, because a negative γ turns a channel's content upside down.

    Attributes:
        style: The other.
    """

    style: StatisticsStyle

    def draw(self, own: Statistics, rng: np.random.Generator) -> Statistics:
        """The other's draw, cut."""
        drawn = self.style.draw(own, rng)
        return Statistics(mean=drawn.mean, std=drawn.std.clamp(min=0.0))


@dataclass(frozen=True)
class OccasionalStyle:
    """Another style for some batches only: one coin for the whole batch, as in the code of mixstyle, dsu and efdmix.

    Attributes:
        style: The other.
        probability: Of stylising a batch.
    """

    style: Style
    probability: float

    def apply(self, features: Tensor, rng: np.random.Generator, shard: BatchShard = WHOLE_BATCH) -> Tensor:
        """Stylised features, or the very features that came in."""
        return self.style.apply(features, rng, shard) if rng.random() < self.probability else features


def make_style(settings: StyleSettings) -> Style:
    """The style that the settings name, with its part of their parameters."""
    correction = 1 if settings.divisor == "B-1" else 0
    dirichlet = DirichletStyle(settings.samples, settings.concentration)
    batch = GaussianBatchStyle(settings.covariance, correction)
    styles: dict[StyleName, Style] = {
        "none": OwnStyle(),
        "mixstyle": MixStyle(settings.alpha),
        "dsu": UncertainStyle(correction),
        "efdmix": ExactMixStyle(settings.alpha),
        "dir-mixstyle": dirichlet,
        "batch-style": batch,
        "dbs": DirichletBatchStyle(dirichlet, batch, settings.mix),
        "ubs": UniformBatchStyle(settings.rho, correction),
    }
    style = styles[settings.name]
    if settings.clamp and isinstance(style, StatisticsStyle):
        style = ClampedStyle(style)
    return style if settings.probability >= 1.0 else OccasionalStyle(style, settings.probability)


def _spread_and_mean(values: Tensor, correction: int) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean over a batch (B, C), both (1, C); a single sample has the spread 0."""
    return torch.std_mean(values, dim=0, correction=min(correction, len(values) - 1), keepdim=True)


def _pairs(like: Tensor, alpha: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """λ ~ Beta(α, α) and a partner for every sample of `like`, both of shape (B,)."""
    size = like.shape[0]
    weights = _on(like, rng.beta(alpha, alpha, size=size))
    return weights, to_device(torch.from_numpy(rng.permutation(size)), like.device)


def _on(like: Tensor, values: np.ndarray) -> Tensor:
    # The type first: not every device has float64.
    return to_device(torch.from_numpy(values).to(like.dtype), like.device)
