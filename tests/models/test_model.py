"""What a program does with a model: images of any kind in, unit rows out, whatever computes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sil_cli.data.images import ImageError, load_image, resize_to
from sil_cli.errors import ModelError, UsageError
from sil_cli.models.embed import embed_batches
from sil_cli.models.embedder import Embedder, save_model
from sil_cli.models.load import load_model
from sil_cli.models.model import Model
from sil_cli.models.record import Architecture


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model of 32×16 pixels, and three crops of other sizes."""
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, Embedder(Architecture(backbone="osnet_x0_25", height=32, width=16)).eval())
    rng = np.random.default_rng(0)
    for number, size in enumerate(((64, 32), (48, 40), (96, 33))):
        pixels = np.kron(rng.integers(0, 256, (4, 4, 3)), np.ones((16, 16, 1)))
        Image.fromarray(pixels.astype(np.uint8)).resize(size[::-1]).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def model(folder) -> Model:
    return load_model(folder)


@pytest.fixture
def paths(folder) -> list[Path]:
    return sorted(folder.glob("*.png"))


def test_a_model_says_what_it_is(folder, model) -> None:
    assert (model.dimension, model.engine.height, model.engine.width) == (128, 32, 16)
    assert model.fingerprint == model.record.fingerprint
    assert model.files.folder == folder


def test_paths_pil_images_and_arrays_give_the_same_embeddings(model, paths) -> None:
    expected = model.engine.embed(np.stack([resize_to(load_image(path), 32, 16) for path in paths]))
    images = [Image.open(path) for path in paths]
    arrays = [np.asarray(load_image(path)) for path in paths]
    mixed = [str(paths[0]), images[1], arrays[2]]
    for given in (paths, images, arrays, mixed, tuple(paths)):
        embeddings = model.embed(given)
        assert embeddings.dtype == np.float32
        np.testing.assert_array_equal(embeddings, expected)
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, rtol=1e-6)


def test_a_box_is_cut_out_of_its_file(model, paths) -> None:
    cut = load_image(paths[0]).crop((4, 8, 24, 48))
    np.testing.assert_array_equal(model.embed([(paths[0], (4, 8, 20, 40))]), model.embed([cut]))


def test_batches_change_nothing_but_rounding(model, paths) -> None:
    np.testing.assert_allclose(model.embed(paths, batch=2), model.embed(paths), atol=1e-6)


def test_a_mirrored_image_embeds_alike_when_flipped(model, paths) -> None:
    mirrored = np.ascontiguousarray(np.asarray(load_image(paths[0]).resize((16, 32)))[:, ::-1])
    plain = np.ascontiguousarray(mirrored[:, ::-1])
    np.testing.assert_allclose(model.embed([plain], flip=True), model.embed([mirrored], flip=True), atol=1e-6)
    assert not np.allclose(model.embed([plain]), model.embed([mirrored]), atol=1e-4)


def test_no_images_are_no_rows(model) -> None:
    assert model.embed([]).shape == (0, 128)


@pytest.mark.parametrize("content", [b"", b"no image", None], ids=["empty", "text", "missing"])
def test_an_unreadable_file_is_an_error_that_names_it(model, paths, tmp_path, content) -> None:
    bad = tmp_path / "bad.png"
    if content is not None:
        bad.write_bytes(content)
    with pytest.raises(ImageError, match=r"bad\.png"):
        model.embed([paths[0], bad])
    (batch,) = embed_batches(model.engine, [bad, paths[0]], batch=4)
    assert batch.positions == [1]
    assert [path for path, _ in batch.failed] == [bad]
    np.testing.assert_array_equal(batch.embeddings, model.embed([paths[0]]))


def test_an_open_image_that_is_cut_short_is_an_error(model, paths, tmp_path) -> None:
    short = tmp_path / "short.png"
    short.write_bytes(paths[0].read_bytes()[:-60])
    with Image.open(short) as image, pytest.raises(ImageError, match=r"short\.png"):
        model.embed([image])


@pytest.mark.parametrize("array", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((8, 8, 4), np.uint8)])
def test_an_array_that_is_no_rgb_image_is_refused(model, array) -> None:
    with pytest.raises(UsageError, match="is not an image"):
        model.embed([array])


def test_one_path_alone_is_refused(model, paths) -> None:
    with pytest.raises(UsageError, match="Put it into a list"):
        model.embed(str(paths[0]))


def test_what_is_no_model_is_refused(tmp_path) -> None:
    with pytest.raises(ModelError, match="holds no finished model"):
        load_model(tmp_path)


def test_the_module_needs_no_torch() -> None:
    check = "import sys, sil_cli.models.load; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
