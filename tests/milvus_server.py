"""A real Milvus server for tests: the program that the PyPI package `milvus` carries, started on loopback."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

STARTS_WITHIN = 180
INNER_PORTS = (2379, 9091, 13333, 19529, 19531, 53100)
"""What its parts listen on, whatever port its clients are given: one machine runs one of them at a time."""

_KEEPER = """
import os, subprocess, sys
subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
sys.stdin.read()
os.killpg(0, 9)
"""
"""Runs the server until the tests have ended, in whatever way: then the pipe from them is closed."""


def server_program() -> Path | None:
    """The program, where the package is installed."""
    beside = Path(sys.executable).with_name("milvus-server")
    found = beside if beside.exists() else shutil.which("milvus-server")
    return Path(found) if found else None


class MilvusServer:
    """A server on a port of its own; what it holds survives `kill` and `start`."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.port = _free_port()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"milvus://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; once more as it was, past the program, which takes another port while clients ask for the old."""
        program, server = server_program(), self.folder / "bin" / "milvus"
        assert program is not None
        _wait_for_inner_ports()
        again = server.exists() and (self.folder / "configs" / "milvus.yaml").exists()
        command = [program, "--data", self.folder, "--proxy-port", str(self.port), *self._options]
        found = {"LD_LIBRARY_PATH": str(server.parent), "DEPLOY_MODE": "STANDALONE", "METRICS_PORT": "9091"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _KEEPER, *([server, "run", "standalone"] if again else command)],
            stdin=subprocess.PIPE,
            cwd=self.folder if again else None,
            env={**os.environ, **found} if again else None,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # the keeper, the program and the server proper are one group
        )

    def wait(self, token: str = "") -> None:
        """Until it answers."""
        from pymilvus import MilvusClient

        deadline = time.monotonic() + STARTS_WITHIN
        while True:
            with contextlib.suppress(Exception):
                client = MilvusClient(f"http://127.0.0.1:{self.port}", token=token, timeout=5)
                client.list_collections(timeout=5)
                client.close()
                return
            assert time.monotonic() < deadline, "the server did not start: one machine runs one of them at a time"
            time.sleep(1)

    def pid(self) -> int:
        """Of the server proper."""
        assert self._process is not None
        found = subprocess.run(["pgrep", "-g", str(self._process.pid), "-x", "milvus"], capture_output=True, check=True)
        return int(found.stdout.split()[0])

    def signal(self, number: int) -> None:
        """Send a signal to the server and to those that started it."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """As a power cut would, but for the operating system's cache."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.communicate()


def _wait_for_inner_ports() -> None:
    """Say at once that another server runs, not after minutes of waiting; a killed one needs a moment."""
    deadline = time.monotonic() + 10
    while taken := [port for port in INNER_PORTS if _answers(port)]:
        assert time.monotonic() < deadline, f"another Milvus server runs here (port {taken[0]} answers): end it first"
        time.sleep(0.2)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    """A free port below those that systems give to clients: one that tries to reach such a port may meet itself."""
    for port in random.SystemRandom().sample(range(20_000, 30_000), 100):
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")
