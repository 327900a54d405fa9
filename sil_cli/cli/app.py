"""The `sil` program and its commands."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sil_cli import __version__
from sil_cli.cli import (
    benchmark,
    calibrate,
    compare,
    doctor,
    evaluate,
    export,
    gallery,
    import_model,
    index_gallery,
    prepare_data,
    query,
    report,
    show,
    train,
)

OVERVIEW = """
Recognise a person across camera networks that the model has never seen.

In an empty folder, these five run one after another without any other argument:

  [bold]sil prepare-data[/]    draw people seen by several camera networks, or read a data set
  [bold]sil train[/]           learn from all networks but one, by style interleaved learning
  [bold]sil evaluate[/]        score the model on the network that was left out
  [bold]sil index-gallery[/]   embed a gallery of crops
  [bold]sil query IMAGE[/]     find a person in it

Settings come from flags, SIL_* variables, sil.toml and recipes, in this order.
"""


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"sil {__version__}\n")
        raise typer.Exit


def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


def make_app() -> typer.Typer:
    """The program with all its commands."""
    app = typer.Typer(
        name="sil",
        help=OVERVIEW,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_program)
    for name, module in (
        ("prepare-data", prepare_data),
        ("show", show),
        ("train", train),
        ("evaluate", evaluate),
        ("index-gallery", index_gallery),
        ("query", query),
        ("report", report),
        ("benchmark", benchmark),
        ("import-model", import_model),
        ("export", export),
        ("compare", compare),
        ("calibrate", calibrate),
        ("doctor", doctor),
    ):
        app.command(name, epilog=module.EXAMPLES)(module.command)
    app.add_typer(gallery.make_group(), name="gallery")
    return app
