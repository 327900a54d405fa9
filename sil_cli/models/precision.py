"""Which arithmetic a device is good at, and how values get to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


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


def widened(values: Tensor) -> Tensor:
    """Values in float32 or wider: half precision is too narrow for statistics."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Values on a device; they may still be on their way.

    CUDA copies memory that is not pinned only after everything that was asked of it before, and the CPU waits for that:
    a step would stop in its middle.
    """
    if device.type != "cuda" or values.device.type != "cpu":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def to_images(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """uint8 pixels (B, H, W, 3) as a uint8 tensor (B, 3, H, W) on `device`, channels last in memory."""
    return to_device(torch.from_numpy(np.ascontiguousarray(pixels)), device).permute(0, 3, 1, 2)


def _cpu_multiplies_bfloat16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
