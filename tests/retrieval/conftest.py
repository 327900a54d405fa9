"""Every kind of store, for tests of what they have in common."""

from __future__ import annotations

import importlib.util
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest
from milvus_server import MilvusServer, server_program

from sil_cli.retrieval.stores import open_store

NAMED_SERVER = os.environ.get("SIL_TEST_MILVUS")  # read here: tests run without variables of ours


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


@pytest.fixture(scope="session")
def own_server(tmp_path_factory):
    """A server that tests may kill and start again; one machine runs one of them at a time."""
    if server_program() is None:
        pytest.skip("no milvus-server here: pip install milvus==2.3.5")
    server = MilvusServer(tmp_path_factory.mktemp("milvus"))
    server.start()
    try:
        server.wait()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def milvus_url(request):
    """milvus://HOST:PORT of the server that SIL_TEST_MILVUS names, or of one that is started here."""
    if NAMED_SERVER:
        return NAMED_SERVER.rstrip("/")
    return request.getfixturevalue("own_server").url


@pytest.fixture(params=["local", "lite", pytest.param("server", marks=pytest.mark.slow)])
def place(request, tmp_path):
    """A place of each kind in turn."""
    if request.param == "local":
        return Place("local", tmp_path)
    if importlib.util.find_spec("pymilvus") is None:
        pytest.skip("no pymilvus: pip install 'sil-cli[milvus]'")
    if request.param == "lite":
        return Place("lite", tmp_path)
    return Place("server", tmp_path, request.getfixturevalue("milvus_url"))
