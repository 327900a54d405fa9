from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sil_cli.data.manifest import ImageRecord
from sil_cli.evaluation.report_data import ReportArrays, ReportData, ReportRecord
from sil_cli.report.rank_lists import choose, sheet_row


def make_details(values: list[float], people: list[str]) -> ReportData:
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
    arrays = ReportArrays(
        query_image=np.arange(queries, dtype=np.int32),
        average_precision=np.array(values),
        first_match=np.arange(1, queries + 1, dtype=np.int32),
        listed=np.arange(queries, dtype=np.int32),
        match_image=matches,
        match_score=scores,
        sample_image=np.zeros(0, np.int32),
        sample_embedding=np.zeros((0, 2), np.float16),
    )
    record = ReportRecord(
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
    return ReportData(record, arrays)


def test_the_best_the_worst_and_the_nearest_to_the_median_are_chosen():
    values = [0.1, 0.9, 0.5, 0.2, 1.0, 0.45, 0.7]
    chosen = choose(make_details(values, [f"p{at}" for at in range(7)]), 2)
    assert {kind: [one.average_precision for one in lists] for kind, lists in chosen.items()} == {
        "best": [1.0, 0.9],
        "typical": [0.5, 0.45],
        "worst": [0.1, 0.2],
    }
    assert [one.first_match for one in chosen["best"]] == [5, 2]
    (right, wrong) = chosen["best"][0].matches
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


def test_a_rank_list_is_a_row_of_a_contact_sheet():
    (one,) = choose(make_details([0.5], ["p"]), 1)["best"]
    image = Image.new("RGB", (8, 16))
    row = sheet_row(one, lambda record: None if record.path == "other.jpg" else image)
    assert [(card.name, card.facts, card.rank) for card in row.query] == [("p", ["camera c1"], None)]
    assert [(card.name, card.rank, card.score, card.correct, card.image) for card in row.matches] == [
        ("p", 1, 0.75, True, image),
        ("nobody", 2, 0.5, False, None),
    ]
