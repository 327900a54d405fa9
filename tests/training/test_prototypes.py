"""Prototypes: the memory against the loop that the method describes, and where they begin."""

from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from sil_cli.errors import DataError, UsageError
from sil_cli.training.prototypes import PrototypeMemory, normalised_means, random_directions, read_prototypes

SOURCES = [
    SimpleNamespace(name="north", identity_names=["a", "b"]),
    SimpleNamespace(name="south", identity_names=["b", "a", "c"]),
]


def vectors() -> dict[str, torch.Tensor]:
    names = [f"{source.name}/{name}" for source in SOURCES for name in source.identity_names]
    rng = np.random.default_rng(0)
    return {name: torch.from_numpy(rng.normal(size=4)).float() for name in [*names, "west/x"]}


def test_vectors_from_a_file_belong_to_their_identities(tmp_path) -> None:
    path, rows_of = tmp_path / "words.safetensors", vectors()
    safetensors.torch.save_file(rows_of | {"north/b": rows_of["north/b"].half()}, path)
    found = read_prototypes(path, SOURCES, 4)
    assert [tuple(each.shape) for each in found] == [(2, 4), (3, 4)]
    for source, rows in zip(SOURCES, found, strict=True):
        assert rows.dtype == torch.float32
        for name, row in zip(source.identity_names, rows, strict=True):
            vector = rows_of[f"{source.name}/{name}"]
            torch.testing.assert_close(row, vector / vector.norm(), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"south/c": None, "north/a": None}, "lacks 2 of 5 identities: north/a, south/c"),
        ({"north/a": torch.ones(3)}, "north/a with shape 3; this model's embeddings have 4 numbers"),
        ({"north/a": torch.ones(1, 4)}, "north/a with shape 1×4"),
        ({"south/a": torch.zeros(4)}, r"without a direction \(zero or not finite\): south/a"),
        ({"south/a": torch.full((4,), float("nan"))}, "without a direction"),
    ],
)
def test_vectors_that_do_not_fit_are_told(tmp_path, change, told) -> None:
    path = tmp_path / "words.safetensors"
    safetensors.torch.save_file({k: v for k, v in (vectors() | change).items() if v is not None}, path)
    with pytest.raises(DataError, match=told):
        read_prototypes(path, SOURCES, 4)


def test_files_that_are_none_are_told(tmp_path) -> None:
    with pytest.raises(UsageError, match="no prototype file"):
        read_prototypes(tmp_path / "nothing.safetensors", SOURCES, 4)
    (tmp_path / "cut.safetensors").write_bytes(safetensors.torch.save(vectors())[:50])
    with pytest.raises(DataError, match="can't be read as prototypes"):
        read_prototypes(tmp_path / "cut.safetensors", SOURCES, 4)


def test_random_prototypes_are_unit_rows_of_their_seed() -> None:
    rows = random_directions(2000, 6, np.random.default_rng(3))
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(2000), rtol=0, atol=1e-6)
    assert torch.equal(rows, random_directions(2000, 6, np.random.default_rng(3)))
    # Uniform over the sphere: mean 0 and E x² = 1/6 in every direction.
    assert rows.mean(dim=0).abs().max() < 4.5 * np.sqrt(1 / 6 / 2000)
    assert (rows.T @ rows / 2000 - torch.eye(6) / 6).abs().max() < 0.03


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
