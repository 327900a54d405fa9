"""One iteration held against the paper: replayed by hand in float64 with plain loops and autograd."""

from functools import partial

import numpy as np
import pytest
import torch
from styles_by_hand import apply_by_hand
from tiny_network import tiny_embedder

from sil_cli.models.embedder import Embedder
from sil_cli.models.record import Architecture
from sil_cli.models.styles import OwnStyle, UniformBatchStyle, make_style
from sil_cli.settings import StyleSettings, TrainSettings
from sil_cli.training.optimizer_step import OptimizerStep
from sil_cli.training.prototypes import PrototypeMemory
from sil_cli.training.step import Batch, interleaved_step

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


def make_prototypes(dimension: int = 512) -> list[torch.Tensor]:
    rng = np.random.default_rng(5)
    rows = [torch.from_numpy(rng.normal(size=(identities, dimension))) for identities in IDENTITIES]
    return [each / each.norm(dim=1, keepdim=True) for each in rows]


def first_pass_by_hand(
    embedder, prototypes, batches, temperature, styles, stages
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """L_M and the embeddings of each source, which passes alone."""
    per_source, embeddings = [], []
    for rows, batch, style in zip(prototypes, batches, styles, strict=True):
        terms = []
        embeddings.append(embedder(batch.images, style=style, after_stages=stages))
        for embedding, label in zip(embeddings[-1], batch.labels.tolist(), strict=True):
            exponentials = [torch.exp((embedding * row).sum() / temperature) for row in rows]
            terms.append(-torch.log(exponentials[label] / sum(exponentials)))
        per_source.append(sum(terms) / len(terms))
    return sum(per_source) / len(per_source), embeddings


def adam_by_hand(parameters, gradients, moments, step) -> None:
    """Kingma and Ba (2015), with the penalty added to the gradient."""
    for parameter, gradient, (first, second) in zip(parameters, gradients, moments, strict=True):
        gradient = gradient + DECAY * parameter
        first.mul_(0.9).add_(0.1 * gradient)
        second.mul_(0.999).add_(0.001 * gradient**2)
        corrected = (first / (1 - 0.9**step), second / (1 - 0.999**step))
        parameter.sub_(RATE * corrected[0] / (corrected[1].sqrt() + 1e-8))


def second_pass_by_hand(embedder, batches, style, stages, rng) -> list[tuple[torch.Tensor, int, int]]:
    """Embedding, source and label of every image, in the order in which they are shuffled."""
    everything = [
        (image, source, label)
        for source, batch in enumerate(batches)
        for image, label in zip(batch.images, batch.labels.tolist(), strict=True)
    ]
    shuffled = [everything[position] for position in rng.permutation(len(everything))]
    embeddings = embedder(torch.stack([image for image, _, _ in shuffled]), style=style, after_stages=stages)
    return [(row, source, label) for row, (_, source, label) in zip(embeddings, shuffled, strict=True)]


def replay(name: str, more: dict, placed: dict, train: TrainSettings, ours: Embedder, hand: Embedder) -> None:
    """Train twice for three iterations, by the program and by hand, and compare after each."""
    styling = StyleSettings(name=name, **more, **placed)
    style = make_style(styling)
    prototypes = make_prototypes(hand.neck.num_features)
    memories = [PrototypeMemory(rows.clone()) for rows in prototypes]
    optimizer = torch.optim.Adam([p for p in ours.parameters() if p.requires_grad], lr=RATE, weight_decay=DECAY)
    learnt = [p for p in hand.parameters() if p.requires_grad]
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in learnt]
    for iteration in range(3):
        batches = make_batches(iteration)
        rng = np.random.default_rng([1, iteration])
        loss = interleaved_step(ours, memories, batches, style, OptimizerStep(optimizer), train, styling, rng)

        rng = np.random.default_rng([1, iteration])

        def restyle(maps: torch.Tensor, rng=rng) -> torch.Tensor:
            return apply_by_hand(name, maps, rng, **more)

        styled = styling.passes in ("first", "both")  # then each source's styles are drawn for it alone
        first_styles = [partial(restyle, rng=each) if styled else None for each in rng.spawn(len(batches))]
        second_style = restyle if styling.passes in ("second", "both") else None
        stages = styling.after_stages
        expected, embeddings = first_pass_by_hand(hand, prototypes, batches, train.temperature, first_styles, stages)
        gradients = torch.autograd.grad(expected, learnt)
        with torch.no_grad():
            adam_by_hand(learnt, gradients, moments, iteration + 1)
            still = {key: value.clone() for key, value in hand.state_dict().items() if "running" in key}
            if train.second_pass:
                feeding = second_pass_by_hand(hand, batches, second_style, stages, rng)
            else:
                feeding = [
                    (row, source, label)
                    for source, rows in enumerate(embeddings)
                    for row, label in zip(rows, batches[source].labels.tolist(), strict=True)
                ]
            if not train.second_pass_statistics:
                hand.load_state_dict(still, strict=False)
            for embedding, source, label in feeding:
                row = train.momentum * prototypes[source][label] + (1 - train.momentum) * embedding
                prototypes[source][label] = row / row.norm()

        assert loss.item() == pytest.approx(expected.item(), abs=1e-9)
        for mine, theirs in zip((p for p in ours.parameters() if p.requires_grad), gradients, strict=True):
            torch.testing.assert_close(mine.grad, theirs, rtol=0, atol=1e-9)
        for (key, mine), theirs in zip(ours.state_dict().items(), hand.state_dict().values(), strict=True):
            if train.second_pass_statistics or "num_batches" not in key:
                torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-9, msg=lambda text, key=key: f"{key}: {text}")
        for memory, rows in zip(memories, prototypes, strict=True):
            torch.testing.assert_close(memory.prototypes, rows, rtol=0, atol=1e-9)


def test_three_iterations_of_two_sources_equal_the_replay_by_hand() -> None:
    train = TrainSettings(temperature=TEMPERATURE, momentum=MOMENTUM)
    replay("ubs", {}, {}, train, make_embedder(), make_embedder())


@pytest.mark.parametrize("name", ["none", "mixstyle", "dsu", "efdmix", "dir-mixstyle", "batch-style", "dbs", "ubs"])
def test_every_style_equals_the_replay(name: str) -> None:
    replay(name, {}, {}, TrainSettings(), tiny_embedder().double().train(), tiny_embedder().double().train())


@pytest.mark.parametrize(
    ("name", "more", "placed", "train"),
    [
        ("mixstyle", {}, {"passes": "first"}, {}),
        ("efdmix", {}, {"passes": "first"}, {"second_pass": False}),
        ("dsu", {}, {"passes": "both", "after_stages": (1, 3)}, {}),
        ("ubs", {"clamp": True, "rho": 5.0}, {"after_stages": (2,)}, {"second_pass_statistics": False}),
        ("none", {}, {}, {"second_pass": False, "momentum": 0.7}),
        ("batch-style", {"covariance": "diagonal"}, {}, {"momentum": 0.0, "temperature": 0.2}),
        ("dbs", {"mix": "random"}, {"after_stages": (4,)}, {}),
    ],
)
def test_every_variation_of_the_step_equals_the_replay(name: str, more: dict, placed: dict, train: dict) -> None:
    ours, hand = (tiny_embedder().double().train() for _ in range(2))
    replay(name, more, placed, TrainSettings(**train), ours, hand)


def run_once(*, second_pass_statistics: bool, style=None) -> tuple[Embedder, list[PrototypeMemory]]:
    embedder = tiny_embedder().double().train()
    memories = [PrototypeMemory(rows) for rows in make_prototypes(12)]
    optimizer = torch.optim.SGD([p for p in embedder.parameters() if p.requires_grad], lr=0.01)
    interleaved_step(
        embedder,
        memories,
        make_batches(0),
        style or UniformBatchStyle(),
        OptimizerStep(optimizer),
        TrainSettings(second_pass_statistics=second_pass_statistics),
        StyleSettings(),
        np.random.default_rng(0),
    )
    return embedder, memories


def test_the_second_pass_can_leave_running_statistics_alone() -> None:
    reference = tiny_embedder().double().train()
    with torch.no_grad():
        for batch in make_batches(0):
            reference(batch.images)  # the first pass alone
    still, memories = run_once(second_pass_statistics=False)
    moved, same_memories = run_once(second_pass_statistics=True)
    torch.testing.assert_close(still.neck.running_mean, reference.neck.running_mean, rtol=0, atol=1e-12)
    assert (moved.neck.running_mean - reference.neck.running_mean).abs().max() > 1e-6
    assert still.neck.track_running_stats
    # Batch statistics normalise the second pass either way, so the prototypes are the same.
    for one, other in zip(memories, same_memories, strict=True):
        torch.testing.assert_close(one.prototypes, other.prototypes, rtol=0, atol=1e-12)


def test_the_style_touches_prototypes_only() -> None:
    plain, plain_memories = run_once(second_pass_statistics=False, style=OwnStyle())
    styled, styled_memories = run_once(second_pass_statistics=False, style=UniformBatchStyle())
    for one, other in zip(plain.state_dict().values(), styled.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(plain_memories[0].prototypes, styled_memories[0].prototypes)


def test_one_source_is_enough() -> None:
    embedder = tiny_embedder().double().train()
    memory = PrototypeMemory(make_prototypes(12)[0])
    optimizer = torch.optim.SGD([p for p in embedder.parameters() if p.requires_grad], lr=0.01)
    loss = interleaved_step(
        embedder,
        [memory],
        make_batches(0)[:1],
        UniformBatchStyle(),
        OptimizerStep(optimizer),
        TrainSettings(),
        StyleSettings(),
        np.random.default_rng(0),
    )
    assert torch.isfinite(loss)
    assert not loss.requires_grad
