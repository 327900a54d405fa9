"""Several sources in one forward pass, each as if it passed alone.

Of all layers only batch norm lets images of a batch see each other. Where every batch norm takes each source's images
by themselves, one pass of all sources gives what a pass for each of them gives, running statistics included: they move
source by source. Larger batches, fewer passes over the weights and one gradient of them are quicker.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

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
    for norm in norms:
        norm.__dict__["forward"] = partial(_one_by_one, norm, sizes)
    try:
        yield
    finally:
        for norm in norms:
            del norm.__dict__["forward"]


def _one_by_one(norm: _BatchNorm, sizes: Sequence[int], features: Tensor) -> Tensor:
    return torch.cat([type(norm).forward(norm, part) for part in torch.split(features, list(sizes))])
