"""`sil show --croissant`: the description of a prepared data set, held against its manifest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from commands import sil


@pytest.fixture
def described(in_world):
    outcome = sil("show", "data/harbour", "--croissant", "--licence", "https://example.org/terms", "--citation", "Us")
    assert outcome.code == 0, outcome.err
    return json.loads(Path("data/harbour/croissant.json").read_text())


def test_it_names_the_manifest_by_its_checksum_and_no_image(described) -> None:
    (file,) = described["distribution"]
    manifest = Path("data/harbour/manifest.jsonl").read_bytes()
    assert file["sha256"] == hashlib.sha256(manifest).hexdigest()
    assert (file["@type"], file["contentUrl"], file["encodingFormat"]) == (
        "cr:FileObject", "manifest.jsonl", "application/jsonlines",
    )  # fmt: skip
    assert file["contentSize"] == f"{len(manifest)} B"


def test_its_fields_are_those_of_the_manifest(described) -> None:
    (records,) = described["recordSet"]
    fields = {each["source"]["extract"]["column"] for each in records["field"]}
    lines = [json.loads(line) for line in Path("data/harbour/manifest.jsonl").read_text().splitlines()]
    assert fields == {name for line in lines for name in line} - {"box"}
    assert {each["source"]["fileObject"]["@id"] for each in records["field"]} == {described["distribution"][0]["@id"]}


def test_licence_and_citation_are_the_users_and_nobody_elses(described) -> None:
    assert (described["license"], described["citeAs"]) == ("https://example.org/terms", "Us")
    assert described["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    outcome = sil("show", "data/harbour", "--croissant")
    assert "--licence URL" in outcome.error
    again = json.loads(Path("data/harbour/croissant.json").read_text())
    assert "license" not in again
    assert "citeAs" not in again


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--croissant"], "describes one data set"),
        (["data/harbour", "data/orchard", "--croissant"], "describes one data set"),
        (["data/harbour", "--croissant", "--split", "train"], "takes no --split"),
        (["data/harbour", "--licence", "x"], "only works with --croissant"),
    ],
)
def test_what_does_not_fit_is_refused(in_world, arguments, why) -> None:
    outcome = sil("show", *arguments)
    assert (outcome.code, why in outcome.error) == (2, True), outcome.err
