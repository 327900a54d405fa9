"""What makes torch right and quick on a CPU: no layer in bfloat16 that comes out wrong, and memory that stays.

oneDNN's AMX kernel for a 3×3 convolution of stride 2 over an input 2 pixels wide gives NaN, or numbers that have
nothing to do with the result (seen with torch 2.14.1 on a Xeon of the Sapphire Rapids class, for batches of 1, 8, 32
and 96 alike; pytorch issue 169688 is of that kind). A ResNet with its usual strides meets that shape at 64×32. Since
there may be others, nothing is assumed about shapes: every layer is measured.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sil_cli.models.embedder import Embedder

IMAGES = 8
"""Images that a layer is measured with."""

TOLERANCE = 0.05
"""How far results may be from float32's, relative to their norm. Rounding to bfloat16 moves them by some 0.003."""

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # malloc.h's M_…
_NEVER, _USUAL_TRIM, _USUAL_MMAPS = -1, 128 * 1024, 65536


class InFloat32:
    """Mixed into a layer: under autocast it computes in its weights' own type."""

    def forward(self: Any, input: Tensor) -> Tensor:  # noqa: A002 - torch's name for it
        """The layer's result in float32."""
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.to(self.weight.dtype))  # type: ignore[misc,no-any-return]


def keep_wrong_layers_in_float32(embedder: Embedder, *, gradients: bool) -> list[str]:
    """Measure each convolution and linear layer of a model on the CPU in bfloat16, and put those right that are wrong.

    Each kind of layer is compared with itself in float32, on a random input of the shape that it has in this model.

    Args:
        embedder: On the CPU; its wrong layers compute in float32 from now on.
        gradients: Its gradients must be right too.

    Returns:
        The names of the wrong layers.
    """
    known: dict[tuple[object, ...], bool] = {}
    wrong = []
    for name, (layer, shape) in _shapes(embedder).items():
        kind = (type(layer), repr(layer), shape)
        if kind not in known:
            known[kind] = _agrees(layer, shape, gradients=gradients)
        if not known[kind]:
            wrong.append(name)
            layer.__class__ = type(f"Float32{type(layer).__name__}", (InFloat32, type(layer)), {})
    return wrong


def _shapes(embedder: Embedder) -> dict[str, tuple[nn.Conv2d | nn.Linear, tuple[int, ...]]]:
    """The layers to measure, by name, and the shape of what each is given."""
    found: dict[str, tuple[nn.Conv2d | nn.Linear, tuple[int, ...]]] = {}
    handles = []
    for name, layer in embedder.backbone.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and not isinstance(layer, InFloat32):

            def note(layer: Any, inputs: tuple[Tensor, ...], name: str = name) -> None:
                found[name] = (layer, tuple(inputs[0].shape))

            handles.append(layer.register_forward_pre_hook(note))
    architecture, training = embedder.architecture, embedder.training
    images = torch.zeros(IMAGES, 3, architecture.height, architecture.width)
    try:
        with torch.no_grad():
            embedder.eval()(images.to(embedder.mean.dtype).contiguous(memory_format=torch.channels_last))
    finally:
        embedder.train(training)
        for handle in handles:
            handle.remove()
    return found


def _agrees(layer: nn.Conv2d | nn.Linear, shape: tuple[int, ...], *, gradients: bool) -> bool:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=layer.weight.dtype)
    if values.ndim == 4:
        values = values.contiguous(memory_format=torch.channels_last)
    results = [_results(layer, values, bfloat16=bfloat16, gradients=gradients) for bfloat16 in (False, True)]
    return all(_near(one, other) for one, other in zip(*results, strict=True))


def _results(layer: nn.Module, values: Tensor, *, bfloat16: bool, gradients: bool) -> list[Tensor]:
    """What the layer makes of the values, and where asked for the gradients of half its squared norm."""
    values = values.detach().requires_grad_(gradients)
    with torch.set_grad_enabled(gradients), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        found = layer(values).float()
    if not gradients:
        return [found]
    learnt = [each for each in layer.parameters() if each.requires_grad]
    score = (found * found.detach()).sum()  # handed over as `grad_outputs`, they would have torch import sympy
    return [found.detach(), *torch.autograd.grad(score, [values, *learnt])]


def _near(wanted: Tensor, found: Tensor) -> bool:
    return bool((found - wanted).norm() <= TOLERANCE * wanted.norm() + torch.finfo(torch.float32).tiny)


@contextlib.contextmanager
def freed_memory_kept(device: torch.device) -> Iterator[None]:
    """Let the C library's malloc keep what tensors on a CPU free, until the end of the block.

    It hands blocks of 32 MiB and more back to the system at once, which gives zeroed pages again, one fault for each
    4 KiB: a feature map that is written once then takes several times as long as its arithmetic (docs/benchmarks.md).
    Of C libraries other than glibc, and on a GPU, whose tensors torch keeps by itself, nothing is changed.

    Args:
        device: What tensors lie on.
    """
    library = _glibc() if device.type == "cpu" else None
    if library is None:
        yield
        return
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        library.mallopt(_MMAP_MAX, _USUAL_MMAPS)
        library.mallopt(_TRIM_THRESHOLD, _USUAL_TRIM)
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
