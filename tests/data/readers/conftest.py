"""Fixtures that build the trees of `data_set_trees`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from data_set_trees import TREES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Path]:
    """Build the tree of this name in a folder whose name says nothing."""

    def make(tree: str, folder: str = "x") -> Path:
        root = tmp_path / folder
        root.mkdir(parents=True, exist_ok=True)
        TREES[tree][1](root)
        return root

    return make


@pytest.fixture(params=list(TREES))
def tree(request: pytest.FixtureRequest, build: Callable[..., Path]) -> tuple[str, Path]:
    """Every tree in turn: its reader's name, and the folder."""
    name: str = request.param
    return TREES[name][0], build(name)
