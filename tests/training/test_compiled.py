"""What torch.compile makes of the network trains as the network does."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sil_cli.models.backbones.staged import StagedChain, obstacle_to_compiling
from sil_cli.models.embedder import Embedder
from sil_cli.models.record import Architecture
from sil_cli.models.styles import UniformBatchStyle
from sil_cli.settings import StyleSettings, TrainSettings
from sil_cli.training.optimizer_step import OptimizerStep
from sil_cli.training.prototypes import PrototypeMemory
from sil_cli.training.step import Batch, interleaved_step

EAGER = {"backend": "aot_eager"}
"""Traces and differentiates as torch.compile does for a GPU, and then runs what it has traced as it is."""
pytestmark = [
    pytest.mark.thorough,
    # torch's own, of its tracing
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]
SIZE, IMAGES, IDENTITIES = {"height": 64, "width": 32}, 4, 5


@pytest.fixture(autouse=True)
def _anew():
    """Each test compiles for itself, and nothing runs without being compiled because there were too many before."""
    torch._dynamo.reset()
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        yield


def embedder(backbone: str = "resnet18") -> Embedder:
    torch.manual_seed(0)
    return Embedder(Architecture(backbone=backbone, **SIZE)).double().train()


def small_embedder() -> Embedder:
    """Three stages, ReLU in place and a sum of two ways among them, as in a ResNet."""
    made = embedder()
    modules = {"conv1": nn.Conv2d(3, 8, 3, 2, 1, bias=False), **{f"layer{number}": Block(8) for number in (1, 2, 3)}}
    made.backbone = StagedChain(modules, order=tuple(modules), ends=tuple(modules)[1:], channels=8, head_prefixes=())
    made.neck = nn.BatchNorm1d(8)
    return made.double().train()


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        inner = self.norm(self.convolution(self.relu(self.norm(self.convolution(features)))))
        inner += features
        return self.relu(inner)


def batches(iteration: int) -> list[Batch]:
    rng = np.random.default_rng([4, iteration])
    return [
        Batch(
            images=torch.from_numpy(rng.random((IMAGES, 3, 64, 32))),
            labels=torch.from_numpy(rng.integers(0, IDENTITIES, IMAGES)),
        )
        for _ in range(3)
    ]


def trained(model: Embedder, styling: StyleSettings) -> tuple[list[float], list[torch.Tensor]]:
    """Losses and prototypes of three iterations."""
    rng = np.random.default_rng(6)
    rows = [torch.from_numpy(rng.standard_normal((IDENTITIES, model.dimension))) for _ in range(3)]
    memories = [PrototypeMemory(nn.functional.normalize(each[:, : model.neck.num_features], dim=1)) for each in rows]
    optimizer_step = OptimizerStep(
        torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=1e-2)
    )
    losses = []
    for iteration in range(3):
        draws = np.random.default_rng([1, iteration])
        loss = interleaved_step(
            model, memories, batches(iteration), UniformBatchStyle(), optimizer_step, TrainSettings(), styling, draws
        )
        losses.append(loss.item())
    return losses, [memory.prototypes for memory in memories]


@pytest.mark.parametrize(
    "styling", [StyleSettings(), StyleSettings(passes="both", after_stages=(1, 2))], ids=["once", "twice"]
)
def test_it_trains_as_the_network_does(styling: StyleSettings) -> None:
    plain, compiled = small_embedder(), small_embedder()
    assert compiled.backbone.compile_between(styling.after_stages, **EAGER) == len(styling.after_stages) + 1
    losses, prototypes = trained(plain, styling)
    same_losses, same_prototypes = trained(compiled, styling)
    assert same_losses == pytest.approx(losses, abs=1e-9)
    for (name, one), other in zip(plain.state_dict().items(), compiled.state_dict().values(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")
    for one, other in zip(prototypes, same_prototypes, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-9)


def test_a_copy_and_eval_mode_are_not_compiled() -> None:
    compiled = embedder("osnet_x0_25")
    names = list(compiled.state_dict())
    compiled.backbone.compile_between((1,), backend=refuse)
    assert list(compiled.state_dict()) == names
    images = torch.rand(2, 3, 64, 32, dtype=torch.float64)
    copied = copy.deepcopy(compiled)
    with torch.no_grad():
        torch.testing.assert_close(copied(images), copied(images))
        compiled.eval()(images)
        with pytest.raises(Exception, match="compiled after all"):
            compiled.train()(images)


def refuse(module: object, inputs: object) -> None:
    raise RuntimeError("compiled after all")


def test_what_is_in_the_way_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    assert "on a CPU the step would be slower" in str(obstacle_to_compiling(embedder().backbone, torch.device("cpu")))
    assert "ResNets" in str(obstacle_to_compiling(embedder("vit_b_16").backbone, cuda))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "no Triton" in str(obstacle_to_compiling(embedder().backbone, cuda))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: "there")
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert "C compiler" in str(obstacle_to_compiling(embedder().backbone, cuda))
    monkeypatch.setattr("shutil.which", lambda name: name)
    assert obstacle_to_compiling(embedder().backbone, cuda) is None
