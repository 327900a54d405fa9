"""Several processes come to what one comes to, and all of them to the very same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from process_group_worker import VARIATIONS, finish, make_training, outcome

from sil_cli.distributed.process_group import SINGLE_PROCESS
from sil_cli.runs.checkpoint import load_checkpoint
from sil_cli.runtime import SilentReporter

TESTS = Path(__file__).parents[1]
SOME = ["averaged, erased, chosen", "both passes", "frozen", "supervised"]
"""Variations enough for two processes, whose parts are equal; those of three, of four identities, are not."""


def torchrun(count: int, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": f"{TESTS.parent}:{TESTS}", "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict[str, dict[str, torch.Tensor]]:
    """What one process comes to."""
    return {
        name: outcome(make_training(SINGLE_PROCESS, **variation), tmp_path_factory.mktemp("alone"))
        for name, variation in VARIATIONS.items()
    }


@pytest.mark.parametrize(
    ("count", "names"), [(3, list(VARIATIONS)), pytest.param(2, SOME, marks=pytest.mark.slow)], ids=["3", "2"]
)
def test_any_number_of_processes_comes_to_the_same(alone, tmp_path, count, names) -> None:
    done = torchrun(
        count, TESTS / "distributed/process_group_worker.py", tmp_path, *names, "own statistics", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    found = [torch.load(tmp_path / f"rank-{number}.pt", weights_only=True) for number in range(count)]
    for name in names:
        expected = alone[name]
        assert expected.keys() == found[0][name].keys()
        for key, value in expected.items():
            torch.testing.assert_close(
                found[0][name][key], value, rtol=1e-7, atol=1e-9, msg=lambda text, at=(name, key): f"{at}: {text}"
            )
    # One process goes on with what several have begun.
    for name in SOME:
        (tmp_path / f"{count}-{name}/checkpoint-0000002.pt").unlink()
        training = make_training(SINGLE_PROCESS, **VARIATIONS[name])
        training.restore(load_checkpoint(tmp_path / f"{count}-{name}", SilentReporter()))
        assert training.iteration == 1
        for key, value in finish(training, tmp_path).items():
            torch.testing.assert_close(value, alone[name][key], rtol=1e-7, atol=1e-9)
    # What all of this is for: batch norm by each process's own batch is another training.
    key = "model neck.running_var"
    assert (found[0]["own statistics"][key] - alone["style ubs"][key]).abs().max() > 1e-6
    # Whatever is learnt is equal to the bit in all processes, also where each has normalised by its own batch.
    for other in found[1:]:
        for name, expected in found[0].items():
            for key, value in expected.items():
                assert torch.equal(other[name][key], value), (name, key)
