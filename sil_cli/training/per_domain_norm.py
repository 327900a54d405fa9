"""Several sources in one forward pass, each as if it passed alone.

Of all layers only batch norm lets images of a batch see each other. Where every batch norm takes each source's images
by themselves, one pass of all sources gives what a pass for each of them gives, running statistics included: they move
source by source. Larger batches, fewer passes over the weights and one gradient of them are quicker.
"""

from __future__ import annotations

import contextlib
from functools import cache, reduce
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sil_cli.models.precision import widened

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@contextlib.contextmanager
def norms_apart(module: nn.Module, sizes: Sequence[int]) -> Iterator[None]:
    """Let every batch norm inside a module take a batch's stretches of these sizes one after another.

    Args:
        module: Its batch norms are changed for the time being.
        sizes: How many images each source has in the batch, in order.
    """
    norms = [each for each in module.modules() if isinstance(each, _BatchNorm)] if len(sizes) > 1 else []
    usual = [type(norm) for norm in norms]
    for norm in norms:
        norm.__class__ = _apart(type(norm))  # type: ignore[arg-type]
        norm.__dict__["sizes"] = tuple(sizes)
    try:
        yield
    finally:
        for norm, kind in zip(norms, usual, strict=True):
            norm.__class__ = kind
            del norm.__dict__["sizes"]


class _Apart:
    """Mixed into a kind of batch norm: the stretches of a batch one after another.

    A class, and not a function set on each norm: torch.compile knows its own work again by the types of the modules.
    """

    sizes: tuple[int, ...]
    is_usual: bool  # torch's own, and not a kind of it that does more

    def forward(self: Any, features: Tensor) -> Tensor:
        """Normalise (B, C, …), B the sum of the sizes."""
        if torch.compiler.is_compiling() and _can_be_grouped(self):
            return _grouped(self, features, len(self.sizes))
        if features.is_cpu and _is_dense(features) and _learns_as_usual(self):
            return _into_one(self, features)
        stretches = torch.split(features, list(self.sizes))
        return torch.cat([super(_Apart, self).forward(each) for each in stretches])  # type: ignore[misc]


@cache
def _apart(kind: type[_BatchNorm]) -> type[_BatchNorm]:
    return type(f"Apart{kind.__name__}", (_Apart, kind), {"is_usual": kind in (nn.BatchNorm1d, nn.BatchNorm2d)})


def _learns_as_usual(norm: Any) -> bool:
    return bool(norm.is_usual and norm.training and norm.affine and norm.momentum is not None)


def _can_be_grouped(norm: Any) -> bool:
    return _learns_as_usual(norm) and len(set(norm.sizes)) == 1


def _is_dense(features: Tensor) -> bool:
    """Whether nothing lies between the values: of part of the channels torch 2.14's kernel writes nonsense."""
    return features.is_contiguous() or (
        features.ndim == 4 and features.is_contiguous(memory_format=torch.channels_last)
    )


def _into_one(norm: Any, features: Tensor) -> Tensor:
    """Each stretch by torch's kernel, which writes it to its place: putting results together cost a third of a norm.

    Args:
        norm: A usual batch norm in train mode.
        features: (B, C, …) on a CPU.
    """
    running = (norm.running_mean, norm.running_var) if norm.track_running_stats else (None, None)
    if norm.track_running_stats:
        norm.num_batches_tracked.add_(len(norm.sizes))
    how = (norm.sizes, norm.momentum, norm.eps, *running)
    return _Stretches.apply(features, norm.weight, norm.bias, how)  # type: ignore[no-any-return]


class _Stretches(torch.autograd.Function):
    """torch's batch norm of one stretch after another; the same numbers as a call for each of them."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, how: tuple[Any, ...]) -> Tensor:
        (*sizes,), momentum, eps, *running = how
        normalised = torch.empty_like(features)
        saved: list[Tensor] = []
        for stretch, place in zip(torch.split(features, sizes), torch.split(normalised, sizes), strict=True):
            kept = torch.empty_like(weight), torch.empty_like(weight)
            torch.ops.aten.native_batch_norm.out(
                stretch, weight, bias, *running, True, momentum, eps, out=place, save_mean=kept[0], save_invstd=kept[1]
            )
            saved += kept
        ctx.save_for_backward(features, weight, *saved)
        ctx.sizes, ctx.eps = sizes, eps
        return normalised

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        features, weight, *saved = ctx.saved_tensors
        parts = [
            torch.ops.aten.native_batch_norm_backward(
                back, stretch, weight, None, None, mean, scale, True, ctx.eps, [True, True, True]
            )
            for back, stretch, mean, scale in zip(
                torch.split(gradient, ctx.sizes), torch.split(features, ctx.sizes), saved[::2], saved[1::2], strict=True
            )
        ]
        of_features, of_weight, of_bias = zip(*parts, strict=True)
        return torch.cat(of_features), _added_as_autograd_does(of_weight), _added_as_autograd_does(of_bias), None


def _added_as_autograd_does(gradients: Sequence[Tensor]) -> Tensor:
    """The sum, in the order in which a backward pass meets them: to the last bit, what calls one by one would give."""
    return reduce(torch.add, reversed(gradients))


def _grouped(norm: Any, features: Tensor, groups: int) -> Tensor:
    """All stretches in one go, written out for a compiler to make few kernels of.

    Args:
        norm: A usual batch norm in train mode.
        features: (B, C, …).
        groups: How many stretches of equal size there are.
    """
    with torch.no_grad():
        grouped = _in_groups(widened(features), groups)
        variances, means = torch.var_mean(grouped, dim=_within_groups(grouped), correction=0)
        if norm.track_running_stats:
            count = features.numel() // means.numel()
            for mean, variance in zip(means, variances, strict=True):
                norm.running_mean.lerp_(mean, norm.momentum)
                norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)
            norm.num_batches_tracked.add_(groups)
        scales = (variances + norm.eps).rsqrt()
    return _Normalise.apply(features, norm.weight, norm.bias, means, scales)  # type: ignore[no-any-return]


class _Normalise(torch.autograd.Function):
    """w·(x − μ)/σ + b with the μ and 1/σ of each group of images, and its gradient, that through μ and σ included.

    With N samples and positions in a group, x̂ = (x − μ)/σ, and sums over the group:
    ∂x = (w/σ)·(∂y − Σ∂y/N − x̂·Σ(∂y·x̂)/N), ∂w = Σ(∂y·x̂), ∂b = Σ∂y (Ioffe and Szegedy, ICML 2015, section 3). Written
    out, both sums take one reading of x and ∂y.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, means: Tensor, scales: Tensor) -> Tensor:
        ctx.save_for_backward(features, weight, means, scales)
        content = (widened(features) - _for_each(means, features)) * _for_each(scales, features)
        normalised = content * _for_each(weight[None], features) + _for_each(bias[None], features)
        # A conversion to the type that it has already makes torch 2.11, when it compiles this, lose the gradient.
        return normalised if normalised.dtype == features.dtype else normalised.to(features.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        features, weight, means, scales = ctx.saved_tensors
        content = (widened(features) - _for_each(means, features)) * _for_each(scales, features)
        wide, over = widened(gradient), _within_groups(features[None])
        of_bias = _in_groups(wide, len(means)).sum(dim=over)
        of_weight = _in_groups(wide * content, len(means)).sum(dim=over)
        count = features.numel() // means.numel()
        back = wide - _for_each(of_bias / count, features) - content * _for_each(of_weight / count, features)
        back = back * _for_each(weight * scales, features)
        return back.to(features.dtype), of_weight.sum(dim=0), of_bias.sum(dim=0), None, None


def _in_groups(features: Tensor, groups: int) -> Tensor:
    """(B, C, …) as (groups, B / groups, C, …)."""
    return features.view(groups, len(features) // groups, *features.shape[1:])


def _within_groups(grouped: Tensor) -> list[int]:
    """The axes of (groups, b, C, …) but groups and channels."""
    return [1, *range(3, grouped.ndim)]


def _for_each(values: Tensor, features: Tensor) -> Tensor:
    """A row of values (C) for each group, shaped to go with features (B, C, …): in their own axes, without a view.

    torch would copy a view's gradient into another memory layout where a layer after it works in place.
    """
    groups, channels = values.shape
    each = values[:, None].expand(groups, len(features) // groups, channels)
    return each.reshape(len(features), channels, *[1] * (features.ndim - 2))
