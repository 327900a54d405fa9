"""What evaluations keep for reports, against slow and obvious counting."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

from sil_cli.data.manifest import ImageRecord
from sil_cli.errors import ModelError
from sil_cli.evaluation.metrics import cmc_curve, precision_recall_curve, score_queries
from sil_cli.evaluation.pairs import EmbeddingSet
from sil_cli.evaluation.ranking import rank_matches
from sil_cli.evaluation.report_data import (
    ARRAYS_FILE,
    BINS,
    CAMERAS,
    DETAILS_FILE,
    TOP,
    compare_cameras,
    make_report_data,
    notable,
    read_report_data,
    sample_identities,
    study_pairs,
    write_report_data,
)
from sil_cli.files import sha256_of_file
from sil_cli.runtime import SilentReporter
from sil_cli.similarity.distance import unit_rows

SILENT = SilentReporter()
ABOUT = {
    "fingerprint": "f" * 64,
    "target": "target",
    "dataset": "data/target",
    "dataset_from_here": "../../data/target",
    "manifest_sha256": "0" * 64,
    "generated": True,
}


def make_sides(seed: int, *, queries: int = 17, images: int = 60, labelled: float = 0.9, dtype=np.float64):
    rng = np.random.default_rng(seed)

    def side(count: int, name: str) -> EmbeddingSet:
        rows = rng.integers(-2, 3, size=(count, 3)) if seed % 2 else rng.standard_normal((count, 5))
        rows[(rows == 0).all(axis=1)] = 1
        cameras = [f"c{rng.integers(3)}" if rng.random() < labelled else None for _ in range(count)]
        return EmbeddingSet(
            rows.astype(dtype),
            [f"p{rng.integers(5)}" for _ in range(count)],
            cameras,
            junk=(rng.random(count) < 0.1).tolist(),
            keys=[f"{name if rng.random() < 0.8 else 'both'}/{at}" for at in range(count)],
        )

    return side(queries, "query"), side(images, "gallery")


def listed(query: EmbeddingSet, gallery: EmbeddingSet, q: int, cameras: set[str] | None = None):
    """(score, row, same person) of all that counts for a query, in rank order."""
    left, right = unit_rows(query.embeddings), unit_rows(gallery.embeddings)
    found = []
    for g in range(len(gallery)):
        same = query.identities[q] == gallery.identities[g]
        own_camera = query.cameras[q] is not None and query.cameras[q] == gallery.cameras[g]
        elsewhere = cameras is not None and gallery.cameras[g] not in cameras
        if gallery.junk[g] or query.keys[q] == gallery.keys[g] or (same and own_camera) or elsewhere:
            continue
        found.append((float((left[q].astype(float) * right[g].astype(float)).sum()), g, same))
    return sorted(found, key=lambda each: (-each[0], each[1]))


def average_precision(found) -> float | None:
    hits = [rank for rank, (_, _, same) in enumerate(found, start=1) if same]
    return sum(at / rank for at, rank in enumerate(hits, start=1)) / len(hits) if hits else None


def records_of(side: EmbeddingSet, split: str) -> list[ImageRecord]:
    return [
        ImageRecord(path=f"{split}/{row}.jpg", identity=identity, camera=camera, split=split, domain="target")
        for row, (identity, camera) in enumerate(zip(side.identities, side.cameras, strict=True))
    ]


def examined(query: EmbeddingSet, gallery: EmbeddingSet, **options):
    records = (records_of(query, "query"), records_of(gallery, "gallery"))
    return make_report_data(ABOUT, (query, gallery), rank_matches(query, gallery), records, reporter=SILENT, **options)


@pytest.mark.parametrize("seed", range(6))
def test_curves_equal_the_definitions(seed):
    query, gallery = make_sides(seed)
    ranks = rank_matches(query, gallery)
    firsts, curves = [], []
    for q in ranks.queries:
        hits = [rank for rank, (_, _, same) in enumerate(listed(query, gallery, q), start=1) if same]
        points = [(at / len(hits), at / rank) for at, rank in enumerate(hits, start=1)]
        firsts.append(hits[0])
        curves.append([max(p for recall, p in points if recall >= k / 100 - 1e-12) for k in range(101)])
    expected = [sum(first <= k for first in firsts) / len(firsts) for k in range(1, min(50, ranks.gallery) + 1)]
    assert cmc_curve(ranks) == pytest.approx(expected, abs=1e-12)
    assert precision_recall_curve(ranks) == pytest.approx(np.mean(curves, axis=0), abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("chunk_bytes", [1, 10_000, 2**27])
def test_histograms_and_first_matches_equal_counting(seed, chunk_bytes):
    query, gallery = make_sides(seed)
    rows = rank_matches(query, gallery).queries
    counted = len(rows) // 2
    same, different, matches, cosines = study_pairs(
        query.subset(rows), gallery, counted=counted, chunk_bytes=chunk_bytes, reporter=SILENT
    )
    scores = {True: [], False: []}
    for at, q in enumerate(rows):
        found = listed(query, gallery, q)
        first = [g for _, g, _ in found[:TOP]]
        assert matches[at].tolist() == first + [-1] * (TOP - len(first))
        assert cosines[at, : len(first)].tolist() == [score for score, _, _ in found[:TOP]]
        for score, _, is_same in found if at < counted else ():
            scores[is_same].append(score)
    for counts, kind in ((same, True), (different, False)):
        assert counts.sum() == len(scores[kind]) > 0
        if seed % 2 == 0:  # whole-number embeddings score on the edges of bins, where rounding decides
            expected = [min(int((score + 1) * BINS / 2), BINS - 1) for score in scores[kind]]
            assert counts.tolist() == np.bincount(expected, minlength=BINS).tolist()


def test_more_matches_than_there_are_images_leave_the_rest_empty():
    side = EmbeddingSet(np.eye(3), ["a", "a", "b"], [None] * 3, keys=["0", "1", "2"])
    matches = study_pairs(side.subset(np.array([0])), side, counted=1, reporter=SILENT)[2]
    assert matches[0].tolist() == [1, 2] + [-1] * (TOP - 2)


@pytest.mark.parametrize("seed", range(4))
def test_camera_pairs_equal_scoring_each_camera_alone(seed):
    query, gallery = make_sides(seed)
    rows = rank_matches(query, gallery).queries
    pairs = compare_cameras(query.subset(rows), gallery, reporter=SILENT)
    assert pairs["query_cameras"] == pairs["gallery_cameras"] == ["c0", "c1", "c2"]
    for a, own in enumerate(pairs["query_cameras"]):
        for b, other in enumerate(pairs["gallery_cameras"]):
            asked = [q for q in rows if query.cameras[q] == own]
            values = [average_precision(listed(query, gallery, q, {other})) for q in asked]
            values = [value for value in values if value is not None]
            assert pairs["camera_queries"][a][b] == len(values)
            if values:
                assert pairs["camera_map"][a][b] == pytest.approx(np.mean(values), abs=1e-12)
            else:
                assert pairs["camera_map"][a][b] is None


def test_camera_pairs_without_labels_are_empty():
    query, gallery = make_sides(2, labelled=0.0)
    pairs = compare_cameras(query, gallery, reporter=SILENT)
    assert pairs["query_cameras"] == pairs["camera_map"] == pairs["camera_queries"] == []


def test_of_many_cameras_the_frequent_ones_are_kept():
    count = CAMERAS + 10
    cameras = [f"{camera:03}" for camera in range(count) for _ in range(1 + camera)]
    side = EmbeddingSet(np.ones((len(cameras), 2)), ["p"] * len(cameras), cameras)
    pairs = compare_cameras(side, side, reporter=SILENT)
    assert pairs["gallery_cameras"] == [f"{camera:03}" for camera in range(10, count)]


def test_details_come_back_as_they_were_written(tmp_path):
    query, gallery = make_sides(4, dtype=np.float32)
    details = examined(query, gallery)
    write_report_data(tmp_path, details)
    read = read_report_data(tmp_path)
    assert read.record.arrays_sha256
    assert read.record.model_copy(update={"arrays_sha256": ""}) == details.record
    for name, values in vars(details.arrays).items():
        assert np.array_equal(getattr(read.arrays, name), values)
        assert getattr(read.arrays, name).dtype == values.dtype
    assert read.record.sampled_queries == read.record.queries == len(read.arrays.listed)
    assert sorted(path.name for path in tmp_path.iterdir()) == [DETAILS_FILE, ARRAYS_FILE]


def test_positions_point_to_the_right_images():
    query, gallery = make_sides(4, dtype=np.float32)
    details = examined(query, gallery)
    images, arrays = details.record.images, details.arrays
    ranks = rank_matches(query, gallery)
    scores = score_queries(ranks)
    for at, q in enumerate(ranks.queries):
        assert images[arrays.query_image[at]].path == f"query/{q}.jpg"
        assert arrays.average_precision[at] == scores.average_precision[at]
        first = [g for _, g, _ in listed(query, gallery, q)[:TOP]]
        assert [images[each].path for each in arrays.match_image[at] if each >= 0] == [
            f"gallery/{g}.jpg" for g in first
        ]
    for position, embedding in zip(arrays.sample_image, arrays.sample_embedding, strict=True):
        split, row = images[position].path.removesuffix(".jpg").split("/")
        side = query if split == "query" else gallery
        assert embedding == pytest.approx(unit_rows(side.embeddings)[int(row)], abs=1e-3)
    assert len(images) == len({image.path for image in images})


def test_a_large_target_is_seen_through_a_seeded_sample(monkeypatch):
    monkeypatch.setattr("sil_cli.evaluation.report_data.FEWEST_QUERIES", 5)
    monkeypatch.setattr("sil_cli.evaluation.report_data.NOTABLE", 2)
    query, gallery = make_sides(4, queries=60)
    one, again, other = (examined(query, gallery, pairs=20 * len(gallery), seed=seed) for seed in (1, 1, 2))
    assert one.record == again.record
    assert one.record.sampled_queries == 20 < one.record.queries
    assert one.record.images != other.record.images
    extremes = notable(one.arrays.average_precision, 2)
    assert set(extremes) <= set(one.arrays.listed.tolist())
    assert len(one.arrays.listed) <= 20 + 6
    assert sum(one.record.same_pairs) < sum(examined(query, gallery).record.same_pairs)


def test_notable_queries_are_the_best_the_middle_and_the_worst():
    values = np.array([0.5, 0.1, 0.9, 0.3, 0.7, 0.2, 0.8])
    assert sorted(values[notable(values, 1)].tolist()) == [0.1, 0.5, 0.9]
    assert notable(values, 50).tolist() == list(range(7))


def test_sampled_embeddings_are_whole_people_within_the_limit():
    rng = np.random.default_rng(0)
    identities = [f"p{each}" for each in rng.integers(30, size=400)] + ["crowd"] * 500
    side = EmbeddingSet(
        rng.standard_normal((900, 4)), identities, [None] * 900, junk=[row % 7 == 0 for row in range(900)]
    )
    rows, others = sample_identities(side, side, seed=3, limit=200, each=12)
    assert 150 < len(rows) + len(others) <= 200
    assert not any(side.junk[row] for row in [*rows, *others])
    chosen = [identities[row] for row in [*rows, *others]]
    for identity in set(chosen):
        available = 2 * sum(name == identity and row % 7 > 0 for row, name in enumerate(identities))
        assert chosen.count(identity) == min(available, 12)
    again = sample_identities(side, side, seed=3, limit=200, each=12)
    assert np.array_equal(rows, again[0])
    assert np.array_equal(others, again[1])


def edit_record(folder, **changes):
    path = folder / DETAILS_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("damage", ["version", "missing json", "missing npz", "other npz", "cut", "escape", "no json"])
def test_details_that_can_not_be_used_are_refused_in_words(tmp_path, damage):
    write_report_data(tmp_path, examined(*make_sides(4)))
    if damage == "version":
        edit_record(tmp_path, version=2)
    elif damage == "missing json":
        (tmp_path / DETAILS_FILE).unlink()
    elif damage == "missing npz":
        (tmp_path / ARRAYS_FILE).unlink()
    elif damage == "other npz":
        (tmp_path / ARRAYS_FILE).write_bytes(b"other")
    elif damage == "cut":
        (tmp_path / DETAILS_FILE).write_bytes((tmp_path / DETAILS_FILE).read_bytes()[:-100])
    elif damage == "escape":
        images = json.loads((tmp_path / DETAILS_FILE).read_text())["images"]
        edit_record(tmp_path, images=[images[0] | {"path": "../../secret.jpg"}, *images[1:]])
    else:
        (tmp_path / DETAILS_FILE).write_bytes(b"\x00\xff")
    with pytest.raises(ModelError) as caught:
        read_report_data(tmp_path)
    assert "sil evaluate" in caught.value.fix
    assert "\n" not in caught.value.what


@pytest.mark.parametrize("hostile", ["pickle", "outside", "shape", "lacking", "bomb", "cut short", "header"])
def test_hostile_arrays_are_refused(tmp_path, hostile):

    details = examined(*make_sides(4))
    write_report_data(tmp_path, details)
    arrays = dict(vars(details.arrays))
    if hostile == "pickle":
        arrays["match_image"] = np.array([{"a": 1}], dtype=object)
    elif hostile == "outside":
        arrays["match_image"] = arrays["match_image"] + 10_000
    elif hostile == "shape":
        arrays["average_precision"] = arrays["average_precision"][1:]
    elif hostile == "bomb":
        arrays["match_score"] = np.zeros(2**26, dtype=np.float32)
    elif hostile == "lacking":
        del arrays["listed"]
    np.savez_compressed(tmp_path / ARRAYS_FILE, **arrays)
    content = (tmp_path / ARRAYS_FILE).read_bytes()
    if hostile == "cut short":  # within what zlib is to inflate
        (tmp_path / ARRAYS_FILE).write_bytes(content[:60] + b"\xff" * 30 + content[90:])
    elif hostile == "header":
        with zipfile.ZipFile(tmp_path / ARRAYS_FILE, "w") as archive:
            archive.writestr("query_image.npy", b"\x93NUMPY\x01\x00\x88\x13" + b"(" * 5000)
    edit_record(tmp_path, arrays_sha256=sha256_of_file(tmp_path / ARRAYS_FILE))
    with pytest.raises(ModelError, match=ARRAYS_FILE):
        read_report_data(tmp_path)


def test_records_of_other_images_are_refused():
    query, gallery = make_sides(4)
    with pytest.raises(ValueError, match="record"):
        make_report_data(ABOUT, (query, gallery), rank_matches(query, gallery), ([], []), reporter=SILENT)
