"""Memory that is freed and asked for again: kept by the process while the block lasts, and only then."""

import resource
import subprocess
import sys

import pytest
import torch

from sil_cli.models.malloc_settings import freed_memory_kept

CPU = torch.device("cpu")
MAPS = 48 * 2**20  # bytes: above the size from which malloc returns each block to the system

FAULTS = """
import resource, torch
from sil_cli.models.malloc_settings import freed_memory_kept

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
        monkeypatch.setattr("sil_cli.models.malloc_settings.sys.platform", platform)
        with freed_memory_kept(CPU):
            pass
    monkeypatch.undo()
    monkeypatch.setattr("sil_cli.models.malloc_settings.ctypes.CDLL", lambda _: object())  # another C library
    with freed_memory_kept(CPU):
        pass


def test_a_gpus_memory_is_torchs_own_business(monkeypatch) -> None:
    monkeypatch.setattr("sil_cli.models.malloc_settings.ctypes.CDLL", None)
    with freed_memory_kept(torch.device("meta")):
        pass
