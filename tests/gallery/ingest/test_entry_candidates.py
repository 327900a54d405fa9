from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sil_cli.gallery.entry import TRACKLET_IMAGES, GalleryEntry
from sil_cli.gallery.ingest.entry_candidates import gather_embeddings, make_candidates
from sil_cli.models.embed import EmbeddedBatch

GALLERY = Path("/data/gallery")
NOON = datetime(2024, 5, 31, 12, tzinfo=UTC)


def image(name: str, tracklet: str | None = None, seconds: float | None = None, **known) -> GalleryEntry:
    time = None if seconds is None else NOON + timedelta(seconds=seconds)
    metadata = {**known.pop("metadata", {}), **({} if tracklet is None else {"tracklet": tracklet})}
    return GalleryEntry(name, known.pop("content", name), "../crops", time=time, metadata=metadata, **known)


def gathered(images):
    return make_candidates(images, tracklets=True)


def test_images_of_one_tracklet_are_one_entry_named_by_the_middle_one():
    images = [image("c.jpg", "t", 9), image("a.jpg", "t", 1), image("b.jpg", "t", 4), image("x.jpg")]
    tracklet, single = gathered(images)
    assert tracklet.entry.path == "b.jpg"
    assert [file.name for file, _ in tracklet.files(GALLERY)] == ["a.jpg", "b.jpg", "c.jpg"]
    assert tracklet.entry.time == NOON + timedelta(seconds=1)
    assert tracklet.entry.metadata == {
        "tracklet": "t",
        "tracklet_images": "3",
        "tracklet_end": "2024-05-31T12:00:09+00:00",
    }
    assert (single.entry.path, single.entry.content_hash, single.entry.source) == ("x.jpg", "x.jpg", "../crops")


def test_a_tracklet_is_of_one_camera_and_identity():
    images = [image(f"{number}.jpg", "t", camera=f"c{number % 2}", identity="p") for number in range(4)]
    assert [len(one.files(GALLERY)) for one in gathered(images)] == [2, 2]
    assert [len(one.files(GALLERY)) for one in make_candidates(images, tracklets=False)] == [1] * 4


def test_only_columns_that_agree_are_the_tracklets():
    images = [image(f"{number}.jpg", "t", metadata={"hall": "A", "frame": str(number)}) for number in range(3)]
    (one,) = gathered(images)
    assert one.entry.metadata == {"hall": "A", "tracklet": "t", "tracklet_images": "3"}


def test_the_hash_knows_every_member_and_no_order():
    images = [image(f"{number}.jpg", "t") for number in range(3)]
    (before,) = gathered(images)
    (shuffled,) = gathered(images[::-1])
    (changed,) = gathered([*images[:2], image("2.jpg", "t", content="other")])
    (fewer,) = gathered(images[:2])
    assert before.entry == shuffled.entry
    assert len({one.entry.content_hash for one in (before, changed, fewer)}) == 3


@given(st.lists(st.integers(1, 4), min_size=1, max_size=9), st.integers(1, 5), st.data())
@settings(max_examples=60, deadline=None)
def test_embeddings_come_back_to_their_candidates(sizes, batch, data):
    """However files are cut into parts, and whichever fail, the result is the plain mean of each candidate's rest."""
    images = [
        image(f"{candidate}-{number}.jpg", f"t{candidate}")
        for candidate, size in enumerate(sizes)
        for number in range(size)
    ]
    candidates = gathered(images)
    files = [file for candidate in candidates for file in candidate.files(GALLERY)]
    rows = np.random.default_rng(len(files)).standard_normal((len(files), 6)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    bad = data.draw(st.sets(st.integers(0, len(files) - 1)))
    parts = []
    for start in range(0, len(files), batch):
        span = range(start, min(start + batch, len(files)))
        good = [at for at in span if at not in bad]
        failed = [(files[at][0], "damaged") for at in span if at in bad]
        parts.append(EmbeddedBatch(good, rows[good], failed))
    found = [each for done, _ in gather_embeddings(candidates, parts) for each in done]
    expected = []
    for number, candidate in enumerate(candidates):
        first = sum(sizes[:number])
        good = [at for at in range(first, first + sizes[number]) if at not in bad]
        if good:
            mean = rows[good].astype(float).mean(axis=0)
            expected.append((candidate.entry.path, mean / np.linalg.norm(mean), str(len(good))))
    assert [(one.entry.path, one.entry.metadata[TRACKLET_IMAGES]) for one, _ in found] == [
        (path, count) for path, _, count in expected
    ]
    for (_, embedding), (_, mean, _) in zip(found, expected, strict=True):
        np.testing.assert_allclose(embedding, mean, atol=1e-6)
