"""No step reads anything back from the device: that would wait for all that it still has to do.

torch's `meta` device has shapes and no values, so that whatever reads one (item, a mask as an index, a copy to the CPU)
raises there.
"""

import contextlib
from typing import get_args

import numpy as np
import pytest
import torch
from tiny_network import DIMENSION, tiny_embedder

from sil_cli.models.styles import make_style
from sil_cli.settings import StyleSettings, SupervisedSettings, TrainSettings
from sil_cli.settings.fields import StyleName
from sil_cli.training.optimizer_step import OptimizerStep
from sil_cli.training.prototypes import PrototypeMemory
from sil_cli.training.step import Batch, interleaved_step
from sil_cli.training.supervised import supervised_step

LABELS = torch.tensor([0, 0, 1, 1, 2, 0])


@pytest.fixture(autouse=True)
def _without_autocast(monkeypatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # it does not know `meta`


def batch() -> Batch:
    return Batch(images=torch.empty(len(LABELS), 3, 32, 16, device="meta"), labels=LABELS)


def adam(*modules: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam([each for module in modules for each in module.parameters() if each.requires_grad])


@pytest.mark.parametrize("second_pass", [True, False])
@pytest.mark.parametrize("name", get_args(StyleName))
def test_the_interleaved_step_reads_nothing_back(name: StyleName, second_pass: bool) -> None:
    embedder = tiny_embedder().to("meta").train()
    styling = StyleSettings(name=name, clamp=True, passes="both")
    memories = [PrototypeMemory(torch.empty(5, DIMENSION, device="meta")) for _ in range(2)]
    loss = interleaved_step(
        embedder, memories, [batch(), batch()], make_style(styling), OptimizerStep(adam(embedder)),
        TrainSettings(second_pass=second_pass), styling, np.random.default_rng(0),
    )  # fmt: skip
    assert loss.device.type == "meta"


def test_the_supervised_step_reads_nothing_back() -> None:
    embedder = tiny_embedder().to("meta").train()
    classifier = torch.nn.Linear(DIMENSION, 5, bias=False, device="meta")
    loss = supervised_step(
        embedder, classifier, batch(), make_style(StyleSettings()), OptimizerStep(adam(embedder, classifier)),
        SupervisedSettings(), (1,), np.random.default_rng(0),
    )  # fmt: skip
    assert loss.device.type == "meta"


def test_reading_back_would_be_noticed() -> None:
    with pytest.raises((NotImplementedError, RuntimeError)):
        torch.empty(3, device="meta")[torch.empty(3, device="meta") > 0]
