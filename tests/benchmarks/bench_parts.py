"""Which part of what tells networks apart makes a style pay?

Generated networks that differ in one part alone, in all of them, or in none; each network is left out once, and every
method learns from the other three:

    python tests/benchmarks/bench_parts.py FOLDER [--conditions cameras,colour,…] [--methods fb,fbf,dbs,ubs] [--seeds 1]

A condition with four methods and one seed is sixteen trainings of about a minute on two cores. FOLDER keeps data and
runs: what stands there is not made again, so it can be stopped and gone on with, and `--seeds 3` adds to `--seeds 1`.
Prints two Markdown tables and writes FOLDER/parts.json and FOLDER/parts.png:

- mAP by condition and method, and what each gains over the one before it: the second pass alone (fbf − fb), and a style
  in it (dbs − fbf, ubs − fbf), each with a 95 % interval (bootstrap over pairs of left-out network and seed);
- beside them the gap of the networks that were learnt from: how much of the variance of their styles (means and
  standard deviations of channels) lies between networks, of pixels (`sil show` calls it explained) and of the features
  after stage 1 of the model trained by the first method.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sil_cli.data.images import resize_to
from sil_cli.data.manifest import load_dataset
from sil_cli.data.measuring import explained_share, look_at
from sil_cli.evaluation.intervals import mean_interval
from sil_cli.models.embedder import Embedder, load_embedder

PARTS = ("clothes", "colour", "exposure", "detail", "background", "pose")
CONDITIONS = ("cameras", "wardrobes", "none", *PARTS)
STEPS = (("fb", "fbf"), ("fbf", "dbs"), ("fbf", "ubs"))
"""What is compared with what: a second pass with none, a style with none."""


def settings_of(condition: str) -> dict[str, Any]:
    """The networks of a condition: a kind of them as it is, or of the parts one alone or none."""
    if condition in ("cameras", "wardrobes"):
        return {"data.synthetic.networks": condition}
    strengths = {f"data.synthetic.gap.{part}": float(part == condition) for part in PARTS}
    return {"data.synthetic.networks": "cameras", **strengths}


def scores_of(folder: Path, condition: str, methods: list[str], seeds: int) -> dict[str, Any]:
    """Train and test what isn't yet, and return what `sil benchmark` says of it."""
    arguments = ["benchmark", "generated", "--json", "--seeds", str(seeds)]
    arguments += [f"--method={method}" for method in methods]
    for key, value in settings_of(condition).items():
        arguments += ["--set", f"{key}={value}"]
    place = folder / condition
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "sil_cli", *arguments], cwd=place, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def gap_of(place: Path, result: dict[str, Any], method: str, images: int = 150) -> tuple[float, float]:
    """The shares of style's variance between the networks learnt from, of pixels and after stage 1; mean over cases."""
    datasets = {folder.parent.name: load_dataset(folder.parent) for folder in place.glob("data/*/dataset.json")}
    pixels, features = [], []
    for run in result["runs"]:
        if run["method"] != method or run["seed"] != 1:
            continue
        model = load_embedder(place / run["run"])[0].eval()
        groups: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        for name in sorted(set(datasets) - {target["target"] for target in run["targets"]}):
            records = datasets[name].of_split("train")
            chosen = np.random.default_rng(1).permutation(len(records))[:images]
            shown = [datasets[name].load_image(records[index]) for index in chosen]
            groups.append((np.stack([look_at(image).style for image in shown]), stage_one(model, shown)))
        pixels.append(explained_share([group[0] for group in groups]) or 0.0)
        features.append(explained_share([group[1] for group in groups]) or 0.0)
    return float(np.mean(pixels)), float(np.mean(features))


def stage_one(model: Embedder, images: list[Image.Image]) -> NDArray[np.float32]:
    """Means and standard deviations of the channels after stage 1, (images, 2·C), as a style takes them."""
    shape = model.architecture
    pixels = np.stack([resize_to(image, shape.height, shape.width) for image in images])
    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    maps: list[torch.Tensor] = []

    def look(features: torch.Tensor) -> torch.Tensor:
        maps.append(features)
        return features

    with torch.inference_mode():
        model.backbone((batch - model.mean) / model.std, style=look, after_stages=(1,))
    deviations, means = torch.std_mean(maps[0], dim=(2, 3), correction=0)
    return torch.cat([means, deviations], dim=1).numpy()


def gains_of(result: dict[str, Any], better: str, than: str) -> NDArray[np.float64]:
    """Differences of mAP in points, of each pair of left-out network and seed that both methods have."""
    found: dict[str, dict[tuple[str, int], float]] = {better: {}, than: {}}
    for run in result["runs"]:
        if run["method"] in found:
            for target in run["targets"]:
                found[run["method"]][target["target"], run["seed"]] = 100 * target["mAP"]
    return np.array(
        [found[better][pair] - found[than][pair] for pair in sorted(found[better].keys() & found[than].keys())]
    )


def cell(values: NDArray[np.float64]) -> str:
    """A mean with its interval."""
    interval = mean_interval(values, corrected=False, resamples=10_000)
    return f"{values.mean():+.1f} ({interval.low:+.1f} to {interval.high:+.1f})"


def main() -> None:
    """Train what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--conditions", default=",".join(CONDITIONS))
    parser.add_argument("--methods", default="fb,fbf,dbs,ubs")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    methods, conditions = options.methods.split(","), options.conditions.split(",")
    steps = [(than, better) for than, better in STEPS if {than, better} <= set(methods)]
    rows: dict[str, Any] = {}
    for condition in conditions:
        result = scores_of(options.folder, condition, methods, options.seeds)
        pixels, features = gap_of(options.folder / condition, result, methods[0])
        rows[condition] = {
            "mAP": {one["method"]: 100 * one["mean_mAP"]["mean"] for one in result["methods"]},
            "gap": {"pixels": pixels, "features": features},
            "gains": {f"{better}-{than}": gains_of(result, better, than).tolist() for than, better in steps},
        }
        print(f"{condition}: {rows[condition]['mAP']}", file=sys.stderr, flush=True)
    (options.folder / "parts.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(
        f"| networks differ in | {' | '.join(methods)} | {' | '.join(f'{better} − {than}' for than, better in steps)} |"
    )
    print("|---" * (1 + len(methods) + len(steps)) + "|")
    for condition, row in rows.items():
        means = " | ".join(f"{row['mAP'][method]:.1f}" for method in methods)
        print(f"| {condition} | {means} | {' | '.join(cell(np.array(values)) for values in row['gains'].values())} |")
    print()
    print("| networks differ in | gap of pixels | after stage 1 |")
    print("|---|---|---|")
    for condition, row in rows.items():
        print(f"| {condition} | {100 * row['gap']['pixels']:.0f} % | {100 * row['gap']['features']:.0f} % |")
    draw(rows, options.folder / "parts.png")


def draw(rows: dict[str, Any], path: Path) -> None:
    """The gains against the gap after stage 1."""
    from matplotlib.figure import Figure

    names = list(next(iter(rows.values()))["gains"])
    figure = Figure(figsize=(4 * len(names), 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), sharey=True, squeeze=False)[0], names, strict=True):
        for condition, row in rows.items():
            values = np.array(row["gains"][name])
            interval = mean_interval(values, corrected=False, resamples=10_000)
            across, mean = 100 * row["gap"]["features"], values.mean()
            axes.errorbar(across, mean, [[mean - interval.low], [interval.high - mean]], fmt="o", color="C0", capsize=2)
            axes.annotate(condition, (across, mean), xytext=(4, 4), textcoords="offset points", fontsize=8)
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.set_title(name.replace("-", " − "))
        axes.set_xlabel("style's variance between networks, %")
    figure.axes[0].set_ylabel("gain in mAP, points")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
