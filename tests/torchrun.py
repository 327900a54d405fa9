"""Commands that torchrun starts in several processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

SECONDS = 240
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
COMMAND = [sys.executable, "-m", "sil_cli"]


def start_torchrun(count: int, *arguments: object, cwd: Path, command=COMMAND, options=()) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[1])
    return subprocess.Popen(
        [*TORCHRUN, f"--nproc-per-node={count}", *options, "--no-python", "--", *command, *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
    )


def end(process: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        return process.communicate(timeout=SECONDS)
    finally:
        process.terminate()  # it ends its processes, too
        process.wait(30)


def wait_for(condition, process) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def errors_in(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith("Error:")]


def only_error_in(err: str) -> str:
    """The one error that was told; all that was said where there is none, or more than one."""
    found = errors_in(err)
    assert len(found) == 1, err
    return found[0]
