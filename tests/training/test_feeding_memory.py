"""Memory stays flat over epochs, and processes that read one cache share its pages."""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from sil_cli.data.manifest import ImageRecord
from sil_cli.models.precision import to_images
from sil_cli.training.augment import flip_and_crop
from sil_cli.training.loop import Prefetcher
from sil_cli.training.sources import make_source
from sil_cli.training.step import Batch

HEIGHT, WIDTH, IMAGES = 64, 32, 1600

pytestmark = pytest.mark.thorough

CPU = torch.device("cpu")
READER = """
import sys
import numpy as np
pixels = np.load(sys.argv[1], mmap_mode="r")
for start in range(0, len(pixels), 64):
    pixels[start : start + 64].sum()
sys.stdout.write("read\\n")
sys.stdout.flush()
sys.stdin.read()
"""


@pytest.fixture
def cache(tmp_path) -> Path:
    path = tmp_path / "pixels.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (IMAGES, HEIGHT, WIDTH, 3), dtype=np.uint8))
    return path


def resident_kilobytes() -> int:
    """Memory of this process that is its own, the mapped file's pages left out."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Dirty:", "Shared_Dirty:")))


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads Linux's /proc")
def test_memory_is_flat_over_epochs(cache) -> None:
    records = [
        ImageRecord(path=f"{n}.jpg", identity=f"p{n // 8}", camera=f"c{n % 3}", split="train", domain="x")
        for n in range(IMAGES)
    ]
    pixels = np.load(cache, mmap_mode="r")
    source = make_source("x", records, pixels, identities_per_batch=16, instances=4, seed=1)
    epoch, epochs = IMAGES // 64, 8

    def prepare(iteration: int):
        rng = np.random.default_rng([1, iteration])
        chosen, labels = source.batch(iteration)
        images = flip_and_crop(to_images(chosen, CPU), rng, flip=0.5, pad=4)
        return [Batch(images=images, labels=torch.from_numpy(labels))], rng

    traced, resident = [], []
    tracemalloc.start()
    try:
        with Prefetcher(prepare, end=epoch * epochs, device=CPU) as ahead:
            for iteration in range(epoch * epochs):
                (batch,), _ = ahead.take(iteration)
                assert batch.images.shape == (64, 3, HEIGHT, WIDTH)
                if (iteration + 1) % epoch == 0:
                    gc.collect()
                    traced.append(tracemalloc.get_traced_memory()[0])
                    resident.append(resident_kilobytes())
    finally:
        tracemalloc.stop()
    batch_bytes = 64 * HEIGHT * WIDTH * 3
    assert max(traced[2:]) - min(traced[2:]) < 3 * batch_bytes  # one to three are alive; the epochs are 200
    assert max(resident[2:]) - resident[1] < 4 * batch_bytes / 1024


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads Linux's /proc")
def test_processes_share_the_pages_of_a_cache(cache) -> None:
    command = [sys.executable, "-c", READER, str(cache)]
    readers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        assert [reader.stdout.readline() for reader in readers] == ["read\n"] * 3
        shares = [mapped_kilobytes(reader.pid, cache, "Pss:") for reader in readers]
        seen = [mapped_kilobytes(reader.pid, cache, "Rss:") for reader in readers]
    finally:
        for reader in readers:
            reader.communicate()
    size = cache.stat().st_size / 1024
    assert min(seen) > 0.9 * size  # each has read all of it,
    assert sum(shares) < 1.1 * size  # and together they hold it once


def mapped_kilobytes(process: int, path: Path, what: str) -> int:
    """What a process holds of a mapped file."""
    total, inside = 0, False
    for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
        if "-" in line.split()[0] and not line.split()[0].endswith(":"):
            inside = line.endswith(str(path))
        elif inside and line.startswith(what):
            total += int(line.split()[1])
    return total
