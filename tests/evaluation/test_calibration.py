from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from sil_cli.errors import ModelError
from sil_cli.evaluation.calibration import CALIBRATION_FILE, Calibration, read_calibration, write_calibration


def calibration(**changed) -> Calibration:
    whole = {
        "fingerprint": "abc",
        "made_on": "held-out identities of harbour",
        "same_pairs": 10,
        "different_pairs": 1000,
        "thresholds": {"1e-2": 0.5, "1e-3": 0.7},
        "match": 0.7,
        "possible": 0.5,
    }
    return Calibration(**whole | changed)


@pytest.mark.parametrize(
    ("score", "decision"),
    [(0.9, "match"), (0.7, "match"), (0.69, "possible"), (0.5, "possible"), (0.49, "no match"), (math.nan, "no match")],
)
def test_a_score_becomes_a_decision(score, decision):
    assert calibration().decide(score) == decision


def test_thresholds_out_of_order_are_refused():
    with pytest.raises(ValidationError, match="possible"):
        calibration(possible=0.8)


def test_what_is_written_is_read(tmp_path):
    write_calibration(tmp_path, calibration())
    assert read_calibration(tmp_path) == calibration()


def test_no_file_is_no_calibration(tmp_path):
    assert read_calibration(tmp_path) is None


def test_a_file_cut_short_says_what_to_do(tmp_path):
    (tmp_path / CALIBRATION_FILE).write_text('{"format": "sil-cal')
    with pytest.raises(ModelError) as raised:
        read_calibration(tmp_path)
    assert "sil calibrate" in raised.value.fix
    assert "pydantic" not in raised.value.what
    assert "validation error" not in raised.value.what
