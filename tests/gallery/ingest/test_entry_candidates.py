from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sil_cli.gallery.entry import TRACKLET_IMAGES
from sil_cli.gallery.ingest.entry_candidates import gather_embeddings, make_subjects, mean_direction
from sil_cli.gallery.ingest.ingested_image import SeenImage, parse_box
from sil_cli.gallery.ingest.source_paths import Placing
from sil_cli.models.embed import EmbeddedBatch

ROOT = Path("/data/crops")
NOON = datetime(2024, 5, 31, 12, tzinfo=UTC)


def seen(name: str, tracklet: str | None = None, seconds: float | None = None, **known) -> SeenImage:
    time = None if seconds is None else NOON + timedelta(seconds=seconds)
    return SeenImage(ROOT, name, tracklet=tracklet, time=time, **known)


def subjects_of(images, *, tracklets=True, contents=None):
    hashes = {(str(one.file), one.box): (contents or {}).get(one.path, one.path) for one in images}
    return make_subjects(images, hashes, Placing(Path("/data/gallery"), []), tracklets=tracklets)


def test_images_of_one_tracklet_are_one_entry_named_by_the_middle_one():
    images = [seen("c.jpg", "t", 9), seen("a.jpg", "t", 1), seen("b.jpg", "t", 4), seen("x.jpg")]
    tracklet, single = subjects_of(images)
    assert tracklet.entry.path == "b.jpg"
    assert [file.name for file, _ in tracklet.files] == ["a.jpg", "b.jpg", "c.jpg"]
    assert tracklet.entry.time == NOON + timedelta(seconds=1)
    assert tracklet.entry.metadata == {
        "tracklet": "t",
        "tracklet_images": "3",
        "tracklet_end": "2024-05-31T12:00:09+00:00",
    }
    assert (single.entry.path, single.entry.content_hash, single.entry.source) == ("x.jpg", "x.jpg", "../crops")


def test_a_tracklet_is_of_one_camera_and_identity():
    images = [seen(f"{number}.jpg", "t", camera=f"c{number % 2}", identity="p") for number in range(4)]
    assert [len(one.files) for one in subjects_of(images)] == [2, 2]
    assert [len(one.files) for one in subjects_of(images, tracklets=False)] == [1] * 4


def test_only_columns_that_agree_are_the_tracklets():
    images = [seen(f"{number}.jpg", "t", metadata={"hall": "A", "frame": str(number)}) for number in range(3)]
    (one,) = subjects_of(images)
    assert one.entry.metadata == {"hall": "A", "tracklet": "t", "tracklet_images": "3"}


def test_the_hash_knows_every_member_and_no_order():
    images = [seen(f"{number}.jpg", "t") for number in range(3)]
    (before,) = subjects_of(images)
    (shuffled,) = subjects_of(images[::-1])
    (changed,) = subjects_of(images, contents={"2.jpg": "other"})
    (fewer,) = subjects_of(images[:2])
    assert before.entry == shuffled.entry
    assert len({one.entry.content_hash for one in (before, changed, fewer)}) == 3


@given(st.lists(st.integers(1, 4), min_size=1, max_size=9), st.integers(1, 5), st.data())
@settings(max_examples=60, deadline=None)
def test_embeddings_come_back_to_their_subjects(sizes, batch, data):
    """However files are cut into parts, and whichever fail, the result is the plain mean of each subject's rest."""
    images = [
        seen(f"{subject}-{number}.jpg", f"t{subject}") for subject, size in enumerate(sizes) for number in range(size)
    ]
    subjects = subjects_of(images)
    files = [file for subject in subjects for file in subject.files]
    rows = np.random.default_rng(len(files)).standard_normal((len(files), 6)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    bad = data.draw(st.sets(st.integers(0, len(files) - 1)))
    parts = []
    for start in range(0, len(files), batch):
        span = range(start, min(start + batch, len(files)))
        good = [at for at in span if at not in bad]
        failed = [(files[at][0], "damaged") for at in span if at in bad]
        parts.append(EmbeddedBatch(good, rows[good], failed))
    found = [each for done, _ in gather_embeddings(subjects, parts) for each in done]
    expected = []
    for number, subject in enumerate(subjects):
        first = sum(sizes[:number])
        good = [at for at in range(first, first + sizes[number]) if at not in bad]
        if good:
            mean = rows[good].astype(float).mean(axis=0)
            expected.append((subject.entry.path, mean / np.linalg.norm(mean), str(len(good))))
    assert [(one.entry.path, one.entry.metadata[TRACKLET_IMAGES]) for one, _ in found] == [
        (path, count) for path, _, count in expected
    ]
    for (_, embedding), (_, mean, _) in zip(found, expected, strict=True):
        np.testing.assert_allclose(embedding, mean, atol=1e-6)


def test_a_single_vector_is_its_own_mean_and_opposites_have_none():
    one = np.array([[0.6, 0.8]], dtype=np.float32)
    assert mean_direction(one).tobytes() == one[0].tobytes()
    np.testing.assert_array_equal(mean_direction(np.concatenate([one, -one])), one[0])


def test_a_file_is_named_by_the_innermost_source_that_knows_it():
    placing = Placing(Path("/data/gallery"), ["../crops", "../crops/today"])
    assert placing.place(SeenImage(Path("/data"), "crops/today/x/a.jpg")) == ("../crops/today", "x/a.jpg")
    assert placing.place(SeenImage(Path("/data"), "crops/b.jpg")) == ("../crops", "b.jpg")
    assert placing.place(SeenImage(Path("/data/crops/today"), "c.jpg")) == ("../crops/today", "c.jpg")
    assert placing.place(SeenImage(Path("/data"), "cropsy/d.jpg")) == ("..", "cropsy/d.jpg")
    assert placing.place(SeenImage(Path("/data/other"), "e.jpg")) == ("..", "other/e.jpg")
    assert placing.sources_around(Path("/data/crops")) == ["../crops", "../crops/today", ".."]


@pytest.mark.parametrize("text", ["10,20,30,40", "10;20;30;40", "10 20 30 40", " 10, 20, 30, 40 ", "10.2,19.8,30,40"])
def test_boxes_are_read(text):
    assert parse_box(text) == (10, 20, 30, 40)


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1,2,0,4", "1,2,3,-4", "nan,1,2,3"])
def test_what_is_no_box_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        parse_box(text)
