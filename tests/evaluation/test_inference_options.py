"""Test-time options of `sil evaluate`: what each does, and that each is named in the result."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import sil
from PIL import Image, ImageOps

from sil_cli.evaluation.inference_options import average_tracklets, fuse, prepare_sides, unusable_for_expansion
from sil_cli.evaluation.pairs import EmbeddingSet
from sil_cli.models.embed import embed_batches
from sil_cli.models.embedder import load_embedder, save_model
from sil_cli.models.engines.torch_engine import TorchEngine
from sil_cli.runtime import SilentReporter
from sil_cli.settings import EvaluateSettings
from sil_cli.similarity.distance import unit_rows

pytestmark = pytest.mark.thorough

RUN = "runs/001-dbs"


def side(seed: int, cameras: list[str | None], **more) -> EmbeddingSet:
    rng = np.random.default_rng(seed)
    rows = unit_rows(rng.standard_normal((len(cameras), 6)).astype(np.float32))
    return EmbeddingSet(rows, [f"p{one}" for one in rng.integers(3, size=len(cameras))], cameras, **more)


def test_the_similarity_of_fused_models_is_their_mean() -> None:
    rng = np.random.default_rng(0)
    models = [unit_rows(rng.standard_normal((7, dimension)).astype(np.float32)) for dimension in (4, 9, 30)]
    fused = fuse(models)
    assert fused.dtype == np.float32
    assert fused @ fused.T == pytest.approx(np.mean([one @ one.T for one in models], axis=0), abs=1e-6)
    assert fuse(models[:1]) is models[0]


def test_tracklets_are_means_of_one_identity_and_camera() -> None:
    query = EmbeddingSet(
        np.array([[2.0, 0], [0, 1], [1, 0], [0, 3], [1, 1], [1, 0], [1, 0]]),
        ["a", "a", "b", "a", "a", "a", "b"],
        ["c1", "c1", "c1", "c2", None, None, "c1"],
        junk=[False, False, False, False, False, False, True],
        keys=list("rstuvwx"),
    )
    found = average_tracklets(query)
    assert found.identities == ["a", "b", "a", "a", "a", "b"]
    assert found.cameras == ["c1", "c1", "c2", None, None, "c1"]
    assert found.keys == ["r", "t", "u", "v", "w", "x"]
    assert found.junk == [False] * 5 + [True]
    half = 0.5**0.5  # of r and s: lengths don't count
    assert found.embeddings == pytest.approx(np.array([[half, half], [1, 0], [0, 1], [half, half], [1, 0], [1, 0]]))


def test_a_query_is_not_expanded_with_junk_its_own_camera_or_itself() -> None:
    query = side(1, ["c1", "c2", None], keys=["q0", "g3", "q2"])
    gallery = side(
        2, ["c1", "c2", None, "c3", "c1"], junk=[False, False, True, False, False], keys=["g0", "g1", "g2", "g3", "q2"]
    )
    unusable = unusable_for_expansion(query, gallery)
    assert [sorted(set(unusable(index).tolist())) for index in range(3)] == [[0, 2, 4], [1, 2, 3], [2, 4]]


@pytest.mark.parametrize("options", [{"expand_queries": 4}, {"augment_gallery": 3}])
def test_no_identity_is_looked_at_and_junk_takes_no_part(options) -> None:
    query, gallery = side(1, ["c1", "c2"] * 5), side(2, ["c1", "c2", "c3"] * 10)
    wanted = EvaluateSettings(**options)
    found = prepare_sides(query, gallery, wanted, SilentReporter())
    renamed = [dataclasses.replace(one, identities=[str(i) for i in range(len(one))]) for one in (query, gallery)]
    again = prepare_sides(*renamed, wanted, SilentReporter())
    for one, other, before in zip(found, again, (query, gallery), strict=True):
        assert (one.embeddings == other.embeddings).all()
        assert len(one) == len(before)
    assert np.allclose(found[0].embeddings, query.embeddings) == ("expand_queries" not in options)
    assert np.allclose(found[1].embeddings, gallery.embeddings) == ("augment_gallery" not in options)
    flags = [index % 4 == 0 for index in range(30)]
    kept = [index for index in range(30) if not flags[index]]
    with_junk = prepare_sides(query, dataclasses.replace(gallery, junk=flags), wanted, SilentReporter())
    without = EmbeddingSet(gallery.embeddings[kept], ["x"] * len(kept), [gallery.cameras[one] for one in kept])
    alone = prepare_sides(query, without, wanted, SilentReporter())
    assert with_junk[0].embeddings == pytest.approx(alone[0].embeddings, abs=1e-6)
    assert with_junk[1].embeddings[kept] == pytest.approx(alone[1].embeddings, abs=1e-6)


def test_flip_is_the_mean_of_image_and_mirror(in_world, tmp_path) -> None:
    embedder, record = load_embedder(Path(RUN))
    size = (record.architecture.width, record.architecture.height)
    picture = Image.effect_noise(size, 90).convert("RGB")
    files = [(tmp_path / name, None) for name in ("one.png", "mirror.png")]
    for (path, _), image in zip(files, (picture, ImageOps.mirror(picture)), strict=True):
        image.save(path)
    engine = TorchEngine(embedder, record.fingerprint, device=torch.device("cpu"))
    (plain,) = embed_batches(engine, files, batch=2)
    (flipped,) = embed_batches(engine, files, batch=2, flip=True)
    mean = plain.embeddings.mean(axis=0)
    assert not np.allclose(plain.embeddings[0], plain.embeddings[1])
    for row in flipped.embeddings:
        assert row == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)


@pytest.mark.parametrize(
    ("flags", "condition", "told", "folder"),
    [
        (["--flip"], "test-time augmentation", "mirror", "flip"),
        (["--height", 48], "input", "48×16 (trained at 32×16)", "size-48x16"),
        (["--tracklets"], "queries", "one identity and camera", "tracklets"),
        (["--expand-queries", 2], "query expansion", "2 gallery images of other cameras", "expand-2-3"),
        (["--augment-gallery", 2], "gallery augmentation", "2 gallery images of any", "augment-2-3"),
        (["--rerank", "--set", "rerank.k1=5"], "re-ranking", "k1 = 5, k2 = 6, λ = 0.3", "rerank-5-6-0.3"),
    ],
)
def test_each_option_is_named_in_the_result_and_has_a_folder(in_world, flags, condition, told, folder) -> None:
    (before,) = Path(RUN).glob("evaluation/*/results.json")
    assert sil("evaluate", "--engine", "torch").code == 0
    plain = json.loads(before.read_text())
    document = sil("evaluate", "--engine", "torch", *flags, "--json").document
    changed = {name for name, value in document["conditions"].items() if value != plain["conditions"][name]}
    assert changed == {condition}
    assert told in document["conditions"][condition]
    assert Path(document["results"]).parent.name == folder
    assert json.loads(Path(document["results"]).read_text()) == document
    assert json.loads(before.read_text()) == plain


def test_models_are_fused(in_world, tmp_path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    embedder, record = load_embedder(Path(RUN))
    with torch.no_grad():
        embedder.neck.weight[::2] = 0.1
    save_model(other, embedder)
    document = sil("evaluate", "--model", RUN, "--model", other, "--json").document
    assert document["fused"] == [str(other)]
    assert document["fingerprint"] == record.fingerprint
    assert "mean similarity of 2 models" in document["conditions"]["fusion"]
    assert str(other) in document["conditions"]["fusion"]
    assert document["conditions"]["sources"].endswith("; unknown")
    assert Path(document["results"]).parent.name.startswith("fused-")
    copy = tmp_path / "copy"
    shutil.copytree(RUN, copy)
    outcome = sil("evaluate", "--model", RUN, "--model", copy)
    assert outcome.code == 2
    assert "named twice" in outcome.error


def test_another_input_size_and_lonely_tracklets_are_warned_about(in_world) -> None:
    outcome = sil("evaluate", "--height", 48, "--width", 24)
    assert "its numbers are not those at the size it was trained at" in outcome.error
    assert "48×24 (trained at 32×16)" in outcome.out
    assert "every tracklet is a single image" in sil("evaluate", "--tracklets").error


@pytest.mark.parametrize(
    "flags",
    [
        ["--height", 8],
        ["--expand-queries", -1],
        ["--augment-gallery", -2],
        ["--set", "evaluate.expansion_alpha=-1"],
        ["--rerank", "--set", "rerank.k1=0"],
        ["--rerank", "--set", "rerank.weight=2"],
    ],
)
def test_options_out_of_range_are_wrong_usage(in_world, flags) -> None:
    outcome = sil("evaluate", *flags)
    assert outcome.code == 2
    assert "is not valid" in outcome.error
