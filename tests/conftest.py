"""What several tests share: a tiny world in which the five commands have run."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import TINY_DATA_FLAGS, TINY_TRAIN_FLAGS, sil
from hypothesis import HealthCheck, settings
from milvus_server import MilvusServer, server_program
from PIL import Image

# Drawing examples takes as long as the machine is busy: that is no fault of a test.
settings.register_profile("suite", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

NAMED_SERVER = os.environ.get("SIL_TEST_MILVUS")  # read here: tests run without variables of ours


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith("SIL_")]:
        monkeypatch.delenv(variable)


@pytest.fixture
def make_image() -> Callable[..., Path]:
    """Write a picture of noise, different for every path; the suffix says the format."""

    def make(path: Path, size: tuple[int, int] = (16, 32), mode: str = "RGB", **options: object) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = list(path.name.encode("utf-8", "surrogateescape"))
        noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(noise).convert(mode).save(path, **options)
        return path

    return make


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which data is prepared, a model trained and a gallery indexed; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("world") / "world"
    if "PYTEST_XDIST_WORKER" not in os.environ:
        make_world(folder)
        return folder
    # Of several workers the first makes it, and each has a copy: commands that run in it write there, too.
    shared = tmp_path_factory.getbasetemp().parent / "world"
    with (shared.parent / "world.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shared.exists():
            made = shared.with_name("world-in-the-making")
            shutil.rmtree(made, ignore_errors=True)
            make_world(made)
            made.rename(shared)
    shutil.copytree(shared, folder)
    return folder


def make_world(folder: Path) -> None:
    folder.mkdir()
    with contextlib.chdir(folder):
        for arguments in (
            ["prepare-data", *TINY_DATA_FLAGS],
            ["train", *TINY_TRAIN_FLAGS, "--set", "train.export=true"],
            ["evaluate"],
            ["index-gallery"],
        ):
            outcome = sil(*arguments)
            assert outcome.code == 0, outcome.err


@pytest.fixture
def in_world(world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work inside the shared world."""
    monkeypatch.chdir(world)
    return world


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def own_server(tmp_path_factory):
    """A server that tests may kill and start again; one machine runs one of them at a time."""
    pytest.importorskip("pymilvus")
    if server_program() is None:
        pytest.skip("no milvus-server here: make milvus")
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
