"""`sil people`: who is who in a gallery."""

from __future__ import annotations

from typing import Any

import typer

from sil_cli.cli.command import PlainGroup, add_command

COMMANDS = (
    *("find", "list", "show", "name", "merge", "split", "confirm", "reject", "export"),
    *("verdict", "verdicts"),
)
"""Each is a module of this package; without one, `find` is meant."""


class PeopleGroup(PlainGroup):
    """The commands of `sil people`, which by itself finds people."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read a command line; one that begins with an option, or is empty, is that of `find`."""
        if not args or (args[0].startswith("-") and args[0] not in ("--help", "-h")):
            args = ["find", *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


def make_group() -> typer.Typer:
    """The commands of `sil people`."""
    group = typer.Typer(
        cls=PeopleGroup,
        help="Who is who: find people in a gallery; name, merge, split, confirm and reject them. Alone: `find`.",
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name in COMMANDS:
        add_command(group, name, package=__name__)
    return group
