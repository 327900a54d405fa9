"""mAP on held-out source identities, against plain loops."""

import numpy as np
import pytest
import torch
from tiny_network import tiny_embedder

from sil_cli.data.manifest import ImageRecord
from sil_cli.training.held_out import can_be_scored, held_out_map
from sil_cli.training.sources import Source, make_source

CPU = torch.device("cpu")


def make(name: str, people: int, images: int, cameras: tuple[str | None, ...], seed: int) -> Source:
    """A source of noise, half of whose people are held out."""
    records = [
        ImageRecord(path=f"{n}.jpg", identity=f"p{n // images}", camera=camera, split="train", domain=name)
        for n in range(people * images)
        for camera in [cameras[n % len(cameras)]]
    ]
    pixels = np.random.default_rng(seed).integers(0, 256, size=(len(records), 32, 16, 3), dtype=np.uint8)
    return make_source(name, records, pixels, identities_per_batch=2, instances=2, seed=1, held_out=0.5)


def network() -> torch.nn.Module:
    """One whose statistics are those of noise; with its first ones all embeddings are nearly the same."""
    embedder = tiny_embedder()
    for norm in (each for each in embedder.modules() if isinstance(each, torch.nn.modules.batchnorm._BatchNorm)):
        norm.momentum = None
    with torch.no_grad():
        embedder.train()(torch.rand(64, 3, 32, 16, generator=torch.Generator().manual_seed(7)))
    return embedder


def map_by_hand(embedder, source: Source) -> float:
    """Each image in turn against all the others, the nearest first."""
    images = torch.from_numpy(source.pixels[source.held_out_rows]).permute(0, 3, 1, 2)
    with torch.no_grad():
        embeddings = embedder.eval()(images).double().numpy()
    precisions = []
    for query, (person, camera) in enumerate(zip(source.held_out_identities, source.held_out_cameras, strict=True)):
        found, seen, own = 0, 0, []
        for image in np.argsort(-(embeddings @ embeddings[query])):
            same = source.held_out_identities[image] == person
            itself = image == query
            if itself or (same and camera is not None and source.held_out_cameras[image] == camera):
                continue
            seen += 1
            found += same
            own += [found / seen] if same else []
        if own:
            precisions.append(np.mean(own))
    return float(np.mean(precisions))


def test_it_is_the_mean_over_sources_of_the_loop_by_hand() -> None:
    embedder = network()
    north = make("north", 4, 6, ("c0", "c1", "c1"), seed=3)
    south = make("south", 12, 3, (None,), seed=4)
    by_hand = [map_by_hand(embedder, source) for source in (north, south)]
    assert abs(by_hand[0] - by_hand[1]) > 0.05
    for sources, expected in (([north], by_hand[0]), ([south], by_hand[1]), ([north, south], np.mean(by_hand))):
        assert held_out_map(embedder, sources, device=CPU, half=None) == pytest.approx(expected, abs=1e-6)


def test_sources_without_a_match_across_cameras_are_left_out() -> None:
    embedder = network()
    north = make("north", 4, 6, ("c0", "c1"), seed=3)
    one_camera, one_image = make("one", 4, 3, ("c0",), seed=5), make("once", 6, 1, (None,), seed=5)
    assert [can_be_scored(source) for source in (north, one_camera, one_image)] == [True, False, False]
    alone = held_out_map(embedder, [north], device=CPU, half=None)
    assert alone > 0.0
    assert held_out_map(embedder, [one_camera, north, one_image], device=CPU, half=None) == alone
