"""The supervised baseline against plain loops."""

import math

import numpy as np
import pytest
import torch
from tiny_network import tiny_embedder

from sil_cli.models.styles import OwnStyle, UniformBatchStyle
from sil_cli.settings import StyleSettings, SupervisedSettings
from sil_cli.training.optimizer_step import OptimizerStep
from sil_cli.training.step import Batch
from sil_cli.training.supervised import Supervised, batch_hard_triplet_loss, supervised_step

CPU = torch.device("cpu")
RATE = 0.01


def triplet_by_hand(features: torch.Tensor, labels: list[int], margin) -> torch.Tensor:
    terms = []
    for anchor, label in zip(features, labels, strict=True):
        distances = [((anchor - other) ** 2).sum().clamp(min=1e-30).sqrt() for other in features]
        farthest = max(d for d, other in zip(distances, labels, strict=True) if other == label)
        nearest = min(d for d, other in zip(distances, labels, strict=True) if other != label)
        gap = farthest - nearest
        terms.append(torch.log1p(torch.exp(gap)) if margin == "soft" else torch.clamp(gap + margin, min=0))
    return sum(terms) / len(terms)


def identity_by_hand(scores: torch.Tensor, labels: list[int], smoothing: float) -> torch.Tensor:
    """−Σ_k q_k·log p_k with q = 1 − ε + ε/K for the identity and ε/K for every other."""
    terms, count = [], scores.shape[1]
    for row, label in zip(scores, labels, strict=True):
        exponentials = [torch.exp(score) for score in row]
        for k, exponential in enumerate(exponentials):
            share = smoothing / count + (1 - smoothing if k == label else 0)
            terms.append(-share * torch.log(exponential / sum(exponentials)))
    return sum(terms) / len(labels)


@pytest.mark.parametrize("margin", [0.3, "soft"])
def test_the_triplet_loss_and_its_gradient_are_those_by_hand(margin) -> None:
    rng = np.random.default_rng(0)
    labels = [0, 0, 1, 1, 1, 2]  # the last is alone: its farthest positive is itself
    ours = torch.from_numpy(rng.normal(size=(6, 4)) / 2).requires_grad_()
    hand = ours.detach().clone().requires_grad_()
    loss = batch_hard_triplet_loss(ours, torch.tensor(labels), margin=margin)
    expected = triplet_by_hand(hand, labels, margin)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, hand.grad, rtol=0, atol=1e-10)


def test_equal_features_have_a_finite_gradient() -> None:
    features = torch.ones(4, 3, requires_grad=True)
    loss = batch_hard_triplet_loss(features, torch.tensor([0, 0, 1, 1]), margin=0.3)
    loss.backward()
    assert loss.item() == pytest.approx(0.3)
    assert torch.isfinite(features.grad).all()


@pytest.mark.parametrize("margin", [0.3, "soft"])
def test_a_step_of_two_sources_equals_the_replay_by_hand(margin) -> None:
    ours, hand = (tiny_embedder().double().train() for _ in range(2))
    settings = SupervisedSettings(label_smoothing=0.1, margin=margin)
    method = Supervised(settings, StyleSettings(name="none"), identities=[3, 2], dimension=12, device=CPU)
    method.classifier.double()
    weights = method.classifier.weight.detach().clone().requires_grad_()
    rng = np.random.default_rng(1)
    batches = [
        Batch(torch.from_numpy(rng.random((6, 3, 32, 16))), torch.tensor([0, 0, 1, 1, 2, 2])),
        Batch(torch.from_numpy(rng.random((4, 3, 32, 16))), torch.tensor([1, 1, 0, 0])),
    ]
    labels = [0, 0, 1, 1, 2, 2, 4, 4, 3, 3]  # those of the second source come after the three of the first
    learnt = [p for p in (*ours.parameters(), *method.parameters()) if p.requires_grad]
    optimizer = torch.optim.SGD(learnt, lr=RATE)
    for _ in range(3):
        loss = method.step(ours, batches, OptimizerStep(optimizer), np.random.default_rng(0))
        features = hand.pooled(torch.cat([batch.images for batch in batches]))
        scores = hand.neck(features) @ weights.T
        expected = identity_by_hand(scores, labels, 0.1) + triplet_by_hand(features, labels, margin)
        parameters = [*(p for p in hand.parameters() if p.requires_grad), weights]
        gradients = torch.autograd.grad(expected, parameters)
        assert loss.item() == pytest.approx(expected.item(), abs=1e-9)
        with torch.no_grad():
            for mine, parameter, gradient in zip(learnt, parameters, gradients, strict=True):
                torch.testing.assert_close(mine.grad, gradient, rtol=0, atol=1e-9)
                parameter -= RATE * gradient
        for mine, theirs in zip(ours.state_dict().values(), hand.state_dict().values(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-9)


def test_a_style_acts_where_one_is_chosen() -> None:
    images, labels = torch.rand(4, 3, 32, 16, dtype=torch.float64), torch.tensor([0, 0, 1, 1])
    losses = []
    for style in (OwnStyle(), UniformBatchStyle()):
        embedder = tiny_embedder().double().train()
        classifier = torch.nn.Linear(12, 2, bias=False).double()
        torch.nn.init.constant_(classifier.weight, 0.1)
        optimizer = torch.optim.SGD(embedder.parameters(), lr=RATE)
        loss = supervised_step(
            embedder, classifier, Batch(images, labels), style, OptimizerStep(optimizer), SupervisedSettings(), (1,),
            np.random.default_rng(0),
        )  # fmt: skip
        losses.append(loss)
    assert abs(losses[0] - losses[1]) > 1e-6


def test_chance_is_the_loss_of_equal_scores_and_distances() -> None:
    for margin, triplet in ((0.3, 0.3), ("soft", math.log(2))):
        settings = SupervisedSettings(margin=margin)
        method = Supervised(settings, StyleSettings(), identities=[3, 2], dimension=4, device=CPU)
        assert method.chance == pytest.approx(math.log(5) + triplet)
