"""`sil train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from sil_cli.cli.options import ConfigOption, DebugOption, DeviceOption, JsonOption, SetOption, common
from sil_cli.cli.session import session
from sil_cli.cli.terminal import escape

if TYPE_CHECKING:
    from sil_cli.results import TrainResult

EXAMPLES = """
[bold]Examples[/]

sil train

sil train --style dbs --seed 2

sil train --source data/market1501 --source data/msmt17 --recipe paper --weights imagenet

sil train --recipe supervised --source data/market1501

sil train --style none --set train.second_pass=false

sil train --select held-out

sil train --resume

torchrun --nproc-per-node 4 -m sil_cli train --set train.batch_norm=synchronised
"""


def command(
    source: Annotated[
        list[Path] | None,
        typer.Option("--source", metavar="DIR", help="A prepared data set to learn from; may be repeated."),
    ] = None,
    style: Annotated[
        str | None,
        typer.Option(
            "--style",
            metavar="NAME",
            help="none, mixstyle, dsu, efdmix, dir-mixstyle, batch-style, dbs or ubs; default: by the recipe.",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe", metavar="NAME", help="generated, paper, supervised, or a .toml file; default: by the sources."
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="imagenet|none|FILE", help="The backbone's first weights.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", metavar="DIR", help="The run folder; default: the next number in runs.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="Same seed, same run.")] = None,
    select: Annotated[
        str | None,
        typer.Option(
            "--select",
            metavar="last|held-out",
            help="The epoch to keep: the last, or the best on the sources' held-out identities.",
        ),
    ] = None,
    tensorboard: Annotated[
        bool | None, typer.Option("--tensorboard", help="Write metrics for TensorBoard too.", show_default=False)
    ] = None,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume",
            help="Go on with the run that --run names; default: the newest unfinished one in runs.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    device: DeviceOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Learn from several camera networks by style interleaved learning."""
    with session(common(config, device, assignments, as_json, debug), spreads=True) as current:
        flags = current.flags(
            {
                "train": {
                    "sources": tuple(source) if source else None,
                    "recipe": recipe,
                    "run": run,
                    "seed": seed,
                    "select": select,
                    "tensorboard": tensorboard,
                    "resume": resume,
                },
                "style": {"name": style},
                "model": {"weights": weights},
            }
        )
        settings = current.settings(flags)  # wrong settings are told at once, before torch is loaded
        if settings.train.recipe is not None:
            from sil_cli.settings import read_recipe

            read_recipe(settings.train.recipe)
        from sil_cli.training.train import train

        result = train(flags, config, current.reporter, launch=current.launch)
        table = Table(title="Trained model", title_justify="left", show_header=False)
        table.add_row("run", escape(result.run))
        table.add_row("learnt from", escape(", ".join(result.sources)))
        table.add_row("recipe, method, style", f"{result.recipe}, {result.method}, {result.style}")
        table.add_row("epochs, iterations", f"{result.epochs}, {result.iterations:,}")
        table.add_row("loss, last epoch", f"{result.loss:.4f}")
        table.add_row("speed", f"{result.images_per_second:,.0f} images/s")
        kept = f"{result.selected}, averaged weights" if result.weights == "averaged" else result.selected
        table.add_row("model kept", kept)
        current.out.print(table)
        current.next_command(f"A model in {result.checkpoint}.", _next(result, settings.train.runs))
        current.finish(result)


def _next(result: TrainResult, runs: Path) -> str:
    from sil_cli.defaults import model_option

    command = f"sil evaluate{model_option(result.run, runs)}"
    if result.target is None:
        return f"{command} --target DIR"
    return command if result.target.parent == Path("data") else f"{command} --target {result.target}"
