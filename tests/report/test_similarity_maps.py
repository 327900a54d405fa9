"""Similarity maps: exact sums, held against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sil_cli.errors import ModelError
from sil_cli.models.embedder import Architecture, Embedder
from sil_cli.models.engines.torch_engine import embed_pixels
from sil_cli.report.similarity_maps import local_embeddings, similarity_map

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    """A small network whose batch norms have seen something, the neck's above all."""
    torch.manual_seed(3)
    embedder = Embedder(Architecture(backbone="resnet18", height=64, width=32))
    with torch.no_grad():
        embedder.neck.running_mean.normal_(0, 0.5)
        embedder.neck.running_var.uniform_(0.2, 3)
        embedder.neck.weight.uniform_(0.3, 2)
        embedder.neck.bias.normal_(0, 0.1)
    return embedder.eval()


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 64, 32, 3), dtype=np.uint8)


def test_places_sum_to_the_embedding_and_maps_to_the_cosine(embedder, pixels):
    local = local_embeddings(embedder, pixels, device=CPU)
    embeddings = embed_pixels(embedder, pixels, device=CPU)
    assert local.shape == (3, 4, 2, 512)
    assert local.sum(axis=(1, 2)) == pytest.approx(embeddings, abs=1e-5)
    for one in range(3):
        for other in range(3):
            cosine = float(embeddings[one] @ embeddings[other])
            forth = similarity_map(local[one], embeddings[other])
            back = similarity_map(local[other], embeddings[one])
            assert forth.shape == (4, 2)
            assert forth.sum() == pytest.approx(cosine, abs=1e-5)
            assert back.sum() == pytest.approx(cosine, abs=1e-5)
    assert np.ptp(similarity_map(local[0], embeddings[1])) > 1e-4


def test_a_place_contributes_what_the_formula_says(embedder, pixels):
    local = local_embeddings(embedder, pixels[:1], device=CPU)[0]
    images = torch.from_numpy(pixels[:1]).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        maps = embedder.backbone((images - embedder.mean) / embedder.std)[0].double()
    neck = embedder.neck
    scale = (neck.weight / (neck.running_var + neck.eps).sqrt()).detach().double()
    offset = neck.bias.detach().double() - scale * neck.running_mean.double()
    length = (scale * maps.mean(dim=(1, 2)) + offset).norm()
    for row in range(4):
        for column in range(2):
            expected = (scale * maps[:, row, column] + offset) / (8 * length)
            assert local[row, column] == pytest.approx(expected.numpy(), abs=1e-6)


def test_a_network_that_pools_otherwise_is_refused(pixels):
    class Largest(Embedder):
        def forward(self, images, **_):
            maps = self.backbone((images.float() / 255 - self.mean) / self.std)
            return nn.functional.normalize(self.neck(maps.amax(dim=(2, 3))), dim=1)

    torch.manual_seed(0)
    largest = Largest(Architecture(backbone="resnet18", height=64, width=32)).eval()
    with pytest.raises(ModelError, match="average") as caught:
        local_embeddings(largest, pixels, device=CPU)
    assert "--no-similarity-maps" in caught.value.fix
