"""The documentation says what is true."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main
from commands import ROOT, generator

from sil_cli.cli.app import make_app

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize(
    ("name", "page"), [("commands.md", "commands_page"), ("settings.md", "settings_page"), ("json.md", "json_page")]
)
def test_generated_pages_are_current(name: str, page: str) -> None:
    assert (ROOT / "docs" / name).read_text() == getattr(generator(), page)(), "run `make docs`"


def test_the_documents_of_all_commands_are_described() -> None:
    names = [name for name, _ in generator()._flattened(typer.main.get_command(make_app()))]
    assert sorted(generator().DOCUMENTS) == sorted(names)


def examples() -> list[str]:
    """Every command line that a command's help shows."""
    epilogs = [command.epilog for _, command in generator()._flattened(typer.main.get_command(make_app()))]
    return [line for epilog in epilogs for line in epilog.splitlines() if line.startswith("sil ")]


@pytest.mark.parametrize("line", examples())
def test_examples_are_what_the_program_takes(line: str) -> None:
    """Parsed by the program's own parser, but not run."""
    words = shlex.split(re.split(r"\s[|>&]+\s", line)[0])[1:]
    command = typer.main.get_command(make_app())
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "://" not in link:
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    for name in re.findall(r"`((?:sil_cli|tests|docs)/[\w/.-]+)`", page.read_text()):
        assert (ROOT / name).exists(), name
