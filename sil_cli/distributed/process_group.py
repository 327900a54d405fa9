"""The processes of one training: who holds what of a batch, and what they add up.

Every process keeps all weights, prototypes and the optimiser's state, and does the same with them; what differs is
which samples of each batch pass through its copy of the network. Batches, augmentations and styles are drawn for the
whole batch by every process, which then uses the draws of its own samples. So nothing depends on the number of
processes but the order in which floating-point numbers are added, and batch norm, unless that is synchronised.

Gradients are added up here, after the backward pass, and not by DistributedDataParallel: an iteration passes every
source alone before one backward pass and all of them together, without gradient, after it, while DDP counts on one
forward for each backward pass, copies batch norm's buffers before each of them (which the graphs of the earlier passes
still need), and takes the mean over the processes, wrong where their parts differ in size. The price is that sending
does not overlap with the backward pass: about 100 MB an iteration for a ResNet-50, sent as one message.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from sil_cli.distributed.batch_shard import WHOLE_BATCH, BatchShard
from sil_cli.distributed.collectives import add_up, gather, take_from_first

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn


class ProcessGroup:
    """The processes of one training; with a `world_size` of 1, nothing is sent.

    Several are joined by torch.distributed's default group (`distributed/command.py`).

    Attributes:
        rank: The number of this process, from 0; the first one writes.
        world_size: How many processes there are.
    """

    def __init__(self, rank: int = 0, world_size: int = 1) -> None:
        self.rank = rank
        self.world_size = world_size

    @property
    def is_first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def shard(self, groups: int, size: int) -> BatchShard:
        """The part of a batch of `groups` × `size` samples that this process holds; groups stay together."""
        if self.world_size == 1:
            return WHOLE_BATCH
        edges = shares(groups, self.world_size) * size
        return DistributedShard(self, [np.arange(*edges[rank : rank + 2]) for rank in range(self.world_size)])

    def gather_rows(self, rows: Tensor, lengths: Sequence[int]) -> Tensor:
        """The rows of all processes in their order, where `lengths` says how many each has.

        They travel padded to the length of the longest.
        """
        if self.world_size == 1:
            return rows
        padded = rows.new_zeros(max(lengths), *rows.shape[1:])
        padded[: len(rows)] = rows
        return torch.cat([each[:length] for each, length in zip(gather(padded), lengths, strict=True)])

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, added in their order."""
        return values if self.world_size == 1 else torch.stack(gather(values)).sum(dim=0)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of all processes' losses, in place; one that is missing here is missing everywhere."""
        if self.world_size == 1:
            return
        gradients = [each.grad for each in parameters if each.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        add_up(flat)
        for gradient, summed in zip(gradients, torch.split(flat, [each.numel() for each in gradients]), strict=True):
            gradient.copy_(summed.view(gradient.shape))

    def average_statistics(self, module: nn.Module, weight: float) -> None:
        """Replace the running statistics of batch norms by their mean over the processes, weighted by `weight`."""
        if self.world_size == 1:
            return
        norms = [each for each in module.modules() if isinstance(each, _BatchNorm)]
        found = [each for norm in norms for each in (norm.running_mean, norm.running_var) if each is not None]
        if not found:
            return
        flat = torch.cat(found) * weight
        add_up(flat)
        for statistic, mean in zip(found, torch.split(flat, [len(each) for each in found]), strict=True):
            statistic.copy_(mean)

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process."""
        return bool(self.sum(torch.tensor([float(flag)])).item())

    def gather_texts(self, text: str) -> list[str]:
        """The text that each process gives, in their order."""
        if self.world_size == 1:
            return [text]
        content = _as_bytes(text.encode())
        lengths = [int(each.item()) for each in gather(torch.tensor([len(content)]))]
        everything = self.gather_rows(content, lengths)
        return [own.numpy().tobytes().decode() for own in torch.split(everything, lengths)]

    def first_different(self, tensors: Sequence[Tensor]) -> int | None:
        """The first process whose tensors are not those of process 0 to the bit; None where all are equal.

        Checksums are compared.
        """
        if self.world_size == 1:
            return None
        digest = hashlib.sha256()
        for tensor in tensors:
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        digests = self.gather_texts(digest.hexdigest())
        return next((rank for rank, each in enumerate(digests) if each != digests[0]), None)

    def from_first(self, make: Callable[[], bytes]) -> bytes:
        """What `make` makes in the first process, sent to the others, where it is not called."""
        if self.world_size == 1:
            return make()
        content = _as_bytes(make()) if self.is_first else torch.empty(0, dtype=torch.uint8)
        length = torch.tensor([len(content)])
        take_from_first(length)
        if not self.is_first:
            content = torch.empty(int(length.item()), dtype=torch.uint8)
        take_from_first(content)
        return content.numpy().tobytes()


SINGLE_PROCESS = ProcessGroup()


class DistributedShard(BatchShard):
    """The part that one of several processes holds of a batch.

    Args:
        group: The processes.
        held: For each of them the positions of the samples that it holds, in the order in which it holds them.
    """

    def __init__(self, group: ProcessGroup, held: Sequence[NDArray[np.int64]]) -> None:
        self._group = group
        self._held = held
        self.rows = self._mine = held[group.rank]
        self.weight = len(self._mine) / self.size(0)

    def size(self, held: int) -> int:
        """All samples of all processes."""
        del held
        return sum(map(len, self._held))

    def own(self, everyone: Tensor) -> Tensor:
        """The rows of this process's samples."""
        return everyone[_index(self._mine, everyone)]

    def gather(self, own: Tensor) -> Tensor:
        """Everyone's rows, in the order of the batch."""
        rows = self._group.gather_rows(own.detach(), [len(each) for each in self._held])
        return rows[_index(np.argsort(np.concatenate(self._held)), own)]

    def gather_with_gradient(self, own: Tensor) -> Tensor:
        """Everyone's rows, in the order of the batch."""
        return _GatherRows.apply(own, self)  # type: ignore[no-any-return]

    def shuffled(self, order: NDArray[np.int64]) -> tuple[Self, NDArray[np.int64]]:
        """Nobody's samples move to another process: each holds its own in the order in which they come."""
        new_place = np.argsort(order)
        places = [new_place[each] for each in self._held]
        return type(self)(self._group, [np.sort(each) for each in places]), np.argsort(places[self._group.rank])

    def joined(self, others: Sequence[BatchShard]) -> BatchShard:
        """Each process holds its samples of the first batch, then those of the second, and so on."""
        held: list[list[NDArray[np.int64]]] = [[] for _ in self._held]
        before = 0
        for shard in (self, *others):
            assert isinstance(shard, DistributedShard)  # noqa: S101 - all batches are divided, or none
            for rank, positions in enumerate(shard._held):
                held[rank].append(positions + before)
            before += shard.size(0)
        return DistributedShard(self._group, [np.concatenate(each) for each in held])


class _GatherRows(torch.autograd.Function):
    """`DistributedShard.gather` whose gradient is the sum over all processes of what their losses say of a row."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, shard: DistributedShard) -> Tensor:
        ctx.shard = shard
        return shard.gather(own)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.clone(memory_format=torch.contiguous_format)
        add_up(total)
        return ctx.shard.own(total), None


def shares(length: int, count: int) -> NDArray[np.int64]:
    """The edges of `count` stretches that make up `length` and differ by one at most, (count + 1,)."""
    return np.arange(count + 1) * length // count


def _index(positions: NDArray[np.int64], like: Tensor) -> Tensor:
    return torch.from_numpy(positions).to(like.device)


def _as_bytes(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8).copy())
