"""What goes out to the network: nothing, whatever the packages that compute would send on their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT, TINY_DATA_FLAGS, TINY_TRAIN_FLAGS

KEPT_AT_HOME = {(".cache", "matplotlib"), (".config", "matplotlib")}
"""What docs/inference.md says that is left there."""

RECORDER = """
import sys

def note(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname"):
        with open({log!r}, "a") as stream:
            stream.write(f"{{event}} {{arguments[-1 if event != 'socket.getaddrinfo' else 0]!r}}\\n")

sys.addaudithook(note)
"""


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Run commands as a user does, with a home of their own; returns what Python's sockets were asked for."""
    log = tmp_path / "sockets.txt"
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook/sitecustomize.py").write_text(RECORDER.format(log=str(log)))
    (tmp_path / "home").mkdir()
    # As on a user's machine: OpenVINO, for one, sends nothing where it finds one of these.
    ours = {key: value for key, value in os.environ.items() if key not in ("CI", "TF_BUILD", "JENKINS_URL")}
    ours |= {"HOME": str(tmp_path / "home"), "PYTHONPATH": os.pathsep.join([str(tmp_path / "hook"), str(ROOT)])}
    ours.pop("ORT_DISABLE_TELEMETRY", None)

    def run(*words: object, code: str = "from sil_cli.__main__ import main; main()") -> str:
        subprocess.run(
            [sys.executable, "-c", code, *map(str, words)], check=True, capture_output=True, env=ours, timeout=300
        )
        return log.read_text() if log.exists() else ""

    return run


def left_at_home(home: Path) -> list[str]:
    """Files at home that packages know a user or a machine by."""
    return [
        str(path.relative_to(home))
        for path in home.rglob("*")
        if path.is_file() and any(maker in str(path) for maker in ("Microsoft", "intel", "huggingface"))
    ]


def test_the_recorder_hears_of_what_is_asked_for(recorded) -> None:
    asked = recorded(code="import socket; socket.socket().connect_ex(('127.0.0.1', 9)); socket.getaddrinfo('::1', 9)")
    assert asked.splitlines() == ["socket.connect ('127.0.0.1', 9)", "socket.getaddrinfo '::1'"]


@pytest.mark.thorough
def test_the_five_commands_send_nothing(recorded, tmp_path, monkeypatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    recorded("prepare-data", *TINY_DATA_FLAGS)
    recorded("train", *TINY_TRAIN_FLAGS)
    recorded("evaluate")
    recorded("index-gallery")
    image = sorted(Path().glob("data/*/images/query/*.jpg"))[0]
    assert recorded("query", image) == ""
    assert left_at_home(tmp_path / "home") == []


@pytest.mark.thorough
@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace")
@pytest.mark.parametrize(
    "words",
    [
        ["prepare-data", "--out", "more", *TINY_DATA_FLAGS],
        ["train", *TINY_TRAIN_FLAGS, "--set", "train.export=true"],
        ["evaluate"],
        ["index-gallery"],
        ["query", "IMAGE"],
        ["query", "IMAGE", "--engine", "openvino"],
        ["export"],
        ["export", "--int8", "--calibrate-on", "data/harbour"],
        ["report"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_the_kernel_sees_no_connection_and_home_stays_empty(world, tmp_path, monkeypatch, words) -> None:
    """What libraries in C++ do as well, which Python's audit hooks don't hear of."""
    shutil.copytree(world, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "home").mkdir()
    image = str(sorted(Path().glob("data/*/images/query/*.jpg"))[0])
    log = tmp_path / "calls.txt"
    ours = {key: value for key, value in os.environ.items() if key not in ("CI", "TF_BUILD", "ORT_DISABLE_TELEMETRY")}
    strace = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-e", "signal=none", "-o", str(log)]
    command = [sys.executable, "-m", "sil_cli", *(image if word == "IMAGE" else word for word in words)]
    done = subprocess.run(
        [*strace, *command],
        capture_output=True,
        text=True,
        check=False,
        env=ours | {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in log.read_text().splitlines() if "AF_INET" in line] == []
    kept = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert {path.relative_to(tmp_path / "home").parts[:2] for path in kept} <= KEPT_AT_HOME


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", pytest.param("torch", marks=pytest.mark.thorough)])
def test_no_engine_sends_anything(world, recorded, tmp_path, monkeypatch, engine) -> None:
    pytest.importorskip("onnxruntime" if engine == "torch" else engine)
    shutil.copytree(world, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    image = sorted(Path().glob("data/*/images/query/*.jpg"))[0]
    assert recorded("query", image, "--engine", engine) == ""
    assert left_at_home(tmp_path / "home") == []


def test_functions_send_nothing_either(world, recorded, tmp_path, monkeypatch) -> None:
    shutil.copytree(world, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    image = sorted(Path().glob("data/*/images/query/*.jpg"))[0]
    code = f"import sil_cli; sil_cli.query({str(image)!r}, settings={{'inference.engine': 'openvino'}})"
    assert recorded(code=code) == ""
    assert left_at_home(tmp_path / "home") == []
