"""The prototype memory against the loop that the method describes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from sil_cli.training.prototype_memory import PrototypeMemory
from sil_cli.training.prototypes import normalised_means


def unit(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return F.normalize(torch.from_numpy(rng.normal(size=shape)), dim=1)


def one_after_another(prototypes, embeddings, labels, momentum):
    """The text of the method, a sample at a time."""
    rows = [row.clone() for row in prototypes]
    for embedding, label in zip(embeddings, labels.tolist(), strict=True):
        mixed = momentum * rows[label] + (1 - momentum) * embedding
        rows[label] = mixed / mixed.norm()
    return torch.stack(rows)


@settings(deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=25),
    momentum=st.floats(0.0, 0.99),
    seed=st.integers(0, 1000),
)
def test_update_equals_the_sequential_one_for_any_repetition(labels, momentum, seed) -> None:
    rng = np.random.default_rng(seed)
    start, embeddings, index = unit(rng, 5, 8), unit(rng, len(labels), 8), torch.tensor(labels)
    memory = PrototypeMemory(start.clone())
    memory.update(embeddings, index, momentum=momentum)
    expected = one_after_another(start, embeddings, index, momentum)
    torch.testing.assert_close(memory.prototypes, expected, rtol=0, atol=1e-12)


def test_loss_is_the_equation() -> None:
    rng = np.random.default_rng(0)
    memory = PrototypeMemory(unit(rng, 6, 4))
    embeddings, labels, temperature = unit(rng, 9, 4), torch.from_numpy(rng.integers(0, 6, 9)), 0.05
    total = 0.0
    for embedding, label in zip(embeddings, labels.tolist(), strict=True):
        scores = [float(torch.exp(embedding @ prototype / temperature)) for prototype in memory.prototypes]
        total += -np.log(scores[label] / sum(scores))
    loss = memory.loss(embeddings, labels, temperature=temperature)
    assert loss.item() == pytest.approx(total / 9, abs=1e-12)


def test_no_gradient_reaches_the_prototypes() -> None:
    rng = np.random.default_rng(0)
    memory = PrototypeMemory(unit(rng, 3, 4))
    embeddings = unit(rng, 2, 4).requires_grad_()
    memory.loss(embeddings, torch.tensor([0, 2]), temperature=0.05).backward()
    assert embeddings.grad is not None
    assert not memory.prototypes.requires_grad
    memory.update(embeddings, torch.tensor([0, 2]), momentum=0.2)
    assert not memory.prototypes.requires_grad


def test_centroids_are_normalised_means() -> None:
    rng = np.random.default_rng(0)
    embeddings, labels = unit(rng, 7, 4), np.array([0, 1, 1, 2, 0, 2, 2])
    found = normalised_means(embeddings, labels)
    for identity in range(3):
        mean = embeddings[labels == identity].mean(dim=0)
        torch.testing.assert_close(found[identity], mean / mean.norm(), rtol=0, atol=1e-12)
