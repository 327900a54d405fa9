"""Layers that are wrong in bfloat16 are found, by name, and computed in float32; freed memory stays in the process."""

import copy
import resource
import subprocess
import sys

import numpy as np
import pytest
import torch
from tiny_network import tiny_embedder

from sil_cli.models.cpu import freed_memory_kept, keep_wrong_layers_in_float32
from sil_cli.models.embedder import Embedder
from sil_cli.models.engines.torch_engine import TorchEngine
from sil_cli.models.precision import autocast
from sil_cli.models.record import Architecture

CPU = torch.device("cpu")
MAPS = 48 * 2**20  # bytes: above the size from which malloc returns each block to the system

FAULTS = """
import resource, torch
from sil_cli.models.cpu import freed_memory_kept

def faults() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.empty({maps}, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident() -> int:
    with open("/proc/self/statm") as told:
        return int(told.read().split()[1])

usual = faults()
with freed_memory_kept(torch.device("cpu")):
    for _ in range(4):  # what is left between blocks must come to fit first
        faults()
    kept = faults()
    held = resident()
print(usual, kept, held - resident())
"""


class BrokenForward(torch.nn.Conv2d):
    """Wrong in bfloat16 alone, as a kernel may be."""

    def forward(self, input):  # noqa: A002
        found = super().forward(input)
        return found * float("nan") if found.dtype == torch.bfloat16 else found


class BrokenGradient(torch.nn.Conv2d):
    """Its result is right, its gradient is three times what it should be."""

    def forward(self, input):  # noqa: A002
        found = super().forward(input)
        return found * 3 - 2 * found.detach() if found.dtype == torch.bfloat16 else found


def with_broken(kind: type[torch.nn.Conv2d]) -> Embedder:
    embedder = tiny_embedder()
    embedder.backbone.convolutions[2][0].__class__ = kind
    return embedder


@pytest.mark.parametrize("kind", [BrokenForward, BrokenGradient])
def test_a_wrong_layer_is_named_and_then_right(kind: type[torch.nn.Conv2d]) -> None:
    embedder = with_broken(kind)
    expected = tiny_embedder()
    images = torch.rand(4, 3, 32, 16, generator=torch.Generator().manual_seed(1))
    assert keep_wrong_layers_in_float32(embedder, gradients=True) == ["convolutions.2.0"]
    assert keep_wrong_layers_in_float32(embedder, gradients=True) == []  # nothing is left to put right
    for model in (embedder, expected):
        with autocast(CPU, torch.bfloat16):
            loss = model(images)[:, 0].sum()
        loss.backward()
    found, wanted = (model.backbone.convolutions[2][0].weight.grad for model in (embedder, expected))
    assert torch.nn.functional.cosine_similarity(found.flatten(), wanted.flatten(), dim=0) > 0.99
    assert found.norm().item() == pytest.approx(wanted.norm().item(), rel=0.1)
    assert embedder.state_dict().keys() == expected.state_dict().keys()
    copied = copy.deepcopy(embedder)  # as the average of the weights is made
    with autocast(CPU, torch.bfloat16):
        assert torch.isfinite(copied(images)).all()


def test_gradients_do_not_matter_where_none_are_made() -> None:
    assert keep_wrong_layers_in_float32(with_broken(BrokenGradient), gradients=False) == []
    assert keep_wrong_layers_in_float32(with_broken(BrokenForward), gradients=False) == ["convolutions.2.0"]


def test_an_engine_in_bfloat16_is_right_in_spite_of_a_wrong_layer() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (5, 32, 16, 3), dtype=np.uint8)
    broken = TorchEngine(with_broken(BrokenForward), "f", device=CPU, bfloat16=True).embed(pixels)
    exact = TorchEngine(tiny_embedder(), "f", device=CPU).embed(pixels)
    assert ((broken * exact).sum(axis=1) > 0.99).all()


def test_the_layers_mode_is_left_alone() -> None:
    embedder = tiny_embedder().train()
    before = {name: value.clone() for name, value in embedder.state_dict().items()}
    keep_wrong_layers_in_float32(embedder, gradients=True)
    assert embedder.training
    assert all(torch.equal(value, before[name]) for name, value in embedder.state_dict().items())


@pytest.mark.parametrize(("height", "width", "last_stride"), [(64, 32, 2), (96, 32, 2), (64, 32, 1)])
def test_a_resnet_in_bfloat16_is_near_float32_on_this_machine(height: int, width: int, last_stride: int) -> None:
    """On CPUs with AMX a layer of the first and second is wrong; whatever the machine, results must be right."""
    torch.manual_seed(0)
    embedder = Embedder(Architecture(backbone="resnet18", height=height, width=width, last_stride=last_stride)).eval()
    images = torch.rand(6, 3, height, width)
    with torch.no_grad():
        exact = embedder(images)
    keep_wrong_layers_in_float32(embedder, gradients=True)
    with torch.no_grad(), autocast(CPU, torch.bfloat16):
        found = embedder(images)
    assert (found * exact).sum(dim=1).min() > 0.999


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
def test_pages_are_asked_for_once_and_given_back_at_the_end() -> None:
    code = FAULTS.format(maps=MAPS)
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    usual, kept, given_back = map(int, told.stdout.split())
    pages = MAPS // resource.getpagesize()
    assert usual > 5 * pages // 2, "malloc keeps blocks of this size here, so that this test shows nothing"
    assert kept < 5 * pages // 50
    assert given_back > 9 * pages // 10


def test_where_there_is_no_glibc_nothing_happens(monkeypatch) -> None:
    for platform in ("darwin", "win32"):
        monkeypatch.setattr("sil_cli.models.cpu.sys.platform", platform)
        with freed_memory_kept(CPU):
            pass
    monkeypatch.undo()
    monkeypatch.setattr("sil_cli.models.cpu.ctypes.CDLL", lambda _: object())  # another C library
    with freed_memory_kept(CPU):
        pass


def test_a_gpus_memory_is_torchs_own_business(monkeypatch) -> None:
    monkeypatch.setattr("sil_cli.models.cpu.ctypes.CDLL", None)
    with freed_memory_kept(torch.device("meta")):
        pass
