"""The styles of the paper and of the field as their texts have them: a sample, a channel, a value at a time."""

from __future__ import annotations

import math

import numpy as np
import torch

EPSILON = 1e-6


def own_statistics(maps: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """μ and σ, (B, C) each, without NumPy's or torch's own reductions over positions."""
    means, deviations = np.zeros(maps.shape[:2]), np.zeros(maps.shape[:2])
    for sample, one in enumerate(maps.detach().double().flatten(2).tolist()):
        for channel, values in enumerate(one):
            mean = math.fsum(values) / len(values)
            means[sample, channel] = mean
            variance = math.fsum((value - mean) ** 2 for value in values) / len(values)
            deviations[sample, channel] = math.sqrt(variance + EPSILON)
    return means, deviations


def batch_moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = sum(values) / len(values)
    return mean, np.sqrt(sum((row - mean) ** 2 for row in values) / len(values))


def mixstyle(mean, std, rng, alpha=0.1):
    weights = rng.beta(alpha, alpha, size=len(mean))
    partner = rng.permutation(len(mean))
    new = [
        [weight * each[sample] + (1 - weight) * each[partner[sample]] for sample, weight in enumerate(weights)]
        for each in (mean, std)
    ]
    return np.array(new[0]), np.array(new[1])


def dsu(mean, std, rng):
    drawn = []
    for each in (mean, std):
        spread = batch_moments(each)[1]
        noise = rng.standard_normal(each.shape)
        drawn.append(np.array([row + spread * one for row, one in zip(each, noise, strict=True)]))
    return drawn[0], drawn[1]


def dir_mixstyle(mean, std, rng, samples=2, concentration=0.1):
    weights = rng.dirichlet([concentration] * (samples + 1), size=len(mean))
    others = rng.integers(0, len(mean), size=(len(mean), samples))
    drawn = []
    for each in (mean, std):
        rows = []
        for sample in range(len(mean)):
            row = weights[sample, 0] * each[sample]
            for turn in range(samples):
                row = row + weights[sample, turn + 1] * each[others[sample, turn]]
            rows.append(row)
        drawn.append(np.array(rows))
    return drawn[0], drawn[1]


def batch_style(mean, std, rng, covariance="full"):
    drawn = []
    for each in (mean, std):
        centre, spread = batch_moments(each)
        if covariance == "diagonal":
            drawn.append(centre + spread * rng.standard_normal(each.shape))
            continue
        noise = rng.standard_normal((len(each), len(each))) / np.sqrt(len(each))
        drawn.append(
            np.array([centre + sum(g * (row - centre) for g, row in zip(own, each, strict=True)) for own in noise])
        )
    return drawn[0], drawn[1]


def dbs(mean, std, rng, mix=0.9):
    first, second = dir_mixstyle(mean, std, rng), batch_style(mean, std, rng)
    weights = rng.random((len(mean), 1)) if mix == "random" else mix
    one, other = (weights * a + (1 - weights) * b for a, b in zip(first, second, strict=True))
    return one, other


def ubs(mean, std, rng, rho=3.0):
    drawn = []
    for each in (mean, std):
        centre, spread = batch_moments(each)
        drawn.append(centre + spread * rng.uniform(-rho, rho, size=each.shape))
    return drawn[0], drawn[1]


DRAWS = {"mixstyle": mixstyle, "dsu": dsu, "dir-mixstyle": dir_mixstyle, "batch-style": batch_style}
DRAWS |= {"dbs": dbs, "ubs": ubs}


def efdmix(maps: torch.Tensor, rng: np.random.Generator, alpha: float = 0.1) -> torch.Tensor:
    """The i-th smallest value of each channel moves towards the i-th smallest of the partner's."""
    weights = rng.beta(alpha, alpha, size=len(maps))
    partner = rng.permutation(len(maps))
    flat = maps.detach().flatten(2)
    moves = torch.zeros_like(flat)
    for sample, weight in enumerate(weights):
        for channel in range(flat.shape[1]):
            mine, theirs = flat[sample, channel].tolist(), sorted(flat[partner[sample], channel].tolist())
            for rank, position in enumerate(sorted(range(len(mine)), key=lambda place, mine=mine: mine[place])):
                moves[sample, channel, position] = (1 - weight) * (theirs[rank] - mine[position])
    return maps + moves.view(maps.shape)


def apply_by_hand(name: str, maps: torch.Tensor, rng: np.random.Generator, *, clamp: bool = False, **parameters):
    """Stylised maps (B, C, H, W); a gradient flows through the content alone."""
    if name == "none":
        return maps
    if name == "efdmix":
        return efdmix(maps, rng, **parameters)
    mean, std = own_statistics(maps)
    beta, gamma = DRAWS[name](mean, std, rng, **parameters)
    if clamp:
        gamma = np.where(gamma < 0, 0.0, gamma)
    samples = []
    for sample in range(len(maps)):
        channels = [
            gamma[sample, channel] * ((maps[sample, channel] - mean[sample, channel]) / std[sample, channel])
            + beta[sample, channel]
            for channel in range(maps.shape[1])
        ]
        samples.append(torch.stack(channels))
    return torch.stack(samples)
