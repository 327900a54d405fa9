"""A published checkpoint becomes a model that the other commands take."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torchvision
from commands import sil

from sil_cli.models.embedder import load_embedder

SIZE = ("--backbone", "resnet18", "--height", 32, "--width", 16)


@pytest.fixture
def authors(tmp_path):
    """A file as the paper's authors publish theirs: DataParallel's prefix, a base and a neck."""
    torch.manual_seed(1)
    state = torchvision.models.resnet18(weights=None).state_dict()
    named = {f"module.base.{key}": value for key, value in state.items() if not key.startswith("fc.")}
    neck = torch.nn.BatchNorm1d(512).state_dict()
    path = tmp_path / "authors.pth"
    torch.save({"state_dict": named | {f"module.feat_bn0.{key}": value for key, value in neck.items()}}, path)
    return path, state


def test_it_can_be_evaluated_and_indexed(in_world, authors, tmp_path):
    path, state = authors
    outcome = sil("import-model", path, "--out", tmp_path / "model", *SIZE, "--json")
    assert outcome.code == 0, outcome.err
    embedder, record = load_embedder(tmp_path / "model")
    assert outcome.document["fingerprint"] == record.fingerprint
    np.testing.assert_array_equal(embedder.backbone.conv1.weight.detach(), state["conv1.weight"])
    scored = sil("evaluate", "--model", tmp_path / "model", "--json")
    assert scored.code == 0, scored.err
    assert json.loads(scored.out)["fingerprint"] == record.fingerprint


def test_another_backbone_is_told_what_does_not_fit(authors, tmp_path):
    outcome = sil("import-model", authors[0], "--out", tmp_path / "model", "--backbone", "resnet34")
    assert outcome.code == 1
    assert "a resnet18, not a resnet34" in outcome.error
    assert not (tmp_path / "model").exists()


def test_a_folder_that_holds_something_is_left_alone(authors, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    outcome = sil("import-model", authors[0], "--out", tmp_path / "full", *SIZE)
    assert outcome.code == 2
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]


def test_an_unknown_backbone_gets_the_nearest_name(authors, tmp_path):
    outcome = sil("import-model", authors[0], "--out", tmp_path / "model", "--backbone", "resnet5")
    assert outcome.code == 2
    assert "resnet50" in outcome.error
