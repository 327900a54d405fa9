"""The whole round: crops without labels, people, verdicts, an adapted model, a rebuilt gallery, better people."""

from __future__ import annotations

import argparse

import pytest
from benchmarks.bench_site import measure, sil


@pytest.mark.slow
def test_a_hundred_verdicts_make_a_model_better_at_a_site_that_it_never_saw(tmp_path, monkeypatch):
    monkeypatch.setenv("SIL_DATA__SYNTHETIC__NETWORKS", "wardrobes")  # as in docs/verdicts.md
    sil(tmp_path, "prepare-data")
    sil(tmp_path, "train", "--run", "base")
    options = argparse.Namespace(verdicts=100, pairs="nearest", export=[], settings=[])
    before, told, after = measure(tmp_path / "site", tmp_path / "base", options, 21)
    assert told["same"] > 0
    assert after["people"] > 1
    assert after["mAP"] > before["mAP"] + 0.02  # of other people of the site
    assert after["within"] > before["within"]
    assert {"F"} <= told.keys() & after.keys()  # which may fall: docs/verdicts.md
