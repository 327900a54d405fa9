"""Time kernels of 1×1 as convolutions and as matrix products (`sil_cli/models/convolution_products.py`), in one run.

    python tests/benchmarks/bench_products.py
    python tests/benchmarks/bench_products.py --images 192 --threads 1

Every such layer of a ResNet-50 at 256×128 with its last stride 1, in bfloat16 with channels last: forward as in the
second pass, and forward and backward as in the first. Both ways take turns, and the least of all rounds counts.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter

import torch
from torch import nn

from sil_cli.models.convolution_products import multiply_where_quicker
from sil_cli.models.cpu import freed_memory_kept
from sil_cli.models.embedder import Embedder
from sil_cli.models.record import Architecture

Kind = tuple[int, int, int, int, int]
"""Channels in and out, stride, height and width of what comes in."""


def kinds() -> Counter[Kind]:
    """The layers of 1×1, and how many there are of each kind."""
    found: Counter[Kind] = Counter()
    embedder = Embedder(Architecture(backbone="resnet50", height=256, width=128, last_stride=1)).eval()
    for layer in embedder.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
            layer.register_forward_pre_hook(
                lambda layer, given: found.update(
                    [(layer.in_channels, layer.out_channels, layer.stride[0], *given[0].shape[2:])]
                )
            )
    with torch.no_grad():
        embedder(torch.zeros(1, 3, 256, 128))
    return found


def timed(layer: nn.Conv2d, maps: torch.Tensor, back: torch.Tensor) -> tuple[float, float]:
    """Seconds of a forward without gradients, and of a forward and a backward."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        start = time.perf_counter()
        with torch.no_grad():
            layer(maps)
        forward = time.perf_counter() - start
        start = time.perf_counter()
        found = layer(maps.requires_grad_())
    torch.autograd.grad(found, [maps, layer.weight], grad_outputs=back)
    return forward, time.perf_counter() - start


def best(kind: Kind, images: int, rounds: int) -> list[tuple[float, float]]:
    """The least times of the convolution, and of what training makes of it."""
    channels, results, stride, height, width = kind
    ways = nn.ModuleList(nn.Conv2d(channels, results, 1, stride=stride, bias=False) for _ in range(2))
    ways.to(memory_format=torch.channels_last)
    multiply_where_quicker(nn.Sequential(*ways[1:]))
    maps = torch.randn(images, channels, height, width).to(torch.bfloat16, memory_format=torch.channels_last)
    back = torch.randn(images, results, height // stride, width // stride)
    back = back.to(torch.bfloat16, memory_format=torch.channels_last)
    taken: list[list[tuple[float, float]]] = [[], []]
    for _ in range(rounds + 1):  # the first one meets cold memory
        for way, times in zip(ways, taken, strict=True):
            times.append(timed(way, maps, back))
    return [(min(one for one, _ in times[1:]), min(two for _, two in times[1:])) for times in taken]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=48, help="in a batch: those of all sources")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--threads", type=int, help="of the CPU")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(
        f"{torch.get_num_threads()} of {os.cpu_count()} threads, torch {torch.__version__}, {arguments.images} images"
    )
    print(f"{'':30}{'forward, ms':>22}{'forward and backward':>24}")
    sums = torch.zeros(2, 2, dtype=torch.float64)
    with freed_memory_kept(torch.device("cpu")):
        for kind, count in kinds().items():
            times = torch.tensor(best(kind, arguments.images, arguments.rounds), dtype=torch.float64) * 1e3
            sums += count * times
            channels, results, stride, height, width = kind
            name = f"{count} × {channels} → {results}, {height}×{width}" + (f", stride {stride}" if stride > 1 else "")
            print(f"{name:30}" + "".join(f"{one:12.1f} →{other:8.1f}" for one, other in times.t().tolist()), flush=True)
    print(f"{'all layers':30}" + "".join(f"{one:12.1f} →{other:8.1f}" for one, other in sums.t().tolist()))
    saved = (sums[0] - sums[1]).sum() / sums[0].sum()
    print(f"an iteration's two passes: {saved:.0%} less time in these layers")


if __name__ == "__main__":
    main()
