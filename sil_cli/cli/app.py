"""The `sil` program and its commands."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated

import typer

from sil_cli import __version__

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

COMMANDS = (
    "prepare-data",
    "show",
    "train",
    "evaluate",
    "index-gallery",
    "query",
    "report",
    "benchmark",
    "import-model",
    "export",
    "compare",
    "calibrate",
    "doctor",
)
"""Each is a module of this package, named with underscores; in the order of `sil --help`."""

GALLERY = "gallery"
"""The group of commands that look after a gallery."""


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


def make_app(asked: str | None = None) -> typer.Typer:
    """The program with all its commands.

    Args:
        asked: The command line's first word. Where it is a command, the program has only that one: to build the
            other commands takes longer than to search a gallery.
    """
    app = typer.Typer(
        name="sil",
        help=OVERVIEW,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_program)
    for name in (*COMMANDS, GALLERY):
        if asked in (*COMMANDS, GALLERY) and name != asked:
            continue
        module = import_module(f"sil_cli.cli.{name.replace('-', '_')}")
        if name == GALLERY:
            app.add_typer(module.make_group(), name=name)
        else:
            app.command(name, epilog=module.EXAMPLES)(module.command)
    return app
