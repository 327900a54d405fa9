"""What messages and pages tell to install is what works: for a clone, for a wheel, in any kind of environment."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from commands import ROOT

import sil_cli
from sil_cli import installing
from sil_cli.installing import extra_command, install_command

MODULES = sorted(Path(sil_cli.__file__).parent.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def as_installed(monkeypatch: pytest.MonkeyPatch, **extras: list[str]) -> None:
    said = [f"{each}; extra == '{name}'" for name, every in extras.items() for each in every]
    monkeypatch.setattr(installing.metadata, "requires", lambda _: ["numpy>=1.26", *said])


def test_every_extra_that_a_module_names_is_there_and_nothing_else_says_how_to_install() -> None:
    named = set()
    for module in MODULES:
        tree = ast.parse(module.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "extra_command":
                named.add(ast.literal_eval(node.args[0]))
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and module.stem != "installing":
                assert "pip install" not in node.value, f"{module}: say it by install_command"
    assert named <= set(EXTRAS)
    assert len(named) >= 9


PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_tells_to_install_is_a_folder_with_extras_or_what_a_registry_knows(page: Path) -> None:
    for line in re.findall(r"\b(?:pip|pipx|uv pip|uv tool) install ([^`\n#)]+)", page.read_text(encoding="utf-8")):
        assert "sil-cli" not in line, line
        for extras in re.findall(r"\.\[([^\]]+)\]", line):
            assert set(extras.split(",")) <= set(EXTRAS), line


def test_all_is_every_extra_but_those_of_developers() -> None:
    (every,) = EXTRAS["all"]
    named = set(re.findall(r"[\w]+", every.partition("[")[2]))
    assert named == {name for name, needs in EXTRAS.items() if needs} - {"all", "dev", "docs"}


def test_an_extra_is_told_by_its_packages(monkeypatch) -> None:
    as_installed(monkeypatch, video=["av>=14", "opencv-python-headless<5,>=4.8"], videos=["other"])
    assert extra_command("video").endswith('install "av>=14" "opencv-python-headless<5,>=4.8"')


def test_sources_that_nobody_installed_are_installed_with_the_extra(monkeypatch) -> None:
    def requires(name: str) -> list[str]:
        raise installing.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(installing.metadata, "requires", requires)
    assert extra_command("video").endswith('install ".[video]"')


def test_the_command_is_for_the_environment_that_runs(tmp_path, monkeypatch) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    pip = python.parent / "pip"
    pip.write_text("#!/bin/sh\n")
    pip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("PATH", str(python.parent))
    assert install_command("-U", "onnxruntime") == "pip install -U onnxruntime"
    monkeypatch.setenv("PATH", "/nowhere")  # the program is run by its path, and bare pip would be another one's
    assert install_command("pillow>=11.3") == f'"{python}" -m pip install "pillow>=11.3"'
    monkeypatch.setattr(installing, "find_spec", lambda _: None)  # as in an environment of uv
    assert install_command("av") == f'uv pip install --python "{python}" av'


def test_sources_that_nobody_installed_have_a_version_all_the_same() -> None:
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import sil_cli; print(sil_cli.__version__)"
    said = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "0+unknown"


def test_the_page_on_installing_lists_every_extra() -> None:
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sorted(rows) == sorted(name for name, needs in EXTRAS.items() if needs)
