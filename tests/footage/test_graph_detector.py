"""Detectors of each form, non-maximum suppression and letterboxes, each against what is known or computed slowly."""

from itertools import pairwise

import detector_graphs as graphs
import numpy as np
import pytest

from sil_cli.errors import ModelError
from sil_cli.footage.frames import Frame
from sil_cli.footage.graph_detector import MOST_PEOPLE, GraphDetector, GraphOptions, fit, suppress, to_detections


def frame(width: int = 96, height: int = 64, colour: tuple[int, int, int] = (204, 100, 50)) -> Frame:
    return Frame(0, None, 0.0, np.full((height, width, 3), colour, dtype=np.uint8))


FORMS = {
    "ssd": graphs.ssd,
    "yolo": graphs.yolo,
    "yolo-transposed": lambda path: graphs.yolo(path, transposed=True),
    "yolox": graphs.yolox,
    "end-to-end": graphs.end_to_end,
    "boxes": graphs.torchvision_like,
    "detr": graphs.detr,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_detector_of_each_form_finds_its_person(tmp_path, form) -> None:
    detector = GraphDetector(FORMS[form](tmp_path / "d.onnx"), least=0.1)
    assert detector.form == form
    (found,) = detector.detect([frame()])
    assert [each.box for each in found] == [(24, 16, 24, 40)]
    # Red is 204 of 255: as channel 0 of RGB where pixels are divided, as channel 2 of BGR where they are not.
    expected = 1 / (1 + np.exp(-0.8)) if form == "detr" else 0.8
    assert found[0].score == pytest.approx(expected, abs=1e-3)


def test_rows_of_a_box_and_cocos_classes_have_no_column_of_objectness(tmp_path) -> None:
    rows = np.zeros((200, 84), dtype=np.float32)
    rows[7, :4] = graphs.middle()
    path = graphs.detector(tmp_path / "d.onnx", {"output0": (rows, ("n", 200, 84), 7 * 84 + 4)})
    detector = GraphDetector(path, least=0.1)
    (found,) = detector.detect([frame()])
    assert [(each.box, round(each.score, 3)) for each in found] == [((24, 16, 24, 40), 0.8)]


def test_a_yolo_of_two_classes_is_no_ssd(tmp_path) -> None:
    detector = GraphDetector(graphs.yolo(tmp_path / "two.onnx", classes=2), least=0.1)
    assert detector.form == "yolo"
    assert [each.box for each in detector.detect([frame()])[0]] == [(24, 16, 24, 40)]


@pytest.mark.parametrize(("classes", "certain"), [(91, 1 / (1 + np.exp(-0.8))), (92, np.exp(0.8) / (np.exp(0.8) + 1))])
def test_classes_of_coco_are_counted_from_one_and_only_detr_has_one_of_nothing(tmp_path, classes, certain) -> None:
    boxes, logits = np.zeros((10, 4), dtype=np.float32), np.full((10, classes), -99, dtype=np.float32)
    boxes[0] = np.array(graphs.middle()) / np.array([graphs.WIDTH, graphs.HEIGHT] * 2)
    logits[0, 1] = 0  # and the score, 0.8
    logits[:, -1] = 0
    path = graphs.detector(
        tmp_path / "d.onnx",
        {"dets": (boxes, ("n", 10, 4), None), "labels": (logits, ("n", 10, classes), 1)},
    )
    (found,) = GraphDetector(path, least=0.1).detect([frame()])
    assert [each.box for each in found] == [(24, 16, 24, 40)]
    assert found[0].score == pytest.approx(certain, abs=1e-3)


YOLO_NAS = {
    "boxes": (np.tile(np.float32(graphs.BOX), (10, 1)), ("n", 10, 4), None),
    "scores": (np.full((10, 80), 0.5, dtype=np.float32), ("n", 10, 80), None),
}
TENSORFLOW = {
    "detection_boxes": (np.tile(np.float32([0.1, 0.1, 0.5, 0.5]), (10, 1)), ("n", 10, 4), None),
    "detection_classes": (np.zeros(10, dtype=np.float32), ("n", 10), None),
    "detection_scores": (np.full(10, 0.5, dtype=np.float32), ("n", 10), None),
}


@pytest.mark.parametrize("outputs", [YOLO_NAS, TENSORFLOW], ids=["YOLO-NAS", "TensorFlow"])
def test_boxes_in_other_units_are_refused_and_not_taken_for_nobody(tmp_path, outputs) -> None:
    path = graphs.detector(tmp_path / "d.onnx", outputs)
    with pytest.raises(ModelError, match="not boxes after all"):
        GraphDetector(path, least=0.1).detect([frame()])


def test_the_authors_rtdetr_is_given_the_size_of_its_input(tmp_path) -> None:
    detector = GraphDetector(graphs.rtdetr(tmp_path / "rt.onnx"), least=0.1)
    assert detector.form == "boxes"
    assert [[each.box for each in found] for found in detector.detect([frame(), frame()])] == [[(24, 16, 24, 40)]] * 2


@pytest.mark.parametrize("form", ["yolo", "ssd"])
def test_boxes_come_back_to_frames_of_other_shapes_and_batches_are_what_single_frames_are(tmp_path, form) -> None:
    detector = GraphDetector(FORMS[form](tmp_path / "d.onnx"), least=0.1)
    frames = [frame(96, 64), frame(192, 128), frame(64, 128), frame(384, 64)]
    found = detector.detect(frames)
    assert found == [detector.detect([each])[0] for each in frames]
    assert found[1][0].box == (48, 32, 48, 80)
    if form == "yolo":  # 64×128 becomes 32×64 in the middle: 32 pixels of grey at either side
        assert found[2][0].box == (0, 32, 32, 80)
    else:  # stretched
        assert found[2][0].box == (16, 32, 16, 80)


def test_a_person_is_the_class_that_the_makers_note_or_the_user_says(tmp_path) -> None:
    noted = graphs.yolo(
        tmp_path / "n.onnx", transposed=True, person=2, metadata={"names": "{0: 'cat', 1: 'dog', 2: 'person'}"}
    )
    assert len(GraphDetector(noted, least=0.1).detect([frame()])[0]) == 1
    silent = graphs.yolo(tmp_path / "s.onnx", person=1)
    assert GraphDetector(silent, least=0.1).detect([frame()]) == [[]]
    said = GraphDetector(silent, least=0.1, options=GraphOptions(person=1))
    assert len(said.detect([frame()])[0]) == 1


def test_a_graph_of_any_size_is_given_the_one_that_is_asked_for(tmp_path) -> None:
    path = graphs.yolo(tmp_path / "free.onnx", size=("h", "w"))
    detector = GraphDetector(path, least=0.1, options=GraphOptions(size=(64, 96)))
    assert detector.detect([frame()])[0][0].box == (24, 16, 24, 40)


def test_openvino_finds_what_onnx_runtime_finds(tmp_path) -> None:
    openvino = pytest.importorskip("openvino")
    path = graphs.yolo(tmp_path / "d.onnx")
    openvino.save_model(openvino.convert_model(path), tmp_path / "d.xml", compress_to_fp16=False)
    frames = [frame(), frame(192, 128)]
    by_openvino = GraphDetector(tmp_path / "d.xml", least=0.1).detect(frames)
    by_onnx = GraphDetector(path, least=0.1).detect(frames)
    assert [[each.box for each in found] for found in by_openvino] == [
        [each.box for each in found] for found in by_onnx
    ]


@pytest.mark.parametrize(
    "outputs",
    [
        {"embedding": (np.zeros(12, dtype=np.float32), ("n", 12), 0)},
        {"yolov7_end2end": (np.zeros((9, 7), dtype=np.float32), (9, 7), None)},
        {"mask": (np.zeros((2, 4, 4), dtype=np.float32), ("n", 2, 4, 4), 0)},
        {"a": (np.zeros(3, dtype=np.float32), ("n", 3), 0), "b": (np.zeros(3, dtype=np.float32), ("n", 3), 0)},
    ],
)
def test_what_gives_no_boxes_is_refused_and_its_outputs_are_named(tmp_path, outputs) -> None:
    path = graphs.detector(tmp_path / "no.onnx", outputs)
    with pytest.raises(ModelError, match="not detections of a known form") as refused:
        GraphDetector(path, least=0.1)
    assert all(name in str(refused.value) for name in outputs)


def test_a_damaged_graph_is_refused(tmp_path) -> None:
    path = graphs.yolo(tmp_path / "d.onnx")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ModelError, match="damaged"):
        GraphDetector(path, least=0.1)


def overlap_of(one, other) -> float:
    left, top, right, bottom = (
        max(one[0], other[0]),
        max(one[1], other[1]),
        min(one[2], other[2]),
        min(one[3], other[3]),
    )
    shared = max(0.0, right - left) * max(0.0, bottom - top)
    areas = [max(0.0, each[2] - each[0]) * max(0.0, each[3] - each[1]) for each in (one, other)]
    return shared / max(sum(areas) - shared, 1e-9)


def slowly_suppressed(edges, scores, overlap):
    """By the definition: take the most certain box that is left, and strike out what overlaps it."""
    left = sorted(range(len(edges)), key=lambda number: -scores[number])
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [each for each in left if overlap_of(edges[best], edges[each]) <= overlap]
    return kept


@pytest.mark.parametrize("seed", [0, *(pytest.param(each, marks=pytest.mark.thorough) for each in range(1, 5))])
@pytest.mark.parametrize("overlap", [0.0, 0.4, 0.7, 1.0])
def test_suppression_is_what_its_definition_says(seed, overlap) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 40, (60, 2)).astype(float)
    edges = np.concatenate([corner, corner + rng.integers(0, 25, (60, 2))], axis=1)
    scores = rng.integers(0, 8, 60) / 8  # some are equal
    assert suppress(edges, scores, overlap, 1000) == slowly_suppressed(edges, scores, overlap)


def test_detections_lie_within_the_frame_are_sorted_and_none_is_nan() -> None:
    edges = np.array(
        [[-5, -5, 20, 30], [50, 5, 300, 30], [np.nan, 0, 5, 5], [1, 1, np.inf, 5], [9, 9, 9.2, 30], [200, 0, 220, 9]]
    )
    found = to_detections(edges, np.array([0.5, 1.5, 0.9, 0.9, 0.9, 0.9]), (100, 60), least=0.1)
    assert [(each.box, each.score) for each in found] == [((50, 5, 50, 25), 1.0), ((0, 0, 20, 30), 0.5)]
    assert to_detections(edges, np.full(6, np.nan), (100, 60), least=0.0) == []


def test_ten_thousand_boxes_are_no_more_than_the_most_certain() -> None:
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 4000, (10_000, 2))
    scores = rng.uniform(size=10_000)
    found = to_detections(np.concatenate([corner, corner + 20], axis=1), scores, (4096, 4096), least=0.1)
    assert len(found) == MOST_PEOPLE
    assert all(one.score >= other.score for one, other in pairwise(found))


@pytest.mark.parametrize("size", [(96, 64), (640, 480), (33, 190), (1, 500), (500, 1)])
@pytest.mark.parametrize("how", [{}, {"stretch": True}, {"corner": True}])
def test_a_box_finds_its_way_back_from_the_input(size, how) -> None:
    width, height = size
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels, fitted = fit(image, 64, 96, **how)
    assert pixels.shape == (64, 96, 3)
    whole = np.array([[*fitted.offset, *(np.array(fitted.offset) + np.array(size) * fitted.scale)]])
    assert np.allclose(fitted.boxes(whole), [[0, 0, width, height]])
    assert (whole <= [[96, 64, 96, 64]]).all()
