"""Every kind of store, for tests of what they have in common."""

from __future__ import annotations

import importlib.util
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

from sil_cli.gallery.stores import open_store
from sil_cli.installing import extra_command


@dataclass
class Place:
    """Where a test keeps galleries: in folders, in Milvus Lite files, or on a server."""

    kind: str
    base: Path
    server: str | None = None  # milvus://HOST:PORT

    def address(self, name: str) -> str | None:
        """What `--store` is told."""
        if self.kind == "local":
            return None
        if self.kind == "lite":
            return str(self.base / f"{name}.db")
        return f"{self.server}/{name}_{uuid.uuid5(uuid.NAMESPACE_URL, str(self.base)).hex}"

    def store(self, name: str = "gallery", *, patience: float = 60.0):
        return open_store(self.base / name, self.address(name), patience=patience)


@pytest.fixture(params=["local", "lite", pytest.param("server", marks=pytest.mark.slow)])
def place(request, tmp_path):
    """A place of each kind in turn."""
    if request.param == "local":
        return Place("local", tmp_path)
    if importlib.util.find_spec("pymilvus") is None:
        pytest.skip(f"no pymilvus: {extra_command('milvus')}")
    if request.param == "lite":
        return Place("lite", tmp_path)
    return Place("server", tmp_path, request.getfixturevalue("milvus_url"))
