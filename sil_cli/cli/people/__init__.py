"""`sil people`: who is who in a gallery."""

from __future__ import annotations

from importlib import import_module

import typer

from sil_cli.cli.command import PlainCommand, make_command

COMMANDS = ("verdict", "verdicts")
"""Each is a module of this package."""


def make_group() -> typer.Typer:
    """The commands of `sil people`."""
    group = typer.Typer(
        help="Say who is who in a gallery.",
        no_args_is_help=True,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name in COMMANDS:
        module = import_module(f"sil_cli.cli.people.{name}")
        group.command(name, cls=PlainCommand, epilog=module.EXAMPLES)(make_command(module))
    return group
