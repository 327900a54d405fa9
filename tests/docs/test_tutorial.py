"""The tutorial's commands, one after another, on data and a training small enough for a test."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT

SMALL = {
    "SIL_DATA__SYNTHETIC__TRAIN_IDENTITIES": "40",
    "SIL_DATA__SYNTHETIC__TEST_IDENTITIES": "30",
    "SIL_DATA__SYNTHETIC__CAMERAS": "2",
    "SIL_DATA__SYNTHETIC__IMAGES_PER_CAMERA": "3",
    "SIL_DATA__SYNTHETIC__HEIGHT": "48",
    "SIL_DATA__SYNTHETIC__WIDTH": "24",
    "SIL_TRAIN__EPOCHS": "1",
    "SIL_TRAIN__ITERATIONS": "2",
    "SIL_TRAIN__MILESTONES": "[]",
}


@pytest.mark.slow
def test_the_tutorial_leads_to_a_contact_sheet(tmp_path: Path) -> None:
    commands = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL | re.MULTILINE)
    script = "\n".join(['sil() { "$PYTHON" -m sil_cli "$@"; }', "set -e", *commands])
    environment = os.environ | SMALL | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "matches.jpg").exists()
    assert (tmp_path / "runs/001-dbs/report/report.html").exists()
    assert json.loads((tmp_path / "data/viaduct/dataset.json").read_text())["splits"]["train"]["images"] == 0
