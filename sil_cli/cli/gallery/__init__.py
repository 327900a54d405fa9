"""`sil gallery`: looking after a gallery."""

from __future__ import annotations

import typer

from sil_cli.cli.command import PlainGroup, add_command

COMMANDS = (
    "info",
    "verify",
    "repair",
    "compact",
    "remove",
    "export",
    "copy",
    "rebuild",
    "tune",
    "policy",
    "log",
    "expire",
)
"""Each is a module of this package."""


def make_group() -> typer.Typer:
    """The commands of `sil gallery`."""
    group = typer.Typer(
        cls=PlainGroup,
        help="Look after a gallery: check, repair, compact, export, copy, erase, rebuild, tune, account for it.",
        no_args_is_help=True,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name in COMMANDS:
        add_command(group, name, package=__name__)
    return group
