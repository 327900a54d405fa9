"""Batch norm over the batches of all processes.

torch.nn.SyncBatchNorm does the same on GPUs only. This one runs wherever torch.distributed does, so that what the
tests show on CPUs is what trains on GPUs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sil_cli.distributed.collectives import gather
from sil_cli.errors import UsageError
from sil_cli.models.precision import widened


class SynchronisedBatchNorm(_BatchNorm):
    """Normalises by the mean and variance over the samples of all processes; its parameters keep their names."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - torch's name
        if input.ndim < 2:
            raise ValueError(f"batch norm takes (B, C, …), not {tuple(input.shape)}")

    def forward(self, features: Tensor) -> Tensor:
        """Normalise (B, C, …); in eval mode as batch norm does, and without asking the other processes."""
        if not self.training:
            return super().forward(features)
        self._check_input_dim(features)
        normalised, mean, variance, count = _SynchronisedNormalise.apply(features, self.weight, self.bias, self.eps)
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            momentum = self.momentum
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
                momentum = 1.0 / float(self.num_batches_tracked) if momentum is None else momentum
            assert momentum is not None  # noqa: S101 - what counts no batches has one
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
                unbiased = variance * (count / (count - 1))
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)
        return normalised  # type: ignore[no-any-return]


class _SynchronisedNormalise(torch.autograd.Function):
    """w·(x − μ)/σ + b with μ and σ over all processes, and its gradient.

    With N samples and positions in all, x̂ = (x − μ)/σ, and sums over all processes:
    ∂x = (w/σ)·(∂y − Σ∂y/N − x̂·Σ(∂y·x̂)/N) (Ioffe and Szegedy, ICML 2015, section 3). The gradients of w and b stay this
    process's part: like all gradients of parameters they are added up later.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = widened(features)
        over = _all_but_channels(features)
        variance, mean = torch.var_mean(wide, dim=over, correction=0)
        count = mean.new_full((1,), features.numel() / features.shape[1])
        everyone = torch.stack(gather(torch.cat([mean, variance, count])))  # one message for all three
        means, variances, counts = torch.split(everyone, [len(mean), len(mean), 1], dim=1)
        total = counts.sum()
        mean = (counts * means).sum(dim=0) / total
        variance = (counts * (variances + (means - mean) ** 2)).sum(dim=0) / total
        scale = (variance + epsilon).rsqrt()
        ctx.save_for_backward(features, weight, mean, scale, total)
        normalised = (wide - _beside(mean, features)) * _beside(scale if weight is None else scale * weight, features)
        if bias is not None:
            normalised = normalised + _beside(bias, features)
        ctx.mark_non_differentiable(mean, variance, total)
        return normalised.to(features.dtype), mean, variance, total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        features, weight, mean, scale, total = ctx.saved_tensors
        over = _all_but_channels(features)
        wide = widened(gradient)
        content = (widened(features) - _beside(mean, features)) * _beside(scale, features)
        own = torch.stack([wide.sum(dim=over), (wide * content).sum(dim=over)])
        everyone = torch.stack(gather(own)).sum(dim=0) / total
        back = wide - _beside(everyone[0], features) - content * _beside(everyone[1], features)
        back = back * _beside(scale if weight is None else scale * weight, features)
        has_weight, has_bias = ctx.needs_input_grad[1:3]
        return back.to(features.dtype), own[1] if has_weight else None, own[0] if has_bias else None, None


def synchronise_norms(module: nn.Module) -> None:
    """Replace every batch norm inside a module; parameters, statistics and names stay.

    Raises:
        UsageError: There is one of a kind that does more than normalise.
    """
    for name, child in module.named_children():
        if type(child) in (nn.BatchNorm1d, nn.BatchNorm2d):
            setattr(module, name, _synchronised(child))
        elif isinstance(child, _BatchNorm) and not isinstance(child, SynchronisedBatchNorm):
            raise UsageError(
                f"This backbone's {type(child).__name__} can't be synchronised.",
                "Choose another backbone, or train.batch_norm = per-process.",
            )
        else:
            synchronise_norms(child)


def _synchronised(norm: nn.Module) -> SynchronisedBatchNorm:
    assert isinstance(norm, _BatchNorm)  # noqa: S101
    made = SynchronisedBatchNorm(
        norm.num_features, norm.eps, norm.momentum, affine=norm.affine, track_running_stats=norm.track_running_stats
    )
    made.weight, made.bias = norm.weight, norm.bias
    made.running_mean, made.running_var = norm.running_mean, norm.running_var
    if norm.num_batches_tracked is not None:
        made.num_batches_tracked = norm.num_batches_tracked
    made.training = norm.training
    return made


def _all_but_channels(features: Tensor) -> list[int]:
    return [0, *range(2, features.ndim)]


def _beside(values: Tensor, features: Tensor) -> Tensor:
    """One value a channel, shaped to go with features (B, C, …)."""
    return values.view(1, -1, *[1] * (features.ndim - 2))
