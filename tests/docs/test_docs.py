"""The documentation says what is true."""

import functools
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
from commands import ROOT, generator

from sil_cli.cli.app import make_app

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@functools.cache
def program() -> Any:
    return typer.main.get_command(make_app())


@pytest.mark.parametrize(
    ("name", "page"), [("commands.md", "commands_page"), ("settings.md", "settings_page"), ("json.md", "json_page")]
)
def test_generated_pages_are_current(name: str, page: str) -> None:
    assert (ROOT / "docs" / name).read_text() == getattr(generator(), page)(), "run `make docs`"


def test_the_documents_of_all_commands_are_described() -> None:
    names = [name for name, _ in generator()._flattened(program())]
    assert sorted(generator().DOCUMENTS) == sorted(names)


def examples() -> list[str]:
    """Every command line that a command's help shows."""
    epilogs = [command.epilog for _, command in generator()._flattened(program())]
    return [line for epilog in epilogs for line in epilog.splitlines() if line.startswith("sil ")]


def commands_on(page: Path) -> list[str]:
    """Every command line that a page shows, fenced or indented."""
    lines = re.findall(r"^ *(?:\S.* \| )?(sil [a-z].*)$", page.read_text().replace("\\\n", " "), re.MULTILINE)
    return [part for line in lines for part in re.split(r"\s&&\s", line)]


@pytest.mark.parametrize("line", examples())
def test_examples_are_what_the_program_takes(line: str) -> None:
    parse(line)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "commands.md"], ids=page_name)
def test_commands_on_pages_are_what_the_program_takes(page: Path) -> None:
    for line in commands_on(page):
        parse(line)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_targets_of_make_and_scripts_on_pages_exist(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text()
    made = re.findall(r"(?:^ *|`)make ([a-z][\w-]*)(?=`|$|\s{2,}| [A-Z]+=)", text, re.MULTILINE)
    assert set(made) <= targets
    scripts = re.findall(r"(?:^|[ `/])python3? ((?:docs|tests)/[\w./-]+\.py)", text, re.MULTILINE)
    assert [script for script in scripts if not (ROOT / script).is_file()] == []


def parse(line: str) -> None:
    """By the program's own parser, without running it; of `gallery info|verify` only that both exist."""
    words = shlex.split(re.split(r"\s[|>&]+\s", line)[0], comments=True)[1:]
    commands = [program()]
    while hasattr(commands[0], "commands"):
        commands = [commands[0].commands[name] for name in words.pop(0).split("|")]
    for command in commands:
        command.make_context(command.name, words, resilient_parsing=len(commands) > 1)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page: Path) -> None:
    for link, heading in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text()):
        if "://" not in link:
            target = page.parent / link if link else page
            assert target.exists(), link
            assert not heading or heading in headings(target), f"{link}#{heading}"


def headings(page: Path) -> list[str]:
    """The names that a page's headings have in links."""
    lines = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines]


def test_the_index_has_every_page_once() -> None:
    index = ROOT / "docs" / "README.md"
    listed = re.findall(r"^- \[[^]]+\]\(([\w-]+\.md)\)", index.read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(page.name for page in index.parent.glob("*.md") if page != index)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_files_that_are_named_exist(page: Path) -> None:
    for name in re.findall(r"`((?:sil_cli|tests|docs)/[\w/.-]+)`", page.read_text()):
        assert (ROOT / name).exists(), name
