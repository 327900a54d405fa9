"""A Milvus server that is down, slow, killed, or that refuses; a real one, so these run by hand (-m slow)."""

from __future__ import annotations

import contextlib
import fcntl
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from galleries import MODEL, entry, vectors
from milvus_server import MilvusServer
from milvus_worker import BATCH

from sil_cli.errors import GalleryError
from sil_cli.gallery.stores import open_store

BATCHES = 12


def address_on(server) -> str:
    return f"{server.url}/failures_{uuid.uuid4().hex}"


@pytest.fixture
def start_worker():
    """Starts writers as programs of their own, which end with the test."""
    with contextlib.ExitStack() as workers:

        def start(folder, address, *, batches=BATCHES, patience=120.0):
            program = Path(__file__).parents[2] / "milvus_worker.py"
            command = [sys.executable, program, folder, address, str(batches), str(patience)]
            worker = workers.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            workers.callback(worker.kill)
            return worker

        yield start


def wait_for(worker, line):
    for said in worker.stdout:
        if said.startswith(line):
            return
    raise AssertionError(f"the worker never said '{line}'")


def require_whole(folder, address, count=BATCHES * BATCH):
    """Each entry is there once, with its own vector."""
    store = open_store(folder, address, patience=60)
    assert [check for check in store.check() if not check.ok] == []
    rows = vectors(count)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    with store.open() as gallery:
        assert len(gallery) == count
        entries = gallery.entries(gallery.ids().tolist())
        numbers = [int(one.path.removesuffix(".jpg")) for one in entries.values()]
        assert sorted(numbers) == list(range(count))
        np.testing.assert_allclose(gallery.vectors(list(entries)), units[numbers], atol=1e-6)


@pytest.mark.slow
def test_a_server_killed_in_the_middle_costs_nothing(own_server, tmp_path, start_worker):
    address = address_on(own_server)
    worker = start_worker(tmp_path / "g", address)
    wait_for(worker, "batch 3")
    own_server.kill()
    time.sleep(2)
    assert worker.poll() is None  # it waits
    own_server.start()
    try:
        assert worker.wait(timeout=240) == 0, worker.stdout.read()
    finally:
        own_server.wait()
    require_whole(tmp_path / "g", address)


@pytest.mark.slow
def test_a_killed_writer_is_followed_by_another(own_server, tmp_path, start_worker):
    address = address_on(own_server)
    worker = start_worker(tmp_path / "g", address)
    wait_for(worker, "batch 5")
    worker.kill()
    worker.wait()
    again = start_worker(tmp_path / "g", address)
    assert again.wait(timeout=240) == 0
    require_whole(tmp_path / "g", address)


@pytest.mark.slow
def test_two_writers_from_two_machines_double_nothing(own_server, tmp_path, start_worker):
    """Two folders stand for two machines: no lock file holds them apart."""
    address = address_on(own_server)
    store = open_store(tmp_path / "one", address, patience=60)
    with store.writer(MODEL) as writer:
        writer.add([entry(0)], vectors(1))
    workers = [start_worker(tmp_path / name, address) for name in ("one", "two")]
    assert [worker.wait(timeout=240) for worker in workers] == [0, 0]
    require_whole(tmp_path / "one", address)


@pytest.mark.slow
def test_a_slow_server_is_named_and_the_rest_can_follow(own_server, tmp_path, start_worker):
    address = address_on(own_server)
    worker = start_worker(tmp_path / "g", address, patience=5.0)
    wait_for(worker, "batch 2")
    own_server.signal(signal.SIGSTOP)
    try:
        assert worker.wait(timeout=120) == 1
        assert f"refused: {address} does not answer" in worker.stdout.read()
    finally:
        own_server.signal(signal.SIGCONT)
    own_server.wait()
    assert start_worker(tmp_path / "g", address).wait(timeout=240) == 0
    require_whole(tmp_path / "g", address)


@pytest.mark.slow
def test_wrong_and_missing_credentials_are_refused_and_never_shown(own_server, tmp_path, monkeypatch):
    own_server.kill()
    guarded = MilvusServer(tmp_path / "guarded", "--authorization-enabled", "true")
    guarded.start()
    try:
        guarded.wait("root:Milvus")
        address = f"{guarded.url}/gallery"
        for token in ("", "root:not-the-password"):
            monkeypatch.setenv("SIL_MILVUS_TOKEN", token)
            with pytest.raises(GalleryError, match="refuses the credentials") as caught:
                open_store(tmp_path, address, patience=20).open()
            assert "not-the-password" not in str(caught.value)
            assert "SIL_MILVUS_TOKEN" in caught.value.fix
        monkeypatch.setenv("SIL_MILVUS_TOKEN", "root:Milvus")
        with open_store(tmp_path / "g", address, patience=60).writer(MODEL) as writer:
            writer.add([entry(0)], vectors(1))
            assert len(writer) == 1
    finally:
        guarded.kill()
        own_server.start()
        own_server.wait()


def test_no_server_at_all(tmp_path):
    pytest.importorskip("pymilvus")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(GalleryError, match=f"milvus://127.0.0.1:{port}/g does not answer") as caught:
        open_store(tmp_path, f"milvus://127.0.0.1:{port}/g", patience=1.0).open()
    assert "run the same again" in caught.value.fix


def test_a_lite_file_that_another_process_has_open(tmp_path):
    pytest.importorskip("pymilvus")
    store = open_store(tmp_path / "g", str(tmp_path / "crops.db"), patience=10)
    with store.writer(MODEL) as writer:
        writer.add([entry(0)], vectors(1))
    with (tmp_path / "crops.db/LOCK").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(GalleryError, match="another process has it open") as caught:
            store.open()
        assert "One process at a time" in caught.value.fix
    with store.open() as gallery:
        assert len(gallery) == 1


def test_something_else_that_listens(tmp_path):
    pytest.importorskip("pymilvus")
    with socket.create_server(("127.0.0.1", 0)) as other:

        def hang_up():
            while True:
                try:
                    connection, _ = other.accept()
                except OSError:
                    return
                connection.close()

        threading.Thread(target=hang_up, daemon=True).start()
        with pytest.raises(GalleryError, match="does not answer"):
            open_store(tmp_path, f"milvus://127.0.0.1:{other.getsockname()[1]}/g", patience=1.0).open()
        other.shutdown(socket.SHUT_RDWR)
