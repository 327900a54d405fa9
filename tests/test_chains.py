"""A reader of one command meets few modules."""

from __future__ import annotations

import pytest
from chains import chain


@pytest.mark.parametrize(("command", "most"), [("query", 40), ("index-gallery", 46)])
def test_a_command_runs_through_few_modules(command, most, tmp_path) -> None:
    steps = chain(command, tmp_path)
    modules = list(dict.fromkeys(module for module, _ in steps))
    assert modules[0] == "sil_cli.__main__"
    assert len(modules) <= most, modules
