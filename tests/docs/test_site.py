"""The site of the documentation: the pages in their four kinds, and a page of Python names, without a warning."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from commands import ROOT

import sil_cli


@pytest.mark.thorough
def test_the_site_is_built_without_a_warning_and_has_every_page_and_name(tmp_path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")} - {"README"}
    assert {page.stem for page in tmp_path.glob("*.html")} == pages | {"index", "404", "names"}
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    for kind in ("Learn", "Do", "Look up", "Understand"):
        assert kind in index
    names = (tmp_path / "names.html").read_text(encoding="utf-8")
    for name in sil_cli.__all__:
        assert f".{name}" in names
    assert "https://fonts" not in index  # nothing is loaded from elsewhere
