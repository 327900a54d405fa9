"""Layout, bfloat16 and fused Adam leave the step what it is, and the benchmark's plain step is the same method."""

import numpy as np
import pytest
import torch
from benchmarks.plain_step import PlainNetwork, plain_step
from tiny_network import DIMENSION, tiny_embedder

from sil_cli.models.embedder import Embedder
from sil_cli.models.record import IMAGENET_MEAN, IMAGENET_STD, Architecture
from sil_cli.models.styles import UniformBatchStyle
from sil_cli.settings import StyleSettings, TrainSettings
from sil_cli.training.optimizer_step import OptimizerStep
from sil_cli.training.prototypes import PrototypeMemory
from sil_cli.training.step import Batch, interleaved_step

RATE, DECAY, IDENTITIES = 3.5e-4, 5e-4, 5


def batches(iteration: int, dtype: torch.dtype, layout: torch.memory_format) -> list[Batch]:
    rng = np.random.default_rng([4, iteration])
    return [
        Batch(
            images=torch.from_numpy(rng.random((size, 3, 32, 16))).to(dtype).contiguous(memory_format=layout),
            labels=torch.from_numpy(rng.integers(0, IDENTITIES, size)),
        )
        for size in (6, 8)
    ]


def rows(dimension: int, dtype: torch.dtype) -> list[torch.Tensor]:
    rng = np.random.default_rng(6)
    drawn = [torch.from_numpy(rng.standard_normal((IDENTITIES, dimension))) for _ in range(2)]
    return [torch.nn.functional.normalize(each, dim=1).to(dtype) for each in drawn]


def learnt(network: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [each for each in network.parameters() if each.requires_grad]


def trained(
    *, dtype=torch.float64, layout=torch.contiguous_format, fused=None, half=None, iterations=3
) -> tuple[list[float], Embedder, list[torch.Tensor]]:
    """Losses, the model and the prototypes after a few iterations."""
    embedder = tiny_embedder().to(dtype).to(memory_format=layout).train()
    memories = [PrototypeMemory(each) for each in rows(DIMENSION, dtype)]
    optimizer = torch.optim.Adam(learnt(embedder), lr=RATE, weight_decay=DECAY, fused=fused)
    optimizer_step = OptimizerStep(optimizer, half=half)
    if half == torch.float16:  # the first factor, 2^16, overflows here: training leaves such steps out until one fits
        optimizer_step.restore(optimizer_step.state() | {"scaler": optimizer_step.state()["scaler"] | {"scale": 64.0}})
    losses = []
    for number in range(iterations):
        loss = interleaved_step(
            embedder, memories, batches(number, dtype, layout), UniformBatchStyle(), optimizer_step,
            TrainSettings(), StyleSettings(), np.random.default_rng([1, number]),
        )  # fmt: skip
        losses.append(loss.item())
    return losses, embedder, [memory.prototypes for memory in memories]


@pytest.mark.parametrize("changed", [{"layout": torch.channels_last}, {"fused": True}], ids=["channels last", "fused"])
def test_layout_and_fused_adam_change_nothing(changed) -> None:
    losses, embedder, prototypes = trained()
    same_losses, same, same_prototypes = trained(**changed)
    assert same_losses == pytest.approx(losses, abs=1e-9)
    for (name, one), other in zip(embedder.state_dict().items(), same.state_dict().values(), strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")
    for one, other in zip(prototypes, same_prototypes, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-9)


def test_bfloat16_stays_near_float32_and_keeps_everything_in_float32() -> None:
    """Loss within 2 %, directions of gradient and prototypes by their cosine; bfloat16 has 8 bits of mantissa."""
    layout = torch.channels_last
    losses, embedder, prototypes = trained(dtype=torch.float32, layout=layout, iterations=1)
    near_losses, near, near_prototypes = trained(dtype=torch.float32, layout=layout, iterations=1, half=torch.bfloat16)
    assert near_losses == pytest.approx(losses, rel=0.02)
    assert near_losses != losses  # or else nothing ran in bfloat16
    one, other = (torch.cat([each.grad.flatten() for each in learnt(model)]) for model in (embedder, near))
    assert torch.nn.functional.cosine_similarity(one, other, dim=0) > 0.99
    for first, second in zip(prototypes, near_prototypes, strict=True):
        assert torch.nn.functional.cosine_similarity(first, second, dim=1).min() > 0.99
        assert second.dtype == torch.float32
    assert all(each.dtype == torch.float32 and each.grad.dtype == torch.float32 for each in learnt(near))


def test_the_benchmarks_plain_step_is_the_same_method() -> None:
    """A ResNet-18 in float64, by code that shares nothing with the package: loss, gradients, weights, prototypes."""
    torch.manual_seed(0)
    plain = PlainNetwork("resnet18").double().train()
    ours = Embedder(Architecture(backbone="resnet18", height=32, width=16, stem_relu=False)).double().train()
    ours.load_state_dict(plain.state_dict())
    plain_rows, memories = rows(512, torch.float64), [PrototypeMemory(each) for each in rows(512, torch.float64)]
    optimizers = [torch.optim.Adam(learnt(each), lr=RATE, weight_decay=DECAY) for each in (plain, ours)]
    given = batches(0, torch.float64, torch.contiguous_format)
    mean, std = (torch.tensor(each).view(1, 3, 1, 1).double() for each in (IMAGENET_MEAN, IMAGENET_STD))
    normalised = [(each.images - mean) / std for each in given]
    labels = [each.labels for each in given]
    expected = plain_step(plain, plain_rows, normalised, labels, optimizers[0], np.random.default_rng(2))
    loss = interleaved_step(
        ours, memories, given, UniformBatchStyle(), OptimizerStep(optimizers[1]), TrainSettings(), StyleSettings(),
        np.random.default_rng(2),
    )  # fmt: skip
    assert loss.item() == pytest.approx(expected.item(), abs=1e-9)
    for one, other in zip(learnt(plain), learnt(ours), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-7, atol=1e-9)
    for (name, one), other in zip(plain.state_dict().items(), ours.state_dict().values(), strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}")
    for one, memory in zip(plain_rows, memories, strict=True):
        torch.testing.assert_close(memory.prototypes, one, rtol=0, atol=1e-7)


def test_float16_stays_near_float32() -> None:
    losses, embedder, prototypes = trained(dtype=torch.float32, iterations=1)
    near_losses, near, near_prototypes = trained(dtype=torch.float32, iterations=1, half=torch.float16)
    assert near_losses == pytest.approx(losses, rel=0.01)
    assert near_losses != losses
    one, other = (torch.cat([each.grad.flatten() for each in learnt(model)]) for model in (embedder, near))
    assert torch.nn.functional.cosine_similarity(one, other, dim=0) > 0.999
    assert other.norm().item() == pytest.approx(one.norm().item(), rel=0.02)  # the factor is taken out again
    for first, second in zip(prototypes, near_prototypes, strict=True):
        assert torch.nn.functional.cosine_similarity(first, second, dim=1).min() > 0.999
