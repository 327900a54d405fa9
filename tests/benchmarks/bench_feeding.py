"""Time what feeds a network: batches by the usual loader, and by the pixel cache, in one run.

    python tests/benchmarks/bench_feeding.py
    python tests/benchmarks/bench_feeding.py --images 8192 --epochs 8
    python tests/benchmarks/bench_feeding.py --step --device cuda --batch 64 --sources 3

The usual loader decodes by PIL and augments by torchvision's transforms in a torch DataLoader. Both ways draw the same
batches from an `IdentitySampler`, resize to the same size, flip, pad by 10 and crop. `--step` times instead how long a
ResNet-50 step of interleaved learning waits for its data.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from sil_cli.data.images import load_image, resize_to
from sil_cli.data.manifest import ImageRecord, write_dataset
from sil_cli.data.pixels import open_pixels
from sil_cli.models.embedder import Embedder
from sil_cli.models.precision import autocast, to_images
from sil_cli.models.record import IMAGENET_MEAN, IMAGENET_STD, Architecture
from sil_cli.runtime import SilentReporter, cpu_count
from sil_cli.training.augment import flip_and_crop
from sil_cli.training.loop import Prefetcher
from sil_cli.training.sources import make_source
from sil_cli.training.step import Batch

HEIGHT, WIDTH, PAD, INSTANCES, PER_IDENTITY = 256, 128, 10, 4, 16
CPU = torch.device("cpu")


class Crops(Dataset):
    """The usual data set: opened, transformed and normalised one by one."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.transform = transforms.Compose(
            [
                transforms.Resize((HEIGHT, WIDTH)),
                transforms.RandomHorizontalFlip(0.5),
                transforms.Pad(PAD),
                transforms.RandomCrop((HEIGHT, WIDTH)),
                transforms.ToTensor(),
                transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> torch.Tensor:
        return self.transform(Image.open(self.paths[position]).convert("RGB"))


def draw_crops(folder: Path, images: int) -> list[ImageRecord]:
    """JPEG crops of 128×64, of about the size that photographed ones have (3 to 5 kB)."""
    rng = np.random.default_rng(0)
    records = []
    for number in range(images):
        small = Image.fromarray(rng.integers(0, 256, (16, 8, 3), dtype=np.uint8)).resize((64, 128), Image.BICUBIC)
        noisy = np.asarray(small, dtype=np.int16) + rng.integers(-9, 10, (128, 64, 3), dtype=np.int16)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{number:06d}.jpg", quality=90)
        identity = f"p{number // PER_IDENTITY:05d}"
        records.append(
            ImageRecord(path=f"{number:06d}.jpg", identity=identity, camera=f"c{number % 6}", split="train", domain="x")
        )
    return records


def prepared(folder: Path, images: int):
    (folder / "raw").mkdir(parents=True)
    records = draw_crops(folder / "raw", images)
    return write_dataset(
        folder / "out", records, name="x", reader="csv", reader_version=1, root=folder / "raw", options={}
    )


def seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median(times: list[float]) -> float:
    return sorted(times)[len(times) // 2]


def megabytes_of_all() -> float:
    """The memory of this process and its children, pages shared between them counted once (PSS)."""
    mine, total = os.getpid(), 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if int(process.name) != mine and parent != mine:
                continue
            rollup = (process / "smaps_rollup").read_text()
        except (OSError, ValueError, IndexError):
            continue
        total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total / 1024


def our_batch(source, iteration: int, device: torch.device = CPU) -> Batch:
    pixels, labels = source.batch(iteration)
    images = flip_and_crop(to_images(pixels, device), np.random.default_rng([1, iteration]), flip=0.5, pad=PAD)
    return Batch(images=images, labels=torch.from_numpy(labels).to(device))


def our_prepared(sources, device: torch.device, iteration: int):
    return [our_batch(source, iteration, device) for source in sources], np.random.default_rng([1, iteration])


def normalised(images: torch.Tensor) -> torch.Tensor:
    """float32, by ImageNet's mean and deviation, in one thread, since the other core makes the next batch.

    By rows of pixels, as channels-last images lie in memory, and picture by picture, so that each stays in the cache.
    """
    count, channels, height, width = images.shape
    mean, std = np.array(IMAGENET_MEAN, np.float32), np.array(IMAGENET_STD, np.float32)
    scale, shift = np.tile(1 / (255 * std), width), np.tile(mean / std, width)
    rows = images.permute(0, 2, 3, 1).reshape(count, height, width * channels).numpy()
    made = np.empty(rows.shape, np.float32)
    for picture, out in zip(rows, made, strict=True):
        np.multiply(picture, scale, out=out)
        np.subtract(out, shift, out=out)
    return torch.from_numpy(made).view(count, height, width, channels).permute(0, 3, 1, 2)


def feed_usual(dataset, source, batches: int, workers: int, epochs: int) -> list[tuple[float, float]]:
    """(images a second, megabytes) of each epoch."""
    paths = [dataset.image_path(dataset.records[row]) for row in source.rows]
    order = [source.sampler.batch(number).tolist() for number in range(batches)]
    loader = DataLoader(
        Crops(paths), batch_sampler=order, num_workers=workers, persistent_workers=workers > 0, prefetch_factor=None
    )
    results = []
    next(iter(loader))
    for _ in range(epochs):
        count, start = 0, time.perf_counter()
        for images in loader:
            count += len(images)
        results.append((count / (time.perf_counter() - start), megabytes_of_all()))
    return results


def feed_ours(source, batches: int, epochs: int, finish) -> list[tuple[float, float]]:
    """(images a second, megabytes) of each epoch; `finish` is applied to every batch of uint8."""
    results = []
    finish(our_batch(source, 0).images)
    for epoch in range(epochs):
        count, start = 0, time.perf_counter()
        with Prefetcher(partial(our_prepared, [source], CPU), end=(epoch + 1) * batches, device=CPU) as ahead:
            for iteration in range(epoch * batches, (epoch + 1) * batches):
                (batch,), _ = ahead.take(iteration)
                count += len(finish(batch.images))
        results.append((count / (time.perf_counter() - start), megabytes_of_all()))
    return results


def report_build(dataset, folder: Path) -> np.ndarray:
    paths = [dataset.image_path(record) for record in dataset.records]
    bare = seconds(lambda: [np.asarray(Image.open(path).convert("RGB").resize((WIDTH, HEIGHT), 2)) for path in paths])
    ours = seconds(lambda: [resize_to(load_image(path), HEIGHT, WIDTH) for path in paths])
    opening = partial(open_pixels, dataset, height=HEIGHT, width=WIDTH, folder=folder, reporter=SilentReporter())
    built = seconds(lambda: opening(workers=cpu_count()))
    again = seconds(lambda: opening(workers=1))
    full = seconds(lambda: opening(workers=1, check_all=True))
    count = len(paths)
    print(f"bare PIL decode + resize, one thread    {count / bare:10,.0f} images/s")
    print(f"load_image + resize_to, one thread      {count / ours:10,.0f} images/s  {bare / ours:5.2f} of bare")
    print(f"cache built with {cpu_count():2} threads             {count / built:10,.0f} images/s  {bare / built:5.2f}")
    size = count * HEIGHT * WIDTH * 3
    print(
        f"cache opened {again * 1000:.0f} ms; every byte compared {full * 1000:.0f} ms ({size / full / 1e9:.2f} GB/s)"
    )
    return opening(workers=1)


def report_floor(source) -> None:
    size = HEIGHT * WIDTH * 3
    batches = [source.rows[source.sampler.batch(number)] for number in range(64)]

    def take() -> None:
        for rows in batches:
            source.pixels[rows]  # and let go of at once, as a batch is

    take()
    taken = seconds(take)
    count = sum(len(rows) for rows in batches)
    print(
        f"floor: rows of the memory map           {count / taken:10,.0f} images/s  "
        f"{count * size / taken / 1e9:.1f} GB/s"
    )


def report_feeding(arguments: argparse.Namespace, folder: Path) -> None:
    dataset = prepared(folder, arguments.images)
    pixels = report_build(dataset, folder / "cache")
    source = make_source(
        "x", dataset.records, pixels, identities_per_batch=arguments.batch // INSTANCES, instances=INSTANCES, seed=1
    )
    report_floor(source)
    batches = max(1, arguments.images // arguments.batch)
    ways = {
        "usual, no workers": lambda epochs: feed_usual(dataset, source, batches, 0, epochs),
        "usual, 2 workers": lambda epochs: feed_usual(dataset, source, batches, 2, epochs),
        "ours, uint8 as the step takes it": lambda epochs: feed_ours(source, batches, epochs, lambda images: images),
        "ours, normalised to float32": lambda epochs: feed_ours(source, batches, epochs, normalised),
    }
    rates = {}
    for name, feed in ways.items():
        results = feed(arguments.epochs)
        rates[name] = median([rate for rate, _ in results])
        memory = " ".join(f"{megabytes:.0f}" for _, megabytes in results)
        print(f"{name:40}{rates[name]:10,.0f} images/s  PSS by epoch, MB: {memory}")
    usual = rates["usual, 2 workers"]
    for name in list(ways)[2:]:
        print(f"{name}: {rates[name] / usual:.1f} times the usual loader with 2 workers")


def report_step(arguments: argparse.Namespace, folder: Path) -> None:
    device = torch.device(arguments.device)
    sources = []
    for number in range(arguments.sources):
        dataset = prepared(folder / str(number), arguments.images)
        pixels = open_pixels(
            dataset, height=HEIGHT, width=WIDTH, folder=folder / "cache" / str(number), reporter=SilentReporter(),
            workers=cpu_count(),
        )  # fmt: skip
        identities = arguments.batch // INSTANCES
        sources.append(
            make_source("x", dataset.records, pixels, identities_per_batch=identities, instances=INSTANCES, seed=1)
        )
    embedder = Embedder(Architecture(backbone="resnet50", height=HEIGHT, width=WIDTH)).to(device)
    embedder = embedder.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(embedder.parameters(), lr=1e-4)

    def step(batches: list[Batch]) -> None:
        with autocast(device, torch.bfloat16):
            loss = sum(embedder(batch.images).float().mean() for batch in batches)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad(), autocast(device, torch.bfloat16):
            embedder(torch.cat([batch.images for batch in batches]))
        loss.item()  # as the loop does

    def run(take) -> float:
        for iteration in range(3):
            step(take(iteration))
        return seconds(lambda: [step(take(iteration)) for iteration in range(3, 3 + arguments.steps)])

    prepare = partial(our_prepared, sources, device)
    held, _ = prepare(0)
    alone = run(lambda _: held)
    without = run(lambda iteration: prepare(iteration)[0])
    with Prefetcher(prepare, end=3 + arguments.steps, device=device) as ahead:
        for iteration in range(3):
            step(ahead.take(iteration)[0])
        total = seconds(lambda: [step(ahead.take(each)[0]) for each in range(3, 3 + arguments.steps)])
    images = arguments.steps * arguments.batch * arguments.sources
    print(
        f"ResNet-50, bfloat16, {arguments.sources} × {arguments.batch} images of {HEIGHT}×{WIDTH}, "
        f"{arguments.steps} steps"
    )
    print(f"one batch over and over  {images / alone:8,.0f} images/s  {alone / arguments.steps * 1000:8.1f} ms a step")
    print(
        f"batches in turn          {images / without:8,.0f} images/s  {without / arguments.steps * 1000:8.1f} ms a step"
    )
    print(f"one batch ahead          {images / total:8,.0f} images/s  {total / arguments.steps * 1000:8.1f} ms a step")
    print(f"against one batch over and over: {total / alone - 1:+.2%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2048, help="crops, of each source")
    parser.add_argument("--batch", type=int, default=64, help="images in a batch, of each source")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--step", action="store_true", help="time a training step instead")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--sources", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    kind = torch.cuda.get_device_name() if arguments.step and arguments.device == "cuda" else platform.processor()
    print(f"python {' '.join(sys.argv)}")
    print(
        f"{cpu_count()} cores, {kind or platform.machine()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads"
    )
    with tempfile.TemporaryDirectory() as folder:
        (report_step if arguments.step else report_feeding)(arguments, Path(folder))


if __name__ == "__main__":
    main()
