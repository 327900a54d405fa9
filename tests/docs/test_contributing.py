"""What a forge reads: examples that run, forms that can be parsed, links and paths that lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from commands import ROOT

GUIDE = ROOT / "docs" / "CONTRIBUTING.md"
PAGES = sorted((ROOT / ".github").glob("*.md"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")


def test_the_worked_examples_run_one_after_another(empty) -> None:
    program = "\n".join(
        re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    )
    assert program.count("class ") == 3
    (empty / "examples.py").write_text(program, encoding="utf-8")
    done = subprocess.run([sys.executable, "examples.py"], capture_output=True, text=True, cwd=empty)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!https?://)([^)#]+)", text):
        assert (page.parent / link).exists(), link
    for name in re.findall(r"`((?:sil_cli|tests|docs)/[\w/.-]+)`", text):
        assert (ROOT / name).exists(), name


def test_the_targets_that_the_guide_names_are_there() -> None:
    rules = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"\bmake ([a-z]+)", GUIDE.read_text(encoding="utf-8"))) <= set(rules)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_issue_forms_have_what_the_forge_asks_for(form: Path) -> None:
    read = yaml.safe_load(form.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(read)
    identifiers = [field["id"] for field in read["body"] if field["type"] != "markdown"]
    assert len(set(identifiers)) == len(identifiers)
    for field in read["body"]:
        assert field["type"] in {"markdown", "textarea", "input", "dropdown", "checkboxes"}
        assert field["attributes"]["value" if field["type"] == "markdown" else "label"]


def test_the_citation_names_the_paper_and_its_authors() -> None:
    read = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(read)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert read["license"] == project["license"]
    paper = read["preferred-citation"]
    assert [author["family-names"] for author in paper["authors"]] == ["Tan", "Ding", "Wang", "Gong", "Jia"]
    assert paper["url"] == project["urls"]["Paper"]


def test_pre_commit_runs_what_make_test_checks() -> None:
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    hooks = {hook["entry"].removeprefix(".venv/bin/") for hook in local["hooks"]}
    made = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipes = re.findall(r"^(?:lint|types|layers):.*\n((?:\t.*\n)+)", made, re.MULTILINE)
    commands = {line.removesuffix(" .") for each in recipes for line in re.findall(r"\$\(BIN\)/(.+)", each)}
    assert hooks == commands
