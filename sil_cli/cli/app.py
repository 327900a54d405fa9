"""The `sil` program and its commands."""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sil_cli.cli.command import PlainGroup, add_command
from sil_cli.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    "crop",
    "index-gallery",
    "query",
    "serve",
    "report",
    "benchmark",
    "import-model",
    "export",
    "compare",
    "calibrate",
    "doctor",
)
"""Each is a module of this package, named with underscores; in the order of `sil --help`."""

TOGETHER = ("train", "index-gallery")
"""Several processes can run these together, which torchrun starts."""

GROUPS = ("gallery", "people")
"""Groups of commands: looking after a gallery, and saying who is who in it."""


class Program(PlainGroup):
    """All commands. A command line that can't be read is reported like any other error."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Read a command line and run it, as typer does.

        Raises:
            SystemExit: With the exit code, in `standalone_mode`.
        """
        read = partial(
            super().main,
            args,
            prog_name,
            complete_var,
            standalone_mode=False,
            windows_expand_args=windows_expand_args,
            **extra,
        )
        if not standalone_mode:
            return read()
        try:
            code = read()
        except typer.TyperException as error:
            _tell_of_usage(error, as_json="--json" in (sys.argv[1:] if args is None else args))
            code = error.exit_code
        sys.exit(code or 0)


def _tell_of_usage(error: typer.TyperException, *, as_json: bool) -> None:
    from sil_cli.cli.session import tell
    from sil_cli.cli.terminal import Terminal
    from sil_cli.errors import UsageError, in_plain_words

    what = in_plain_words(error.format_message().strip())  # typer has values checked by pydantic
    if what:  # else there were no words at all, and the help has been shown
        asked = " ".join(_names(getattr(error, "ctx", None)))
        tell(UsageError(f"{what.rstrip('.')}.", f"See `{asked} --help`."), Terminal(stderr=True), as_json=as_json)


def _names(context: Any) -> list[str]:
    """The command that a context is of, from the program's name on."""
    if context is None or context.parent is None:
        return ["sil"]
    return [*_names(context.parent), str(context.info_name)]


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"sil {VERSION}\n")
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
        cls=Program,
        help=OVERVIEW,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_program)
    for name in (*COMMANDS, *GROUPS):
        if asked in (*COMMANDS, *GROUPS) and name != asked:
            continue
        if name in GROUPS:
            app.add_typer(import_module(f"sil_cli.cli.{name}").make_group(), name=name)
        else:
            add_command(app, name, several=name in TOGETHER)
    return app
