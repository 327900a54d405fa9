"""Which arithmetic a device is good at."""

from __future__ import annotations

from typing import Literal

import torch


def wants_bfloat16(precision: Literal["auto", "float32", "bfloat16"], device: torch.device) -> bool:
    """Whether to compute in bfloat16.

    `auto` says yes where the hardware multiplies it natively: CUDA from Ampere on, CPUs with AVX-512 BF16 or AMX
    (without them bfloat16 on a CPU is emulated, and slower than float32).
    """
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        capabilities = torch.backends.cpu.get_cpu_capability()
        return capabilities.startswith("AVX512") and _cpu_multiplies_bfloat16()
    return False


def autocast(device: torch.device, *, enabled: bool) -> torch.autocast:
    """Automatic mixed precision with bfloat16 on `device`, or nothing at all."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def _cpu_multiplies_bfloat16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
