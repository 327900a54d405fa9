"""One iteration held against the paper: replayed by hand in float64 with plain loops and autograd."""

import numpy as np
import pytest
import torch

from sil_cli.models.embedder import Embedder
from sil_cli.models.record import Architecture
from sil_cli.models.stylize import OwnStyle, UniformBatchStyle, feature_statistics
from sil_cli.training.memory import PrototypeMemory
from sil_cli.training.step import Batch, StepOptions, interleaved_step

TEMPERATURE, MOMENTUM, RATE, DECAY = 0.05, 0.2, 3.5e-4, 5e-4
SIZES = (6, 8)
IDENTITIES = (3, 4)


def make_embedder() -> Embedder:
    torch.manual_seed(0)
    return Embedder(Architecture(backbone="resnet18", height=32, width=16)).double().train()


def make_batches(iteration: int) -> list[Batch]:
    rng = np.random.default_rng([9, iteration])
    return [
        Batch(
            images=torch.from_numpy(rng.random((size, 3, 32, 16))),
            labels=torch.from_numpy(rng.integers(0, identities, size)),
        )
        for size, identities in zip(SIZES, IDENTITIES, strict=True)
    ]


def make_prototypes() -> list[torch.Tensor]:
    rng = np.random.default_rng(5)
    rows = [torch.from_numpy(rng.normal(size=(identities, 512))) for identities in IDENTITIES]
    return [each / each.norm(dim=1, keepdim=True) for each in rows]


def loss_by_hand(embedder, prototypes, batches) -> torch.Tensor:
    per_source = []
    for rows, batch in zip(prototypes, batches, strict=True):
        terms = []
        for embedding, label in zip(embedder(batch.images), batch.labels.tolist(), strict=True):
            exponentials = [torch.exp((embedding * row).sum() / TEMPERATURE) for row in rows]
            terms.append(-torch.log(exponentials[label] / sum(exponentials)))
        per_source.append(sum(terms) / len(terms))
    return sum(per_source) / len(per_source)


def adam_by_hand(parameters, gradients, moments, step) -> None:
    """Kingma and Ba (2015), with the penalty added to the gradient."""
    for parameter, gradient, (first, second) in zip(parameters, gradients, moments, strict=True):
        gradient = gradient + DECAY * parameter
        first.mul_(0.9).add_(0.1 * gradient)
        second.mul_(0.999).add_(0.001 * gradient**2)
        corrected = (first / (1 - 0.9**step), second / (1 - 0.999**step))
        parameter.sub_(RATE * corrected[0] / (corrected[1].sqrt() + 1e-8))


def second_pass_by_hand(embedder, prototypes, batches, rng) -> None:
    everything = [
        (image, source, label)
        for source, batch in enumerate(batches)
        for image, label in zip(batch.images, batch.labels.tolist(), strict=True)
    ]
    shuffled = [everything[position] for position in rng.permutation(len(everything))]

    def uniform_style(maps: torch.Tensor) -> torch.Tensor:
        own = feature_statistics(maps)
        betas, gammas = [
            values.mean(0)
            + torch.from_numpy(rng.uniform(-3, 3, size=tuple(values.shape))) * values.std(0, correction=0)
            for values in (own.mean, own.std)
        ]
        styled = [
            gamma[:, None, None] * (one - mean[:, None, None]) / std[:, None, None] + beta[:, None, None]
            for one, mean, std, gamma, beta in zip(maps, own.mean, own.std, gammas, betas, strict=True)
        ]
        return torch.stack(styled)

    embeddings = embedder(torch.stack([image for image, _, _ in shuffled]), style=uniform_style, after_stage=1)
    for embedding, (_, source, label) in zip(embeddings, shuffled, strict=True):
        row = MOMENTUM * prototypes[source][label] + (1 - MOMENTUM) * embedding
        prototypes[source][label] = row / row.norm()


def test_three_iterations_of_two_sources_equal_the_replay_by_hand() -> None:
    ours, hand = make_embedder(), make_embedder()
    memories = [PrototypeMemory(rows.clone()) for rows in make_prototypes()]
    prototypes = make_prototypes()
    optimizer = torch.optim.Adam([p for p in ours.parameters() if p.requires_grad], lr=RATE, weight_decay=DECAY)
    parameters = [p for p in hand.parameters() if p.requires_grad]
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    for iteration in range(3):
        batches = make_batches(iteration)
        options = StepOptions(temperature=TEMPERATURE, momentum=MOMENTUM)
        loss = interleaved_step(
            ours, memories, batches, UniformBatchStyle(3.0), optimizer, options, np.random.default_rng([1, iteration])
        )
        expected = loss_by_hand(hand, prototypes, batches)
        gradients = torch.autograd.grad(expected, parameters)
        assert loss.item() == pytest.approx(expected.item(), abs=1e-9)
        for mine, theirs in zip((p for p in ours.parameters() if p.requires_grad), gradients, strict=True):
            torch.testing.assert_close(mine.grad, theirs, rtol=0, atol=1e-9)
        with torch.no_grad():
            adam_by_hand(parameters, gradients, moments, iteration + 1)
            second_pass_by_hand(hand, prototypes, batches, np.random.default_rng([1, iteration]))
        for (name, mine), theirs in zip(ours.state_dict().items(), hand.state_dict().values(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")
        for memory, rows in zip(memories, prototypes, strict=True):
            torch.testing.assert_close(memory.prototypes, rows, rtol=0, atol=1e-9)


def run_once(options: StepOptions, style=None) -> tuple[Embedder, list[PrototypeMemory]]:
    embedder = make_embedder()
    memories = [PrototypeMemory(rows) for rows in make_prototypes()]
    optimizer = torch.optim.SGD([p for p in embedder.parameters() if p.requires_grad], lr=0.01)
    interleaved_step(
        embedder, memories, make_batches(0), style or UniformBatchStyle(), optimizer, options, np.random.default_rng(0)
    )
    return embedder, memories


def test_the_second_pass_can_leave_running_statistics_alone() -> None:
    reference = make_embedder()
    with torch.no_grad():
        for batch in make_batches(0):
            reference(batch.images)  # the first pass alone
    still, memories = run_once(StepOptions(second_pass_statistics=False))
    moved, same_memories = run_once(StepOptions(second_pass_statistics=True))
    torch.testing.assert_close(still.backbone.bn1.running_mean, reference.backbone.bn1.running_mean, rtol=0, atol=1e-12)
    assert (moved.backbone.bn1.running_mean - reference.backbone.bn1.running_mean).abs().max() > 1e-6
    assert still.backbone.bn1.track_running_stats
    # Batch statistics normalise the second pass either way, so the prototypes are the same.
    for one, other in zip(memories, same_memories, strict=True):
        torch.testing.assert_close(one.prototypes, other.prototypes, rtol=0, atol=1e-12)


def test_the_style_touches_prototypes_only() -> None:
    plain, plain_memories = run_once(StepOptions(second_pass_statistics=False), OwnStyle())
    styled, styled_memories = run_once(StepOptions(second_pass_statistics=False), UniformBatchStyle())
    for one, other in zip(plain.state_dict().values(), styled.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(plain_memories[0].prototypes, styled_memories[0].prototypes)


def test_one_source_is_enough() -> None:
    embedder = make_embedder()
    memory = PrototypeMemory(make_prototypes()[0])
    optimizer = torch.optim.SGD([p for p in embedder.parameters() if p.requires_grad], lr=0.01)
    loss = interleaved_step(
        embedder, [memory], make_batches(0)[:1], UniformBatchStyle(), optimizer, StepOptions(), np.random.default_rng(0)
    )
    assert torch.isfinite(loss)
    assert not loss.requires_grad
