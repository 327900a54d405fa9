"""Stylisation layers: new feature statistics, drawn from those of the batch.

For features F of shape (B, C, H, W), the statistics μ(F) and σ(F), of shape (B, C), are the mean and standard
deviation of every sample and channel over its H·W positions, detached from the graph. A style draws (γ, β) for
each sample and returns γ·(F − μ)/σ + β: the content (F − μ)/σ stays, the style changes.
(Tan et al., "Style Interleaved Learning for Generalizable Person Re-identification", arXiv 2207.03132, section III.)

All numbers are drawn on the CPU by the NumPy generator that is handed in, so that a seed gives the same styles on
every device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

STATISTICS_EPSILON = 1e-6
"""Added to the variance, so that a constant channel divides by 1e-3 and not by zero."""


@dataclass(frozen=True)
class Statistics:
    """Per-sample, per-channel feature statistics.

    Attributes:
        mean: μ, shape (B, C), float32 or wider.
        std: σ, shape (B, C), positive.
    """

    mean: Tensor
    std: Tensor


class Style(Protocol):
    """Draws a new style for every sample of a batch."""

    def draw(self, own: Statistics, rng: np.random.Generator) -> Statistics:
        """New statistics (β as `mean`, γ as `std`) for a batch whose own statistics are `own`."""


def feature_statistics(features: Tensor) -> Statistics:
    """μ and σ of features (B, C, H, W) over H and W, detached, in float32 or wider.

    σ is the population standard deviation (divided by H·W), so that a 1×1 map is not NaN.
    """
    wide = features.detach()
    if wide.dtype in (torch.float16, torch.bfloat16):
        wide = wide.float()
    variance, mean = torch.var_mean(wide, dim=(2, 3), correction=0)
    return Statistics(mean=mean, std=(variance + STATISTICS_EPSILON).sqrt())


def stylize(features: Tensor, style: Style, rng: np.random.Generator) -> Tensor:
    """γ·(F − μ)/σ + β with (γ, β) drawn by `style`; same shape and type as `features` (B, C, H, W)."""
    own = feature_statistics(features)
    new = style.draw(own, rng)
    scale = new.std / own.std
    shift = new.mean - own.mean * scale
    return (features * scale[:, :, None, None] + shift[:, :, None, None]).to(features.dtype)


class OwnStyle:
    """`none`: every sample keeps its own statistics (the FBF baseline)."""

    def draw(self, own: Statistics, rng: np.random.Generator) -> Statistics:
        """The statistics that came in."""
        del rng
        return own


@dataclass(frozen=True)
class UniformBatchStyle:
    """`ubs`: per sample and channel, uniform in [mean − ρ·std, mean + ρ·std] of the batch's statistics.

    γ and β are independent. The interleaved style generator of the paper's final version.

    Attributes:
        rho: ρ, half the interval's width in standard deviations over the batch (population, 1/B).
        clamp: Cut negative γ to 0; the authors' code does not, and with ρ = 3 some γ are negative.
    """

    rho: float = 3.0
    clamp: bool = False

    def draw(self, own: Statistics, rng: np.random.Generator) -> Statistics:
        """Uniform draws for both statistics."""
        drawn = Statistics(mean=self._uniform(own.mean, rng), std=self._uniform(own.std, rng))
        return _clamped(drawn) if self.clamp else drawn

    def _uniform(self, values: Tensor, rng: np.random.Generator) -> Tensor:
        spread, centre = torch.std_mean(values, dim=0, correction=0, keepdim=True)
        offset = _on(values, rng.uniform(-self.rho, self.rho, size=tuple(values.shape)))
        return centre + offset * spread


@dataclass(frozen=True)
class DirichletStyle:
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
class GaussianBatchStyle:
    """`batch-style`: β ~ N(mean of μ, covariance of μ) and γ ~ N(mean of σ, covariance of σ) over the batch (1/B).

    With the full covariance, mean + B^(-1/2)·Σ_b g_b·d_b with g ~ N(0, I_B) and d_b a sample's deviation from the
    mean has exactly that distribution, in O(B·C) a draw and without a C×C matrix.

    Attributes:
        covariance: `full` (the paper's), or `diagonal`: channels independent.
    """

    covariance: Literal["full", "diagonal"] = "full"

    def draw(self, own: Statistics, rng: np.random.Generator) -> Statistics:
        """Normal draws for both statistics, independent of each other."""
        return Statistics(mean=self._normal(own.mean, rng), std=self._normal(own.std, rng))

    def _normal(self, values: Tensor, rng: np.random.Generator) -> Tensor:
        size = values.shape[0]
        centre = values.mean(dim=0, keepdim=True)
        if self.covariance == "diagonal":
            spread = values.std(dim=0, correction=0, keepdim=True)
            return centre + _on(values, rng.standard_normal(tuple(values.shape))) * spread
        noise = _on(values, rng.standard_normal((size, size)) / np.sqrt(size))
        return centre + noise @ (values - centre)


@dataclass(frozen=True)
class DirichletBatchStyle:
    """`dbs`, Dirichlet-Batch Stylization: z·dir-mixstyle + (1 − z)·batch-style, on both γ and β (arXiv v1).

    Attributes:
        dirichlet: The first part.
        batch: The second part.
        mix: z.
        clamp: Cut negative γ to 0.
    """

    dirichlet: DirichletStyle = DirichletStyle()
    batch: GaussianBatchStyle = GaussianBatchStyle()
    mix: float = 0.9
    clamp: bool = False

    def draw(self, own: Statistics, rng: np.random.Generator) -> Statistics:
        """The weighted sum of one draw of each part."""
        first, second = self.dirichlet.draw(own, rng), self.batch.draw(own, rng)
        drawn = Statistics(
            mean=self.mix * first.mean + (1 - self.mix) * second.mean,
            std=self.mix * first.std + (1 - self.mix) * second.std,
        )
        return _clamped(drawn) if self.clamp else drawn


def make_style(
    name: Literal["none", "ubs", "dbs"],
    *,
    rho: float,
    samples: int,
    concentration: float,
    mix: float,
    covariance: Literal["full", "diagonal"],
    clamp: bool,
) -> Style:
    """The style called `name`, with its part of the parameters."""
    match name:
        case "none":
            return OwnStyle()
        case "ubs":
            return UniformBatchStyle(rho=rho, clamp=clamp)
        case "dbs":
            return DirichletBatchStyle(
                dirichlet=DirichletStyle(samples=samples, concentration=concentration),
                batch=GaussianBatchStyle(covariance=covariance),
                mix=mix,
                clamp=clamp,
            )


def _clamped(drawn: Statistics) -> Statistics:
    return Statistics(mean=drawn.mean, std=drawn.std.clamp(min=0.0))


def _on(like: Tensor, values: np.ndarray) -> Tensor:
    # The type first: not every device has float64.
    return torch.from_numpy(values).to(like.dtype).to(like.device)
