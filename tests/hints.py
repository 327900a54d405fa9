"""Whether the commands and options that messages name are there."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from importlib import import_module

from sil_cli.cli.app import COMMANDS, GROUPS
from sil_cli.cli.command import COMMON

NAMES = (
    *COMMANDS,
    *(f"{group} {name}" for group in GROUPS for name in import_module(f"sil_cli.cli.{group}").COMMANDS),
)
_COMMAND = re.compile(rf"\bsil ((?:(?:{'|'.join(GROUPS)}) )?[a-z][a-z-]*)((?:(?!\bsil )[^`\n])*)")
_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
_QUOTED = re.compile(r"`[^`]*`")


@functools.cache
def options_of(command: str) -> frozenset[str]:
    """The options of a command, `train` or `gallery info`."""
    module = import_module(f"sil_cli.cli.{command.replace(' ', '.').replace('-', '_')}")
    flags = {flag for each in (*module.OPTIONS, *COMMON) for flag in each.flag.split("/") if flag.startswith("--")}
    return frozenset(flags | {"--help"})


def wrong_commands(text: str) -> list[str]:
    """What is wrong with the command lines in a text that says them as `sil …`."""
    wrong = []
    for quoted in (*(found[0] for found in _QUOTED.finditer(text)), *re.findall(r"Next: (sil .*)", text)):
        for name, rest in _COMMAND.findall(quoted):
            if name not in NAMES:
                wrong += [] if name in GROUPS else [f"sil {name}"]
                continue
            wrong += [f"sil {name} {flag}" for flag in _FLAG.findall(rest) if flag not in options_of(name)]
    return wrong


def wrong_hints(words: Sequence[str], messages: str, printed: str) -> list[str]:
    """What a command said of options and commands that are not there; options outside of `…` are its own.

    Args:
        words: Its command line; what stands in it may be repeated.
        messages: What it said on stderr.
        printed: What it printed on stdout.
    """
    name = next((each for each in (" ".join(words[:2]), words[0]) if each in NAMES), None) if words else None
    own = set() if name is None else set(_FLAG.findall(_QUOTED.sub("", messages))) - options_of(name)
    given = {flag for word in words for flag in _FLAG.findall(word)}
    return [*sorted(own - given), *wrong_commands(messages), *wrong_commands(printed)]
