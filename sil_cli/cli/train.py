"""`sil train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.cli.command import Option
from sil_cli.cli.terminal import escape, print_facts

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.training.train import TrainResult

EXAMPLES = """
sil train
sil train --style dbs --seed 2
sil train --source data/market1501 --source data/msmt17 --recipe paper --weights imagenet
sil train --recipe supervised --source data/market1501
sil train --style none --set train.second_pass=false
sil train --select held-out
sil train --source data/site --weights runs/001-dbs
sil train --resume
torchrun --nproc-per-node 4 -m sil_cli train --set train.batch_norm=synchronised
"""
OPTIONS = (
    Option("--source", "train.sources", "DIR"),
    Option("--style", "style.name", "NAME", "{choices}; default: by the recipe."),
    Option("--recipe", "train.recipe", "NAME"),
    Option("--weights", "model.weights", "FILE|RUN", "imagenet, none, a file, or a model's folder, which is adapted."),
    Option("--run", "train.run", "DIR"),
    Option("--seed", "train.seed", "N", "Same seed, same run."),
    Option(
        "--select",
        "train.select",
        help="The epoch to keep: the last, or the best on the sources' held-out identities.",
    ),
    Option("--tensorboard", "train.tensorboard"),
    Option(
        "--resume",
        "train.resume",
        help="Resume the run that --run names; default: the latest unfinished one in runs.",
    ),
)


def run(current: Session) -> TrainResult:
    """Learn from several camera networks by style interleaved learning."""
    settings = current.settings()  # wrong settings are reported at once, before torch is loaded
    if settings.train.recipe is not None:
        from sil_cli.settings import read_recipe

        read_recipe(settings.train.recipe)
    from sil_cli.settings import keys_in
    from sil_cli.training.train import train

    result = train(settings, current.reporter, named=keys_in(current.flags()), launch=current.launch)
    kept = f"{result.selected}, averaged weights" if result.weights == "averaged" else result.selected
    print_facts(
        current.out,
        "Trained model",
        {
            "run": escape(result.run),
            "trained on": escape(", ".join(result.sources)),
            "recipe, method, style": f"{result.recipe}, {result.method}, {result.style}",
            "epochs, iterations": f"{result.epochs}, {result.iterations:,}",
            "loss, last epoch": f"{result.loss:.4f}",
            "speed": f"{result.images_per_second:,.0f} images/s",
            "model kept": kept,
        },
    )
    current.next_command(f"A model in {result.checkpoint}.", _next(result, settings.train.runs))
    return result


def _next(result: TrainResult, runs: Path) -> str:
    from sil_cli.defaults import model_option

    command = f"sil evaluate{model_option(result.run, runs)}"
    if result.target is None:
        return f"{command} --target DIR"
    return command if result.target.parent == Path("data") else f"{command} --target {result.target}"
