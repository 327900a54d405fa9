"""Time a whole interleaved iteration against a plain eager float32 one (`plain_step.py`), in one run.

    python tests/benchmarks/bench_step.py
    python tests/benchmarks/bench_step.py --batch 8 --rounds 5
    python tests/benchmarks/bench_step.py --batch 32 --rounds 2 --fastest
    python tests/benchmarks/bench_step.py --small --batch 32 --threads 1
    python tests/benchmarks/bench_step.py --device cuda --compile

ResNet-50, 256×128, three sources, ubs: the paper's recipe; or with --small ResNet-18, 64×32, last stride 2, that of
generated networks. First both are held against each other in float32: loss, gradients, weights and prototypes of one
iteration. Then all ways take turns, so that whatever else the machine does meets all of them; the medians are compared.
On a CPU each turn begins with an iteration that is not timed, since the memory of the way before is gone. At the
paper's 64 images a source the plain iteration needs about 17 GB of memory; --batch makes it smaller for all ways alike.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import platform
import sys
import time
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import torch
from plain_step import PlainNetwork, plain_step
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from sil_cli.models.backbones.staged import compile_backbone
from sil_cli.models.convolution_products import multiply_where_quicker
from sil_cli.models.cpu import freed_memory_kept, keep_wrong_layers_in_float32
from sil_cli.models.embedder import Embedder
from sil_cli.models.precision import wants_bfloat16
from sil_cli.models.record import IMAGENET_MEAN, IMAGENET_STD, Architecture
from sil_cli.models.styles import UniformBatchStyle
from sil_cli.settings import StyleSettings, TrainSettings
from sil_cli.training.optimizer_step import OptimizerStep
from sil_cli.training.prototypes import PrototypeMemory
from sil_cli.training.step import Batch, interleaved_step

IDENTITIES = 700
RATE, DECAY = 3.5e-4, 5e-4
KERNELS = ("gemm", "xmma", "nvjet", "cutlass", "fprop", "dgrad", "wgrad", "winograd", "implicit_convolve")
"""What is in the names of CUDA's kernels that convolve or multiply."""
CONVOLUTIONS = ("convolution", "aten::mm", "aten::addmm", "aten::bmm", "aten::linear", "mkldnn_linear")
ROUNDING, TOLERANCE, LEAST = 6e-8, 3.0, 1e-5
"""Another order of sums moves a float32 result, and fifty random layers with batch norm amplify that. How far is fair
is therefore measured: TOLERANCE times as far as the plain step moves when its images change by ROUNDING (half a unit in
the last place of float32), and at least LEAST, since the loss may happen not to move. Distances are relative."""


@dataclass(frozen=True)
class Network:
    """What is trained."""

    backbone: str
    height: int
    width: int
    last_stride: int
    dimension: int

    def plain(self, state: dict[str, torch.Tensor] | None = None) -> PlainNetwork:
        network = PlainNetwork(self.backbone, self.last_stride)
        if state is not None:
            network.load_state_dict(state)
        return network.train()

    def ours(self, state: dict[str, torch.Tensor]) -> Embedder:
        shape = {"height": self.height, "width": self.width, "last_stride": self.last_stride}
        network = Embedder(Architecture(backbone=self.backbone, stem_relu=False, **shape))
        network.load_state_dict(state)
        return network.train()


PAPERS = Network("resnet50", 256, 128, 1, 2048)
SMALL = Network("resnet18", 64, 32, 2, 512)


@dataclass(frozen=True)
class Way:
    """How our step runs.

    Attributes:
        fused: Adam in one kernel.
        compiled: By torch.compile and CUDA graphs.
    """

    name: str
    bfloat16: bool = False
    channels_last: bool = False
    fused: bool = False
    compiled: bool = False


WAYS = (
    Way("ours, float32, channels first"),
    Way("ours, float32, channels last", channels_last=True),
    Way("ours, bfloat16, channels first", bfloat16=True),
    Way("ours, bfloat16, channels last", bfloat16=True, channels_last=True),
    Way("ours, bfloat16, channels last, fused Adam", bfloat16=True, channels_last=True, fused=True),
)


class Data:
    """The same images, labels and first prototypes for every way."""

    def __init__(self, arguments: argparse.Namespace, batch: int) -> None:
        rng = np.random.default_rng(0)
        self.device = torch.device(arguments.device)
        self.network = network_of(arguments)
        shape = (batch, self.network.height, self.network.width, 3)
        # Blurred noise of another brightness for each source and image: not all alike, as photographs are not.
        self.pixels = [
            (rng.integers(0, 256, shape) * rng.uniform(0.2, 1.0, (batch, 1, 1, 3))).astype(np.uint8)
            for _ in range(arguments.sources)
        ]
        self.labels = [
            torch.from_numpy(np.repeat(rng.choice(IDENTITIES, -(-batch // 4), replace=False), 4)[:batch])
            for _ in range(arguments.sources)
        ]
        rows = [
            torch.from_numpy(rng.standard_normal((IDENTITIES, self.network.dimension))).float() for _ in self.pixels
        ]
        self.rows = [torch.nn.functional.normalize(each, dim=1).to(self.device) for each in rows]

    def prototypes(self) -> list[torch.Tensor]:
        return [rows.clone() for rows in self.rows]

    def batches(self, *, channels_last: bool) -> list[Batch]:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        images = [torch.from_numpy(each).permute(0, 3, 1, 2).to(self.device) for each in self.pixels]
        return [
            Batch(images=each.contiguous(memory_format=layout), labels=labels)
            for each, labels in zip(images, self.labels, strict=True)
        ]

    def normalised(self) -> list[torch.Tensor]:
        mean, std = (torch.tensor(each, device=self.device).view(1, 3, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_STD))
        return [((batch.images.float() / 255 - mean) / std).contiguous() for batch in self.batches(channels_last=False)]


class Plain:
    """The plain step. On a GPU torch rounds what it convolves to TF32 unless it is told not to."""

    def __init__(self, state: dict[str, torch.Tensor], data: Data, *, tf32: bool = True) -> None:
        self.name = "plain: eager float32, channels first" + ("" if tf32 else ", without TF32")
        self.tf32 = tf32
        self.network = data.network.plain(state).to(data.device)
        self.optimizer = torch.optim.Adam(learnt(self.network), lr=RATE, weight_decay=DECAY)
        self.prototypes, self.images = data.prototypes(), data.normalised()
        self.labels = [labels.to(data.device) for labels in data.labels]

    def memory(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def step(self, number: int) -> torch.Tensor:
        rng = np.random.default_rng([1, number])
        torch.backends.cudnn.allow_tf32 = self.tf32
        return plain_step(self.network, self.prototypes, self.images, self.labels, self.optimizer, rng)


class Ours:
    def __init__(self, way: Way, state: dict[str, torch.Tensor], data: Data) -> None:
        self.name = way.name
        self.network = data.network.ours(state)
        if data.device.type == "cpu":  # as training does
            multiply_where_quicker(self.network)
            if way.bfloat16:
                keep_wrong_layers_in_float32(self.network, gradients=True)
        self.network = self.network.to(data.device)
        if way.channels_last:
            self.network = self.network.to(memory_format=torch.channels_last)
        if way.compiled:
            compile_backbone(self.network.backbone, (1,))
        self.optimizer = torch.optim.Adam(
            learnt(self.network), lr=RATE, weight_decay=DECAY, fused=True if way.fused else None
        )
        self.memories = [PrototypeMemory(rows) for rows in data.prototypes()]
        self.batches = data.batches(channels_last=way.channels_last)
        self.optimizer_step = OptimizerStep(self.optimizer, half=torch.bfloat16 if way.bfloat16 else None)
        self.device = data.device

    def memory(self) -> contextlib.AbstractContextManager[None]:
        return freed_memory_kept(self.device)  # as training does

    @property
    def prototypes(self) -> list[torch.Tensor]:
        return [memory.prototypes for memory in self.memories]

    def step(self, number: int) -> torch.Tensor:
        return interleaved_step(
            self.network, self.memories, self.batches, UniformBatchStyle(), self.optimizer_step, TrainSettings(),
            StyleSettings(), np.random.default_rng([1, number]),
        )  # fmt: skip


def learnt(network: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [each for each in network.parameters() if each.requires_grad]


def network_of(arguments: argparse.Namespace) -> Network:
    return SMALL if arguments.small else PAPERS


def first_state(network: Network) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return network.plain().state_dict()


def timed(way: Plain | Ours, number: int, device: torch.device) -> tuple[float, float]:
    """Seconds of one iteration, and seconds of CPU time that all threads of this process took."""
    start, cpu = time.perf_counter(), time.process_time()
    way.step(number).item()  # as the loop does
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # the second pass too
    passed = time.perf_counter() - start, time.process_time() - cpu
    way.optimizer.zero_grad(set_to_none=True)  # so that only one way holds gradients at a time
    return passed


def apart(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> float:
    """The norm of the difference, relative to that of `theirs`, all tensors together."""
    difference = sum((one.double() - other.double()).square().sum() for one, other in zip(ours, theirs, strict=True))
    return float((difference / sum(other.double().square().sum() for other in theirs)).sqrt())


def compared(ours: Plain | Ours, theirs: Plain | Ours, losses: tuple[float, float]) -> dict[str, float]:
    """How far apart two are after one iteration each."""
    pairs = [dict(each.network.named_parameters()) for each in (ours, theirs)]
    gradients = [[value.grad for value in named.values() if value.grad is not None] for named in pairs]
    return {
        "loss": abs(losses[0] / losses[1] - 1),
        "gradients": apart(*gradients),
        "weights": apart(*([value.data for value in named.values()] for named in pairs)),
        "prototypes": apart(ours.prototypes, theirs.prototypes),
    }


def check_parity(arguments: argparse.Namespace, state: dict[str, torch.Tensor]) -> bool:
    """One float32 iteration of both, from the same weights: print how far apart they are, and how far is fair."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    data = Data(arguments, min(arguments.batch, 4))
    plain, moved = Plain(state, data, tf32=False), Plain(state, data, tf32=False)
    torch.manual_seed(1)
    moved.images = [images * (1 + ROUNDING * torch.randn_like(images)) for images in moved.images]
    loss = plain.step(0).item()
    fair = compared(moved, plain, (moved.step(0).item(), loss))
    print(f"parity in float32; {'images changed by 6e-8:':35}" + shown(fair))
    good = True
    ways = [replace(way, fused=fused) for way in WAYS if not way.bfloat16 for fused in (False, True)]
    if arguments.compile:
        ways.append(replace(ways[-1], name="ours, float32, channels last, compiled", compiled=True))
    for way in ways:
        ours = Ours(way, state, data)
        found = compared(ours, plain, (ours.step(0).item(), loss))
        if way.compiled:
            del found["gradients"]  # the graph of the second pass has used their memory again
        within = all(value <= max(TOLERANCE * fair[what], LEAST) for what, value in found.items())
        good &= within
        name = way.name + (", fused" if way.fused else "")
        print(f"parity of {name:44}{shown(found)}{'' if within else '  TOO FAR'}")
    torch.backends.cudnn.allow_tf32 = True  # torch's default
    return good


def shown(distances: dict[str, float]) -> str:
    return ", ".join(f"{what} {value:.1e}" for what, value in distances.items())


def share_of_products(way: Plain | Ours, device: torch.device) -> str:
    """The share of one iteration's time that lies in convolutions and matrix products, and where the rest lies."""
    cuda = device.type == "cuda"
    activity = ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU
    kind = torch.autograd.DeviceType.CUDA if cuda else torch.autograd.DeviceType.CPU
    with profile(activities=[activity]) as found:
        seconds, _ = timed(way, 0, device)
    spent: Counter[str] = Counter()
    for event in found.key_averages():
        if event.device_type == kind:
            spent[event.key] += event.self_device_time_total if cuda else event.self_cpu_time_total
    names = KERNELS if cuda else CONVOLUTIONS
    products = sum(time for name, time in spent.items() if any(part in name for part in names))
    shares = f"{products / spent.total():.0%} of the step"
    if cuda:
        shares += f", {products / 1e3:.1f} of the {spent.total() / 1e3:.1f} ms"
        shares += f" that the GPU works in {seconds * 1e3:.0f}"
    rest = [(name, time) for name, time in spent.most_common(40) if not any(part in name for part in names)]
    return "\n".join([shares, *(f"    {time / spent.total():5.1%} {name[:100]}" for name, time in rest[:12])])


def operations(state: dict[str, torch.Tensor], data: Data) -> float:
    """Floating-point operations of an iteration for one image, counted by torch."""
    network, images = data.network.plain(state).to(data.device), data.normalised()[0][:2]
    with FlopCounterMode(display=False) as counter:
        network(images).sum().backward()
        with torch.no_grad():
            network(images)
    return counter.get_total_flops() / len(images)


def product_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Operations a second of a large matrix product: the machine's practical peak."""
    size, best = (3072 if device.type == "cpu" else 16384), float("inf")
    one = torch.randn(size, size, device=device).to(dtype)
    for _ in range(6):
        start = time.perf_counter()
        (one @ one)[0, 0].item()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def report(arguments: argparse.Namespace, state: dict[str, torch.Tensor]) -> None:
    data = Data(arguments, arguments.batch)
    images = arguments.batch * arguments.sources
    able = wants_bfloat16("auto", torch.device(arguments.device))
    possible = [way for way in WAYS if able or not way.bfloat16]  # emulated, an iteration takes minutes
    chosen = possible[-1:] if arguments.fastest else possible
    ways: list[Plain | Ours] = [Plain(state, data), *(Ours(way, state, data) for way in chosen)]
    if data.device.type == "cuda":
        ways.append(Plain(state, data, tf32=False))
    if arguments.compile:
        ways.append(Ours(replace(WAYS[-1], name=f"{WAYS[-1].name}, compiled", compiled=True), state, data))
    for way in ways:
        with way.memory():
            print(f"first iteration of {way.name}: {timed(way, 0, data.device)[0]:.1f} s", flush=True)
    seconds: dict[str, list[tuple[float, float]]] = {way.name: [] for way in ways}
    for number in range(arguments.rounds):
        for way in ways:
            gc.collect()
            with way.memory():
                if data.device.type == "cpu":  # by another way since the last turn
                    timed(way, 1 + number, data.device)
                seconds[way.name].append(timed(way, 1 + number, data.device))
    print(f"{'median of ' + str(arguments.rounds):44}  images/s   × plain  (× by the fastest, × by CPU time)")
    medians = {name: np.median(taken, axis=0) for name, taken in seconds.items()}
    fastest = {name: np.min(taken, axis=0) for name, taken in seconds.items()}
    base, least = medians[ways[0].name], fastest[ways[0].name]
    for name, (wall, cpu) in medians.items():
        print(
            f"{name:44}{images / wall:10.2f}{base[0] / wall:10.2f}"
            f"  ({least[0] / fastest[name][0]:.2f}, {base[1] / cpu:.2f})   {cpu:.2f} s of CPU time",
            flush=True,
        )
    needed = operations(state, data) * images
    for dtype in (torch.float32, torch.bfloat16):
        rate = product_rate(dtype, data.device)
        print(
            f"floor: {needed / 1e12:.2f} Tflop at the {rate / 1e9:,.0f} Gflop/s of a large {dtype} product: "
            f"{images * rate / needed:.2f} images/s, {base[0] / needed * rate:.2f} × plain "
            f"({least[0] / needed * rate:.2f} × its fastest)"
        )
    for way in (ways[0], *ways[len(chosen) :]):
        print(f"convolutions and matrix products, {way.name}: {share_of_products(way, data.device)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64, help="images of each source; the paper's is 64")
    parser.add_argument("--sources", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="ResNet-18 at 64×32 instead of ResNet-50 at 256×128")
    parser.add_argument("--rounds", type=int, default=5, help="iterations timed of each way")
    parser.add_argument("--compile", action="store_true", help="also with every residual block compiled")
    parser.add_argument("--fastest", action="store_true", help="of ours only the way that trains quickest")
    parser.add_argument("--parity", action="store_true", help="only check that the results agree")
    parser.add_argument("--skip-parity", action="store_true", help="only time")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="of the CPU; one and CPU time where the machine does other work")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(f"python {' '.join(sys.argv)}")
    kind = torch.cuda.get_device_name() if arguments.device == "cuda" else platform.processor() or platform.machine()
    print(f"{kind}, {torch.get_num_threads()} of {os.cpu_count()} threads, torch {torch.__version__}")
    network = network_of(arguments)
    size = f"{network.height}×{network.width}"
    print(f"{network.backbone}, {size}, {arguments.sources} sources × {arguments.batch} images, ubs")
    state = first_state(network)
    if not (arguments.skip_parity or check_parity(arguments, state)):
        sys.exit("The results do not agree: nothing is timed.")
    if not arguments.parity:
        report(arguments, state)


if __name__ == "__main__":
    main()
