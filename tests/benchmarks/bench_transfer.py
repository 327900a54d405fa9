"""What models that learnt from generated people do on other data, from photographs to rendered people.

    python tests/benchmarks/bench_transfer.py FOLDER --weights FILE|imagenet --target DATASET --target DATASET …
        [--methods fb,fbf,dbs,ubs] [--seeds 1] [--recipe small] [--set KEY=VALUE …]

Draws the default networks into FOLDER, and trains each method on three of them, from the weights as they are
published. Prints mAP / Rank-1 in percent on each target and on the network left out, as a Markdown table with a line
for a colour histogram, for the published weights before any training, and for each method (the mean over seeds, and
their range). What stands in FOLDER is not trained again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from bench_generated import histogram_scores, sil, trained

from sil_cli.models.embedder import Embedder, save_model
from sil_cli.models.record import read_record
from sil_cli.models.weights import load_pretrained

SOURCES, LEFT_OUT = ("harbour", "orchard", "atrium"), "viaduct"


def settings_of(method: str) -> list[str]:
    """The options that make a training by one of a benchmark's methods of the recipe."""
    second = [] if method != "fb" else ["--set", "train.second_pass=false"]
    return ["--style", "none" if method in ("fb", "fbf") else method, *second]


def scores(folder: Path, model: str, target: str) -> tuple[float, float]:
    """mAP and Rank-1 of a model on a prepared data set."""
    found = sil(folder, "evaluate", "--model", model, "--target", target)
    return found["mAP"], found["cmc"]["1"]


def as_published(folder: Path, model: str, weights: str) -> str:
    """A model of the same network as another, with the published weights."""
    embedder = Embedder(read_record(folder / model).architecture)
    load_pretrained(embedder, weights)
    save_model(folder / "published", embedder)
    return "published"


def cell(pairs: list[tuple[float, float]]) -> str:
    """The means, and the range of mAP where there are several."""
    maps, ranks = (100 * np.array(column) for column in zip(*pairs, strict=True))
    within = f" ({maps.min():.1f} to {maps.max():.1f})" if len(pairs) > 1 else ""
    return f"{maps.mean():.1f} / {ranks.mean():.1f}{within}"


def main() -> None:
    """Train what is missing, test it, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--target", type=Path, action="append", default=[])
    parser.add_argument("--methods", type=lambda text: text.split(","), default=("fb", "fbf", "dbs", "ubs"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--recipe", default="small")
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    options = parser.parse_args()
    weights = options.weights if options.weights == "imagenet" else str(Path(options.weights).resolve())
    options.folder.mkdir(parents=True, exist_ok=True)
    if not (options.folder / "data" / LEFT_OUT).exists():
        sil(options.folder, "prepare-data")
    targets = [*(str(path.resolve()) for path in options.target), f"data/{LEFT_OUT}"]

    more = [
        "--set",
        f"model.backbone={options.backbone}",
        *(part for each in options.settings for part in ("--set", each)),
    ]
    print(f"| | {' | '.join(Path(target).name for target in targets)} |")
    print("|---" * (1 + len(targets)) + "|")

    def line(name: str, pairs: list[list[tuple[float, float]]]) -> None:
        print(f"| {name} | {' | '.join(cell(each) for each in pairs)} |", flush=True)

    for method in options.methods:
        given = ["--recipe", options.recipe, "--weights", weights, *settings_of(method), *more]
        models = [
            trained(options.folder, f"{method}-{seed}", list(SOURCES), seed, given)
            for seed in range(1, options.seeds + 1)
        ]
        if method == options.methods[0]:
            line("colour histogram", [[histogram_scores(options.folder / target)] for target in targets])
            published = as_published(options.folder, models[0], weights)
            line("before training", [[scores(options.folder, published, target)] for target in targets])
        line(method, [[scores(options.folder, model, target) for model in models] for target in targets])


if __name__ == "__main__":
    main()
