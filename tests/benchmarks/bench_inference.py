"""Time ways of computing one model's embeddings against eager float32 PyTorch, in one run, with their agreement.

    python tests/benchmarks/bench_inference.py
    python tests/benchmarks/bench_inference.py --model runs/001-dbs --images data/viaduct --indexing

Without --model it is a ResNet-50 of 256×128 with random weights, whose batch norms have seen generated crops: its
speed is that of any ResNet-50, but its cosines are worse than a trained network's, which does not amplify roundings
so much. The baseline is PyTorch as published code runs it: float32, channels first. --indexing also times
`sil index-gallery`, decoding included, against the baseline's forward pass alone: with the engine that it chooses, and
with the one that it would choose if bfloat16 agreed with float32 (which random weights don't let it). All take turns,
and ratios are medians of those within a round.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from sil_cli.gallery.index import index_gallery
from sil_cli.models.embedder import Embedder, load_embedder, save_model
from sil_cli.models.engines.agreement import crops_of, given_crops
from sil_cli.models.engines.engine import SAME_MODEL
from sil_cli.models.engines.exported_engine import OnnxRuntimeEngine, OpenVinoEngine
from sil_cli.models.engines.onnx_export import export_onnx, quantize
from sil_cli.models.engines.torch_engine import TorchEngine
from sil_cli.models.record import Architecture, ExportRecord, ModelRecord
from sil_cli.runtime import SilentReporter, thread_count
from sil_cli.settings import SyntheticSettings, load_settings
from sil_cli.synthetic.generate import generate_domains

if TYPE_CHECKING:
    from collections.abc import Callable

CPU = torch.device("cpu")
EAGER = "eager float32"
AGREEING = ("models.export_record", "workflows.agreement")


def drawn_images(folder: Path, people: int) -> list[Path]:
    options = SyntheticSettings(domains=2, train_identities=1, test_identities=people, height=256, width=128)
    generate_domains(folder, options, SilentReporter(), workers=thread_count())
    return sorted(folder.rglob("*.jpg"))


def random_resnet50(pixels: np.ndarray) -> Embedder:
    torch.manual_seed(0)
    model = Embedder(Architecture(backbone="resnet50", height=256, width=128))
    norms = [each for each in model.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None  # the mean over all batches
    with torch.no_grad():
        for start in range(0, 64, 16):
            model.train()(torch.from_numpy(pixels[start : start + 16]).permute(0, 3, 1, 2))
    return model.eval()


class Eager:
    """float32, channels first, no tricks."""

    def __init__(self, model: Embedder) -> None:
        self.model = model.to(memory_format=torch.contiguous_format)

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return self.model(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()).numpy()


def record_of(model: Embedder, precision: str) -> ExportRecord:
    source = ModelRecord(architecture=model.architecture, dimension=model.dimension, fingerprint="0" * 64)
    facts = {"file": "model.onnx", "sha256": "", "opset": 20, "crops": 1, "measured_on": "", "agreement": {}}
    return ExportRecord(model=source, precision=precision, versions={}, **facts)


def engines(model: Embedder, calibration: np.ndarray):
    ours = copy.deepcopy(model)  # which an engine changes
    yield "torch float32, channels last", lambda: TorchEngine(ours, "", device=CPU)
    yield "torch bfloat16, channels last", lambda: TorchEngine(ours, "", device=CPU, bfloat16=True)
    graph = export_onnx(model.to(memory_format=torch.contiguous_format))
    float32, int8 = record_of(model, "float32"), record_of(model, "int8")
    yield "onnxruntime float32", lambda: OnnxRuntimeEngine(float32, graph)
    yield "openvino float32", lambda: OpenVinoEngine(float32, graph)
    yield "openvino bfloat16", lambda: OpenVinoEngine(float32, graph, bfloat16=True)
    quantised = quantize(graph, calibration)
    yield "onnxruntime int8", lambda: OnnxRuntimeEngine(int8, quantised)
    yield "openvino int8", lambda: OpenVinoEngine(int8, quantised)


def rate(embed, batches: list[np.ndarray]) -> float:
    """Images a second, once."""
    start = time.perf_counter()
    for batch in batches:
        embed(batch)
    return sum(map(len, batches)) / (time.perf_counter() - start)


def in_turns(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, tuple[float, float]]:
    """Median rate of each way, and median ratio to the first in the same round: machines speed up and slow down."""
    rates = [{label: way() for label, way in ways.items()} for _ in range(rounds)]
    base = next(iter(ways))
    return {
        label: (median(each[label] for each in rates), median(each[label] / each[base] for each in rates))
        for label in ways
    }


class Heard(SilentReporter):
    """Keeps what was said of the engine."""

    engine = ""

    def note(self, text: str) -> None:
        if text.startswith("Embedding with"):
            self.engine = text.removeprefix("Embedding with ").removesuffix(".")


class Indexing:
    """`sil index-gallery` as it is used, starting the engine and all; the model is exported once, before.

    From the cosine `least` on, bfloat16 counts as the same model.
    """

    def __init__(self, model: Embedder, images: Path, folder: Path, least: float) -> None:
        self.run, self.images, self.folder, self.least = folder / "run", images, folder, least
        save_model(self.run, model.to(memory_format=torch.contiguous_format))
        self.heard = Heard()
        self()

    def __call__(self) -> float:
        """Images a second into a new gallery."""
        gallery = self.folder / "gallery"
        settings = load_settings(flags={"gallery": {"model": self.run, "images": (self.images,), "folder": gallery}})
        least = [patch(f"sil_cli.{module}.SAME_MODEL", self.least) for module in AGREEING]
        with least[0], least[1]:
            start = time.perf_counter()
            added = index_gallery(settings, self.heard).added
            seconds = time.perf_counter() - start
        shutil.rmtree(gallery)
        return added / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a run folder")
    parser.add_argument("--images", type=Path, help="crops, or a prepared data set, to measure agreement on")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--batches", type=int, default=2, help="forward passes each time")
    parser.add_argument("--repeats", type=int, default=5, help="rounds, in each of which every way is timed once")
    parser.add_argument("--indexing", action="store_true")
    parser.add_argument("--people", type=int, default=24, help="in each of two networks, to index")
    arguments = parser.parse_args()
    torch.set_num_threads(thread_count())
    print(f"{platform.processor() or platform.machine()}, {thread_count()} of {os.cpu_count()} threads")
    with tempfile.TemporaryDirectory() as name:
        drawn = drawn_images(Path(name, "drawn"), arguments.people)
        size = load_embedder(arguments.model)[1].architecture if arguments.model else None
        height, width = (size.height, size.width) if size else (256, 128)
        if arguments.images:
            crops = given_crops(arguments.images, height, width, SilentReporter()).calibration
        else:
            files = [(path, None) for path in drawn]
            crops = crops_of(files, height, width, SilentReporter(), called="drawn").calibration
        model = load_embedder(arguments.model)[0] if arguments.model else random_resnet50(crops)
        split = len(crops) // 2  # calibrated on one half, compared on the other
        batches = [crops[split:][: arguments.batch]] * arguments.batches
        eager = Eager(model)
        truth = eager.embed(crops[split:])
        print(f"{model.architecture.backbone} {height}x{width}, batch {arguments.batch}, {len(truth)} crops compared")
        ways, told = {EAGER: partial(rate, eager.embed, batches)}, {EAGER: ""}
        for label, make in engines(model, crops[:split]):
            start = time.perf_counter()
            engine = make()
            engine.embed(batches[0][:1])
            ready = time.perf_counter() - start
            cosines = (engine.embed(crops[split:]) * truth).sum(axis=1)
            ways[label] = partial(rate, engine.embed, batches)
            told[label] = f"cosine min {cosines.min():.6f} mean {cosines.mean():.6f}  first image after {ready:.2f} s"
        if arguments.indexing:
            images = arguments.images or Path(name, "drawn")
            for label, least in (("index-gallery", SAME_MODEL), ("the same, as if bfloat16 agreed", -1.0)):
                ways[label] = indexing = Indexing(model, images, Path(name, label), least)
                told[label] = f"with {indexing.heard.engine}"
        for label, (speed, ratio) in in_turns(ways, arguments.repeats).items():
            print(f"{label:32s} {speed:7.1f} images/s {ratio:5.2f}x  {told[label]}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
