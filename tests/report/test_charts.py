from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from sil_cli.report.charts import evaluation as charts
from sil_cli.report.charts.figures import as_png, as_svg, plain
from sil_cli.report.charts.training import curves_png, quantities, training_curves

HOSTILE = ["_hidden", "$a_b$ ^", "<script>", "\0\n\x1b[31m\u202e", "行人再识别", "x" * 500, "", "$"]


def is_png(content: bytes) -> bool:
    return Image.open(io.BytesIO(content)).format == "PNG"


def test_every_label_can_be_drawn_and_is_in_the_legend():
    curve = np.linspace(0.2, 1, 50).tolist()
    for draw in (charts.cmc_chart, charts.precision_recall_chart):
        figure = draw([(label, curve) for label in HOSTILE[:6]])
        assert len(figure.legends[0].get_texts()) == 6
        assert is_png(as_png(figure))
        assert ElementTree.fromstring(as_svg(figure)).tag.endswith("svg")
    points = np.random.default_rng(0).standard_normal((len(HOSTILE) * 2, 2))
    figure = charts.map_chart(points, HOSTILE * 2, most=6, what="identities")
    assert is_png(as_png(figure))
    assert is_png(as_png(charts.camera_chart(HOSTILE, HOSTILE, [[0.5] * 8] * 8)))


def test_names_are_drawn_as_they_are():
    assert plain("_a") == " _a"
    assert plain("a$b") == r"a\$b"
    assert len(plain("x" * 100, 12)) == 12


def test_the_same_figure_gives_the_same_bytes():
    one, other = (charts.cmc_chart([("a", [0.1, 0.5, 1.0])]) for _ in range(2))
    assert as_svg(one) == as_svg(other)
    assert as_png(one) == as_png(other)


def test_cmc_and_precision_show_the_numbers():
    (line,) = charts.cmc_chart([("a", [0.25, 0.5, 1.0])]).axes[0].lines
    assert line.get_xydata().tolist() == [[1, 0.25], [2, 0.5], [3, 1.0]]
    (line,) = charts.precision_recall_chart([("a", [1.0, 0.5, 0.25])]).axes[0].lines
    assert line.get_xydata().tolist() == [[0, 1.0], [0.5, 0.5], [1, 0.25]]
    assert is_png(as_png(charts.cmc_chart([("a gallery of one", [1.0])])))


@pytest.mark.parametrize("first", [0, 137, 399])
def test_histograms_show_every_pair_and_the_thresholds(first):
    rng = np.random.default_rng(first)
    same, different = np.zeros(400, np.int64), np.zeros(400, np.int64)
    same[first:] = rng.integers(0, 5, 400 - first)
    same[first] = different[first] = 3
    figure = charts.histogram_chart(same.tolist(), different.tolist(), match=0.6, possible=0.4)
    (axes,) = figure.axes
    for patch in axes.patches:
        assert patch.get_data().values.sum() == pytest.approx(1)
        assert len(patch.get_data().values) <= charts.MOST_BARS
    assert [line.get_xdata()[0] for line in axes.lines] == [0.6, 0.4]
    assert axes.patches[0].get_data().edges[0] == pytest.approx(-1 + first / 200)
    assert is_png(as_png(figure))


def test_histograms_without_pairs_are_empty():
    assert is_png(as_png(charts.histogram_chart([0] * 400, [0] * 400)))


def test_camera_charts_mark_what_has_no_match():
    figure = charts.camera_chart(["a"], ["b", "c"], [[0.123, None]])
    assert [text.get_text() for text in figure.axes[0].texts] == ["12", "–"]


def test_maps_colour_the_largest_groups_and_grey_the_rest():
    groups = ["a"] * 5 + ["b"] * 3 + ["c"] + [None]
    figure = charts.map_chart(np.arange(20.0).reshape(10, 2), groups, most=2, what="cameras")
    assert [len(each.get_offsets()) for each in figure.axes[0].collections] == [2, 5, 3]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "1 other cameras"]


HISTORY = [
    {
        "epoch": epoch,
        "loss": 3.0 / epoch,
        "learning_rate": 0.001,
        "images_per_second": 50.0,
        "extra": epoch,
        "note": "x",
    }
    for epoch in range(1, 5)
]


def test_training_curves_show_what_was_logged():
    assert quantities([HISTORY]) == ["loss", "learning_rate", "images_per_second", "extra"]
    figure = training_curves([("one", HISTORY), ("_two", HISTORY[:2])])
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    first, second = panels["Loss"].lines
    assert first.get_xydata().tolist() == [[epoch, 3.0 / epoch] for epoch in range(1, 5)]
    assert second.get_xydata().tolist() == [[1, 3.0], [2, 1.5]]
    assert panels["Learning rate"].get_yscale() == "log"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", " _two"]


def test_held_out_scores_have_a_panel_and_numbers_that_are_none_are_left_out():
    history = [{"epoch": 1, "loss": float("nan"), "held_out_mAP": 0.5}, {"epoch": 2, "loss": 1, "held_out_mAP": None}]
    figure = training_curves([("", history)])
    assert [len(axes.lines[0].get_xdata()) for axes in figure.axes] == [1, 1]
    assert quantities([history]) == ["loss", "held_out_mAP"]
    assert is_png(curves_png(history))


def test_without_numbers_there_is_nothing_to_draw():
    for history in ([], [{"epoch": 1, "flag": True, "text": "1"}]):
        with pytest.raises(ValueError, match="nothing"):
            curves_png(history)


DRAW = """
import hashlib, io, sys
import numpy as np
from sil_cli.data.measuring import CameraLook
from sil_cli.report.charts.evaluation import cmc_chart
from sil_cli.report.charts.figures import as_svg
from sil_cli.report.charts.styles import StyleColumn, style_chart_png
from sil_cli.report.charts.training import curves_png

look = CameraLook(3, np.full((64, 32, 3), 99.0), np.full((3, 32), 1 / 32))
column = StyleColumn("c1", look, np.eye(3) * 90, np.arange(3.0))
drawn = [
    curves_png([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]),
    as_svg(cmc_chart([("$one_", [0.2, 0.4]), ("two", [0.3, 0.9])])),
    style_chart_png([column], np.zeros((1, 1)), title="Cameras", note=""),
]
print(hashlib.sha256(b"".join(drawn)).hexdigest(), "matplotlib.pyplot" in sys.modules)
"""


def draw_in(folder: Path, **environment: str) -> str:
    """The checksum of some charts, drawn by a process of its own, and whether it imported pyplot."""
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", DRAW]  # of packages among them
    done = subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_nothing_in_the_folder_or_the_environment_changes_a_chart(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    (tmp_path / "clean").mkdir()
    as_it_should_be = draw_in(tmp_path / "clean")
    assert as_it_should_be.endswith(" False\n")  # no window system is touched
    rc = tmp_path / "hostile" / "matplotlibrc"
    rc.parent.mkdir()
    rc.write_text("text.usetex: True\nfont.size: 40\nsavefig.dpi: 20\nsvg.fonttype: none\naxes.grid: True\n")
    notebook = "module://matplotlib_inline.backend_inline"
    assert draw_in(rc.parent, MPLBACKEND=notebook) == as_it_should_be
    assert draw_in(tmp_path / "clean", MATPLOTLIBRC=str(rc), MPLBACKEND="no such backend") == as_it_should_be
    rc.write_bytes(b"\xff\xfe: not UTF-8")
    assert draw_in(rc.parent) == as_it_should_be
