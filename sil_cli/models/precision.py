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


def half_precision(
    precision: Literal["auto", "float32", "bfloat16", "float16"], device: torch.device
) -> torch.dtype | None:
    """What training computes convolutions in; None for float32. `auto` never says float16, whose range is small."""
    if precision == "float16":
        return torch.float16
    return torch.bfloat16 if wants_bfloat16(precision, device) else None


def autocast(device: torch.device, half: torch.dtype | None) -> torch.autocast:
    """Automatic mixed precision on `device`, or nothing at all."""
    return torch.autocast(device.type, dtype=half or torch.bfloat16, enabled=half is not None)


def widened(values: torch.Tensor) -> torch.Tensor:
    """Values in float32 or wider: half precision is too narrow for statistics."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _cpu_multiplies_bfloat16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
