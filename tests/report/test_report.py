"""`sil report`: the page is whole, escaped, needs nothing from outside, and survives what is missing."""

from __future__ import annotations

import io
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from commands import sil
from PIL import Image

from sil_cli.data.manifest import ImageRecord, write_dataset
from sil_cli.evaluation.calibration import Calibration, write_calibration
from sil_cli.evaluation.chance import ChanceCheck, FalseMatches
from sil_cli.evaluation.intervals import Interval
from sil_cli.evaluation.metrics import mean_scores, score_queries
from sil_cli.evaluation.pairs import EmbeddingSet
from sil_cli.evaluation.ranking import rank_matches
from sil_cli.evaluation.report_data import DETAILS_FILE, make_report_data, write_report_data
from sil_cli.files import write_json
from sil_cli.report.image_sections import map_section, rank_lists_section
from sil_cli.report.number_sections import cameras_section, open_set_section, scores_section
from sil_cli.report.pages import POLICY, ReportSection, render
from sil_cli.report.run_inputs import RunInputs, read_runs
from sil_cli.runtime import SilentReporter
from sil_cli.settings import DataSettings
from sil_cli.training.train import _draw_curves

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>$x_'
FAST = ("--projection", "pca", "--queries", "1", "--set", "report.source_images=4")
VOID = {"img", "meta", "br", "hr", "col"}


def is_picture(content: bytes) -> bool:
    return Image.open(io.BytesIO(content)).format == "PNG"


class Page(HTMLParser):
    """What a page holds; refuses one whose elements aren't balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def read_page(path: Path) -> Page:
    """Parse a page and check that it needs nothing from outside and runs nothing."""
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form", "svg"}
    anchors = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("src", "data:image/").startswith("data:image/")
        assert attributes.get("href", "#").startswith("#")
        assert attributes.get("href", "#")[1:] in anchors | {""}
        assert not re.search(r"url\(|//", attributes.get("style") or "")
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert not re.search(r"url\(|@import|http", style)
    assert page.attributes("meta")[1]["content"] == POLICY
    assert all(attributes["alt"] for attributes in page.attributes("img"))
    return page


def make_run(
    folder: Path, *, seed: int = 0, identity: str = "p", cameras: int = 3, name: str = "target", images: bool = True
):
    """A run that was evaluated, without a model: embeddings out of thin air."""
    rng = np.random.default_rng(seed)
    data = folder.parent.parent / "data" / name
    records = []
    for split, count in (("query", 8), ("gallery", 24)):
        for at in range(count):
            camera = f"{identity[:3]}c{at // 4 % cameras}" if cameras else None
            path = f"{split}/{at}.jpg"
            records.append(
                ImageRecord(path=path, identity=f"{identity}{at % 4}", camera=camera, split=split, domain=name)
            )
            if images:
                (data / split).mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (16, 32), (at * 9, 99, 99)).save(data / path)
    dataset = write_dataset(
        data, records, name=name, reader="csv", reader_version=1, root=data, options={}, generated=True
    )
    parts = (dataset.of_split("query"), dataset.of_split("gallery"))
    sides = tuple(
        EmbeddingSet(
            rng.standard_normal((len(part), 6)).astype(np.float32),
            [record.identity for record in part],
            [record.camera for record in part],
            keys=[record.path for record in part],
        )
        for part in parts
    )
    ranks = rank_matches(*sides)
    evaluation = folder / "evaluation" / name
    about = {
        "fingerprint": "f" * 64,
        "target": name,
        "dataset": str(data),
        "dataset_from_here": f"../../../../data/{name}",
        "manifest_sha256": dataset.info.manifest_sha256,
        "generated": True,
    }
    write_report_data(evaluation, make_report_data(about, sides, ranks, parts, reporter=SilentReporter()))
    scores = mean_scores(score_queries(ranks))
    results = {
        "fingerprint": "f" * 64,
        "target": name,
        "queries": scores.queries,
        "gallery": scores.gallery,
        "dropped_queries": 0,
        "mAP": scores.mAP,
        "cmc": dict(scores.cmc),
        "mINP": scores.mINP,
        "conditions": {"model": identity, "distance": "cosine"},
        "of a later version": [1, 2],
    }
    write_json(evaluation / "results.json", results)
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return make_run(tmp_path / "runs" / "001-a")


def test_the_page_of_a_trained_model_shows_everything(in_world, tmp_path):
    outcome = sil("report", "--out", tmp_path / "out", "--json", *FAST)
    assert outcome.code == 0, outcome.err
    result = outcome.document
    page = read_page(Path(result["page"]))
    anchors = ["curves", "scores", "open-set", "rank-lists", "agreement", "map", "cameras", "training", "conditions"]
    assert [attributes["id"] for attributes in page.attributes("section")] == anchors
    results = json.loads(next(in_world.glob("runs/*/evaluation/*/results.json")).read_text())
    for number in (f"{100 * results['mAP']:.1f}", f"{100 * results['cmc']['1']:.1f}", results["fingerprint"][:16]):
        assert number in page.text
    assert "✓" in page.text
    assert "similarity 0." in page.text
    assert "Best queries" in page.text
    assert result["missing_images"] == 0
    assert result["notes"] == []
    names = {Path(each).name for each in result["pictures"]}
    assert {"report-cmc.png", "report-scores.png", "report-map-domain.png", "report-similarity-maps.png"} <= names
    assert {"report-map-identity.png", "report-map-camera.png", "report-cameras.png", "report-training.png"} <= names
    for each in result["pictures"]:
        with Image.open(each) as image:
            image.verify()
            assert image.format == "PNG"
    assert result["page_bytes"] == Path(result["page"]).stat().st_size < 3_000_000
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([*names, "report.html"])


def test_without_the_model_a_report_is_quick_and_the_same_twice(in_world, tmp_path):
    flags = ("--no-similarity-maps", *FAST, "--set", "report.source_images=0")
    for name in ("one.html", "two.html"):
        assert sil("report", "--out", tmp_path / name, *flags).code == 0
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    page = read_page(tmp_path / "one.html")
    assert "agreement" not in [attributes["id"] for attributes in page.attributes("section")]
    assert "evaluate the model on another data set too" in page.text
    assert (tmp_path / "one-cmc.png").is_file()


def test_hostile_names_are_letters_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "runs" / "$_x<b>", identity=HOSTILE, images=False)
    (run / "settings.toml").write_text(HOSTILE)
    (run / "metrics.jsonl").write_text(json.dumps({"epoch": 1, "loss": 1.0, HOSTILE: 2.0}) + "\n")
    outcome = sil("report", run, *FAST)
    assert outcome.code == 0, outcome.err
    page = read_page(run / "report" / "report.html")
    assert HOSTILE in page.text
    assert "$_x<b> on target" in page.text


def text_of(section: ReportSection) -> str:
    """The section as the page has it."""
    return render(f"report/{section.name}.html", section=section)


def inputs(*folders: Path) -> list[RunInputs]:
    return read_runs(list(folders), None, DataSettings(folder=Path("data")))


def test_missing_images_become_grey_tiles(run):
    (run.parent.parent / "data/target/gallery/3.jpg").unlink()
    (run.parent.parent / "data/target/gallery/5.jpg").write_bytes(b"\xff\xd8\xffno picture")
    section = rank_lists_section(inputs(run), 8)
    assert section.notes == ["2 images can't be opened; grey tiles stand for them."]
    content = text_of(section)
    assert section.notes[0] in Page(content).text
    assert "<span>no image</span>" in content
    assert content.count("data:image/jpeg") > 50
    assert all(is_picture(figure.png) for figure in section.figures)


def test_a_data_set_that_has_gone_leaves_a_page_of_grey_tiles(run):
    shutil.rmtree(run.parent.parent / "data")
    section = rank_lists_section(inputs(run), 1)
    assert "its images are missing here" in section.notes[0]
    assert "data:image/jpeg" not in text_of(section)


def test_a_workspace_that_moved_still_has_its_images(run, tmp_path, monkeypatch):
    shutil.move(tmp_path / "runs", tmp_path / "elsewhere" / "runs")
    shutil.move(tmp_path / "data", tmp_path / "elsewhere" / "data")
    monkeypatch.chdir("/")
    (moved,) = inputs(tmp_path / "elsewhere/runs/001-a")
    assert rank_lists_section([moved], 1).notes == []
    assert moved.images.missing == set()


def test_data_prepared_again_are_told(run, tmp_path):
    records = [ImageRecord(path="query/0.jpg", identity="z", split="query", domain="target")]
    data = tmp_path / "data/target"
    write_dataset(data, records, name="target", reader="csv", reader_version=1, root=data, options={})
    assert "prepared again since the evaluation" in rank_lists_section(inputs(run), 1).notes[0]


@pytest.mark.parametrize(("cameras", "maps"), [(0, 1), (3, 2)])
def test_cameras_may_be_unlabelled(tmp_path, cameras, maps):
    runs = inputs(make_run(tmp_path / "runs" / "001-a", cameras=cameras))
    section = cameras_section(runs)
    assert ("not labelled" in text_of(section)) == (cameras == 0)
    assert len(section.figures) == (cameras > 0)
    assert [figure.name for figure in map_section(runs, "pca", {}).figures] == ["map-identity", "map-camera"][:maps]


def test_a_single_camera_pair_is_a_table_of_one(tmp_path):
    (run,) = inputs(make_run(tmp_path / "runs" / "001-a"))
    record = run.details.record.model_copy(
        update={"query_cameras": ["a"], "gallery_cameras": ["b"], "camera_map": [[0.25]], "camera_queries": [[7]]}
    )
    section = cameras_section([replace(run, details=replace(run.details, record=record))])
    assert re.search(r'<td style="[^"]*" title="7 queries">25</td>', text_of(section))


def test_the_calibrated_threshold_is_shown_for_its_own_model_only(run):
    calibration = Calibration(
        fingerprint="f" * 64,
        made_on="held-out identities",
        same_pairs=5,
        different_pairs=50,
        thresholds={},
        match=0.613,
        possible=0.4,
    )
    write_calibration(run, calibration)
    text = text_of(scores_section(inputs(run)))
    assert "made on held-out identities: a match from 0.613, a possible one from 0.400" in text
    record = inputs(run)[0].details.record
    share = sum(record.same_pairs[322:]) / sum(record.same_pairs)
    assert f"{100 * share:.1f} % of the pairs of one person" in text
    assert "score 0.610 or more" in text
    write_calibration(run, calibration.model_copy(update={"fingerprint": "other"}))
    assert "No threshold is calibrated" in text_of(scores_section(inputs(run)))


def test_domains_of_other_evaluations_and_of_sources_are_mapped(run):
    make_run(run, name="second", seed=4)
    (one,) = read_runs([run], "target", DataSettings(folder=Path("data")))
    (*_, domains) = map_section([one], "pca", {"001-a": {"third": np.eye(6, dtype=np.float32)}}).figures
    assert domains.caption == "By domain: the target target beside second, third."


def test_several_runs_stand_side_by_side(run, tmp_path):
    other = make_run(tmp_path / "runs" / "002-b", seed=5)
    for folder, loss in ((run, 1.0), (other, 2.0)):
        (folder / "metrics.jsonl").write_text(json.dumps({"epoch": 1, "loss": loss}) + "\n")
    outcome = sil("report", run, other, "--json", *FAST)
    assert outcome.code == 0, outcome.err
    assert Path(outcome.document["page"]) == Path("report/report.html")
    page = read_page(Path(outcome.document["page"]))
    assert "001-a, 002-b on target" in page.text
    best = [float(json.loads((each / "evaluation/target/results.json").read_text())["mAP"]) for each in (run, other)]
    assert f"{100 * max(best):.1f}" in page.text
    assert {attributes.get("class") for attributes in page.attributes("td")} >= {"best", None}
    names = {Path(each).name for each in outcome.document["pictures"]}
    assert {"report-cmc.png", "report-scores-1.png", "report-scores-2.png", "report-map-identity-2.png"} <= names


def test_splits_and_other_ways_of_testing_are_shown_by_the_names_of_their_folders(run, tmp_path):
    shutil.copytree(run / "evaluation/target", tmp_path / "kept")
    shutil.copytree(tmp_path / "kept", run / "evaluation/target/flip")
    shutil.copytree(tmp_path / "kept", run / "evaluation/many/split-01")
    results = run / "evaluation/many/split-01/results.json"
    results.write_text(json.dumps(json.loads(results.read_text()) | {"mAP": 0.123}))
    outcome = sil("report", run, "--target", "many/split-01", "--out", "split.html", "--json", *FAST)
    assert outcome.code == 0, outcome.err
    assert "12.3" in read_page(Path("split.html")).text
    assert sil("report", run, *FAST).code == 0  # what else there is takes nothing from the plain evaluation
    outcome = sil("report", run, "--target", "../001-a/evaluation/target", *FAST)
    assert outcome.code == 1
    assert "It was on: many/split-01, target, target/flip" in outcome.error


def test_runs_that_can_not_be_shown_are_refused_in_words(run, tmp_path):
    def refused(*arguments, code=1):
        outcome = sil("report", *arguments, *FAST)
        assert outcome.code == code, outcome.err
        return outcome.error

    (tmp_path / "empty").mkdir()
    assert "sil evaluate --model" in refused("empty")
    assert "There is no run folder nowhere" in refused("nowhere")
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone/results.json").write_text("{}")
    assert "alone holds only results" in refused("alone")
    assert "was not evaluated on mars yet. It was on: target" in refused(run, "--target", "mars")
    assert "named twice" in refused(run, run, code=2)
    make_run(run, name="second")
    assert "Choose one: --target second" in refused(run, code=2)
    elsewhere = make_run(tmp_path / "runs" / "003-c", name="third")
    assert "different data sets" in refused(run, elsewhere, code=2)
    (tmp_path / "file").write_text("")
    assert "file is a file" in refused(elsewhere, "--out", "file", code=2)
    details = elsewhere / "evaluation/third" / DETAILS_FILE
    details.write_text(details.read_text().replace('"version":1', '"version":9'))
    assert "not one that this version reads" in refused(elsewhere)
    details.unlink()
    assert "sil evaluate" in refused(elsewhere)
    (elsewhere / "evaluation/third/results.json").write_text('{"mAP": 2}')
    assert "results.json" in refused(elsewhere)
    assert not (elsewhere / "report").exists()


@pytest.mark.parametrize("line", [b'{"epoch": 2, "lo', b'{"epoch": "\xff"}', b"[2]"])
def test_a_log_that_was_cut_short_or_is_no_text_is_refused(run, line):
    (run / "metrics.jsonl").write_bytes(b'{"epoch": 1, "loss": 1.0}\n' + line)
    outcome = sil("report", run, *FAST)
    assert outcome.code == 1
    assert "metrics.jsonl, line 2" in outcome.error


def test_training_ends_with_a_picture_of_its_curves(in_world):
    with Image.open(next(in_world.glob("runs/*/curves.png"))) as image:
        assert image.format == "PNG"


def test_a_run_is_not_lost_when_its_curves_can_not_be_drawn(tmp_path):
    class Listener(SilentReporter):
        def warn(self, text: str) -> None:
            warned.append(text)

    warned: list[str] = []
    _draw_curves(tmp_path, Listener())
    assert len(warned) == 1
    assert "no plot of its curves" in warned[0]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "loss": 2.0}\n')
    _draw_curves(tmp_path, Listener())
    assert is_picture((tmp_path / "curves.png").read_bytes())


def test_false_matches_expected_and_found_stand_beside_each_other(run):
    assert open_set_section(inputs(run)) is None  # an evaluation of before they were counted
    found = FalseMatches(expected=0.1, found=0.254, interval=Interval(low=0.2, high=0.31), fpir=0.125, fnir=None)
    check = ChanceCheck(queries=9, entries=1184.0, pairs_from="cameras", mates=2, at=[found], false_accept_rate=1.3e-3)
    (read,) = inputs(run)
    counted = read.scores.model_copy(update={"expected_false_matches": check})
    record = read.details.record.model_copy(update={"searched": 600, "identification": [(0.01, 0.4), (1.0, 0.1)]})
    section = open_set_section([replace(read, scores=counted, details=replace(read.details, record=record))])
    assert [figure.name for figure in section.figures] == ["identification"]
    text = re.sub(r"<[^>]*>| +", " ", text_of(section))
    for words in ("has 600 images", "1,184 images of other people", "0.25", "0.2 to 0.31", "12.5 %", "1.3e-03"):
        assert words in text
    only_curves = open_set_section([replace(read, details=replace(read.details, record=record))])
    assert "the gallery is too small to learn them from" in text_of(only_curves)
