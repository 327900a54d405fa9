"""Short trainings that several processes share; torchrun starts this file, and each process writes what it came to."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from tiny_network import tiny_embedder

from sil_cli.data.manifest import ImageRecord
from sil_cli.distributed.process_group import ProcessGroup
from sil_cli.runtime import SilentReporter, StopRequest
from sil_cli.settings import StyleSettings, SupervisedSettings, TrainSettings
from sil_cli.training.loop import Training
from sil_cli.training.method import Interleaved
from sil_cli.training.sources import make_source
from sil_cli.training.supervised import Supervised

CPU = torch.device("cpu")
SETTINGS = TrainSettings(
    epochs=2,
    iterations=1,
    seed=1,
    learning_rate=1e-3,
    weight_decay=5e-4,
    warmup_epochs=1,
    warmup_factor=0.1,
    milestones=(1,),
    decay=0.1,
    flip=0.5,
    pad=2,
    divergence=0.0,
    batch_norm="synchronised",
)
STYLES = ("none", "mixstyle", "dsu", "efdmix", "dir-mixstyle", "batch-style", "dbs", "ubs")
VARIATIONS: dict[str, dict] = {
    **{f"style {name}": {"style": {"name": name}} for name in STYLES if name != "efdmix"},
    # Sorting is not continuous: in black borders values are equal but for the last digit, and swap places with it.
    "style efdmix": {"style": {"name": "efdmix"}, "pad": 0},
    "averaged, erased, chosen": {"style": {"name": "dbs"}, "ema": 0.9, "erasing": 0.5, "select": "held-out"},
    "both passes": {"style": {"name": "dsu", "passes": "both", "after_stages": (1, 3)}},
    "sometimes": {"style": {"name": "ubs", "probability": 0.5}},
    "statistics kept still": {"style": {"name": "ubs"}, "second_pass_statistics": False},
    "FB": {"style": {"name": "none"}, "second_pass": False},
    "frozen": {"style": {"name": "ubs"}, "batch_norm": "frozen"},
    "supervised": {"style": {"name": "mixstyle"}, "method": "supervised"},
    "supervised, soft, frozen": {
        "style": {"name": "none"}, "method": "supervised", "margin": "soft", "batch_norm": "frozen"
    },
}  # fmt: skip
"""Those that come to the same with any number of processes."""

OWN_STATISTICS = {"style": {"name": "ubs"}, "batch_norm": "per-process"}


def make_training(group: ProcessGroup, style: dict[str, object], margin: float | str = 0.3, **more) -> Training:
    """In float64, where the order of a sum shows in the last digits only."""
    settings = TrainSettings.model_validate(SETTINGS.model_dump() | more)
    sources = list(make_sources(0.2 if settings.select == "held-out" else 0.0))
    embedder = tiny_embedder().double()
    styling = StyleSettings(mix="random", **style)
    if settings.method == "supervised":
        sizes = {"identities": [source.identities for source in sources], "dimension": embedder.dimension}
        chosen = Supervised(SupervisedSettings(margin=margin), styling, **sizes, device=CPU)
        chosen.classifier.double()
    else:
        chosen = Interleaved(settings, styling, device=CPU)
    return Training(embedder, sources, chosen, settings, device=CPU, group=group)


def make_sources(held_out: float):
    rng = np.random.default_rng(3)
    for name, identities in (("north", 5), ("south", 7)):
        records = [
            ImageRecord(path=f"{n}.jpg", identity=f"p{n // 5}", camera=f"c{n % 2}", split="train", domain=name)
            for n in range(5 * identities)
        ]
        pixels = rng.integers(0, 256, size=(len(records), 32, 16, 3), dtype=np.uint8)
        yield make_source(name, records, pixels, identities_per_batch=4, instances=3, seed=1, held_out=held_out)


def outcome(training: Training, folder: Path) -> dict[str, torch.Tensor]:
    """All that a training comes to."""
    torch.manual_seed(training.group.rank)  # nothing may depend on it
    training.share_state()
    training.start(SilentReporter())
    if isinstance(training.method, Interleaved):
        for memory in training.method.memories:
            memory.prototypes = memory.prototypes.double()
    return finish(training, folder)


def finish(training: Training, folder: Path) -> dict[str, torch.Tensor]:
    """The same of one that has begun."""
    training.run(folder, SilentReporter(), StopRequest(), lambda history: None)
    _, kept = training.selected_state()
    state = {f"model {name}": value for name, value in training.embedder.state_dict().items()}
    state |= {f"kept {name}": value for name, value in kept.items()}
    state |= {f"method {name}": value for name, value in training.method.state().items()}
    figures = [[facts["loss"], facts.get("held_out_mAP", 0.0)] for facts in training.history]
    return {name: value.double().clone() for name, value in (state | {"history": torch.tensor(figures)}).items()}


def main(folder: Path, names: list[str]) -> None:
    torch.distributed.init_process_group("gloo")
    group = ProcessGroup(torch.distributed.get_rank(), torch.distributed.get_world_size())
    found = {}
    for name in names:
        variation = VARIATIONS.get(name, OWN_STATISTICS)
        run = folder / f"{group.world_size}-{name}"
        if group.is_first:
            run.mkdir()
        found[name] = outcome(make_training(group, **variation), run)
    torch.save(found, folder / f"rank-{group.rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
