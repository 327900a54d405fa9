"""What the site has besides the pages of this folder: their order, from README.md, and a page of the Python names.

A hook of mkdocs (`make site`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, Files

import sil_cli

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig

NAMES_PAGE = "names.md"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Take the sections of README.md, and the pages that each lists, for the site's navigation."""
    config.nav = [{"Start": "README.md"}]
    index = (Path(config.docs_dir) / "README.md").read_text(encoding="utf-8")
    for section in re.split(r"^## ", index, flags=re.MULTILINE)[1:]:
        pages = re.findall(r"^- \[[^]]+\]\(([\w-]+\.md)\)", section, re.MULTILINE)
        more = [NAMES_PAGE] if "commands.md" in pages else []  # to look things up in
        config.nav.append({section.partition("\n")[0]: [*pages, *more]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page of public Python names, which only the site can show: it is made of their docstrings."""
    # Where a name is defined, since the package itself loads each only when it is asked for.
    entries = [f"::: sil_cli.{home}.{name}" for name, home in sorted(sil_cli._HOMES.items())]
    lines = ["# Names in Python", "", "What `import sil_cli` offers ([python.md](python.md) shows it at work).", ""]
    files.append(File.generated(config, NAMES_PAGE, content="\n\n".join([*lines, *entries])))
    return files
