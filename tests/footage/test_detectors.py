"""Detectors that are no graphs: files of boxes, HOG, and torchvision's without a network."""

from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sil_cli.errors import DataError, ModelError, UsageError
from sil_cli.footage.detectors import HogDetector, KnownDetections, make_detector
from sil_cli.footage.frames import Frame
from sil_cli.runtime import SilentReporter
from sil_cli.settings import load_settings

FRAME = Frame(0, None, 0.0, np.zeros((200, 300, 3), dtype=np.uint8))


def found_in(table: str, tmp_path: Path, *, least: float = 0.1) -> list[tuple[tuple[int, int, int, int], float]]:
    (tmp_path / "det.txt").write_text(table)
    (found,) = KnownDetections(tmp_path / "det.txt", least=least).detect([FRAME])
    return [(each.box, round(each.score, 3)) for each in found]


def test_boxes_of_a_file_are_those_of_the_frame_and_count_from_one(tmp_path) -> None:
    table = "1,-1,11,21,30,80,0.9\n2,-1,1,1,30,80,0.9\n1,-1,291,150,30,80,0.8\n1,-1,5,5,30,80,0.05\n"
    assert found_in(table, tmp_path) == [((10, 20, 30, 80), 0.9), ((290, 149, 10, 51), 0.8)]


def test_raw_scores_become_shares_and_unknown_ones_are_certain(tmp_path) -> None:
    assert found_in("1,-1,11,21,30,80,2.0\n1,-1,101,21,30,80,-1.5\n", tmp_path) == [
        ((10, 20, 30, 80), 0.881),
        ((100, 20, 30, 80), 0.182),
    ]
    assert found_in("1,-1,11,21,30,80,-1\n", tmp_path) == [((10, 20, 30, 80), 1.0)]


def test_of_a_truth_only_pedestrians_that_count_are_read(tmp_path) -> None:
    table = "1,1,11,21,30,80,1,1,0.5\n1,2,61,21,30,80,0,1,1\n1,3,111,21,30,80,1,3,1\n"
    assert found_in(table, tmp_path) == [((10, 20, 30, 80), 1.0)]


@pytest.mark.parametrize("line", ["1,-1,5", "1,-1,a,b,c,d,1", "1,-1,nan,5,5,5,1"])
def test_a_line_that_holds_no_box_is_named(tmp_path, line) -> None:
    (tmp_path / "det.txt").write_text(f"1,-1,11,21,30,80,0.9\n{line}\n")
    with pytest.raises(DataError, match="line 2 holds no box"):
        KnownDetections(tmp_path / "det.txt", least=0.1)


def test_hog_takes_frames_of_any_size() -> None:
    pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    frames = [
        Frame(0, None, 0.0, rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in ((20, 20), (1200, 1600))
    ]
    found = HogDetector(least=0.0).detect(frames)
    assert found[0] == []
    assert all(0 <= each.score <= 1 for each in found[1])


@pytest.mark.parametrize("height", [100, 200])
def test_boxes_of_hog_end_where_the_person_does(height) -> None:
    """A drawn figure: head, trunk, two arms, two legs."""
    pytest.importorskip("cv2")
    image = Image.new("RGB", (400, 400), (200, 200, 200))
    pen, unit, x, y = ImageDraw.Draw(image), height / 8, 200, 60
    pen.ellipse([x - 0.5 * unit, y, x + 0.5 * unit, y + 1.15 * unit], fill=(40, 40, 40))
    for side in (-1, 1):
        for outline in (
            [(0, 1.4), (1, 1.4), (0.75, 4.2), (0, 4.2)],
            [(1, 1.4), (1.3, 4.2), (0.95, 4.2), (0.6, 2)],
            [(0.75, 4), (0.02, 4), (0.35, 8), (0.85, 8)],
        ):
            pen.polygon([(x + side * across * unit, y + down * unit) for across, down in outline], fill=(40, 40, 40))
    ((found,),) = HogDetector(least=0.3).detect([Frame(0, None, 0.0, np.asarray(image))])
    left, top, width, high = found.box
    wide = min(left + width, x + 1.3 * unit) - max(left, x - 1.3 * unit)
    tall = min(top + high, y + height) - max(top, y)
    assert wide * tall / (width * high + 2.6 * unit * height - wide * tall) > 0.65


def test_without_a_network_it_is_said_where_the_file_belongs(tmp_path, monkeypatch) -> None:
    from torchvision.models import detection

    def unreachable(self, **options: object) -> None:
        raise URLError(OSError(-2, "Name or service not known"))

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(detection.FasterRCNN_MobileNet_V3_Large_FPN_Weights, "get_state_dict", unreachable)
    with pytest.raises(ModelError) as raised:
        make_detector(load_settings(), "lobby", SilentReporter())
    assert "can't be downloaded: Name or service not known." in raised.value.what
    assert f"at {tmp_path}/hub/checkpoints/fasterrcnn_mobilenet_v3_large_fpn" in raised.value.fix
    assert "--detector hog" in raised.value.fix


def test_a_found_file_makes_no_weights_be_fetched(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "sil.toml").write_text("[query]\ndetector = 'torchvision'\n[crop]\ndetector = 'torchvision'\n")
    for key in ("query.detector", "crop.detector"):
        with pytest.raises(UsageError, match=f"{key} = torchvision was set by a file found in the working folder"):
            make_detector(load_settings(), "lobby", SilentReporter(), named_by=key)


@pytest.mark.thorough
def test_torchvisions_network_looks_at_frames_of_several_sizes(monkeypatch) -> None:
    from torchvision.models import detection

    network = detection.fasterrcnn_mobilenet_v3_large_fpn(weights=None, weights_backbone=None)
    kind = detection.FasterRCNN_MobileNet_V3_Large_FPN_Weights
    monkeypatch.setattr(kind, "get_state_dict", lambda self, **options: network.state_dict())
    detector = make_detector(load_settings(flags={"device": "cpu"}), "lobby", SilentReporter())
    small = Frame(0, None, 0.0, np.zeros((120, 90, 3), dtype=np.uint8))
    assert len(detector.detect([FRAME, small])) == 2
