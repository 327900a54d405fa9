"""The loss of the first 20 iterations on generated data, by float32 on a CPU.

`tests/training/test_golden_curves.py` compares them with the stored ones. A change that is meant to move them
stores them anew:

    python tests/golden/curves.py
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from commands import TINY_DATA_FLAGS, sil  # noqa: E402

from sil_cli.runtime import SilentReporter, StopRequest  # noqa: E402
from sil_cli.settings import load_settings, merge, read_recipe  # noqa: E402
from sil_cli.training.compose import compose  # noqa: E402
from sil_cli.training.sources import load_sources  # noqa: E402

STEPS = 20
SMALL = {
    "device": "cpu",
    "model": {"height": 32, "width": 16},
    "train": {"epochs": 1, "iterations": STEPS, "identities": 4, "instances": 2, "warmup_epochs": 0},
}
# Adam's first steps have one size for every weight, however small its gradient, and with it the sign of a rounding
# error counts. At the recipe's own rate 20 steps make 50 % of that; at this one other instruction sets agree.
SMALL["train"] |= {"precision": "float32", "keep_checkpoints": 1, "learning_rate": 1e-5}
CURVES = {
    "ubs": {"style": {"name": "ubs"}},
    "supervised": {"style": {"name": "none"}, "train": {"method": "supervised", "erasing": 0.5}},
}


def prepare(folder: Path) -> Path:
    """Draw the networks and return the folder that they lie in."""
    outcome = sil("prepare-data", "--out", folder / "data", *TINY_DATA_FLAGS)
    assert outcome.code == 0, outcome.err
    return folder / "data"


def losses(name: str, data: Path, folder: Path) -> list[float]:
    """The loss of each iteration, by two of the networks in `data`; `folder` is for checkpoints."""
    settings = load_settings(flags=merge(SMALL, CURVES[name]), recipe=read_recipe("generated"))
    folders = sorted(path for path in data.iterdir() if path.is_dir())[:2]
    training = compose(settings, load_sources(folders), SilentReporter(), fresh=True)
    training.start(SilentReporter())
    step, found = training.method.step, []

    def watched(*arguments):
        loss = step(*arguments)
        found.append(loss.item())
        return loss

    training.method.step = watched
    training.run(folder, SilentReporter(), StopRequest(), len)
    return found


def stored(name: str) -> list[float]:
    return [float(line) for line in (HERE / f"{name}.txt").read_text().splitlines()]


def main() -> None:
    """Store all curves anew, or print how far they lie from the stored ones (`--compare`)."""
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        data = prepare(Path(scratch))
        for name in CURVES:
            curve = losses(name, data, Path(scratch))
            if "--compare" in sys.argv:
                away = [abs(new / old - 1) for new, old in zip(curve, stored(name), strict=True)]
                sys.stdout.write(f"{name}: at most {max(away):.1e} away\n")
            else:
                (HERE / f"{name}.txt").write_text("".join(f"{loss:.6f}\n" for loss in curve))


if __name__ == "__main__":
    main()
