from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sil_cli.data.manifest import ImageRecord
from sil_cli.evaluation.report_files import DetailArrays, Details, DetailsRecord
from sil_cli.report.rank_lists import choose, rank_list_html, sheet_row, thumbnail

HOSTILE = '<script>alert("x")</script>'


def make_details(values: list[float], people: list[str]) -> Details:
    """One rank list a query: a right one, a wrong one, and nothing more."""
    queries = len(values)
    images = [
        ImageRecord(path=f"q{at}.jpg", identity=person, camera="c1", split="query", domain="t")
        for at, person in enumerate(people)
    ]
    images += [image.model_copy(update={"path": f"g{at}.jpg", "camera": None}) for at, image in enumerate(images)]
    images.append(ImageRecord(path="other.jpg", identity="nobody", split="gallery", domain="t"))
    matches = np.full((queries, 10), -1, np.int32)
    matches[:, 0] = queries + np.arange(queries)
    matches[:, 1] = len(images) - 1
    scores = np.zeros((queries, 10), np.float32)
    scores[:, :2] = [0.75, 0.5]
    arrays = DetailArrays(
        query_image=np.arange(queries, dtype=np.int32),
        average_precision=np.array(values),
        first_match=np.arange(1, queries + 1, dtype=np.int32),
        listed=np.arange(queries, dtype=np.int32),
        match_image=matches,
        match_score=scores,
        sample_image=np.zeros(0, np.int32),
        sample_embedding=np.zeros((0, 2), np.float16),
    )
    record = DetailsRecord(
        fingerprint="f",
        target="t",
        dataset="t",
        dataset_from_here="t",
        manifest_sha256="0",
        generated=True,
        queries=queries,
        gallery=queries + 1,
        dropped_queries=[],
        seed=0,
        sampled_queries=queries,
        cmc=[1.0],
        precision=[1.0] * 101,
        same_pairs=[0] * 400,
        different_pairs=[0] * 400,
        query_cameras=[],
        gallery_cameras=[],
        camera_map=[],
        camera_queries=[],
        images=images,
    )
    return Details(record, arrays)


def test_the_best_the_worst_and_the_nearest_to_the_median_are_chosen():
    values = [0.1, 0.9, 0.5, 0.2, 1.0, 0.45, 0.7]
    chosen = choose(make_details(values, [f"p{at}" for at in range(7)]), 2)
    assert {kind: [one.average_precision for one in lists] for kind, lists in chosen.items()} == {
        "best": [1.0, 0.9],
        "typical": [0.5, 0.45],
        "worst": [0.1, 0.2],
    }
    assert [one.first_match for one in chosen["best"]] == [5, 2]
    (right, wrong) = chosen["best"][0].found
    assert (right.record.path, right.right, right.score) == ("g4.jpg", True, pytest.approx(0.75))
    assert (wrong.record.path, wrong.right) == ("other.jpg", False)


def test_a_group_shows_a_person_once_and_no_query_stands_in_two_groups():
    chosen = choose(make_details([1.0, 1.0, 0.9, 0.1, 0.1], ["a", "a", "b", "c", "c"]), 2)
    assert [one.query.path for one in chosen["best"]] == ["q0.jpg", "q2.jpg"]
    assert [one.query.path for one in chosen["worst"]] == ["q3.jpg", "q1.jpg"]
    everything = [one.query.path for lists in chosen.values() for one in lists]
    assert len(everything) == len(set(everything))
    only = choose(make_details([0.5], ["a"]), 3)
    assert [len(lists) for lists in only.values()] == [1, 0, 0]


def test_right_and_wrong_are_marked_and_names_are_escaped():
    (one,) = choose(make_details([0.5], [HOSTILE]), 1)["best"]
    built = rank_list_html(one, lambda record: None)
    assert "<script>" not in built
    assert (
        '<li class="right" title="g0.jpg"><div class="frame"><span>no image</span></div><b><span>✓</span> 1 · 0.75'
        in built
    )
    assert '<li class="wrong"' in built
    assert "<span>✗</span> 2 · 0.50" in built
    pictured = rank_list_html(one, lambda record: Image.new("RGB", (300, 900), "red"))
    assert pictured.count('src="data:image/jpeg;base64,') == 3
    row = sheet_row(one, lambda record: None)
    assert [tile.rank for tile in row.matches] == [1, 2]


def test_thumbnails_are_small_whatever_the_image():
    noise = np.random.default_rng(0).integers(0, 256, (900, 400, 3), dtype=np.uint8)
    assert len(thumbnail(Image.fromarray(noise))) < 20_000
    assert thumbnail(Image.new("RGBA", (8, 8)))
