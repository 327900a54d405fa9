"""The public API: its names, what importing it costs, and that its page's snippets run."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

import pytest
from commands import ROOT, TINY_DATA, TINY_TRAIN
from footage_videos import detections, make_frames
from PIL import Image

import sil_cli

SMALL = {"data.synthetic.train_identities": 2, "data.synthetic.test_identities": 2}

NAMES = {
    "prepare",
    "train",
    "evaluate",
    "index",
    "query",
    "crop",
    "find_people",
    "load_model",
    "Model",
    "open_gallery",
    "Gallery",
    "Match",
    "Filter",
    "load_dataset",
    "Dataset",
    "score",
    "EmbeddingSet",
    "rerank",
    "make_style",
    "SilError",
}


def test_the_public_names_are_these() -> None:
    assert set(sil_cli.__all__) == NAMES
    for name in NAMES:
        assert getattr(sil_cli, name).__doc__
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = sil_cli.no_such_name


def test_importing_brings_nothing_else() -> None:
    code = "import sys, sil_cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "pydantic", "typer", "rich", "faiss"} & set(done.stdout.split())


def test_a_script_needs_no_guard(empty) -> None:
    (empty / "script.py").write_text(
        f"import sil_cli\nprint(sil_cli.prepare(settings={SMALL}).target)\n", encoding="utf-8"
    )
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "data/viaduct"), done.stderr


def test_footage_becomes_crops(empty) -> None:
    make_frames(empty / "lobby", 10)
    (empty / "det.txt").write_text(detections(10), encoding="utf-8")
    result = sil_cli.crop("lobby", detector="det.txt", every=0, settings={"crop.model": "none"})
    assert result.crops > 0
    assert result.table.is_file()


def test_the_snippets_of_the_page_run(empty, capsys) -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    scope: dict[str, object] = {}
    for snippet in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(compile(snippet, "docs/python.md", "exec"), scope)
    told = capsys.readouterr().out
    assert "Training 4 4" in told
    assert "No gallery was found" in told
    # `load_model` takes bfloat16 where it agrees, which may change places of a few near-equal scores
    assert scope["scores"].mAP == pytest.approx(scope["measured"].mAP, abs=5e-3)
    assert [match.rank for match in scope["results"][0].matches] == [1, 2, 3, 4, 5]


def test_the_tour_goes_from_generated_people_to_a_contact_sheet(tmp_path, capsys) -> None:
    spec = importlib.util.spec_from_file_location("tour", ROOT / "docs" / "tour.py")
    tour = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tour)
    tiny = {f"data.synthetic.{name}": value for name, value in TINY_DATA.items()} | TINY_TRAIN
    sheet = tour.tour(tmp_path / "tour", tiny)
    with Image.open(sheet) as picture:
        assert picture.width > picture.height // 2
    told = capsys.readouterr().out
    assert "left out" in told
    assert told.count("of the first 6 are right") == 3
    assert "nearest seen by c2" in told
