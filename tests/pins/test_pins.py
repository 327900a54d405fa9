"""What users and their programs see is what is stored; `python tests/pins/update.py` stores it anew."""

from __future__ import annotations

import difflib

import pytest
from pins.making import CURVES, KINDS, STEPS, losses, stored

AS_TEXT = ("help", "settings", "schemas", "documents")


@pytest.mark.parametrize("kind", AS_TEXT)
def test_what_is_shown_is_what_is_stored(kind: str, tmp_path) -> None:
    before, now = stored(kind), KINDS[kind](tmp_path)
    differences = [
        line
        for name in sorted({*before, *now})
        for line in difflib.unified_diff(
            before.get(name, "").splitlines(),
            now.get(name, "").splitlines(),
            f"stored {name}",
            f"now {name}",
            lineterm="",
        )
    ]
    if differences:
        text = "\n".join(differences)
        pytest.fail(f"{text}\n\nIf users may see this: python tests/pins/update.py {kind}", pytrace=False)


@pytest.mark.parametrize("name", CURVES)
def test_losses_are_the_stored_ones(name: str, tmp_path) -> None:
    expected = [float(line) for line in stored("losses")[f"{name}.txt"].splitlines()]
    assert len(expected) == STEPS
    assert losses(name, tmp_path) == pytest.approx(expected, rel=1e-4)
