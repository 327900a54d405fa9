"""`sil gallery` and the filters of `sil query`, from outside."""

from __future__ import annotations

import csv
import errno
import io
import json
import shutil
import sqlite3
import tomllib
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow.parquet
import pytest
from commands import sil

from sil_cli.cli.gallery import remove
from sil_cli.errors import as_cell, visible
from sil_cli.gallery import filters
from sil_cli.gallery.local import vector_files
from sil_cli.gallery.stores import open_gallery
from sil_cli.models.embedder import load_embedder, save_model

COMMANDS = ("info", "verify", "repair", "compact", "remove", "export", "rebuild", "tune")


@pytest.fixture
def gallery(in_world, tmp_path):
    """A copy of the world's gallery, whose images are where they were."""
    folder = tmp_path / "gallery"
    shutil.copytree("gallery", folder)
    connection = sqlite3.connect(folder / "gallery.sqlite")
    connection.execute("UPDATE entries SET source = ?", (str((in_world / "gallery" / _source(connection)).resolve()),))
    connection.commit()
    connection.close()
    return folder


def _source(connection) -> str:
    return connection.execute("SELECT source FROM entries").fetchone()[0]


@pytest.fixture
def other_model(in_world, tmp_path):
    """The world's model, a little changed."""
    folder = tmp_path / "other"
    embedder, _ = load_embedder(in_world / "runs/001-dbs")
    embedder.neck.weight.data *= 1.5
    embedder.neck.running_mean += 0.1
    save_model(folder, embedder)
    return folder


def first_query(world):
    protocol = tomllib.loads((world / "data/protocol.toml").read_text())
    target = protocol.get("target") or protocol["targets"][0]
    return sorted((world / "data" / target / "images/query").glob("*.jpg"))[0]


def told(outcome, code: int, *words: str) -> None:
    assert outcome.code == code, outcome.err
    for word in words:
        assert word in outcome.error


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples_and_the_shared_options(command) -> None:
    outcome = sil("gallery", command, "--help")
    assert outcome.code == 0
    assert f"sil gallery {command}" in outcome.out.split("Examples")[1]
    for option in ("--config", "--set", "--json", "--debug"):
        assert option in outcome.out


@pytest.mark.parametrize("command", [one for one in COMMANDS if one != "rebuild"])
def test_every_command_says_that_there_is_no_gallery(empty, command) -> None:
    more = {"remove": ["--all", "--yes"], "export": ["a.npz"]}.get(command, [])
    told(
        sil("gallery", command, *more),
        1,
        "No gallery was found: gallery/gallery.sqlite doesn't exist",
        "sil index-gallery",
    )


def test_info(gallery) -> None:
    document = sil("gallery", "info", gallery, "--json").document
    assert document["entries"] > 0
    assert document["format"] == 2
    assert document["index"].startswith("exact")
    assert document["wished_index"] == "auto"
    assert document["removals"] == []
    assert f"{document['entries']}" in sil("gallery", "info", gallery).out


def test_verify_embeds_a_sample_again(gallery, other_model) -> None:
    document = sil("gallery", "verify", gallery, "--json").document
    assert document["ok"]
    assert "least cosine" in document["checks"][-1]["found"]
    assert "gone or changed" not in document["checks"][-1]["found"]
    for name in ("model.json", "model.safetensors"):
        shutil.copy(other_model / name, gallery / "model" / name)
    outcome = sil("gallery", "verify", gallery)
    told(outcome, 1, "is damaged", f"put the right files back into {gallery / 'model'}", "sil gallery rebuild")
    assert "sil gallery repair" not in outcome.error
    again = sil("gallery", "verify", gallery, "--json").document
    assert any("its embeddings are of model" in check["found"] for check in again["checks"])


def test_an_edited_fingerprint_is_found(gallery, other_model, in_world) -> None:
    record = json.loads((other_model / "model.json").read_text())
    connection = sqlite3.connect(gallery / "gallery.sqlite")
    model = json.loads(connection.execute("SELECT value FROM meta WHERE key = 'model'").fetchone()[0])
    model["fingerprint"] = record["fingerprint"]
    connection.execute("UPDATE meta SET value = ? WHERE key = 'model'", (json.dumps(model),))
    connection.commit()
    connection.close()
    told(sil("query", first_query(in_world), "--gallery", gallery), 1, "was made by model", "not by")
    for name in ("model.json", "model.safetensors"):  # not even with that model's files beside it
        shutil.copy(other_model / name, gallery / "model" / name)
    document = sil("gallery", "verify", gallery, "--json").document
    assert [check["name"] for check in document["checks"] if not check["ok"]] == ["sample embedded again"]
    assert "has cosine" in document["checks"][-1]["found"]


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_a_fingerprint_that_is_edited_everywhere_is_found(gallery, engine) -> None:
    own = json.loads((gallery / "model" / "model.json").read_text())["fingerprint"]
    for name in ("model.json", "export.json"):
        path = gallery / "model" / name
        path.write_text(path.read_text().replace(own, "f" * 64))
    connection = sqlite3.connect(gallery / "gallery.sqlite")
    connection.execute("UPDATE meta SET value = replace(value, ?, ?) WHERE key = 'model'", (own, "f" * 64))
    connection.commit()
    connection.close()
    outcome = sil("gallery", "verify", gallery, "--engine", engine, "--json")
    told(outcome, 1, "put the right files back", "sil gallery rebuild")
    (check,) = [one for one in outcome.document["checks"] if not one["ok"]]
    assert check["name"] == "model"
    assert "is not the file whose fingerprint model.json names" in check["found"]


def test_a_model_whose_files_are_damaged_or_gone_is_found(gallery) -> None:
    def found():
        checks = sil("gallery", "verify", gallery, "--json").document["checks"]
        return next(one["found"] for one in checks if one["name"] == "model")

    model = gallery / "model"
    assert found() == "its files are those recorded"
    graph = (model / "model.onnx").read_bytes()
    (model / "model.onnx").write_bytes(graph[:-1])
    assert "model.onnx is damaged or was replaced" in found()
    (model / "model.onnx").write_bytes(graph)
    (model / "model.safetensors").unlink()
    assert "model.safetensors is missing" in found()
    shutil.rmtree(model)
    assert "holds neither model.json nor an export" in found()


def test_repair_says_what_is_lost_and_how_to_bring_it_back(gallery) -> None:
    before = sil("gallery", "info", gallery, "--json").document["entries"]
    (segment,) = (gallery / "vectors").iterdir()
    segment.write_bytes(segment.read_bytes()[:-50])
    outcome = sil("gallery", "verify", gallery)
    told(outcome, 1, "is damaged", "sil gallery repair")
    assert "✓ │ entries" not in outcome.out
    assert "sample embedded again  – not done: the store is not right" in outcome.out
    document = sil("gallery", "repair", gallery, "--json").document
    assert len(document["lost"]) == before
    assert document["entries"] == 0
    assert segment.name in document["files"]
    (again,) = document["again"]
    assert again.startswith("sil index-gallery /")
    assert again.endswith(f"--gallery {gallery}")
    assert sil(*again.split()[1:], "--model", "runs/001-dbs").code == 0
    assert sil("gallery", "info", gallery, "--json").document["entries"] == before
    assert "Nothing was broken" in " ".join(sil("gallery", "repair", gallery).out.split())


def test_repair_sets_aside_and_compact_deletes_it(gallery) -> None:
    (segment,) = (gallery / "vectors").iterdir()
    shutil.copy(segment, gallery / "vectors" / "segment-000077.faiss")
    outcome = sil("gallery", "repair", gallery)
    assert f"Set aside: {gallery / 'set-aside' / 'segment-000077.faiss'}" in outcome.out
    assert "sil gallery compact" in outcome.error
    assert "Deleted what had been set aside: 1 file." in " ".join(sil("gallery", "compact", gallery).out.split())
    assert not (gallery / "set-aside").exists()
    assert sil("gallery", "compact", gallery, "--json").document["set_aside_deleted"] == 0


@pytest.mark.parametrize(
    "command",
    [("index-gallery", "--model", "runs/001-dbs", "--gallery"), ("gallery", "remove", "--id", 1, "--yes", "--gallery")],
)
def test_whoever_writes_says_what_it_sets_aside(command, gallery) -> None:
    (segment,) = (gallery / "vectors").iterdir()
    for number in (77, 78):
        shutil.copy(segment, gallery / "vectors" / f"segment-{number:06d}.faiss")
    outcome = sil(*command, gallery)
    assert outcome.code == 0
    aside = gallery / "set-aside"
    assert f"set aside: {aside / 'segment-000077.faiss'} and 1 more" in " ".join(outcome.error.split())
    assert len(list(aside.iterdir())) == 2


def test_repair_refuses_another_gallerys_database(gallery, in_world, tmp_path) -> None:
    other = tmp_path / "other"
    crops = sorted((in_world / first_query(in_world)).parent.glob("*.jpg"))[:2]
    assert sil("index-gallery", *crops, "--gallery", other, "--model", "runs/001-dbs").code == 0
    before = {path.name: path.read_bytes() for path in (gallery / "vectors").iterdir()}
    right = (gallery / "gallery.sqlite").read_bytes()
    shutil.copy(other / "gallery.sqlite", gallery / "gallery.sqlite")
    told(sil("gallery", "repair", gallery), 1, "most likely belongs to another gallery", "Nothing was changed")
    assert {path.name: path.read_bytes() for path in (gallery / "vectors").iterdir()} == before
    (gallery / "gallery.sqlite").write_bytes(right)
    assert sil("gallery", "verify", gallery).code == 0


def test_remove_asks_and_compact_follows(gallery) -> None:
    camera = "c1"
    before = sil("gallery", "info", gallery, "--json").document["entries"]
    told(sil("gallery", "remove", "--gallery", gallery), 2, "Nothing was named to remove", "--identity")
    told(sil("gallery", "remove", "--all", "--camera", camera, "--gallery", gallery), 2, "together with a filter")
    told(sil("gallery", "remove", "--camera", camera, "--gallery", gallery), 2, "there is nobody to ask", "--yes")
    document = sil("gallery", "remove", "--camera", camera, "--yes", "--gallery", gallery, "--json").document
    assert 0 < document["removed"] < before
    assert document["entries"] == before - document["removed"]
    again = sil("gallery", "remove", "--camera", camera, "--yes", "--gallery", gallery)
    told(again, 1, "Nothing was removed: no entry has camera c1; there are: c2", "sil gallery export list.csv")
    assert "✓" not in again.out
    assert sil("gallery", "compact", gallery, "--json").document["complete"]
    info = sil("gallery", "info", gallery, "--json").document
    assert [(one["count"], one["criterion"]) for one in info["removals"]] == [(document["removed"], "camera")]
    assert sil("gallery", "verify", gallery, "--json").document["ok"]
    everything = sil("gallery", "remove", "--all", "--yes", "--gallery", gallery)
    assert "sil gallery compact" in everything.out
    assert sil("gallery", "compact", gallery, "--json").document["entries"] == 0
    checks = sil("gallery", "verify", gallery, "--json").document["checks"]
    assert [(one["found"], one["done"]) for one in checks][-1] == ("not done: the gallery is empty", False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--identity", "nobody"), "no entry has identity nobody; there are: "),
        (("--camera", "c77"), "no entry has camera c77; there are: c1, c2"),
        (("--path", "nothing/*", "--glob"), "no entry has path nothing/*; "),
        (("--id", 9999), "no entry has id 9999"),
        (("--id", 10**23), f"no entry has id {10**23}"),
        (("--where", "path=x"), "no entry has path x; "),
        (("--after", "2990-01-01"), "no entry of the gallery passes the filter (after 2990-01-01"),
        (("--camera", "c1", "--id", 9999), "no entry has id 9999"),
    ],
)
def test_removing_what_is_not_there_is_no_success(gallery, options, words) -> None:
    before = sil("gallery", "info", gallery, "--json").document
    outcome = sil("gallery", "remove", *options, "--yes", "--gallery", gallery)
    told(outcome, 1, f"Nothing was removed: {words}", "Check the spelling")
    assert "✓" not in outcome.out
    assert sil("gallery", "info", gallery, "--json").document == before


def test_a_long_list_of_people_is_told_by_the_nearest(gallery, monkeypatch) -> None:
    monkeypatch.setattr(filters, "_NAMED", 3)
    with sqlite3.connect(gallery / "gallery.sqlite") as connection:
        connection.execute("UPDATE entries SET identity = 'person-' || (1000 + id)")
    outcome = sil("gallery", "remove", "--identity", "persn-1004", "--yes", "--gallery", gallery)
    told(outcome, 1, "no entry has identity persn-1004; the nearest is person-1004; there are: person-1001, ", ", …")


def test_removing_some_of_what_was_named_says_what_is_missing(gallery) -> None:
    options = ("--id", 3, "--id", 9999, "--yes", "--gallery", gallery, "--json")
    outcome = sil("gallery", "remove", *options)
    told(outcome, 0, "Not found in the gallery: id 9999.")
    assert (outcome.document["removed"], outcome.document["not_found"]) == (1, ["id 9999"])


def test_an_answer_of_no_removes_nothing_and_is_no_success(gallery, monkeypatch) -> None:
    before = sil("gallery", "info", gallery, "--json").document
    monkeypatch.setattr(remove, "sys", SimpleNamespace(stdin=_Terminal("n\n")))
    outcome = sil("gallery", "remove", "--camera", "c1", "--gallery", gallery)
    told(outcome, 1, "Continue? [y/N]", "Nothing was removed")
    assert "✓" not in outcome.out
    assert sil("gallery", "info", gallery, "--json").document == before
    monkeypatch.setattr(remove, "sys", SimpleNamespace(stdin=_Terminal("y\n")))
    assert sil("gallery", "remove", "--camera", "c1", "--gallery", gallery).code == 0


class _Terminal(io.StringIO):
    """Somebody who can be asked."""

    def isatty(self) -> bool:
        return True


def test_remove_by_id_path_and_time(gallery) -> None:
    def removed(*options):
        return sil("gallery", "remove", *options, "--yes", "--gallery", gallery, "--json").document["removed"]

    assert removed("--id", 1, "--id", 2) == 2
    assert removed("--path", "images/gallery/*_c2_*", "--glob") > 0
    assert removed("--before", "2990-01-01") > 0


def test_a_path_to_remove_may_be_that_of_the_file(in_world, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SIL_GALLERY__MODEL", str(in_world / "runs/001-dbs"))
    picture = first_query(in_world)
    names = ("a/one.jpg", "a/two.jpg", "a/[3].jpg", "a/3.jpg", "b/one.jpg", "b/gone.jpg", "c/one.jpg")
    for number, name in enumerate(names):
        (tmp_path / "crops" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "crops" / name).write_bytes(picture.read_bytes() + bytes([number]))
    (tmp_path / "link").symlink_to(tmp_path / "crops")
    monkeypatch.chdir(tmp_path)
    assert sil("index-gallery", "crops/a", "crops/b", "crops/c").code == 0
    (tmp_path / "crops/b/gone.jpg").unlink()

    def left() -> list[str]:
        assert sil("gallery", "export", "list.csv").code == 0
        with (tmp_path / "list.csv").open(encoding="utf-8") as stream:
            return sorted(
                Path(tmp_path / "gallery", row["source"], row["path"]).resolve().as_posix()
                for row in csv.DictReader(stream)
            )

    def whole(*expected: str) -> list[str]:
        return sorted(str((tmp_path / "crops").resolve() / name) for name in expected)

    def remove_path(*options: object) -> None:
        outcome = sil("gallery", "remove", *options, "--yes")
        assert outcome.code == 0, outcome.err

    told(sil("gallery", "remove", "--path", "crops/d/one.jpg", "--yes"), 1, "no entry has path crops/d/one.jpg")
    remove_path("--path", "crops/a/one.jpg")
    assert left() == whole(*names[1:])
    remove_path("--path", "crops/a/[3].jpg", "--path", tmp_path / "crops/b/gone.jpg")
    assert left() == whole("a/two.jpg", "a/3.jpg", "b/one.jpg", "c/one.jpg")
    told(sil("gallery", "remove", "--path", "link/a/t*.jpg", "--yes"), 1, "Add --glob if it is a pattern")
    told(sil("gallery", "remove", "--identity", "x", "--glob", "--yes"), 2, "only works with --path")
    remove_path("--path", "link/a/t*.jpg", "--glob")
    assert left() == whole("a/3.jpg", "b/one.jpg", "c/one.jpg")
    monkeypatch.chdir(tmp_path / "crops")
    remove_path("--path", "[bd]/*", "--glob", "--gallery", "../gallery")
    monkeypatch.chdir(tmp_path)
    assert left() == whole("a/3.jpg", "c/one.jpg")
    remove_path("--path", "cro*", "--glob")
    outcome = sil("gallery", "info", "--json")
    assert outcome.document["entries"] == 0, outcome.err


ODD_NAMES = (
    "[1].png",
    "1.png",
    "im[0].png",
    "im0.png",
    "a*b?.png",
    "axbx.png",
    "\x1b[31mred.png",
    "two\nlines.png",
    "\u202egnp.exe.png",
    "back\x85.png",
    " lead.png",
    "it's $HOME.png",
    "--yes.png",
    f"{'long' * 60}.png",
)


def test_whatever_a_query_shows_can_be_handed_back_to_remove(in_world, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SIL_GALLERY__MODEL", str(in_world / "runs/001-dbs"))
    picture = first_query(in_world)
    (tmp_path / "crops").mkdir()
    for number, name in enumerate(ODD_NAMES):
        (tmp_path / "crops" / name).write_bytes(picture.read_bytes() + bytes([number]))
    monkeypatch.chdir(tmp_path)
    assert sil("index-gallery", "crops").code == 0
    left = set(ODD_NAMES)
    for name in ODD_NAMES:
        found = sil("query", picture, "--top", 50, "--where", f"path={visible(name)}", "--json").document["matches"]
        assert [match["path"] for match in found] == [name]
        assert visible(name) in sil("query", picture, "--top", 50).out
        outcome = sil("gallery", "remove", f"--path={visible(name)}", "--yes", "--json")
        assert outcome.code == 0, outcome.err
        left.remove(name)
        with open_gallery(Path("gallery")) as gallery:
            assert {one.path for one in gallery.entries(gallery.ids().tolist()).values()} == left


def test_an_escape_stands_for_its_character_only_where_nobody_is_called_so(gallery) -> None:
    with sqlite3.connect(gallery / "gallery.sqlite") as connection:
        connection.execute("UPDATE entries SET identity = 'a' || char(27) WHERE id = 1")
        connection.execute("UPDATE entries SET identity = 'a\\x1b' WHERE id = 2")
    options = ("--identity", "a\\x1b", "--yes", "--gallery", gallery, "--json")
    for gone in (2, 1):
        assert sil("gallery", "remove", *options).document["removed"] == 1
        with open_gallery(gallery) as opened:
            assert gone not in opened.ids()


ODD_LABELS = (
    '=HYPERLINK("http://x","y")',
    "+1",
    "-1",
    "@SUM(A1)",
    "red\x1b[31m",
    "\x9b31m",
    "\u202egnp",
    "two\nlines\ttab\r",
    "'=x",
    "'\\x1b",
    'O\'Neil, "Bob"; x',
    "＝1",
    " spaces ",
    "back\\slash",
    "Zoë",
)


def test_an_exported_table_runs_nothing_and_is_indexed_as_it_was(in_world, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SIL_GALLERY__MODEL", str(in_world / "runs/001-dbs"))
    picture = first_query(in_world)
    crops = tmp_path / "crops"
    crops.mkdir()
    with (crops / "all.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["path", "identity", "camera", "time", "box", "note"])
        for number, label in enumerate(ODD_LABELS):
            name = f"={number}.jpg" if number % 2 else f"a\x1b{number}.jpg"
            (crops / name).write_bytes(picture.read_bytes() + bytes([number]))
            box = "0,0,16,24" if number % 3 else ""
            table.writerow(map(as_cell, [name, label, label, "2024-05-31T12:00:00.5+02:00", box, label]))
    monkeypatch.chdir(tmp_path)
    assert sil("index-gallery", "crops/all.csv").code == 0

    def content(folder: str) -> dict:
        with open_gallery(Path(folder)) as opened:
            found = opened.entries(opened.ids().tolist()).values()
            return {one.path: (one.identity, one.camera, one.time, one.box, dict(one.metadata)) for one in found}

    before = content("gallery")
    assert sorted(one[0] for one in before.values()) == sorted(ODD_LABELS)
    assert all(one[4] == {"note": one[0]} for one in before.values())
    assert sil("gallery", "export", "table.csv").code == 0
    text = Path("table.csv").read_bytes().decode().replace("\r\n", "\n")
    assert visible(text, lines=True) == text
    with Path("table.csv").open(newline="", encoding="utf-8") as stream:
        cells = [cell for row in csv.reader(stream) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r", "＝"))]
    assert sil("index-gallery", "table.csv", "--root", "crops", "--gallery", "again").code == 0
    assert content("again") == before
    prepared = sil("prepare-data", "csv", "crops/all.csv", "--json").document["datasets"][0]
    assert sum(one["identities"] for one in prepared["splits"].values()) == len(ODD_LABELS)
    printed = sil("query", picture, "--top", 50, "--json").out
    assert visible(printed, lines=True) == printed
    assert {match["identity"] for match in json.loads(printed)["matches"]} == set(ODD_LABELS)
    lines = sil("query", "--batch", "crops", "--top", 50).out
    assert visible(lines, lines=True) == lines


def test_exports_agree(gallery, tmp_path) -> None:
    for name in ("a.npz", "a.csv", "a.parquet"):
        document = sil("gallery", "export", tmp_path / name, "--gallery", gallery, "--json").document
        assert document["files"][0] == str(tmp_path / name)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        embeddings = archive["gallery_embeddings"]
        identities, cameras, ids = (archive[f"gallery_{one}"].tolist() for one in ("identities", "cameras", "ids"))
        assert {"gallery_boxes", "gallery_content_hashes", "gallery_metadata"} < set(archive.files)
    with (tmp_path / "a.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [row["identity"] for row in table] == identities
    assert [row["camera"] for row in table] == cameras
    assert [int(row["id"]) for row in table] == ids
    assert np.array_equal(np.load(tmp_path / "a.npy"), embeddings)
    parquet = pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pydict()
    assert parquet["id"] == ids
    assert np.array_equal(np.array(parquet["embedding"], dtype=np.float32), embeddings)
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(1.0, abs=1e-5)
    some = sil("gallery", "export", tmp_path / "b.npz", "--camera", "c1", "--gallery", gallery, "--json").document
    assert some["entries"] == cameras.count("c1")
    told(sil("gallery", "export", tmp_path / "a.xlsx", "--gallery", gallery), 2, ".npz, .csv or .parquet")


def test_rebuild_by_another_model(gallery, other_model, in_world, tmp_path) -> None:
    before = sil("gallery", "info", gallery, "--json").document
    sheet = ["--sheet", tmp_path / "s.jpg"]
    document = sil("gallery", "rebuild", gallery, "--model", other_model, "--json").document
    assert document["old_model"] == before["model"] != document["model"]
    assert document["embedded"] == document["entries"] == before["entries"]
    assert sil("query", first_query(in_world), "--gallery", gallery, *sheet).code == 0
    told(sil("query", first_query(in_world), "--gallery", gallery, "--model", "runs/001-dbs"), 1, "was made by model")
    assert sil("gallery", "verify", gallery, "--json").document["ok"]
    again = sil("gallery", "rebuild", gallery, "--model", other_model, "--json").document
    assert again["entries"] == before["entries"]


def test_rebuild_names_images_that_have_gone(gallery, other_model, tmp_path) -> None:
    connection = sqlite3.connect(gallery / "gallery.sqlite")
    source = _source(connection)
    crops = tmp_path / "crops"
    shutil.copytree(source, crops)
    connection.execute("UPDATE entries SET source = ?", (str(crops),))
    connection.commit()
    names = [row[0] for row in connection.execute("SELECT path FROM entries ORDER BY id LIMIT 2")]
    connection.close()
    (crops / names[0]).unlink()
    (crops / names[1]).write_bytes(b"no image")
    before = sil("gallery", "info", gallery, "--json").document
    outcome = sil("gallery", "rebuild", gallery, "--model", other_model)
    told(outcome, 1, "2 images of", names[0], "--drop-missing")
    assert sil("gallery", "info", gallery, "--json").document["model"] == before["model"]
    document = sil("gallery", "rebuild", gallery, "--model", other_model, "--drop-missing", "--json").document
    assert sorted(one["path"] for one in document["dropped"]) == sorted(names)
    assert document["embedded"] == 0  # all others had been embedded by the first attempt
    assert document["entries"] == before["entries"] - 2
    assert "sample embedded again" in [
        one["name"] for one in sil("gallery", "verify", gallery, "--json").document["checks"]
    ]


def test_tune_and_index(gallery) -> None:
    document = sil("gallery", "tune", gallery, "--index", "IVF2,SQ8", "--json").document
    assert [one["index"] for one in document["measured"]] == ["exact", "IVF2,SQ8"]
    assert document["chosen"] in document["measured"]
    told(sil("gallery", "tune", gallery, "--index", "Nonsense"), 1, "can't make an index 'Nonsense'", "IVF1024,SQ8")
    told(sil("gallery", "tune", gallery, "--recall", 2), 2)
    indexed = ["index-gallery", "--gallery", gallery, "--model", "runs/001-dbs"]
    assert sil(*indexed, "--index", "IVF2,SQ8", "--json").document["index"].startswith("IVF2,SQ8 over")
    assert sil(*indexed, "--json").document["index"].startswith("IVF2,SQ8 over")  # remembered
    told(sil(*indexed, "--index", "IVF99999,SQ8"), 1, "needs at least 99,999 vectors")
    assert sil(*indexed, "--index", "exact", "--json").document["index"].startswith("exact")


def test_query_filters(in_world, tmp_path) -> None:
    image = first_query(in_world)

    def found(*options):
        outcome = sil("query", image, "--top", 500, "--sheet", tmp_path / "s.jpg", "--json", *options)
        assert outcome.code == 0, outcome.err
        return outcome.document["matches"]

    everything = found()
    cameras = {match["camera"] for match in everything}
    assert len(cameras) > 1
    camera = everything[0]["camera"]
    ids = lambda matches: [match["id"] for match in matches]  # noqa: E731
    assert ids(found("--camera", camera)) == [match["id"] for match in everything if match["camera"] == camera]
    assert ids(found("--exclude-camera", camera)) == [one["id"] for one in everything if one["camera"] != camera]
    identity = everything[-1]["identity"]
    assert {match["identity"] for match in found("--identity", identity)} == {identity}
    assert found("--where", f"camera={camera}", "--exclude-camera", camera) == []
    times = sorted(match["time"] for match in everything if match["time"])
    middle = times[len(times) // 2]
    before, after = found("--before", middle), found("--after", middle)
    assert sorted(ids(before) + ids(after)) == sorted(one["id"] for one in everything if one["time"])
    assert found("--set", f'query.filter.camera=["{camera}"]') == found("--camera", camera)


def test_filters_hold_under_re_ranking_and_in_batches(in_world, tmp_path) -> None:
    image = first_query(in_world)
    asked = ["query", image, "--sheet", tmp_path / "s.jpg", "--json", "--camera", "c2", "--engine", "onnxruntime"]
    plain = sil(*asked, "--top", 500).document["matches"]
    assert {match["camera"] for match in plain} == {"c2"}
    reranked = sil(*asked, "--top", 500, "--rerank").document["matches"]
    assert sorted(match["id"] for match in reranked) == sorted(match["id"] for match in plain)
    people = sil(*asked, "--group", "identity").document["matches"]
    assert {match["camera"] for match in people} == {"c2"}
    (tmp_path / "names.txt").write_text(f"{image}\n")
    lines = sil("query", "--batch", tmp_path / "names.txt", "--camera", "c2", "--engine", "onnxruntime", "--top", 500)
    assert [one["id"] for one in json.loads(lines.out)["matches"]] == [match["id"] for match in plain]


def test_times_of_filters_are_of_the_zone_that_is_named(in_world, tmp_path) -> None:
    asked = ["query", first_query(in_world), "--sheet", tmp_path / "s.jpg", "--json", "--top", 500]
    times = sorted({datetime.fromisoformat(one["time"]) for one in sil(*asked).document["matches"] if one["time"]})
    middle = times[len(times) // 2]
    clock = middle.astimezone(ZoneInfo("Asia/Tokyo")).replace(tzinfo=None).isoformat()
    found = sil(*asked, "--after", clock, "--timezone", "Asia/Tokyo").document["matches"]
    assert min(datetime.fromisoformat(one["time"]) for one in found) == middle


def test_filters_that_make_no_sense(in_world, tmp_path) -> None:
    image = first_query(in_world)
    options = [image, "--sheet", tmp_path / "s.jpg"]
    nothing = sil("query", *options, "--camera", "c77", "--json")
    told(nothing, 0, "No entry has camera c77; there are: c1, c2")
    assert nothing.document["matches"] == []
    told(sil("query", *options, "--where", "camera"), 2, "not KEY=VALUE", "--where weather=rain")
    told(sil("query", *options, "--where", "wether=x"), 1, "No entry of the gallery has metadata 'wether'", "camera")
    for wrong in ("yesterday", "2024-13", "01.05.2024", "24"):
        refused = sil("query", *options, "--after", wrong)
        told(refused, 2, f"query.filter.after = '{wrong}' is not valid", "rite a time as 2024, 2024-05, 2024-05-01")
    told(sil("query", *options, "--after", "2024-05-02", "--before", "2024-05-01"), 2, "Swap --after and --before")
    told(sil("query", *options, "--after", "2024-05-02", "--before", "2024-05-02"), 2, "give the next as --before")


def test_a_full_disk_while_compacting_or_removing(gallery, monkeypatch) -> None:
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sil("gallery", "info", gallery, "--json").document["entries"]
    removed = sil("gallery", "remove", "--camera", "c1", "--yes", "--gallery", gallery, "--json").document["removed"]
    monkeypatch.setattr(vector_files, "write_segment", full)
    told(sil("gallery", "compact", gallery), 1, "No space left")
    monkeypatch.undo()
    monkeypatch.chdir(gallery.parent)
    assert sil("gallery", "info", gallery, "--json").document["entries"] == before - removed
    assert sil("gallery", "compact", gallery, "--json").document["complete"]
