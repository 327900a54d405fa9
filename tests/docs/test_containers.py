"""What the container files name is there. They are built where docker runs; hadolint finds nothing to say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from commands import ROOT

from sil_cli.cli.app import make_app

FOLDER = ROOT / "containers"
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


def sent() -> list[str]:
    """What .dockerignore lets into the image."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    return [line.removeprefix("!") for line in lines if line.startswith("!")]


def parse(words: list[str]) -> None:
    command: Any = typer.main.get_command(make_app()).commands[words[0]]
    command.make_context(words[0], list(words[1:]))


def test_both_targets_install_extras_that_exist_and_end_as_somebody_but_root() -> None:
    stages = dict(re.findall(r"^FROM \S+ AS (\w+)\n(.*?)(?=^FROM|\Z)", DOCKERFILE, re.DOTALL | re.MULTILINE))
    assert set(stages) == {"wheel", "base", "cpu", "cuda"}
    for target in ("cpu", "cuda"):
        (extras,) = re.findall(r"whl\)\[([\w,]+)\]", stages[target])
        assert set(extras.split(",")) <= set(EXTRAS)
        assert re.findall(r"^USER (\d+)", stages[target], re.MULTILINE) == ["1000"]
        assert f"--target {target} " in DOCKERFILE


def test_commands_and_settings_of_the_composition_are_what_the_program_takes() -> None:
    services = yaml.safe_load(COMPOSE)["services"]
    page = services["page"]
    parse(page["command"])
    for line in re.findall(r"--rm page (.+?)(?: {2}.*)?$", COMPOSE, re.MULTILINE):
        parse(line.split())
    keys = re.findall(r"^\| `([a-z_.0-9]+)`", (ROOT / "docs" / "settings.md").read_text(encoding="utf-8"), re.MULTILINE)
    for variable in page["environment"]:
        assert variable.removeprefix("SIL_").replace("__", ".").lower() in keys
    assert page["environment"]["SIL_GALLERY__STORE"].startswith("milvus://milvus:19530/")
    assert set(page["depends_on"]) == {"milvus"}
    assert all(port.startswith("127.0.0.1:") for port in page["ports"])


@pytest.mark.thorough
def test_the_wheel_is_built_of_what_is_sent_alone(tmp_path) -> None:
    for name in sent():
        source, target = ROOT / name, tmp_path / "src" / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    environment = {
        **os.environ,
        "GIT_CEILING_DIRECTORIES": str(tmp_path),
        "SETUPTOOLS_SCM_PRETEND_VERSION": "0.2.1",
    }
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, tmp_path / "src"]
    subprocess.run(build, env=environment, check=True, capture_output=True)
    with zipfile.ZipFile(tmp_path / "sil_cli-0.2.1-py3-none-any.whl") as archive:
        held = {name for name in archive.namelist() if name.startswith("sil_cli/")}
    package = (path for path in (ROOT / "sil_cli").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert held == {Path(path).relative_to(ROOT).as_posix() for path in package}
