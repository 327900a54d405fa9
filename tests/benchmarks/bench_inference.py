"""Time ways of computing one model's embeddings against eager float32 PyTorch, in one run, with their agreement.

    python tests/benchmarks/bench_inference.py
    python tests/benchmarks/bench_inference.py --model runs/001-ubs --images data/viaduct --indexing

Without --model it is a ResNet-50 of 256×128 with random weights, whose batch norms have seen generated crops: its
speed is that of any ResNet-50, but its cosines are worse than a trained network's, which does not amplify roundings
so much. The baseline is PyTorch as published code runs it: float32, channels first. --indexing also times
`sil index-gallery`, decoding included, against the baseline's forward pass alone: with the engine that it chooses, and
with the one that it would choose if bfloat16 agreed with float32 (which random weights don't let it).
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from sil_cli.data.synthetic.generate import generate_domains
from sil_cli.data.synthetic.options import SyntheticOptions
from sil_cli.models.embedder import Embedder, load_model, save_model
from sil_cli.models.engine import thread_count
from sil_cli.models.export import export_onnx
from sil_cli.models.export_record import ExportRecord
from sil_cli.models.onnx_engine import OnnxRuntimeEngine
from sil_cli.models.openvino_engine import OpenVinoEngine
from sil_cli.models.quantize import quantize
from sil_cli.models.record import Architecture, ModelRecord
from sil_cli.models.torch_engine import make_torch_engine
from sil_cli.runtime import SilentReporter
from sil_cli.settings import load_settings
from sil_cli.workflows.export_crops import crops_of, given_crops
from sil_cli.workflows.index import index_gallery

CPU = torch.device("cpu")


def drawn_images(folder: Path, people: int) -> list[Path]:
    options = SyntheticOptions(domains=2, train_identities=1, test_identities=people, height=256, width=128)
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
    yield "torch float32, channels last", lambda: make_torch_engine(ours, "", device=CPU)
    yield "torch bfloat16, channels last", lambda: make_torch_engine(ours, "", device=CPU, bfloat16=True)
    graph = export_onnx(model.to(memory_format=torch.contiguous_format))
    float32, int8 = record_of(model, "float32"), record_of(model, "int8")
    yield "onnxruntime float32", lambda: OnnxRuntimeEngine(float32, graph)
    yield "openvino float32", lambda: OpenVinoEngine(float32, graph)
    yield "openvino bfloat16", lambda: OpenVinoEngine(float32, graph, bfloat16=True)
    quantised = quantize(graph, calibration)
    yield "onnxruntime int8", lambda: OnnxRuntimeEngine(int8, quantised)
    yield "openvino int8", lambda: OpenVinoEngine(int8, quantised)


def rate(embed, batches: list[np.ndarray], repeats: int) -> float:
    """Images a second: the median over repeats, which one disturbance does not move."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        for batch in batches:
            embed(batch)
        seconds.append(time.perf_counter() - start)
    return sum(map(len, batches)) / float(np.median(seconds))


class Heard(SilentReporter):
    """Keeps what was said of the engine."""

    engine = ""

    def note(self, text: str) -> None:
        if text.startswith("Embedding with"):
            self.engine = text.removeprefix("Embedding with ").removesuffix(".")


def time_indexing(model: Embedder, images: Path, folder: Path) -> tuple[float, str]:
    """Images a second of `sil index-gallery`, starting the engine and all, and which engine it took."""
    run = folder / "run"
    save_model(run, model.to(memory_format=torch.contiguous_format))
    flags = {"gallery": {"model": run, "images": (images,), "folder": folder / "first"}}
    index_gallery(load_settings(flags=flags), SilentReporter())  # exports the model, once
    flags["gallery"]["folder"] = folder / "gallery"
    heard = Heard()
    start = time.perf_counter()
    added = index_gallery(load_settings(flags=flags), heard).added
    return added / (time.perf_counter() - start), heard.engine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a run folder")
    parser.add_argument("--images", type=Path, help="crops, or a prepared data set, to measure agreement on")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--batches", type=int, default=2, help="forward passes per repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--indexing", action="store_true")
    parser.add_argument("--people", type=int, default=24, help="in each of two networks, to index")
    arguments = parser.parse_args()
    torch.set_num_threads(thread_count())
    print(f"{platform.processor() or platform.machine()}, {thread_count()} of {os.cpu_count()} threads")
    with tempfile.TemporaryDirectory() as name:
        drawn = drawn_images(Path(name, "drawn"), arguments.people)
        size = load_model(arguments.model)[1].architecture if arguments.model else None
        height, width = (size.height, size.width) if size else (256, 128)
        if arguments.images:
            crops = given_crops(arguments.images, height, width, SilentReporter()).calibration
        else:
            files = [(path, None) for path in drawn]
            crops = crops_of(files, height, width, SilentReporter(), called="drawn").calibration
        model = load_model(arguments.model)[0] if arguments.model else random_resnet50(crops)
        split = len(crops) // 2  # calibrated on one half, compared on the other
        batches = [crops[split:][: arguments.batch]] * arguments.batches
        eager = Eager(model)
        truth = eager.embed(crops[split:])
        eager.embed(batches[0])
        base = rate(eager.embed, batches, arguments.repeats)
        print(f"{model.architecture.backbone} {height}x{width}, batch {arguments.batch}, {len(truth)} crops compared")
        print(f"{'eager float32':30s} {base:7.1f} images/s  1.00x")
        for label, make in engines(model, crops[:split]):
            start = time.perf_counter()
            engine = make()
            engine.embed(batches[0][:1])
            ready = time.perf_counter() - start
            engine.embed(batches[0])
            speed = rate(engine.embed, batches, arguments.repeats)
            cosines = (engine.embed(crops[split:]) * truth).sum(axis=1)
            print(
                f"{label:30s} {speed:7.1f} images/s {speed / base:5.2f}x  cosine min {cosines.min():.6f} "
                f"mean {cosines.mean():.6f}  first image after {ready:.2f} s",
                flush=True,
            )
            del engine
        if arguments.indexing:
            images = arguments.images or Path(name, "drawn")
            speed, engine = time_indexing(model, images, Path(name, "indexing"))
            print(f"index-gallery, with {engine:21s} {speed:7.1f} images/s {speed / base:5.2f}x", flush=True)
            with patch("sil_cli.models.export_record.SAME_MODEL", -1.0):
                speed, engine = time_indexing(model, images, Path(name, "as-if"))
            print(f"as if all agreed, {engine:22s} {speed:7.1f} images/s {speed / base:5.2f}x")


if __name__ == "__main__":
    main()
