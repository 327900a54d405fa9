"""`sil gallery`: looking after a gallery."""

from __future__ import annotations

import typer

from sil_cli.cli.gallery import compact, copy, export, info, rebuild, remove, repair, tune, verify


def make_group() -> typer.Typer:
    """The commands of `sil gallery`."""
    group = typer.Typer(
        help="Look after a gallery: check, mend, compact, export, copy, erase, rebuild, tune.",
        no_args_is_help=True,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name, module in (
        ("info", info),
        ("verify", verify),
        ("repair", repair),
        ("compact", compact),
        ("remove", remove),
        ("export", export),
        ("copy", copy),
        ("rebuild", rebuild),
        ("tune", tune),
    ):
        group.command(name, epilog=module.EXAMPLES)(module.command)
    return group
