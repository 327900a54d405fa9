"""What is handed out: the wheel and the sdist hold all that the tree has, and the same tree gives the same bytes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from commands import ROOT
from hatchling.builders.wheel import WheelBuilder
from trove_classifiers import classifiers

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def package_files() -> set[str]:
    found = (path for path in (ROOT / "sil_cli").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in found}


def test_the_wheel_has_every_file_of_the_package() -> None:
    builder = WheelBuilder(str(ROOT))
    held = {Path(each.distribution_path).as_posix() for each in builder.recurse_included_files()}
    assert held == package_files()
    assert "sil_cli/py.typed" in held


def test_classifiers_are_known_and_name_the_pythons_that_are_tried() -> None:
    assert set(PROJECT["classifiers"]) <= classifiers
    tried = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("PYTHONS ?= "))
    versions = [word.removeprefix("python") for word in tried.split()[2:]]
    minor = "Programming Language :: Python :: 3."
    assert versions == [name.rpartition(" ")[2] for name in PROJECT["classifiers"] if name.startswith(minor)]
    assert PROJECT["requires-python"] == f">={versions[0]}"


@pytest.mark.thorough
def test_two_builds_are_the_same_to_the_byte_and_an_archive_builds_without_git(tmp_path) -> None:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    build = [sys.executable, "-m", "build", "--no-isolation"]
    sums = []
    for name in ("first", "second"):
        subprocess.run([*build, "--outdir", tmp_path / name, ROOT], env=environment, check=True, capture_output=True)
        sums.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / name).iterdir()})
    assert sums[0] == sums[1]
    (sdist,) = (tmp_path / "first").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = tmp_path / sdist.name.removesuffix(".tar.gz")
    (unpacked / "PKG-INFO").unlink()  # as a forge's archive of a commit has none
    environment["GIT_CEILING_DIRECTORIES"] = str(tmp_path)
    subprocess.run(
        [*build, "--wheel", "--outdir", tmp_path, unpacked], env=environment, check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == "sil_cli-0.2.0.dev0-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        assert package_files() <= set(archive.namelist())
