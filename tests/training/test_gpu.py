"""What only a GPU shows: nothing waits for it, it computes what the CPU does, and runs go on as they would have."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from test_loop import SETTINGS, StopAfter, finish, ignore, make_sources
from torch import nn

from sil_cli.errors import InterruptedWorkError
from sil_cli.models.backbones.staged import compile_backbone, obstacle_to_compiling
from sil_cli.models.embedder import Embedder
from sil_cli.models.record import Architecture
from sil_cli.models.styles import UniformBatchStyle, make_style
from sil_cli.runs.checkpoint import load_checkpoint
from sil_cli.runtime import SilentReporter
from sil_cli.settings import StyleSettings, SupervisedSettings, TrainSettings
from sil_cli.settings.fields import StyleName
from sil_cli.training.loop import Training
from sil_cli.training.method import Interleaved
from sil_cli.training.optimizer_step import OptimizerStep
from sil_cli.training.prototypes import PrototypeMemory
from sil_cli.training.step import Batch, interleaved_step
from sil_cli.training.supervised import supervised_step

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda")
IMAGES, IDENTITIES = 8, 6


@pytest.fixture(autouse=True)
def _in_float32(monkeypatch: pytest.MonkeyPatch):
    """Without TF32, whose products have ten bits; torch's default has it for convolutions."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch._dynamo.reset()
    yield
    torch.cuda.synchronize()


def embedder(device: torch.device, dtype: torch.dtype = torch.float32) -> Embedder:
    torch.manual_seed(0)
    made = Embedder(Architecture(backbone="resnet18", height=32, width=16))
    return made.to(device, dtype).to(memory_format=torch.channels_last).train()


def batches(iteration: int, device: torch.device, dtype: torch.dtype = torch.float32) -> list[Batch]:
    rng = np.random.default_rng([4, iteration])
    return [
        Batch(
            images=torch.from_numpy(rng.random((IMAGES, 3, 32, 16))).to(device, dtype),
            labels=torch.from_numpy(rng.integers(0, IDENTITIES, IMAGES)),
        )
        for _ in range(3)
    ]


def memories(device: torch.device, dtype: torch.dtype = torch.float32) -> list[PrototypeMemory]:
    rng = np.random.default_rng(6)
    rows = [torch.from_numpy(rng.standard_normal((IDENTITIES, 512))) for _ in range(3)]
    return [PrototypeMemory(nn.functional.normalize(each, dim=1).to(device, dtype)) for each in rows]


def adam(*modules: nn.Module) -> torch.optim.Optimizer:
    learnt = [each for module in modules for each in module.parameters() if each.requires_grad]
    return torch.optim.Adam(learnt, fused=True)


@pytest.mark.parametrize("half", [None, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", get_args(StyleName))
def test_the_step_waits_for_nothing(name: StyleName, half: torch.dtype | None) -> None:
    styling = StyleSettings(name=name, clamp=True, passes="both")
    model, kept, given = embedder(CUDA), memories(CUDA), batches(0, CUDA)
    fixed = (make_style(styling), OptimizerStep(adam(model), half=half), TrainSettings(), styling)
    interleaved_step(model, kept, given, *fixed, np.random.default_rng(0))
    torch.cuda.set_sync_debug_mode("error")
    try:
        interleaved_step(model, kept, given, *fixed, np.random.default_rng(0))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_supervised_step_waits_for_nothing() -> None:
    model, classifier = embedder(CUDA), nn.Linear(512, IDENTITIES, bias=False, device=CUDA)
    fixed = (UniformBatchStyle(), OptimizerStep(adam(model, classifier)), SupervisedSettings(), (1,))
    (batch, *_) = batches(0, CUDA)
    supervised_step(model, classifier, batch, *fixed, np.random.default_rng(0))
    torch.cuda.set_sync_debug_mode("error")
    try:
        supervised_step(model, classifier, batch, *fixed, np.random.default_rng(0))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def trained(device: torch.device, *, compiled: bool = False) -> tuple[list[float], Embedder]:
    """Losses of three iterations, and the model after them."""
    model, kept = embedder(device, torch.float64), memories(device, torch.float64)
    if compiled:
        assert obstacle_to_compiling(model.backbone, device) is None
        compile_backbone(model.backbone, (1,))
    optimizer_step = OptimizerStep(
        torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=1e-3)
    )
    losses = []
    for number in range(3):
        loss = interleaved_step(
            model, kept, batches(number, device, torch.float64), UniformBatchStyle(), optimizer_step, TrainSettings(),
            StyleSettings(), np.random.default_rng([1, number]),
        )  # fmt: skip
        losses.append(loss.item())
    return losses, model


@pytest.mark.filterwarnings("ignore")  # torch's own, while it compiles
@pytest.mark.parametrize("compiled", [False, True], ids=["as it is", "compiled"])
def test_it_computes_what_the_cpu_does(compiled: bool) -> None:
    """In float64, where sums of another order can't grow into more."""
    losses, model = trained(torch.device("cpu"))
    same_losses, same = trained(CUDA, compiled=compiled)
    assert same_losses == pytest.approx(losses, rel=1e-7)
    for (name, one), other in zip(model.state_dict().items(), same.state_dict().values(), strict=True):
        torch.testing.assert_close(
            other.cpu(), one, rtol=1e-6, atol=1e-8, msg=lambda text, name=name: f"{name}: {text}"
        )


def make_training(half: torch.dtype | None, *, compiled: bool) -> Training:
    settings = SETTINGS.model_copy(update={"precision": str(half or "float32").removeprefix("torch.")})
    method = Interleaved(settings, StyleSettings(), device=CUDA)
    model = embedder(CUDA)
    training = Training(model, list(make_sources()), method, settings, device=CUDA)
    if compiled:
        compile_backbone(model.backbone, (1,))
    return training


def uninterrupted(folder: Path, half: torch.dtype | None, *, compiled: bool) -> dict[str, torch.Tensor]:
    folder.mkdir()
    training = make_training(half, compiled=compiled)
    training.start(SilentReporter())
    return finish(training, folder)


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The norm of the difference of all weights, statistics, prototypes and losses, relative to their norm."""
    pairs = [(one[name].double().cpu(), other[name].double().cpu()) for name in one]
    difference = sum(float((first - second).square().sum()) for first, second in pairs)
    return (difference / sum(float(first.square().sum()) for first, _ in pairs)) ** 0.5


@pytest.mark.filterwarnings("ignore")  # torch's own, while it compiles
@pytest.mark.parametrize("compiled", [False, True], ids=["as it is", "compiled"])
@pytest.mark.parametrize("half", [None, torch.bfloat16, torch.float16], ids=str)
def test_a_resumed_run_is_as_near_as_a_second_one(tmp_path, half: torch.dtype | None, compiled: bool) -> None:
    """The documented tolerance: cuDNN adds up in an order that it does not promise to keep from run to run."""
    first, second = (uninterrupted(tmp_path / name, half, compiled=compiled) for name in ("first", "second"))
    parts = make_training(half, compiled=compiled)
    parts.start(SilentReporter())
    with pytest.raises(InterruptedWorkError, match="iteration 2 of 6"):
        parts.run(tmp_path, SilentReporter(), StopAfter(2), ignore)
    parts = make_training(half, compiled=compiled)
    parts.restore(load_checkpoint(tmp_path, SilentReporter()))
    resumed = finish(parts, tmp_path)
    assert resumed.keys() == first.keys()
    assert apart(first, resumed) <= max(1e-6, 3 * apart(first, second))
