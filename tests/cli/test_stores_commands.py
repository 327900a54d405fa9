"""The commands on a gallery on Milvus, in a Lite file and on a server: they say and find what they do on a folder."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import uuid

import numpy as np
import pytest
from commands import sil

pytestmark = pytest.mark.thorough

KILLED = """
import os
from sil_cli.gallery import copying as gallery_copy
real, portions = gallery_copy._Copying.copy, []
def copy(self, ids):
    if len(portions) == 2:
        os.kill(os.getpid(), 9)
    portions.append(ids)
    real(self, ids)
gallery_copy.COMMIT_IMAGES, gallery_copy._Copying.copy = 3, copy
from sil_cli.__main__ import main
main()
"""
"""`sil`, which kills itself when it has copied two portions of three entries."""


@pytest.fixture(params=["lite", pytest.param("server", marks=pytest.mark.slow)])
def store(request, world, tmp_path, monkeypatch):
    """The address of a store, in a copy of the world."""
    pytest.importorskip("pymilvus")
    shutil.copytree(world, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    if request.param == "lite":
        return "crops.db"
    return f"{request.getfixturevalue('milvus_url')}/commands_{uuid.uuid4().hex}"


@pytest.fixture
def where(store):
    """What names the store, and the folder beside it."""
    return ["--gallery", "beside", "--store", store]


def image_of(folder):
    return next(path for path in sorted((folder / "data").rglob("*.png")) + sorted((folder / "data").rglob("*.jpg")))


def found(*arguments):
    outcome = sil("query", *arguments, "--json")
    assert outcome.code == 0, outcome.err
    document = outcome.document
    return [(one["path"], one["identity"], one["score"], one["decision"]) for one in document["matches"]], document


def test_a_gallery_on_milvus_answers_as_a_folder_does(where, tmp_path):
    indexed = sil("index-gallery", *where, "--json")
    assert indexed.code == 0, indexed.err
    assert indexed.document["added"] == indexed.document["total"] > 0
    again = sil("index-gallery", *where, "--json").document
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
        ours, document = found(image, *options, *where)
        theirs, local = found(image, *options)
        assert ours == theirs, options
        assert document["verdict"] == local["verdict"]
    both = [json.loads(sil("gallery", "info", *chosen, "--json").out) for chosen in ([], [where[1], *where[2:]])]
    for name in ("entries", "dimension", "cameras", "identities", "model", "metadata", "earliest"):
        assert both[0][name] == both[1][name], name
    assert both[1]["store"] == where[-1]
    verified = sil("gallery", "verify", "beside", *where[2:])
    assert verified.code == 0, verified.out + verified.err


def test_looking_after_a_gallery_on_milvus(where):
    assert sil("index-gallery", *where).code == 0
    total = sil("gallery", "info", "beside", *where[2:], "--json").document["entries"]
    exported = sil("gallery", "export", "out.npz", *where)
    assert exported.code == 0, exported.err
    with np.load("out.npz", allow_pickle=False) as arrays:
        assert arrays["gallery_embeddings"].shape[0] == len(set(arrays["gallery_ids"].tolist())) == total
        people = arrays["gallery_identities"].tolist()
    removed = sil("gallery", "remove", "--identity", people[0], "--yes", *where, "--json")
    assert removed.document["removed"] == people.count(people[0])
    assert sil("gallery", "compact", "beside", *where[2:]).code == 0
    rebuilt = sil("gallery", "rebuild", "beside", *where[2:], "--json")
    assert rebuilt.code == 0, rebuilt.err
    assert rebuilt.document["entries"] == total - people.count(people[0])
    assert sil("gallery", "verify", "beside", *where[2:]).code == 0
    refused = sil("gallery", "repair", "beside", "--set", f'gallery.store="{where[-1]}"')
    assert refused.code == 1
    assert "managed by its server" in refused.error


def test_copying_there_and_back(where, store, tmp_path):
    there = sil("gallery", "copy", "gallery", store, "--gallery", "beside", "--json")
    assert there.code == 0, there.err
    total = there.document["entries"]
    assert (there.document["copied"], there.document["there"], there.document["checked"]) == (total, 0, total)
    image = image_of(tmp_path / "w")
    assert found(image, *where)[0] == found(image)[0]
    again = sil("gallery", "copy", "gallery", store, "--gallery", "beside", "--json").document
    assert (again["copied"], again["there"]) == (0, total)
    back = sil("gallery", "copy", store, "deeper/back", "--gallery", "beside", "--json")
    assert back.code == 0, back.err
    assert found(image, "--gallery", "deeper/back")[0] == found(image)[0]
    assert sil("gallery", "verify", "deeper/back").code == 0
    assert sil("index-gallery", "--gallery", "deeper/back", "--json").document["unchanged"] == total
    onto_itself = sil("gallery", "copy", "gallery", "./gallery")
    assert onto_itself.code == 2
    assert sil("gallery", "copy", "nowhere", "elsewhere").code == 1


def test_a_copy_beside_another_model_makes_nothing(store, tmp_path):
    record = tmp_path / "w" / "other" / "model" / "model.json"
    shutil.copytree("gallery/model", record.parent)
    record.write_text(json.dumps(json.loads(record.read_text()) | {"fingerprint": "f" * 64}))
    refused = sil("gallery", "copy", "gallery", store, "--gallery", "other")
    assert refused.code == 1
    assert "other keeps another model" in refused.error
    assert sil("gallery", "info", "gallery", "--store", store).code == 1


@pytest.mark.parametrize("back", [False, True])
def test_a_copy_that_stopped_goes_on(where, store, monkeypatch, back):
    """By Ctrl-C, in either direction."""
    from sil_cli.gallery import copying as gallery_copy

    ends = ["gallery", store]
    if back:
        assert sil("index-gallery", *where).code == 0
        ends = [store, "backup"]
    monkeypatch.setattr(gallery_copy, "COMMIT_IMAGES", 3)
    real, calls = gallery_copy._Copying.copy, []

    def stops(self, ids):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(ids)
        real(self, ids)

    monkeypatch.setattr(gallery_copy._Copying, "copy", stops)
    stopped = sil("gallery", "copy", *ends, "--gallery", "beside")
    assert stopped.code == 130
    assert "Stopped with 6 of" in stopped.error
    monkeypatch.setattr(gallery_copy._Copying, "copy", real)
    finished = sil("gallery", "copy", *ends, "--gallery", "beside", "--json").document
    assert finished["there"] == 6
    assert finished["copied"] + 6 == finished["entries"]
    assert finished["checked"] == finished["entries"]


@pytest.mark.parametrize("back", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_copy_that_is_killed_goes_on(where, store, tmp_path, back):
    """By a power cut, in either direction: what was copied is not copied again, and what comes of it is whole."""
    ends = ["gallery", store]
    if back:
        assert sil("index-gallery", *where).code == 0
        ends = [store, "backup"]
    command = ["gallery", "copy", *ends, "--gallery", "beside", "--json"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *command], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    finished = sil(*command)
    assert finished.code == 0, finished.err
    document = finished.document
    assert document["there"] == 6
    assert document["copied"] + 6 == document["entries"] == document["checked"]
    other = ["--gallery", "backup"] if back else where
    for options in ([], ["--exclude-camera", "c1"]):
        image = image_of(tmp_path / "w")
        assert found(image, *options, *other)[0] == found(image, *options)[0]
    assert sil("gallery", "verify", *(["backup"] if back else ["beside", "--store", store])).code == 0


def test_what_is_wrong_is_said(where, store):
    assert sil("query", "--id", "1", *where).code == 1  # nothing there
    wrong = sil("query", "--id", "1", "--store", "milvus://root:secret@h/g")
    assert wrong.code == 2
    assert "secret" not in wrong.error
    other = sil("index-gallery", "--store", store, "--gallery", "gallery", "--index", "HNSW32")
    assert other.code == 1
    assert "Use auto" in other.error
