"""Which part of what tells networks apart makes a style pay?

Generated networks that differ in one part alone, in all of them, or in none; each network is left out once, and every
method learns from the other three:

    python tests/benchmarks/bench_parts.py FOLDER [--conditions cameras,colour,…] [--methods fb,fbf,dbs,ubs] [--seeds 1]
    python tests/benchmarks/bench_parts.py --table

A condition with four methods and one seed is sixteen trainings: on one core three minutes each without a second pass,
and ten with one, where there is no bfloat16. FOLDER keeps data and runs. The scores of each training are added to
`sil_cli/comparison/gap-study.jsonl`, which the advice of `sil show` and `sil train` rests on, and what stands there is
not trained again, so that the study can grow. Prints two Markdown tables and draws `--picture`:

- mAP by condition and method, and what each gains over the one before it: the second pass alone (fbf − fb), and a style
  in it (dbs − fbf, ubs − fbf), each with a 95 % interval (bootstrap over pairs of left-out network and seed);
- the gap of the networks that were learnt from: how much of the variance of their styles (means and standard
  deviations of channels) lies between networks, of pixels (`sil show` calls it explained) and of the features after
  stage 1 of the model that the first method trained; and how far clothes tell networks apart.
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

import sil_cli
from sil_cli.data.images import resize_to
from sil_cli.data.manifest import load_dataset
from sil_cli.data.measuring import explained_share
from sil_cli.evaluation.intervals import mean_interval
from sil_cli.models.embedder import Embedder, load_embedder
from sil_cli.report.gap_advice import gaps_at_a_glance

PARTS = ("clothes", "colour", "exposure", "detail", "background", "pose")
STUDY = Path(sil_cli.__file__).parent / "comparison" / "gap-study.jsonl"
CONDITIONS = ("cameras", "wardrobes", "none", *PARTS)
STEPS = (("fb", "fbf"), ("fbf", "dbs"), ("fbf", "ubs"))
"""What is compared with what: a second pass with none, a style with none."""


def settings_of(condition: str) -> dict[str, Any]:
    """The networks of a condition: a kind of them as it is, or of the parts one alone or none."""
    if condition in ("cameras", "wardrobes"):
        return {"data.synthetic.networks": condition}
    strengths = {f"data.synthetic.gap.{part}": float(part == condition) for part in PARTS}
    return {"data.synthetic.networks": "cameras", **strengths}


def train_missing(options: argparse.Namespace, condition: str, known: list[dict[str, Any]]) -> None:
    """Train and test what no line of the results is about yet, and add its lines."""
    place = options.folder / condition
    place.mkdir(parents=True, exist_ok=True)
    done = {(row["condition"], row["method"], row["seed"]) for row in known if "mAP" in row}
    for seed in range(1, options.seeds + 1):
        for method in options.methods:
            if (condition, method, seed) in done:
                continue
            result = benchmark(place, {"benchmark.seeds": f"[{seed}]", **settings_of(condition)}, method)
            for run in result["runs"]:
                for target in run["targets"]:
                    scores = {"mAP": target["mAP"]["mean"], "rank1": target["cmc"]["1"]["mean"]}
                    row = {"condition": condition, "method": method, "left_out": target["target"], "seed": seed}
                    add(options.results, known, row | {name: round(value, 5) for name, value in scores.items()})
            if seed == 1 and method == options.methods[0]:
                add(options.results, known, {"condition": condition, **gap_of(place, result)})


def benchmark(place: Path, settings: dict[str, Any], method: str) -> dict[str, Any]:
    """What `sil benchmark` says of one method and seed on all four networks."""
    arguments = ["benchmark", "generated", "--json", "--method", method]
    for key, value in settings.items():
        arguments += ["--set", f"{key}={value}"]
    command = [sys.executable, "-m", "sil_cli", *arguments]
    done = subprocess.run(command, cwd=place, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def add(path: Path, known: list[dict[str, Any]], row: dict[str, Any]) -> None:
    """Add a line to the results."""
    known.append(row)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def gap_of(place: Path, result: dict[str, Any], images: int = 150) -> dict[str, float]:
    """The gaps between the networks learnt from, of pixels, clothes and features after stage 1; mean over cases."""
    datasets = {folder.parent.name: load_dataset(folder.parent) for folder in place.glob("data/*/dataset.json")}
    found: dict[str, list[float]] = {"pixels": [], "clothes": [], "features": []}
    for run in result["runs"]:
        model = load_embedder(place / run["run"])[0].eval()
        left_out = {target["target"] for target in run["targets"]}
        learnt = [datasets[name] for name in sorted(set(datasets) - left_out)]
        pixels, clothes = gaps_at_a_glance(learnt)
        groups = []
        for dataset in learnt:
            records = dataset.of_split("train")
            chosen = np.random.default_rng(1).permutation(len(records))[:images]
            groups.append(stage_one(model, [dataset.load_image(records[index]) for index in chosen]))
        for name, value in {"pixels": pixels, "clothes": clothes, "features": explained_share(groups)}.items():
            found[name].append(value or 0.0)
    return {name: round(float(np.mean(values)), 4) for name, values in found.items()}


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


def points_of(known: list[dict[str, Any]], condition: str, method: str) -> dict[tuple[str, int], float]:
    """mAP in percent by left-out network and seed."""
    rows = [row for row in known if row.get("method") == method and row["condition"] == condition]
    return {(row["left_out"], row["seed"]): 100 * row["mAP"] for row in rows}


def gains_of(known: list[dict[str, Any]], condition: str, better: str, than: str) -> NDArray[np.float64]:
    """Differences of mAP in points, of each pair of left-out network and seed that both methods have."""
    high, low = points_of(known, condition, better), points_of(known, condition, than)
    return np.array([high[pair] - low[pair] for pair in sorted(high.keys() & low.keys())])


def cell(values: NDArray[np.float64]) -> str:
    """A mean with its interval."""
    if not len(values):
        return ""
    interval = mean_interval(values, corrected=False, resamples=10_000)
    return f"{values.mean():+.1f} ({interval.low:+.1f} to {interval.high:+.1f})"


def main() -> None:
    """Train what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--conditions", type=lambda text: text.split(","), default=CONDITIONS)
    parser.add_argument("--methods", type=lambda text: text.split(","), default=("fb", "fbf", "dbs", "ubs"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--results", type=Path, default=STUDY)
    parser.add_argument("--table", action="store_true", help="print what is known, and train nothing")
    parser.add_argument("--picture", type=Path, help="draw gains against the gap into this file")
    options = parser.parse_args()
    text = options.results.read_text() if options.results.exists() else ""
    known = [json.loads(line) for line in text.splitlines()]
    if not options.table:
        if options.folder is None:
            parser.error("FOLDER is missing, where data and runs are kept; or --table")
        for condition in options.conditions:
            train_missing(options, condition, known)
    print_tables(known, options)
    if options.picture is not None:
        draw(known, options)


def print_tables(known: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Print mAP and gains, and the gaps, of each condition that has any."""
    steps = [f"{better} − {than}" for than, better in STEPS]
    print(f"| networks differ in | seeds | {' | '.join(options.methods)} | {' | '.join(steps)} |")
    print("|---" * (2 + len(options.methods) + len(steps)) + "|")
    for condition in options.conditions:
        points = [points_of(known, condition, method) for method in options.methods]
        if any(points):
            seeds = len({seed for _, seed in points[0]})
            means = " | ".join(f"{np.mean(list(each.values())):.1f}" if each else "" for each in points)
            gains = " | ".join(cell(gains_of(known, condition, better, than)) for than, better in STEPS)
            print(f"| {condition} | {seeds} | {means} | {gains} |")
    print()
    print("| networks differ in | gap of pixels | of clothes | after stage 1 |")
    print("|---|---|---|---|")
    for row in known:
        if "pixels" in row and row["condition"] in options.conditions:
            shares = (row.get(name) for name in ("pixels", "clothes", "features"))
            cells = " | ".join("" if share is None else f"{100 * share:.0f} %" for share in shares)
            print(f"| {row['condition']} | {cells} |")


def draw(known: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """The gains against the gap after stage 1."""
    from matplotlib.figure import Figure

    gaps = {row["condition"]: 100 * row["features"] for row in known if "features" in row}
    figure = Figure(figsize=(4 * len(STEPS), 3.6), layout="constrained")
    for axes, (than, better) in zip(figure.subplots(1, len(STEPS), sharey=True, squeeze=False)[0], STEPS, strict=True):
        for condition in options.conditions:
            values = gains_of(known, condition, better, than)
            if not len(values) or condition not in gaps:
                continue
            interval = mean_interval(values, corrected=False, resamples=10_000)
            across, mean = gaps[condition], values.mean()
            axes.errorbar(across, mean, [[mean - interval.low], [interval.high - mean]], fmt="o", color="C0", capsize=2)
            axes.annotate(condition, (across, mean), xytext=(4, 4), textcoords="offset points", fontsize=8)
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.set_title(f"{better} − {than}")
        axes.set_xlabel("style's variance between networks, %")
    figure.axes[0].set_ylabel("gain in mAP, points")
    figure.savefig(options.picture, dpi=120)


if __name__ == "__main__":
    main()
