"""`sil index-gallery` on sources of every kind, a second time, and on bad ones."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from commands import piped, sil, start_sil
from PIL import Image

from sil_cli.gallery.stores import open_gallery
from sil_cli.models.embedder import load_embedder, save_model


def picture(path: Path, seed: int = 0, **saved) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, size=(48, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **saved)
    return path


@pytest.fixture
def work(world, tmp_path, monkeypatch) -> Path:
    """A folder of six crops of two tracklets; index with `index()`."""
    for number in range(6):
        picture(tmp_path / f"crops/c{number % 2}_20240531T1200{number:02d}_p{number % 3}.png", number)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIL_GALLERY__MODEL", str(world / "runs/001-dbs"))
    return tmp_path


def index(*arguments: object) -> dict:
    outcome = sil("index-gallery", *arguments, "--json")
    assert outcome.code == 0, outcome.err
    return outcome.document


def counts(document: dict) -> tuple[int, ...]:
    return tuple(document[name] for name in ("added", "replaced", "described", "unchanged", "absorbed", "total"))


def entries(folder: Path = Path("gallery")) -> dict[str, object]:
    with open_gallery(folder) as gallery:
        return {entry.path: entry for entry in gallery.entries(range(1000)).values()}


NAMES = r"(?P<camera>c\d)_(?P<time>\d{8}T\d{6})_(?P<identity>p\d)"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EHOSTDOWN, errno.ENOTCONN])
def test_a_folder_that_cannot_be_listed_is_named_and_nothing_below_it_is_removed(work, monkeypatch, number) -> None:
    for folder in ("p0", "p1", "p1/inner"):
        picture(work / f"people/{folder}/a.png", len(folder))
    assert index("people")["added"] == 3
    shutil.rmtree("people/p1/inner")  # which nobody can know
    picture(work / "people/p0/b.png", 7)
    scandir = os.scandir

    def scan(path):
        if str(path).endswith("/p1"):
            raise OSError(number, os.strerror(number), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    document = index("people", "--prune")
    assert counts(document) == (1, 0, 0, 1, 0, 4)
    assert document["failed"] == [{"path": "p1", "reason": f"folder: {os.strerror(number)}"}]
    assert (document["gone"], document["pruned"]) == ([], 0)
    assert set(entries()) == {"p0/a.png", "p0/b.png", "p1/a.png", "p1/inner/a.png"}
    prepared = sil("prepare-data", "folders", "people", "--json").document["datasets"][0]
    assert prepared["splits"]["train"]["images"] == 2
    assert prepared["skipped"] == document["failed"]
    shutil.rmtree("people/p0")
    assert "passed over: p1 (folder: " in sil("index-gallery", "people").error


def test_a_file_that_cannot_be_looked_at_is_not_missing(work, monkeypatch) -> None:
    index("crops")
    gone, locked, *_ = sorted(Path("crops").iterdir())
    gone.unlink()
    (work / "crops.csv").write_text(f"path,camera\n{next(iter(sorted(Path('crops').iterdir())[1:]))},c9\n")
    look = Path.stat

    def stat(path, **options):
        if path.name == locked.name:
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return look(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    assert index("crops.csv", "--prune")["gone"] == [gone.name]
    assert locked.name in entries()


def test_composed_and_decomposed_letters_name_the_same_file_and_person(work) -> None:
    nfc, nfd = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    picture(work / f"people/{nfd}/{nfd}_1.png", 1)
    picture(work / f"people/b/{nfc}_2.png", 2)
    index(f"people/{nfc}", "people/b", "--pattern", rf"(?P<identity>{nfc})_\d", "--tracklets", "folder")
    assert {entry.identity for entry in entries().values()} == {nfc}
    Path("list.txt").write_text(f"people/{nfc}/{nfc}_1.png\n")
    (work / "people/list.csv").write_text(f"path,identity,name\n{nfc}/{nfc}_1.png,{nfd},{nfd}\n")
    for name in ("list.txt", "people/list.csv"):
        document = index(name)
        assert (document["added"], document["failed"]) == (0, [])
    known = entries()
    assert known[f"{nfd}_1.png"].metadata["name"] == nfc
    assert set(known) == {f"{nfd}_1.png", f"{nfc}_2.png"}  # as the disk has them
    for options in (
        ("--identity", nfd),
        ("--identity", nfc),
        ("--where", f"path={nfc}_1.png"),
        ("--where", f"name={nfd}"),
    ):
        assert sil("query", f"people/b/{nfc}_2.png", *options, "--json").document["matches"]
    for path in (f"{nfd}_2.png", f"people/{nfc}/{nfc}_1.png"):
        assert sil("gallery", "remove", "--path", path, "--yes", "--json").document["removed"] == 1


class TestOwnOutputs:
    """The crops' own folder is the working folder: what commands write there is never taken for a crop."""

    @pytest.fixture
    def inside(self, work, monkeypatch) -> Path:
        for number in range(6):
            picture(work / f"people/p{number // 2}/{number}.png", number)
        monkeypatch.chdir(work / "people")
        return work / "people"

    def test_sheets_galleries_runs_and_data_sets_are_known(self, inside, world) -> None:
        people = {f"p{number // 2}/{number}.png" for number in range(6)}
        assert index(".")["added"] == 6
        drawn = ["matches.jpg"]
        for name in ("found.png", "p0/found.webp", "found.jpeg"):
            assert sil("query", "p0/0.png", "--sheet", name).code == 0
            drawn.append(name)
        assert sil("query", "p0/0.png").code == 0
        shutil.copy("matches.jpg", "p1/holiday.jpg")
        assert sil("prepare-data", "folders", ".").code == 0
        assert sil("show", "data/people").code == 0
        shutil.copytree(world / "runs", "runs")
        document = index(".")
        assert (document["added"], document["unchanged"], set(entries())) == (0, 6, people)
        told = {one["path"]: one["reason"] for one in document["failed"]}
        assert told.pop("data/people") == "a prepared data set: name it by itself"
        pictures = {*drawn, "p1/holiday.jpg", "show.jpg", "show-style.png"}
        assert {path for path, reason in told.items() if reason == "drawn by sil, not photographed"} == pictures
        assert set(told) == pictures
        assert sil("query", "p0/0.png").code == 0
        dataset = sil("prepare-data", "folders", ".", "--force", "--json").document["datasets"][0]
        assert dataset["splits"]["train"]["images"] == 6
        assert dataset["splits"]["train"]["identities"] == 3
        skipped = {one["path"]: one["reason"] for one in dataset["skipped"]}
        assert skipped["p1/holiday.jpg"] == skipped["p0/found.webp"] == "drawn by sil, not photographed"

    def test_a_list_and_a_table_that_name_a_sheet(self, inside) -> None:
        index(".")
        assert sil("query", "p0/0.png").code == 0
        for content in ("matches.jpg\np0/0.png\n", "path,identity\nmatches.jpg,p0\np0/0.png,p0\n"):
            name = "list.csv" if "," in content else "list.txt"
            Path(name).write_text(content)
            document = index(name)
            assert [(one["path"], one["reason"]) for one in document["failed"]] == [
                ("matches.jpg", "drawn by sil, not photographed")
            ]
            assert len(entries()) == 6


class TestKnowing:
    def test_camera_time_and_identity_from_names(self, work) -> None:
        assert counts(index("crops", "--pattern", NAMES, "--timezone", "Europe/Berlin")) == (6, 0, 0, 0, 0, 6)
        entry = entries()["c1_20240531T120003_p0.png"]
        assert (entry.camera, entry.identity) == ("c1", "p0")
        assert entry.time.isoformat() == "2024-05-31T10:00:03+00:00"

    def test_a_second_run_describes_anew_without_embedding(self, work) -> None:
        index("crops")
        document = index("crops", "--pattern", NAMES)
        assert (counts(document), document["embedded"]) == ((0, 0, 6, 0, 0, 6), 0)
        assert {entry.camera for entry in entries().values()} == {"c0", "c1"}
        # What nobody says any more stays.
        assert counts(index("crops")) == (0, 0, 0, 6, 0, 6)
        assert {entry.camera for entry in entries().values()} == {"c0", "c1"}

    def test_a_later_run_corrects_an_earlier_one(self, work) -> None:
        for weather in ("rain", "sun"):
            (work / "crops.csv").write_text(f"path,weather\n{next((work / 'crops').iterdir())},{weather}\n")
            index("crops.csv")
        assert [dict(entry.metadata) for entry in entries().values()] == [{"weather": "sun"}]

    def test_a_changed_image_keeps_what_the_run_does_not_say(self, work) -> None:
        names = sorted(str(path) for path in Path("crops").iterdir())[:2]
        lines = "".join(f"{name},p1,c1,2024-05-31T12:00:00Z,rain,hat\n" for name in names)
        (work / "crops.csv").write_text(f"path,identity,camera,time,weather,wears\n{lines}")
        index("crops.csv")
        picture(Path(names[0]), 70)
        (work / "weather.csv").write_text(f"path,weather\n{names[0]},sun\n")
        document = index("crops", "weather.csv")
        assert counts(document) == (4, 1, 0, 1, 0, 6)
        changed, kept = (entries()[name] for name in names)
        assert changed.metadata == {"weather": "sun", "wears": "hat"}
        assert (changed.identity, changed.camera, changed.time) == ("p1", "c1", kept.time)
        assert document["warnings"] == [
            f"1 changed images keep the identity or time that this run doesn't say, such as {names[0]}."
        ]
        picture(Path(names[0]), 71)
        (work / "crops.csv").write_text(f"path,identity,time\n{names[0]},p2,2024-05-31T13:00:00Z\n")
        document = index("crops.csv")
        assert (document["replaced"], document["warnings"]) == (1, [])
        assert entries()[names[0]].identity == "p2"

    @pytest.mark.parametrize(
        ("stamps", "time_format", "expected"),
        [
            (("202405311345", "240531134507"), "auto", ("2024-05-31T13:45:00", "2024-05-31T13:45:07")),
            (("2024053113", "1717163107"), "auto", ("2024-05-31T13:00:00", "2024-05-31T13:45:07")),
            (("2010121011", "1317163107"), "epoch", ("2033-09-12T06:56:51", "2011-09-27T22:38:27")),
            (("31-12-10 11-12", "30-12-10 11-12"), "%d-%m-%y %H-%M", ("2010-12-31T11:12:00", "2010-12-30T11:12:00")),
        ],
    )
    def test_times_of_names_as_cameras_write_them(self, work, stamps, time_format, expected) -> None:
        for number, stamp in enumerate(stamps):
            picture(work / f"shots/cam1 {stamp}.png", number)
        index("shots", "--pattern", r"cam1 (?P<time>.*)\.png", "--time-format", time_format)
        known = entries()
        assert tuple(known[f"cam1 {one}.png"].time.isoformat() for one in stamps) == tuple(
            f"{one}+00:00" for one in expected
        )

    def test_a_time_of_several_readings_asks_for_its_format(self, work) -> None:
        name = next(Path("crops").iterdir()).name
        table = work / "crops" / "list.csv"
        table.write_text(f"path,time\n{name},05/06/2024 08:00\n")
        outcome = sil("index-gallery", table)
        assert outcome.code == 2
        assert f"'05/06/2024 08:00' of {name}, 2024-06-05T08:00:00 or 2024-05-06T08:00:00" in outcome.error
        assert "--time-format" in outcome.error
        assert not Path("gallery").exists()
        index(table, "--time-format", "%d/%m/%Y %H:%M", "--timezone", "Europe/Berlin")
        assert entries()[name].time.isoformat() == "2024-06-05T06:00:00+00:00"
        for after, count in (("20240605_0759", 1), ("05.31.2024 08:00", 1), ("2024-06-05T08:00:01+02:00", 0)):
            options = ("--after", after, "--timezone", "Europe/Berlin", "--json", "--sheet", "s.jpg")
            assert len(sil("query", table.parent / name, *options).document["matches"]) == count
        outcome = sil("query", table.parent / name, "--after", "05/06/2024")
        assert outcome.code == 2
        assert "It may be 2024-06-05T00:00:00 or 2024-05-06T00:00:00" in outcome.error

    def test_times_at_the_ends_of_the_calendar(self, work) -> None:
        name = next(Path("crops").iterdir()).name
        table = work / "crops" / "list.csv"
        table.write_text(f"path,identity,time\n{name},1,0001-01-01T00:00:00+14:00\n")
        assert sil("prepare-data", "csv", table, "--out", "set").code == 0
        assert "0001-01-01T00:00:00+14:00" in index("set")["warnings"][0]
        for option, zone in (("--after=0001-01-01", "Asia/Tokyo"), ("--before=9999-12-31T23:59", "America/New_York")):
            outcome = sil("query", "crops/" + name, option, "--timezone", zone, "--sheet", "s.jpg")
            assert (outcome.code, "outside the years 1 to 9999" in outcome.error) == (2, True)
        for when in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:00:00-05:00"):
            assert sil("query", "crops/" + name, "--after", when, "--sheet", "s.jpg").code == 2

    @pytest.mark.parametrize("piping", [False, True], ids=["list", "stream"])
    @pytest.mark.parametrize(
        "write",
        [
            lambda lines: ("\ufeff" + "\r\n".join(lines)).encode(),
            lambda lines: ("\ufeff" + "\r\n".join(lines) + "\r\n").encode("utf-16-le"),
            lambda lines: ("\ufeff" + "\n".join(lines)).encode("utf-16-be"),
            lambda lines: "\n".join(f'"{line}"' for line in lines).encode(),
            lambda lines: "\r\n".join(f"{line}  " for line in lines).encode(),
            lambda lines: "\n".join(line.replace("/", "\\") for line in lines).encode(),
            lambda lines: "\n".join(f"{Path(line).resolve().as_uri()}" for line in lines).encode(),
            lambda lines: "".join(f"\ufeff{line}\n" for line in lines).encode(),  # lists put together
            lambda lines: "\0".join(lines).encode(),
        ],
        ids=["BOM", "UTF-16", "UTF-16BE", "quotes", "spaces", "backslashes", "file", "BOMs", "zeros"],
    )
    def test_lists_as_other_programs_write_them(self, work, write, piping) -> None:
        picture(work / "crops/Zoë #1 50%.png", 9)
        lines = sorted(str(path) for path in Path("crops").iterdir())
        Path("list.txt").write_bytes(write(lines))
        outcome = piped(Path("list.txt").read_bytes(), "index-gallery", "-" if piping else "list.txt", "--json")
        assert (outcome.document["added"], outcome.document["failed"]) == (7, [])
        assert set(entries()) == set(lines)

    def test_lines_that_name_nothing_are_told_one_by_one(self, work) -> None:
        odd = ["# of today", "crops", "'", "file://elsewhere/a.png", "https://host/a.png", "a.png;b.png", "   "]
        Path("list.txt").write_text("\n\n".join([*odd, str(next(Path("crops").iterdir()))]))
        document = index("list.txt")
        assert [one["path"] for one in document["failed"]] == [one.replace("//", "/") for one in odd]
        assert document["added"] == 1

    def test_time_and_camera_from_exif(self, work) -> None:
        exif = Image.Exif()
        exif[272] = "Model X\0"
        exif[0x8769] = {0x9003: "2024:05:31 12:00:00", 0x9011: "+02:00", 0xA431: "77"}
        picture(work / "shots/a.jpg", exif=exif)
        blank = Image.Exif()
        blank[0x8769] = {0x9003: "    :  :     :  :  "}
        picture(work / "shots/b.jpg", 1, exif=blank)
        index("shots", "--exif", "--time-format", "epoch")  # which is about names and tables
        known = entries()
        assert known["a.jpg"].time.isoformat() == "2024-05-31T10:00:00+00:00"
        assert known["a.jpg"].camera == "Model X 77"
        assert (known["b.jpg"].time, known["b.jpg"].camera) == (None, None)

    def test_a_table_with_boxes_and_columns_of_its_own(self, work) -> None:
        picture(work / "frames/f.png")
        (work / "frames/people.csv").write_text(
            "path;identity;camera;time;box;weather\n"
            "f.png;p1;c1;1717156800;0,0,12,48;rain\n"
            "f.png;p2;c1;1717156801;12 0 12 48;\n"
        )
        assert counts(index("frames/people.csv")) == (2, 0, 0, 0, 0, 2)
        with open_gallery(Path("gallery")) as gallery:
            first, second = gallery.entries([1, 2]).values()
            one, two = gallery.vectors([1, 2])
        assert (first.box, first.identity, first.metadata) == ((0, 0, 12, 48), "p1", {"weather": "rain"})
        assert (second.box, second.metadata) == ((12, 0, 12, 48), {})
        assert first.time.isoformat() == "2024-05-31T12:00:00+00:00"
        assert not np.allclose(one, two)

    def test_a_table_adds_to_what_a_folder_brings(self, work) -> None:
        names = sorted(path.name for path in (work / "crops").iterdir())
        (work / "who.csv").write_text("path,identity\n" + "".join(f"crops/{name},me\n" for name in names[:2]))
        assert counts(index("crops", "who.csv")) == (6, 0, 0, 0, 0, 6)
        assert [entry.identity for _, entry in sorted(entries().items())] == ["me", "me", *[None] * 4]


class TestSources:
    def test_one_image_is_one_entry_however_it_is_named(self, work) -> None:
        assert counts(index("crops")) == (6, 0, 0, 0, 0, 6)
        listed = "\n".join(str(path) for path in sorted((work / "crops").iterdir()))
        outcome = piped(listed.encode(), "index-gallery", "-", "--json")
        assert counts(outcome.document) == (0, 0, 0, 6, 0, 6)
        picture(work / "more/new.png", 50)
        (work / "list.txt").write_text("crops/c0_20240531T120000_p0.png\nmore/new.png\n")
        assert counts(index("list.txt")) == (1, 0, 0, 1, 0, 7)
        assert counts(index(".")) == (0, 0, 0, 7, 0, 7)
        assert counts(index("more/new.png", "crops")) == (0, 0, 0, 7, 0, 7)

    def test_one_image_is_one_entry_by_whatever_link(self, work) -> None:
        Path("link").symlink_to("crops")
        Path("tree/inner").mkdir(parents=True)
        Path("tree/inner/out").symlink_to(work / "crops")
        names = sorted(path.name for path in Path("crops").iterdir())
        assert counts(index("crops")) == (6, 0, 0, 0, 0, 6)
        for folder in ("link", work / "link", "tree/inner/out", "tree/inner/../../link"):
            Path("list.txt").write_text("".join(f"{folder}/{name}\n" for name in names))
            assert counts(index("list.txt")) == (0, 0, 0, 6, 0, 6)
            assert counts(piped(Path("list.txt").read_bytes(), "index-gallery", "-", "--json").document)[3] == 6
        Path("table.csv").write_text("path\n" + "".join(f"link/{name}\n" for name in names))
        assert counts(index("table.csv")) == (0, 0, 0, 6, 0, 6)
        assert counts(index("tree", f"link/{names[0]}")) == (0, 0, 0, 6, 0, 6)
        crop = Path("crops") / names[0]
        crop.unlink()
        assert index("tree")["gone"] == [crop.name]

    def test_links_that_lead_out_are_one_source_and_patterns_read_what_was_written(self, work) -> None:
        picture(work / "disk/monday/a.png", 70)
        picture(work / "disk/tuesday/b.png", 71)
        Path("tree").mkdir()
        Path("tree/c7").symlink_to(work / "disk")
        index("tree", "--pattern", r"^(?P<camera>c\d)/")
        found = entries()
        assert {(entry.source, entry.camera) for entry in found.values()} == {("../disk", "c7")}
        assert sorted(found) == ["monday/a.png", "tuesday/b.png"]
        Path("disk/tuesday/b.png").unlink()
        assert index("tree")["gone"] == ["tuesday/b.png"]

    def test_images_that_moved_behind_a_link_are_where_they_were(self, work) -> None:
        index("crops")
        Path("crops").rename("elsewhere")
        Path("crops").symlink_to("elsewhere")
        assert counts(index("crops")) == (0, 0, 0, 6, 0, 6)

    def test_dots_behind_a_link_lead_where_the_system_goes(self, work) -> None:
        right, wrong = picture(work / "real/sub/0009.png", 80), picture(work / "0009.png", 81)
        Path("real/sub/deep").mkdir()
        Path("lnk").symlink_to("real/sub/deep")
        Path("list.txt").write_text("lnk/../0009.png\n")
        index("list.txt")
        assert list(entries()) == ["real/sub/0009.png"]
        assert piped(b"lnk/../0009.png\n", "index-gallery", "-", "--json").document["unchanged"] == 1
        lines = piped(b"lnk/../0009.png\n", "query", "--batch", "-", "--exclude-self").out
        assert json.loads(lines)["image"] == str(right.relative_to(work))
        assert json.loads(lines)["matches"] == []
        assert right.read_bytes() != wrong.read_bytes()

    def test_a_linked_image_keeps_its_own_name(self, work) -> None:
        Path("list.txt").write_text("best.png\n")
        Path("best.png").symlink_to(next(Path("crops").iterdir()))
        index("best.png")
        assert counts(index("list.txt")) == (0, 0, 0, 1, 0, 1)
        assert list(entries()) == ["best.png"]

    def test_a_name_that_no_gallery_can_hold_is_refused_from_everywhere(self, work) -> None:
        odd = picture(work / "crops" / "e\\back.png", 90)
        Path("list.txt").write_text(f"crops/{odd.name}\ncrops/c0_20240531T120000_p0.png\n")
        reason = "a name that can't be stored: rename it in UTF-8 without backslashes"
        below = [{"path": f"crops/{odd.name}", "reason": reason}]
        alone = [{"path": odd.name, "reason": reason}]
        assert index("crops")["failed"] == alone
        assert index("list.txt")["failed"] == below
        assert piped(Path("list.txt").read_bytes(), "index-gallery", "-", "--json").document["failed"] == below
        assert index(odd, "list.txt")["failed"] == [*alone, *below]

    def test_streams_and_folders_together(self, work) -> None:
        picture(work / "elsewhere/x.png", 60)
        outcome = piped(b"elsewhere/x.png\0missing.png\0", "index-gallery", "crops", "-", "--json")
        assert outcome.code == 0
        assert counts(outcome.document) == (7, 0, 0, 0, 0, 7)
        assert outcome.document["failed"] == [{"path": "missing.png", "reason": "No such file or directory"}]

    def test_a_stream_that_goes_on_is_searchable_meanwhile(self, work) -> None:
        process = start_sil("index-gallery", "-", "--json", cwd=work, stdin=subprocess.PIPE)
        process.stdin.write("crops/c0_20240531T120000_p0.png\n")
        process.stdin.flush()
        deadline = 120
        import time

        while deadline > 0:
            time.sleep(0.1)
            deadline -= 0.1
            assert process.poll() is None
            if (work / "gallery/gallery.sqlite").is_file() and _count(work / "gallery") == 1:
                break
        process.stdin.write("crops/c1_20240531T120001_p1.png\n")
        out, _ = process.communicate(timeout=60)
        assert json.loads(out)["total"] == 2

    def test_a_prepared_data_set_and_what_has_gone(self, world, work) -> None:
        name = next(path.parent.name for path in (world / "data").glob("*/images"))
        shutil.copytree(world / "data" / name, work / "set")
        total = index("set")["total"]
        gone = next((work / "set/images/gallery").glob("*.jpg"))
        gone.unlink()
        document = index("set")
        assert document["gone"] == [f"images/gallery/{gone.name}"]
        assert (document["pruned"], document["total"]) == (0, total)
        document = index("set", "--prune")
        assert (document["pruned"], document["total"]) == (1, total - 1)
        assert index("set")["gone"] == []

    @pytest.mark.parametrize("flags", [(), ("--tracklets", "folder")])
    def test_a_gallery_that_was_moved_says_what_it_holds_twice(self, work, flags) -> None:
        first = index("crops", *flags)
        assert first["warnings"] == []
        (work / "elsewhere").mkdir()
        Path("gallery").rename("elsewhere/gallery")
        where = ("--gallery", "elsewhere/gallery")
        again = index("crops", *where, *flags)
        assert (again["added"], again["total"]) == (first["total"], 2 * first["total"])
        (warning,) = again["warnings"]
        assert warning.startswith(f"{first['total']} images are in the gallery twice now, such as c")
        assert "their old entries are of elsewhere/crops, which is not there" in warning
        assert "`sil gallery remove --where source=../crops --gallery elsewhere/gallery`" in warning
        removed = sil("gallery", "remove", "--where", "source=../crops", *where, "--yes", "--json").document
        assert (removed["removed"], removed["entries"]) == (first["total"], first["total"])
        last = index("crops", *where, *flags)
        assert (last["unchanged"], last["warnings"]) == (first["total"], [])

    def test_pruning_touches_no_other_source(self, work) -> None:
        picture(work / "other/x.png", 60)
        index("crops", "other")
        (work / "other/x.png").unlink()
        assert index("crops", "--prune")["total"] == 7
        shutil.rmtree(work / "other")
        assert index(".", "--prune")["total"] == 6


def _count(folder: Path) -> int:
    from sil_cli.errors import GalleryError

    try:
        with open_gallery(folder) as gallery:
            return len(gallery)
    except GalleryError:
        return 0


@pytest.mark.thorough
class TestTracklets:
    FLAGS = ("--pattern", r"(?P<tracklet>(?P<camera>c\d))_(?P<time>\d{8}T\d{6})", "--tracklets", "named")

    def test_one_entry_for_a_tracklet_with_the_mean_of_its_images(self, work) -> None:
        index("crops", "--gallery", "singles")
        document = index("crops", *self.FLAGS)
        assert (counts(document), document["embedded"]) == ((2, 0, 0, 0, 0, 2), 6)
        with open_gallery(Path("singles")) as gallery:
            vectors = {entry.path: gallery.vectors([one])[0] for one, entry in gallery.entries(range(9)).items()}
        with open_gallery(Path("gallery")) as gallery:
            for one, entry in gallery.entries([1, 2]).items():
                mean = np.mean([row for path, row in vectors.items() if path.startswith(entry.camera)], axis=0)
                np.testing.assert_allclose(gallery.vectors([one])[0], mean / np.linalg.norm(mean), atol=1e-5)
                assert entry.metadata["tracklet_images"] == "3"

    def test_unchanged_grown_shrunk_and_dissolved(self, work) -> None:
        index("crops", *self.FLAGS)
        assert counts(index("crops", *self.FLAGS)) == (0, 0, 0, 2, 0, 2)
        new = picture(work / "crops/c0_20240531T120059_p0.png", 90)
        picture(work / "crops/c0_20240531T120058_p0.png", 91)
        document = index("crops", *self.FLAGS)
        assert document["embedded"] == 5
        assert document["total"] == 2
        new.unlink()
        assert index("crops", *self.FLAGS)["total"] == 2
        assert entries()["c0_20240531T120004_p1.png"].metadata["tracklet_images"] == "4"
        assert index("crops")["total"] == 7
        document = index("crops", *self.FLAGS)
        assert (document["total"], document["absorbed"]) == (2, 5)

    def test_are_checked_rebuilt_and_removed_with_all_their_images(self, work, world) -> None:
        index("crops", *self.FLAGS)
        other = work / "other"
        embedder, _ = load_embedder(world / "runs/001-dbs")
        embedder.neck.weight.data *= 1.5
        embedder.neck.running_mean += 0.1
        save_model(other, embedder)
        index("crops", "--gallery", "expected", "--model", other, *self.FLAGS)
        checks = sil("gallery", "verify", "--json").document["checks"]
        assert checks[-1]["ok"]
        assert checks[-1]["found"].startswith("2 entries, least cosine 1.0")
        before = entries()
        assert sil("gallery", "rebuild", "--model", other, "--json").document["embedded"] == 2
        assert entries() == before
        with open_gallery(Path("gallery")) as rebuilt, open_gallery(Path("expected")) as expected:
            assert rebuilt.members([1, 2]) == expected.members([1, 2])
            assert [len(images) for images in rebuilt.members([1, 2]).values()] == [3, 3]
            np.testing.assert_allclose(rebuilt.vectors([1, 2]), expected.vectors([1, 2]), atol=1e-5)
        assert counts(index("crops", "--model", other, *self.FLAGS)) == (0, 0, 0, 2, 0, 2)

        shown = next(iter(before))
        hidden = next(path.name for path in sorted(Path("crops").glob(f"{shown[:2]}*")) if path.name != shown)
        Path("crops", hidden).rename("away.png")
        refused = sil("gallery", "rebuild")
        assert refused.code == 1
        assert hidden in refused.error
        assert sil("gallery", "remove", "--path", hidden, "--yes", "--json").document["removed"] == 1
        assert shown not in entries()

    def test_by_folder(self, work) -> None:
        for number in range(4):
            picture(work / f"visits/s{number % 2}/{number}.png", number)
        document = index("visits", "--tracklets", "folder")
        assert counts(document) == (2, 0, 0, 0, 0, 2)
        assert sorted(entry.metadata["tracklet"] for entry in entries().values()) == ["s0", "s1"]

    def test_a_bad_image_is_left_out_of_the_mean(self, work) -> None:
        (work / "crops/c0_20240531T120002_p2.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        document = index("crops", *self.FLAGS)
        assert [each["path"] for each in document["failed"]] == ["c0_20240531T120002_p2.png"]
        assert sorted(entry.metadata["tracklet_images"] for entry in entries().values()) == ["2", "3"]
        again = index("crops", *self.FLAGS)
        assert counts(again) == (0, 0, 0, 2, 0, 2)
        assert again["failed"] == document["failed"]
        assert again["embedded"] == 0

    def test_one_that_changes_keeps_what_the_run_does_not_say(self, work) -> None:
        lines = "".join(f"crops/{path.name},one,p1\n" for path in sorted((work / "crops").iterdir()))
        (work / "who.csv").write_text(f"path,tracklet,identity\n{lines}")
        index("crops", "who.csv", "--tracklets", "named")
        (before,) = entries().values()
        picture(work / "crops" / sorted((work / "crops").iterdir())[0].name, 70)
        (work / "crops.csv").write_text("path,tracklet\n" + lines.replace(",p1", ""))
        assert counts(index("crops.csv", "--tracklets", "named")) == (0, 1, 0, 0, 0, 1)
        (after,) = entries().values()
        assert (after.identity, after.metadata) == ("p1", before.metadata)
        assert after.content_hash != before.content_hash
        # Single images are something else than the tracklet by whose middle one it was named.
        index("crops")
        assert all(not entry.metadata for entry in entries().values())

    def test_without_any_name_of_a_tracklet(self, work) -> None:
        outcome = sil("index-gallery", "crops", "--tracklets", "named")
        assert outcome.code == 2
        assert "No image has the name of a tracklet. Give one by a column tracklet" in outcome.error


@pytest.mark.thorough
class TestBadInput:
    def refused(self, code: int, *words: str, arguments: tuple[object, ...] = (), stream: bytes | None = None) -> None:
        outcome = sil("index-gallery", *arguments) if stream is None else piped(stream, "index-gallery", *arguments)
        assert outcome.code == code, outcome.err
        for word in words:
            assert word in outcome.error
        assert "Traceback" not in outcome.err
        assert not Path("gallery").exists()

    def test_one_corrupt_image_among_many_is_named(self, work) -> None:
        (work / "crops/bad.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
        document = index("crops")
        assert document["total"] == 6
        assert [each["path"] for each in document["failed"]] == ["bad.png"]

    def test_what_is_no_file_is_named_and_never_opened(self, work) -> None:
        good = sorted(str(path) for path in Path("crops").iterdir())
        os.mkfifo("crops/pipe.png")
        Path("crops/zero.png").symlink_to("/dev/zero")
        odd = ["crops/pipe.png", "crops/zero.png"]
        failed = [{"path": path, "reason": "not a file"} for path in odd]
        Path("list.txt").write_text("\n".join([*odd, *good]))
        Path("crops.csv").write_text("\n".join(["path", *odd, *good]))
        assert index("list.txt")["failed"] == failed
        assert index("crops.csv", "--exif")["failed"] == failed
        assert piped(Path("list.txt").read_bytes(), "index-gallery", "-", "--json").document["failed"] == failed
        assert [each["path"] for each in index("crops")["failed"]] == ["pipe.png", "zero.png"]
        assert index("crops/pipe.png", "list.txt")["failed"] == [
            {"path": "pipe.png", "reason": "not a file"},
            failed[1],
        ]

    @pytest.mark.parametrize("name", ["pipe.txt", "pipe.csv"])
    def test_a_source_that_is_a_pipe(self, work, name) -> None:
        os.mkfifo(name)
        self.refused(1, name, "not a file", arguments=(name,))

    def test_corrupt_images_in_the_middle_of_many_cost_themselves_alone(self, work) -> None:
        good = sorted((work / "crops").glob("*.*"))[0]
        whole = good.read_bytes()
        crops = work / "many"
        crops.mkdir()
        for number in range(1500):  # more than are committed together
            (crops / f"{number:04d}{good.suffix}").write_bytes(whole)
        broken = {
            "0000": b"",
            "0700": whole[: len(whole) // 3],
            "0701": b"no picture",
            "1024": whole[:3],
            "1499": b"GIF89a",
        }
        for name, content in broken.items():
            (crops / f"{name}{good.suffix}").write_bytes(content)
        document = index("many")
        assert document["added"] == document["total"] == 1495
        assert [each["path"] for each in document["failed"]] == [f"{name}{good.suffix}" for name in broken]
        assert all(each["reason"] for each in document["failed"])
        with open_gallery(Path("gallery")) as gallery:
            held = {entry.path for entry in gallery.entries(gallery.ids().tolist()).values()}
        assert held == {path.name for path in crops.iterdir()} - {f"{name}{good.suffix}" for name in broken}
        again = index("many")
        assert (again["unchanged"], again["added"], len(again["failed"])) == (1495, 0, 5)

    def test_ctrl_c_while_an_index_is_built_says_what_is_kept(self, work, monkeypatch) -> None:
        def interrupted(*_, **__) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("sil_cli.gallery.local.tuning.GalleryIndex.refresh", interrupted)
        outcome = sil("index-gallery", "crops")
        assert outcome.code == 130
        assert "Stopped with 6 images in gallery; all of them are searchable." in outcome.error

    def test_nothing_but_corrupt_images(self, work) -> None:
        (work / "bad").mkdir()
        (work / "bad/a.jpg").write_text("no picture")
        outcome = sil("index-gallery", "bad")
        assert outcome.code == 1
        assert "None of the 1 images can be used; the first is a.jpg (not an image)." in outcome.error

    def test_an_empty_stream(self, work) -> None:
        self.refused(1, "There was no path on stdin", arguments=("-",), stream=b"\n\n")

    def test_a_stream_that_is_no_text(self, work) -> None:
        outcome = piped(b"\xfe\xfe\x01\n" * 3, "index-gallery", "-")
        assert outcome.code == 1
        assert "None of the 3 images can be used; the first is" in outcome.error
        assert "not UTF-8" in outcome.error

    def test_a_stream_named_twice(self, work) -> None:
        self.refused(2, "named twice", arguments=("-", "-"), stream=b"x\n")

    @pytest.mark.parametrize(
        ("table", "words"),
        [
            ("file,camera\na,b\n", ("has no column 'path'", "columns: file, camera")),
            ("paths,camera\na,b\n", ("has no column 'path'", "Rename 'paths' to 'path'")),
            ("path,camra\na,b\n", ("column 'camra'", "Rename it to 'camera'")),
            ("path\n../../etc/x.png\n", ("line 2: ../../etc/x.png lies outside", "--root DIR")),
            ("path\n/etc/x.png\n", ("lies outside",)),
            ("path\n", ("lists no images",)),
            ('path\n"a\n', ("line 2", "quote may have been left open")),
        ],
    )
    def test_tables(self, work, table, words) -> None:
        (work / "t.csv").write_text(table)
        self.refused(1, *words, arguments=("t.csv",))

    def test_lines_of_a_table_that_cannot_be_used_are_named(self, work) -> None:
        good = "crops/c0_20240531T120000_p0.png"
        (work / "t.csv").write_text(
            f'path,time,box\n{good},soon,\n,,\n{good},,1\n{good},,"0,0,9,9",4\nno.png,,\n{good},1717156800,0 0 9 9\n'
        )
        document = index("t.csv")
        assert document["total"] == 2
        assert {each["reason"] for each in document["failed"]} >= {
            "line 4: box '1' is not left,top,width,height in pixels",
            "line 5 has more cells than the header",
            "No such file or directory",
        }
        assert document["warnings"] == [f"1 times can't be read and are left out, such as 'soon' of {good}."]

    def test_lines_of_a_table_that_contradict_each_other_are_told(self, work) -> None:
        one, two = "crops/c0_20240531T120000_p0.png", "crops/c1_20240531T120001_p1.png"
        lines = [
            "path,camera,identity,box,coat",
            f"{one},camA,p1,,",
            f"{one},camB,p2,,",
            f"./{one},camA,p3,,",
            f"{one},camC,p4,0 0 9 9,",
            f"{two},,p1,,",
            f"{two},camA,p1,,red",
        ]
        (work / "t.csv").write_text("\n".join(lines))
        document = index("t.csv")
        assert (document["added"], document["failed"]) == (3, [])
        assert document["warnings"] == [
            f"2 lines contradict an earlier one of the same image, which counts, such as t.csv, line 3: {one} has "
            "identity p2, not p1."
        ]
        found = entries()
        assert (found[two].identity, found[two].camera, found[two].metadata) == ("p1", "camA", {"coat": "red"})
        asked = sil("query", "--batch", "t.csv", "--top", 1)
        assert asked.code == 0
        assert "contradict" not in asked.err
        assert [json.loads(line)["identity"] for line in asked.out.splitlines()] == ["p1", "p2", "p3", "p4", "p1", "p1"]

    def test_a_table_may_read_where_root_says(self, work) -> None:
        (work / "tables").mkdir()
        (work / "tables/t.csv").write_text("path\ncrops/c0_20240531T120000_p0.png\n")
        assert index("tables/t.csv", "--root", ".")["total"] == 1

    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            (("--pattern", "(?P<camera>"), ("is not a regular expression",)),
            (("--pattern", r"c\d"), ("has no named group", "(?P<camera>")),
            (("--pattern", r"(?P<camrea>c\d)"), ("group 'camrea'", "'camera'")),
            (("--pattern", r"(?P<camera>x\d+x)"), ("matches none of 6 names", "c0_20240531T120000_p0.png")),
            (("--pattern", r"(?P<time>p\d)"), ("No time can be read", "--time-format")),
            (("--time-format", "isoo"), ("is not a time format",)),
            (("--timezone", "Mars/Base"), ("is not a time zone", "Europe/Berlin")),
        ],
    )
    def test_options_that_fit_nothing(self, work, flags, words) -> None:
        self.refused(2, *words, arguments=("crops", *flags))

    def test_a_pattern_that_matches_some_says_how_many_it_does_not(self, work) -> None:
        document = index("crops", "--pattern", "(?P<camera>c0)")
        assert document["warnings"][0].startswith("3 images have names that the pattern doesn't match, such as c1_")

    def test_a_calibration_travels_with_the_model(self, world, work) -> None:
        run = work / "run"
        run.mkdir()
        for name in ("model.json", "model.safetensors"):
            os.link(world / "runs/001-dbs" / name, run / name)
        assert index("crops", "--model", run)["calibrated"] is False
        facts = {
            "fingerprint": json.loads((run / "model.json").read_text())["fingerprint"],
            "made_on": "people",
            "same_pairs": 5,
            "different_pairs": 50,
            "thresholds": {"1e-1": 0.4},
            "match": 0.6,
            "possible": 0.4,
        }
        (run / "calibration.json").write_text(json.dumps(facts))
        assert index("crops", "--model", run)["calibrated"] is True
        (run / "calibration.json").write_text(json.dumps(facts | {"fingerprint": "0" * 64}))
        outcome = sil("index-gallery", "crops", "--model", run)
        assert outcome.code == 1
        assert "was measured on model 000000000000, not on this one" in outcome.error
