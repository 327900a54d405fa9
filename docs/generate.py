"""Write docs/commands.md and docs/settings.md from the program itself: `make docs`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer.main

from sil_cli.cli.app import make_app
from sil_cli.cli.options import SHARED
from sil_cli.settings import Section, Settings, read_recipe, recipe_names

if TYPE_CHECKING:
    from pydantic import BaseModel

HERE = Path(__file__).parent
TABLE = ("| argument | meaning |", "|---|---|")
ABOUT_ALL = (
    "A command ends with code 0 when it is done, 1 when it failed, 2 for wrong usage or settings, 130 when it was",
    "stopped (Ctrl-C, SIGTERM). Errors are two lines on stderr: what is wrong, and what to do. With `--json` stdout",
    "holds one JSON document. Its rates are fractions, where tables show percent. An error's document is",
    '`{"error": {"what": …, "fix": …, "exit_code": …}}`.',
    "",
    "All commands take:",
    "",
)
MARKUP = re.compile(r"\[/?[a-z ]*\]")


def commands_page() -> str:
    """Every command with its arguments, options and examples."""
    program: Any = typer.main.get_command(make_app())
    commands = _flattened(program)
    lines = ["# Commands", "", "Made by `make docs` from the program's own help.", "", *ABOUT_ALL, *TABLE]
    lines += [_row(parameter) for parameter in commands[0][1].params if _is_shared(parameter)]
    lines += ["", "`sil --version` prints the version, `sil --install-completion` lets the shell complete words.", ""]
    for name, command in commands:
        lines += [f"## sil {name}", "", command.help, "", *TABLE]
        lines += [_row(parameter) for parameter in command.params if not _is_shared(parameter)]
        examples = [line for line in MARKUP.sub("", command.epilog).splitlines() if line and line != "Examples"]
        lines += ["", "```", *examples, "```", ""]
    return "\n".join(lines)


def _is_shared(parameter: Any) -> bool:
    return parameter.name == "help" or getattr(parameter, "rich_help_panel", None) == SHARED


def _row(parameter: Any) -> str:
    panel = getattr(parameter, "rich_help_panel", None)
    heading = f"*{panel}.* " if panel and panel != SHARED else ""
    return f"| `{_written(parameter)}` | {heading}{parameter.help} |"


def _flattened(group: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Every command with its full name, those of groups after each other."""
    found: list[tuple[str, Any]] = []
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        found += _flattened(command, f"{prefix}{name} ") if inner else [(prefix + name, command)]
    return found


def settings_page() -> str:
    """Every setting with its default and what the recipes make of it."""
    recipes = {name: read_recipe(name) for name in recipe_names()}
    lines = [
        "# Settings",
        "",
        "Made by `make docs` from `sil_cli/settings/`. Strongest first: flags (`--set KEY=VALUE` reaches every key),",
        "environment (`SIL_TRAIN__EPOCHS=5`), `sil.toml` or `--config FILE`, the protocol, the recipe of `sil train`,",
        "the default. A `sil.toml` in the working folder:",
        "",
        "```toml",
        'device = "cpu"',
        "",
        "[train]",
        "epochs = 20",
        "milestones = [10, 15]",
        "",
        "[style]",
        'name = "dbs"',
        "```",
        "",
        'Values of `--set` are TOML too, or else plain text: `--set "train.milestones=[10, 15]"`,',
        "`--set style.name=dbs`.",
        "",
        f"| key | default | {' | '.join(recipes)} | meaning |",
        "|---|---|" + "---|" * (len(recipes) + 1),
    ]
    lines += _rows(Settings, "", recipes)
    return "\n".join([*lines, ""])


def _rows(model: type[BaseModel], prefix: str, recipes: dict[str, dict[str, Any]]) -> list[str]:
    rows = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            inner = {recipe: values.get(name, {}) for recipe, values in recipes.items()}
            rows += _rows(kind, f"{prefix}{name}.", inner)
        else:
            values = [_shown(values[name]) if name in values else "" for values in recipes.values()]
            cells = [f"`{prefix}{name}`", _shown(field.default), *values, (field.description or "").replace("|", "\\|")]
            rows.append(f"| {' | '.join(cells)} |")
    return rows


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple | list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _written(parameter: Any) -> str:
    option = str(parameter.opts[0])
    if not option.startswith("--"):
        return str(parameter.metavar).replace("|", "\\|")
    if parameter.is_flag:
        return "`, `".join([option, *parameter.secondary_opts])
    return f"{option} {parameter.metavar}".replace("|", "\\|")


def main() -> None:
    """Write both pages."""
    for name, page in (("commands.md", commands_page()), ("settings.md", settings_page())):
        (HERE / name).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
