"""Whom a query shows, by what a prepared data set says of its image and box."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import sil
from PIL import Image

import sil_cli
from sil_cli.data.manifest import ImageRecord, load_dataset, write_dataset

IMAGE = Image.new("RGB", (24, 48))
SIZE = (24, 48)  # of the world's crops
LEFT, RIGHT = (20, 10, *SIZE), (80, 12, *SIZE)


@pytest.fixture
def people(in_world) -> list[tuple[str, str, Path]]:
    """Identity, camera network and crop of two queries of the network in the gallery."""
    dataset = next(one for one in map(load_dataset, sorted(Path("data").glob("*/"))) if one.of_split("query"))
    found = {record.identity: record for record in dataset.of_split("query")}
    return [(name, record.domain, dataset.image_path(record)) for name, record in found.items()][:2]


@pytest.fixture
def frames(people, tmp_path) -> Path:
    """A data set of a frame that shows both, a frame that shows one of them, and a crop of each."""
    (one, domain, first), (other, _, second) = people
    frame = Image.new("RGB", (140, 70), "grey")
    for box, path in ((LEFT, first), (RIGHT, second)):
        with Image.open(path) as image:
            frame.paste(image, box[:2])
            image.save(tmp_path / f"{box[0]}.png")
            image.save(tmp_path / f"whole{box[0]}.png")
    for name in ("both.png", "single.png", "other.png"):
        frame.save(tmp_path / name)

    def record(path: str, identity: str, **known: object) -> ImageRecord:
        return ImageRecord(path=path, identity=identity, split="query", domain=domain, **known)

    records = [
        record("both.png", one, camera="c1", box=LEFT),
        record("both.png", other, camera="c1", box=RIGHT),
        record("single.png", one, box=LEFT),
        record("20.png", one, camera="c2"),
        record("whole80.png", other, box=(-3, 0, 200, 48)),
        record("other.png", "-1", junk=True),
    ]
    write_dataset(tmp_path, records, name=domain, reader="csv", reader_version=1, root=tmp_path, options={})
    return tmp_path


def ask(tmp_path: Path, *arguments: object) -> dict:
    outcome = sil("query", *arguments, "--sheet", tmp_path / "sheet.png", "--top", 99, "--json")
    assert outcome.code == 0, outcome.err
    return outcome.document | {"said": outcome.error}


def marked(document: dict, identity: str | None) -> bool:
    """Whether all matches are marked right and wrong by this identity, or none of them for nobody."""
    expected = [None if identity is None else match["identity"] == identity for match in document["matches"]]
    return document["identity"] == identity and [match["correct"] for match in document["matches"]] == expected


class TestBoxes:
    def test_whom_whole_images_show(self, frames, people) -> None:
        expected = {
            "both.png": None,
            "single.png": None,
            "20.png": 0,
            "whole80.png": 1,
            "other.png": None,
            "80.png": None,
        }
        found = ask(frames, *(frames / name for name in expected))["queries"]
        for document, (name, who) in zip(found, expected.items(), strict=True):
            assert marked(document, None if who is None else people[who][0]), name
            assert any(match["correct"] for match in document["matches"]) == (who is not None)

    @pytest.mark.parametrize(
        ("image", "expected"),
        [
            (
                "both.png",
                {
                    "20,10,24,48": 0,
                    "80,12,24,48": 1,
                    "81,11,24,48": 1,  # rounded otherwise
                    "20,10,25,47": 0,
                    "20,10,26,48": None,
                    "50,10,24,48": None,
                    "0,0,140,70": None,
                },
            ),
            ("single.png", {"20,10,24,48": 0, "80,12,24,48": None}),
            ("20.png", {"0,0,24,48": 0, "0,0,99,99": 0, "0,0,24,20": None}),
            ("whole80.png", {"-3,0,200,48": 1, "0,0,24,48": 1, "0,0,12,48": None}),
            ("80.png", {"0,0,24,48": None}),
        ],
        ids=str,
    )
    def test_whom_boxes_show(self, frames, people, image, expected) -> None:
        boxes = [option for box in expected for option in ("--box", box)]
        document = ask(frames, frames / image, *boxes)
        found = document.get("queries", [document])
        for document, (box, who) in zip(found, expected.items(), strict=True):
            assert marked(document, None if who is None else people[who][0]), box

    def test_fusing_a_box_and_a_crop_of_one_person_knows_who_it_is(self, frames, people) -> None:
        images = [frames / "both.png", frames / "20.png"]
        document = ask(frames, *images, "--box", "20,10,24,48", "--box", "0,0,24,48", "--fuse")
        assert marked(document, people[0][0])
        assert document["camera"] is None  # c1 and c2

    def test_a_whole_frame_says_which_boxes_are_known(self, frames) -> None:
        said = ask(frames, frames / "both.png")["said"]
        assert "20,10,24,48; 80,12,24,48" in said
        assert "add --box 20,10,24,48" in said
        assert "--box" not in ask(frames, frames / "20.png")["said"]
        assert "--box" not in ask(frames, frames / "both.png", "--box", "50,10,24,48")["said"]

    def test_of_many_boxes_the_first_ones_are_named(self, frames, people) -> None:
        records = [
            ImageRecord(path="both.png", identity=str(number), split="query", domain="d", box=(number, 0, 9, 9))
            for number in range(12)
        ]
        write_dataset(frames, records, name="d", reader="csv", reader_version=1, root=frames, options={})
        assert "3,0,9,9; 4,0,9,9 and 7 more" in ask(frames, frames / "both.png")["said"]

    def test_from_python_it_is_the_same(self, frames, people) -> None:
        boxed = {"query.boxes": ["80,12,24,48"]}
        (whole,) = sil_cli.query(frames / "both.png", sheet=frames / "a.png")
        (one,) = sil_cli.query(frames / "both.png", sheet=frames / "a.png", settings=boxed)
        assert (whole.identity, one.identity) == (None, people[1][0])

    def test_people_of_whom_two_share_a_box_are_nobody(self, frames, people) -> None:
        (one, domain, _), (other, _, _) = people
        records = [
            ImageRecord(path="both.png", identity=name, split="query", domain=domain, box=LEFT) for name in (one, other)
        ]
        write_dataset(frames, records, name=domain, reader="csv", reader_version=1, root=frames, options={})
        assert marked(ask(frames, frames / "both.png", "--box", "20,10,24,48"), None)


class TestManyQueries:
    def test_the_sheet_is_of_the_first_and_the_answer_of_all(self, in_world, tmp_path) -> None:
        ids = [option for _ in range(40) for option in ("--id", 1)]
        outcome = sil(
            "query", *ids, "--top", 3, "--sheet", tmp_path / "s.webp", "--html", tmp_path / "p.html", "--json"
        )
        assert outcome.code == 0, outcome.err
        assert len(outcome.document["queries"]) == 40
        assert "s.webp has room for the first 33 of 40 queries" in outcome.error
        assert "p.html has room" not in outcome.error
        with Image.open(tmp_path / "s.webp") as sheet:
            assert sheet.height <= 16_383

    def test_no_more_images_are_opened_than_are_drawn(self, in_world, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr("sil_cli.search.drawing.DRAWN_IN_ALL", 12)
        opened = []
        monkeypatch.setattr("sil_cli.search.drawing.load_image", lambda path, **_: opened.append(path) or IMAGE)
        ids = [option for number in range(1, 6) for option in ("--id", number)]
        page = tmp_path / "p.html"
        outcome = sil("query", *ids, "--top", 3, "--sheet", tmp_path / "s.png", "--html", page, "--json")
        assert len(opened) == 12
        assert "s.png has room for the first 3 of 5 queries" in outcome.error
        assert "the first 3 of 5 queries" in page.read_text()

    def test_of_many_fused_images_the_first_are_drawn(self, in_world, tmp_path) -> None:
        ids = [option for _ in range(40) for option in ("--id", 1)]
        outcome = sil("query", *ids, "--fuse", "--top", 1, "--sheet", tmp_path / "s.webp", "--json")
        assert outcome.document["fused"] == 40
        assert "the first 32 of the 40 images" in outcome.error
