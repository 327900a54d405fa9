"""The commands on a gallery in a Milvus Lite file: they say and find what they do on a folder."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from commands import sil


@pytest.fixture
def lite(world, tmp_path, monkeypatch):
    """A copy of the world, and what names a store in it."""
    pytest.importorskip("pymilvus")
    shutil.copytree(world, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    return ["--gallery", "beside", "--store", "crops.db"]


def image_of(folder):
    return next(path for path in sorted((folder / "data").rglob("*.png")) + sorted((folder / "data").rglob("*.jpg")))


def found(*arguments):
    outcome = sil("query", *arguments, "--json")
    assert outcome.code == 0, outcome.err
    document = outcome.document
    return [(one["path"], one["identity"], one["score"], one["decision"]) for one in document["matches"]], document


def test_a_gallery_on_milvus_answers_as_a_folder_does(lite, tmp_path):
    indexed = sil("index-gallery", *lite, "--json")
    assert indexed.code == 0, indexed.err
    assert indexed.document["added"] == indexed.document["total"] > 0
    again = sil("index-gallery", *lite, "--json").document
    assert (again["added"], again["unchanged"]) == (0, again["total"])
    image = image_of(tmp_path / "w")
    for options in (
        [],
        ["--group", "identity"],
        ["--all", "--min-score", "-1"],
        ["--rerank"],
        ["--exclude-camera", "c1"],
        ["--exclude-self"],
    ):
        ours, document = found(image, *options, *lite)
        theirs, local = found(image, *options)
        assert ours == theirs, options
        assert document["verdict"] == local["verdict"]
    both = [json.loads(sil("gallery", "info", *chosen, "--json").out) for chosen in ([], [lite[1], *lite[2:]])]
    for name in ("entries", "dimension", "cameras", "identities", "model", "metadata", "earliest"):
        assert both[0][name] == both[1][name], name
    assert both[1]["store"] == "crops.db"
    verified = sil("gallery", "verify", "beside", *lite[2:])
    assert verified.code == 0, verified.out + verified.err


def test_looking_after_a_gallery_on_milvus(lite):
    assert sil("index-gallery", *lite).code == 0
    total = sil("gallery", "info", "beside", *lite[2:], "--json").document["entries"]
    exported = sil("gallery", "export", "out.npz", *lite)
    assert exported.code == 0, exported.err
    with np.load("out.npz", allow_pickle=False) as arrays:
        assert arrays["gallery_embeddings"].shape[0] == len(set(arrays["gallery_ids"].tolist())) == total
        people = arrays["gallery_identities"].tolist()
    removed = sil("gallery", "remove", "--identity", people[0], "--yes", *lite, "--json")
    assert removed.document["removed"] == people.count(people[0])
    assert sil("gallery", "compact", "beside", *lite[2:]).code == 0
    rebuilt = sil("gallery", "rebuild", "beside", *lite[2:], "--json")
    assert rebuilt.code == 0, rebuilt.err
    assert rebuilt.document["entries"] == total - people.count(people[0])
    assert sil("gallery", "verify", "beside", *lite[2:]).code == 0
    refused = sil("gallery", "repair", "beside", "--set", 'gallery.store="crops.db"')
    assert refused.code == 1
    assert "looked after by its server" in refused.error


def test_copying_there_and_back(lite, tmp_path):
    there = sil("gallery", "copy", "gallery", "crops.db", "--gallery", "beside", "--json")
    assert there.code == 0, there.err
    total = there.document["entries"]
    assert (there.document["copied"], there.document["there"], there.document["checked"]) == (total, 0, total)
    image = image_of(tmp_path / "w")
    assert found(image, *lite)[0] == found(image)[0]
    again = sil("gallery", "copy", "gallery", "crops.db", "--gallery", "beside", "--json").document
    assert (again["copied"], again["there"]) == (0, total)
    back = sil("gallery", "copy", "crops.db", "deeper/back", "--gallery", "beside", "--json")
    assert back.code == 0, back.err
    assert found(image, "--gallery", "deeper/back")[0] == found(image)[0]
    assert sil("gallery", "verify", "deeper/back").code == 0
    assert sil("index-gallery", "--gallery", "deeper/back", "--json").document["unchanged"] == total
    onto_itself = sil("gallery", "copy", "gallery", "./gallery")
    assert onto_itself.code == 2
    assert sil("gallery", "copy", "nowhere", "elsewhere").code == 1


def test_a_copy_that_stopped_goes_on(lite, monkeypatch):
    from sil_cli.workflows import gallery_copy

    monkeypatch.setattr(gallery_copy, "COMMIT_IMAGES", 3)
    real, calls = gallery_copy._Copying.copy, []

    def stops(self, ids):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(ids)
        real(self, ids)

    monkeypatch.setattr(gallery_copy._Copying, "copy", stops)
    stopped = sil("gallery", "copy", "gallery", "crops.db", "--gallery", "beside")
    assert stopped.code == 130
    assert "Stopped with 6 of" in stopped.error
    monkeypatch.setattr(gallery_copy._Copying, "copy", real)
    finished = sil("gallery", "copy", "gallery", "crops.db", "--gallery", "beside", "--json").document
    assert finished["there"] == 6
    assert finished["copied"] + 6 == finished["entries"]


def test_what_is_wrong_is_said(lite):
    assert sil("query", "--id", "1", *lite).code == 1  # nothing there
    wrong = sil("query", "--id", "1", "--store", "milvus://root:secret@h/g")
    assert wrong.code == 2
    assert "secret" not in wrong.error
    other = sil("index-gallery", "--store", "crops.db", "--gallery", "gallery", "--index", "HNSW32")
    assert other.code == 1
    assert "Take auto or exact" in other.error
