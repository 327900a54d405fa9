"""Bad input: one clear line, what to do, the right exit code, nothing lost."""

import errno
import json
import os
import re
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from commands import TINY_TRAIN_FLAGS, Outcome, sil
from PIL import Image
from pins.making import copy_of_fixtures

from sil_cli.evaluation.calibration import Calibration, write_calibration

SUPERVISED = ["--set", "train.method=supervised"]


QUERY = "data/orchard/images/query/0005_c1_01.jpg"
OF_RUN = ("--model", "runs/finished", "--target", "data/orchard")
EVALUATED = "runs/finished/evaluation/orchard"


def assert_told(outcome: Outcome, code: int, *words: str) -> None:
    """Two lines on stderr, no traceback, nothing on stdout."""
    assert outcome.code == code, outcome.err
    assert "Traceback" not in outcome.err
    assert "Error:" in outcome.err
    for word in words:
        assert word in outcome.error
    assert outcome.out == ""


def huge_png(path: Path) -> None:
    """A few bytes that claim to be 30,000 × 30,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    path.write_bytes(content)


def crop(path: Path, seed: int = 0, size: tuple[int, int] = (24, 48)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, size=(size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def people(folder: Path, counts: dict[str, int]) -> Path:
    """A folder per identity with so many images each."""
    for number, (identity, count) in enumerate(counts.items()):
        for image in range(count):
            crop(folder / identity / f"{image}.png", seed=100 * number + image)
    return folder


READERS = {
    "gallery": [
        ("gallery", "info", "X"),
        ("gallery", "verify", "X"),
        ("gallery", "compact", "X"),
        ("gallery", "repair", "X"),
        ("gallery", "tune", "X"),
        ("gallery", "export", "o.csv", "--gallery", "X"),
        ("gallery", "remove", "--all", "--yes", "--gallery", "X"),
        ("query", "--id", "1", "--gallery", "X"),
        ("index-gallery", "{data}", "--model", "{run}", "--gallery", "X"),
    ],
    "run": [
        ("evaluate", "--model", "X", "--target", "{data}"),
        ("report", "X"),
        ("compare", "X", "{run}"),
        ("export", "--model", "X"),
        ("calibrate", "--model", "X", "--on", "{data}"),
        ("train", "--resume", "--run", "X"),
        ("index-gallery", "{data}", "--model", "X"),
    ],
    "data set": [
        ("train", "--source", "X"),
        ("show", "X"),
        ("evaluate", "--model", "{run}", "--target", "X"),
        ("index-gallery", "X", "--model", "{run}"),
        ("query", "--batch", "X"),
        ("prepare-data", "folders", "X"),
    ],
}


@pytest.mark.parametrize("command", [one for some in READERS.values() for one in some], ids=" ".join)
def test_what_cannot_be_looked_at_is_not_said_to_be_missing(world, tmp_path, monkeypatch, command) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("x")
    Path("broken").symlink_to("nowhere")
    Path("loop").symlink_to("loop")
    Path("locked").mkdir()
    look = Path.stat

    def stat(path, **options):
        if "locked" in path.parts[:-1]:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return look(path, **options)

    monkeypatch.setattr(Path, "stat", stat)  # tests may run as root, who enters everywhere
    data = min(world.glob("data/*/dataset.json")).parent
    known = {"data": data, "run": world / "runs/001-dbs"}
    for name, words in {
        "file/x": "file is a file, not a folder.",
        "broken": "broken is a link to nowhere, which doesn't exist.",
        "loop": "back to itself",
        "locked/x": "Permission denied",
    }.items():
        outcome = sil(*(name if word == "X" else word.format(**known) for word in command))
        assert (outcome.code, words in outcome.error) == (1, True), (name, outcome.err)
        assert not any(lie in outcome.error for lie in ("No gallery", "Unexpected", "There is no"))


class TestNothingThereYet:
    def test_train(self, empty) -> None:
        assert_told(sil("train"), 2, "nothing to learn from", "sil prepare-data")

    def test_evaluate(self, empty) -> None:
        assert_told(sil("evaluate"), 1, "no trained model", "sil train")

    def test_index_gallery(self, empty) -> None:
        assert_told(sil("index-gallery"), 2, "There are no images to index", "sil prepare-data")

    def test_query(self, empty) -> None:
        crop(empty / "a.png")
        assert_told(
            sil("query", "a.png"), 1, "No gallery was found: gallery/gallery.sqlite doesn't exist", "sil index-gallery"
        )

    def test_resume(self, empty) -> None:
        assert_told(sil("train", "--resume"), 2, "no unfinished numbered run", "--run")


class TestSettings:
    def test_an_unknown_key_in_sil_toml(self, empty) -> None:
        (empty / "sil.toml").write_text("[train]\nepoks = 3\n")
        assert_told(sil("train"), 2, "'train.epoks' is not a setting (in sil.toml).", "Did you mean 'train.epochs'?")

    def test_a_wrong_value(self, empty) -> None:
        assert_told(sil("train", "--style", "usb"), 2, "style.name = 'usb'", "Did you mean 'ubs'?", "mixstyle")

    def test_an_unknown_recipe(self, in_world) -> None:
        assert_told(sil("train", "--recipe", "papr"), 2, "no recipe 'papr'", "Did you mean 'paper'?")

    def test_a_device_that_is_not_here(self, in_world) -> None:
        assert_told(sil("evaluate", "--device", "mps"), 2, "no mps device here", "--device cpu")

    def test_json_errors_are_one_document(self, empty) -> None:
        outcome = sil("train", "--json")
        assert outcome.code == 2
        assert outcome.document["error"]["exit_code"] == 2
        assert "nothing to learn from" in outcome.document["error"]["what"]


class TestPrepareData:
    def test_an_empty_folder(self, empty) -> None:
        (empty / "raw").mkdir()
        assert_told(sil("prepare-data", "folders", "raw"), 1, "no images in raw")

    def test_a_folder_whose_table_is_a_pipe(self, empty) -> None:
        (empty / "raw").mkdir()
        os.mkfifo(empty / "raw/a.csv")
        assert_told(sil("prepare-data", "csv", "raw"), 1, "a.csv can't be read: not a file")
        assert_told(sil("prepare-data", "auto", "raw"), 1, "raw")

    def test_an_unknown_reader(self, empty) -> None:
        assert_told(sil("prepare-data", "market", "raw"), 2, "no reader 'market'", "market1501")

    def test_a_reader_without_its_root(self, empty) -> None:
        assert_told(sil("prepare-data", "folders"), 2, "needs the folder", "ROOT")

    def test_a_missing_pattern_and_one_too_many(self, empty) -> None:
        people(empty / "raw", {"a": 1})
        assert_told(sil("prepare-data", "regex", "raw"), 2, "needs --pattern", "(?P<identity>")
        assert_told(sil("prepare-data", "folders", "raw", "--pattern", "x"), 2, "takes no --pattern")

    @pytest.mark.parametrize(
        "option",
        [
            ("--pattern", "((("),
            ("--labelled",),
            ("--partition", 3),
            ("--strict",),
            ("--split", "half"),
            ("--name", "x"),
        ],
        ids=lambda option: option[0],
    )
    @pytest.mark.parametrize("generated", [("synthetic",), ("--protocol", "generated")], ids=["reader", "protocol"])
    def test_options_of_readers_with_generated_data(self, empty, generated, option) -> None:
        assert_told(sil("prepare-data", *generated, *option), 2, f"takes no {option[0]}.")
        assert list(empty.iterdir()) == []

    def test_every_bad_file_is_named_and_the_good_ones_are_kept(self, empty) -> None:
        raw = people(empty / "raw", {"a": 3, "b": 1})
        (raw / "a/text.jpg").write_text("hello")
        huge_png(raw / "a/huge.png")
        crop(raw / "a/dot.png", size=(1, 1))
        crop(raw / "b/whole.jpg")
        whole = (raw / "b/whole.jpg").read_bytes()
        (raw / "b/cut.jpg").write_bytes(whole[: len(whole) // 2])
        Image.new("CMYK", (24, 48)).save(raw / "a/cmyk.jpg")
        Image.new("P", (24, 48)).save(raw / "a/palette.png")
        Image.fromarray(np.full((48, 24), 40_000, dtype=np.uint16)).save(raw / "a/deep.png")
        turned = Image.new("RGB", (48, 24))
        exif = turned.getexif()
        exif[274] = 6
        turned.save(raw / "a/turned.jpg", exif=exif)
        outcome = sil("prepare-data", "folders", "raw", "--json")
        assert outcome.code == 0, outcome.err
        (dataset,) = outcome.document["datasets"]
        skipped = {each["path"]: each["reason"] for each in dataset["skipped"]}
        assert skipped.keys() == {"a/text.jpg", "a/huge.png", "a/dot.png", "b/cut.jpg"}
        assert "not an image" in skipped["a/text.jpg"]
        assert "30000×30000" in skipped["a/huge.png"]
        assert "too small" in skipped["a/dot.png"]
        assert "cut short" in skipped["b/cut.jpg"]
        assert dataset["splits"]["train"] == {"images": 9, "identities": 2, "cameras": 0}
        assert "no camera is known" in outcome.error

    def test_a_place_that_holds_something_else(self, empty) -> None:
        people(empty / "raw", {"a": 2})
        (empty / "data/raw").mkdir(parents=True)
        (empty / "data/raw/mine.txt").write_text("precious")
        for force in ([], ["--force"]):
            assert_told(sil("prepare-data", "folders", "raw", *force), 1, "in the way", "--out")
        assert (empty / "data/raw/mine.txt").read_text() == "precious"

    def test_impossible_numbers(self, empty) -> None:
        assert_told(sil("prepare-data", "--set", "data.synthetic.cameras=1"), 2, "data.synthetic.cameras = 1")
        assert_told(
            sil("prepare-data", "--set", "data.synthetic.height=40", "--set", "data.synthetic.width=60"),
            2,
            "width = 60",
        )

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_no_permission(self, empty) -> None:
        people(empty / "raw", {"a": 2})
        (empty / "locked").mkdir(mode=0o500)
        assert_told(sil("prepare-data", "folders", "raw", "--out", "locked/x"), 1, "locked")


class TestTrain:
    @pytest.fixture
    def small(self, empty) -> Path:
        """Photographs of six people, one of them seen once, no camera known."""
        people(empty / "raw", {"a": 3, "b": 3, "c": 3, "d": 3, "e": 3, "once": 1})
        assert sil("prepare-data", "folders", "raw", "--name", "small").code == 0
        return empty

    def flags(self, *more: str) -> list[str]:
        return [*TINY_TRAIN_FLAGS, "--source", "data/small", "--recipe", "generated", *more]

    def test_one_source_no_cameras_and_a_person_seen_once(self, small) -> None:
        outcome = sil("train", *self.flags("--set", "train.identities=6", "--json"))
        assert outcome.code == 0, outcome.err
        assert outcome.document["sources"] == ["small"]

    def test_fewer_people_than_a_batch_wants(self, small) -> None:
        outcome = sil("train", *self.flags("--set", "train.identities=50", "--json"))
        assert outcome.code == 0, outcome.err
        assert "small has 6 identities, fewer than the 50" in outcome.error

    def test_photographs_get_the_papers_recipe_and_its_weights(self, small, monkeypatch, tmp_path_factory) -> None:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("hub")))

        def refuse(*args, **kwargs):
            raise OSError("Network is unreachable")

        monkeypatch.setattr("torch.hub.urlopen", refuse)
        outcome = sil("train", "--source", "data/small", "--set", "model.height=32", "--set", "model.width=16")
        assert_told(outcome, 1, "ImageNet weights of resnet50 can't be downloaded", "--weights FILE")
        assert not (small / "runs").exists()

    def test_held_out_selection_is_said(self, small) -> None:
        document = sil("train", *self.flags("--select", "held-out", "--json")).document
        assert document["selected"].startswith("held-out: epoch ")

    def test_one_person_is_too_few(self, empty) -> None:
        people(empty / "raw", {"a": 5})
        sil("prepare-data", "folders", "raw", "--name", "small")
        assert_told(sil("train", *self.flags()), 1, "small has 1 identities")

    def test_no_training_images(self, empty) -> None:
        people(empty / "raw", {"a": 5, "b": 5})
        sil("prepare-data", "folders", "raw", "--name", "small", "--split", "test")
        assert_told(sil("train", *self.flags()), 1, "no training images", "--split")

    def test_a_source_named_twice(self, small) -> None:
        assert_told(sil("train", *self.flags("--source", "data/small")), 2, "small is named twice")

    def test_a_source_that_is_none(self, small) -> None:
        assert_told(sil("train", "--source", "raw"), 1, "raw is not a prepared data set", "sil prepare-data")

    def test_one_data_set_under_two_names(self, small) -> None:
        assert sil("prepare-data", "folders", "raw", "--name", "again").code == 0
        outcome = sil("train", *self.flags("--source", "data/again"))
        assert_told(outcome, 2, "small and again share training images", "Name only one")

    def test_equal_names_in_two_sources_are_different_people(self, small) -> None:
        people(small / "other", {"a": 2, "b": 2, "z": 2})
        assert sil("prepare-data", "folders", "other").code == 0
        outcome = sil("train", *self.flags("--source", "data/other", "--style", "none", "--run", "run", *SUPERVISED))
        assert outcome.code == 0, outcome.err
        state = torch.load(small / "run/checkpoint-0000004.pt", weights_only=True)
        assert state["method"]["weight"].shape == (6 + 3, 512)

    def test_the_target_among_the_sources(self, in_world, tmp_path) -> None:
        target = re.search(r'target = "(.*)"', Path("data/protocol.toml").read_text())[1]
        outcome = sil("train", *TINY_TRAIN_FLAGS, "--source", f"data/{target}", "--run", tmp_path / "run", "--json")
        assert outcome.code == 0
        assert f"{target} is the network that data leaves out for testing" in outcome.error
        assert outcome.document["target"] is None

    def test_more_images_of_a_person_than_there_are(self, small) -> None:
        outcome = sil("train", *self.flags("--set", "train.instances=4"))
        assert outcome.code == 0, outcome.err
        assert "No identity of small has the 4 images" in outcome.error
        assert "at most 3" in outcome.error

    def test_a_batch_of_one_image(self, small) -> None:
        one = ["--set", "train.identities=1", "--set", "train.instances=1"]
        assert_told(sil("train", *self.flags(*one)), 2, "batches too small", "two images")
        person = ["--set", "train.identities=1", "--style", "none", *SUPERVISED]
        assert_told(sil("train", *self.flags(*person)), 2, "batches too small", "two identities, for the triplet loss")

    def test_a_style_after_a_stage_that_is_not_there(self, small) -> None:
        outcome = sil("train", *self.flags("--set", "style.after_stages=[1,5]"))
        assert_told(outcome, 2, "style.after_stages = 5: resnet18 has 4 stages", "Choose from 1 to 4")

    def test_compiling_without_a_gpu(self, small) -> None:
        outcome = sil("train", *self.flags("--set", "train.compile=on"))
        assert_told(outcome, 2, "train.compile = on is not possible: it is for CUDA devices", "auto or off")

    def test_a_style_in_a_pass_that_is_left_out(self, small) -> None:
        outcome = sil("train", *self.flags("--set", "train.second_pass=false"))
        assert_told(outcome, 2, "no second pass for style.name = dbs", "--style none")
        assert_told(sil("train", *self.flags(*SUPERVISED)), 2, "train.method = supervised there is no second pass")

    def test_prototypes_that_do_not_fit(self, small) -> None:
        flags = self.flags("--run", "run", "--set")
        assert_told(sil("train", *flags, "train.prototypes=centroid"), 2, "is not known", "centroids, random")
        safetensors.torch.save_file({"small/a": torch.ones(512)}, "words.safetensors")
        outcome = sil("train", *flags, "train.prototypes=words.safetensors")
        assert_told(outcome, 1, "lacks 5 of 6 identities", "it has small/a")
        assert not (small / "run").exists()

    def test_a_run_folder_that_is_taken(self, in_world) -> None:
        outcome = sil("train", *TINY_TRAIN_FLAGS, "--run", "runs/001-dbs")
        assert_told(outcome, 2, "already holds a run", "--resume")

    def test_resuming_with_other_settings(self, in_world, tmp_path) -> None:
        run = tmp_path / "run"
        shutil.copytree("runs/001-dbs", run)
        (run / "model.json").unlink()
        outcome = sil("train", "--resume", "--run", run, "--seed", 7)
        assert_told(outcome, 2, "began with train.seed = 1, not 7")

    def test_resuming_with_settings_that_change_nothing(self, in_world, tmp_path) -> None:
        run = tmp_path / "run"
        shutil.copytree("runs/001-dbs", run)
        (run / "model.json").unlink()
        same = ["--set", "style.after_stages=1", "--set", "train.keep_checkpoints=1", "--tensorboard"]
        outcome = sil("train", "--resume", "--run", run, *same)
        assert outcome.code == 0, outcome.err
        assert next(path.name for path in (run / "tensorboard").iterdir()).startswith("events.out.tfevents")
        assert (run / "model.safetensors").read_bytes() == Path("runs/001-dbs/model.safetensors").read_bytes()

    def test_resuming_with_a_checkpoint_cut_short(self, in_world, tmp_path) -> None:
        run = tmp_path / "run"
        shutil.copytree("runs/001-dbs", run)
        (run / "model.json").unlink()
        newest = run / "checkpoint-0000004.pt"
        newest.write_bytes(newest.read_bytes()[:1000])
        outcome = sil("train", "--resume", "--run", run)
        assert outcome.code == 0, outcome.err
        assert "checkpoint-0000004.pt is damaged; resuming from checkpoint-0000002.pt" in outcome.error
        assert (run / "model.safetensors").read_bytes() == Path("runs/001-dbs/model.safetensors").read_bytes()
        (run / "model.json").unlink()
        for path in run.glob("checkpoint-*.pt"):
            path.write_bytes(b"cut")
        assert_told(sil("train", "--resume", "--run", run), 1, "damaged, and so is every older one", "new run folder")

    def test_a_disk_that_fills_while_saving(self, in_world, tmp_path, monkeypatch) -> None:
        real, saved = os.fsync, []

        def full(handle: int) -> None:
            saved.extend((tmp_path / "run").glob("checkpoint-*.pt"))
            if saved:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(handle)

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            outcome = sil("train", *TINY_TRAIN_FLAGS, "--run", tmp_path / "run")
        run = tmp_path / "run"
        assert_told(outcome, 1, f"{run} can't be written: No space left", f"sil train --resume --run {run}")
        assert not list((tmp_path / "run").glob(".sil-partial-*"))
        outcome = sil("train", "--resume", "--run", tmp_path / "run")
        assert outcome.code == 0, outcome.err
        again = (tmp_path / "run/model.safetensors").read_bytes()
        assert again == Path("runs/001-dbs/model.safetensors").read_bytes()

    def test_resuming_after_the_data_changed(self, in_world, tmp_path) -> None:
        run = tmp_path / "run"
        shutil.copytree("runs/001-dbs", run)
        (run / "model.json").unlink()
        facts = json.loads((run / "run.json").read_text())
        facts["sources"][0]["manifest_sha256"] = "0" * 64
        (run / "run.json").write_text(json.dumps(facts))
        assert_told(sil("train", "--resume", "--run", run), 1, "is not the data that", "began with")

    def test_weights_that_do_not_exist(self, in_world, tmp_path) -> None:
        outcome = sil("train", *TINY_TRAIN_FLAGS, "--weights", "nothing.pth", "--run", tmp_path / "run")
        assert_told(outcome, 2, "no weights file nothing.pth")
        assert not (tmp_path / "run").exists()

    def test_a_data_set_that_is_read_only_takes_a_cache_elsewhere(self, small) -> None:
        (small / "data/small/cache").write_text("in the way")
        outcome = sil("train", *self.flags("--run", "run"))
        assert_told(outcome, 1, "can't be written", "--set data.cache=DIR")
        assert sil("train", *self.flags("--run", "run", "--set", "data.cache=decoded")).code == 0
        assert list((small / "decoded").glob("small-*.npy"))

    def test_a_manifest_edited_by_hand(self, small) -> None:
        path = small / "data/small/manifest.jsonl"
        path.write_text(path.read_text().replace('"a"', '"z"'))
        assert_told(sil("train", *self.flags()), 1, "not the file that prepare-data wrote")


class TestEvaluateAndGallery:
    def test_a_target_without_a_test(self, in_world, tmp_path) -> None:
        people(tmp_path / "raw", {"a": 2, "b": 2})
        sil("prepare-data", "folders", tmp_path / "raw", "--out", tmp_path / "data")
        assert_told(sil("evaluate", "--target", tmp_path / "data"), 1, "no test images", "--split")

    def test_an_image_that_went_bad_since(self, in_world, tmp_path) -> None:
        shutil.copytree("data", tmp_path / "data")
        name = sil("evaluate", "--json").document["target"]
        next((tmp_path / "data" / name / "images/query").glob("*.jpg")).write_text("gone")
        assert_told(
            sil("evaluate", "--target", tmp_path / "data" / name), 1, "not an image", "Prepare the data set again"
        )

    def test_images_that_are_not_there(self, in_world) -> None:
        assert_told(sil("index-gallery", "nowhere"), 2, "no file or folder nowhere")
        assert_told(sil("index-gallery", "data/protocol.toml"), 2, "is a file, but neither a table")

    def test_an_empty_folder(self, in_world, tmp_path) -> None:
        assert_told(sil("index-gallery", tmp_path, "--gallery", tmp_path / "g"), 1, "no images in")

    def test_a_gallery_made_by_another_model(self, in_world, tmp_path) -> None:
        other = tmp_path / "other"
        assert sil("train", *TINY_TRAIN_FLAGS, "--seed", 5, "--run", other).code == 0
        ways = ("--model gallery/model", "`sil gallery rebuild gallery --model NEW`")
        assert_told(sil("index-gallery", "--model", other), 1, "was made by model", "--gallery DIR", *ways)
        query = next(Path("data").glob("*/images/query/*.jpg"))
        outcome = sil("query", query, "--model", other, "--sheet", tmp_path / "s.jpg")
        assert_told(outcome, 1, "was made by model", *ways)
        assert not (tmp_path / "s.jpg").exists()
        fingerprint = json.loads((other / "model.json").read_text())["fingerprint"]
        facts = {"made_on": "people", "same_pairs": 5, "different_pairs": 50, "match": 0.6, "possible": 0.4}
        write_calibration(other, Calibration(fingerprint=fingerprint, thresholds={"1e-1": 0.4}, **facts))
        for asked in ((query,), ("--id", 1), ("--batch", query)):
            outcome = sil("query", *asked, "--model", other)
            assert_told(outcome, 1, "was made by model", f"not by {fingerprint[:12]}")
            assert "calibration" not in outcome.error

    def test_a_gallery_whose_model_was_swapped(self, in_world, tmp_path) -> None:
        gallery = tmp_path / "gallery"
        shutil.copytree("gallery", gallery)
        weights = gallery / "model/model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\1\1")
        query = next(Path("data").glob("*/images/query/*.jpg"))
        outcome = sil("query", query, "--gallery", gallery, "--engine", "torch", "--sheet", tmp_path / "s.jpg")
        assert_told(outcome, 1, "does not belong")
        (gallery / "model/model.onnx").write_bytes(b"another graph")
        outcome = sil("query", query, "--gallery", gallery, "--engine", "onnxruntime", "--sheet", tmp_path / "s.jpg")
        assert_told(outcome, 1, "damaged or was replaced")

    @pytest.mark.parametrize(
        ("number", "words"),
        [
            (errno.ENOSPC, ("The disk is full (", "Free some space")),
            (errno.EFBIG, ("larger than the limit on file sizes or the file system allows (", "ulimit -f")),
        ],
    )
    def test_no_room_for_the_model(self, in_world, tmp_path, monkeypatch, number, words) -> None:
        real = os.fsync

        def fail(handle: int) -> None:
            if Path(f"/proc/self/fd/{handle}").readlink().suffix == ".safetensors":
                raise OSError(number, os.strerror(number))
            real(handle)

        monkeypatch.setattr(os, "fsync", fail)
        outcome = sil("index-gallery", "--gallery", tmp_path / "new")
        assert_told(outcome, 1, *words, f"({tmp_path / 'new'}).")
        monkeypatch.undo()
        monkeypatch.chdir(in_world)
        assert sil("index-gallery", "--gallery", tmp_path / "new").code == 0

    def test_a_folder_that_is_no_gallery(self, in_world, tmp_path) -> None:
        (tmp_path / "mine.txt").write_text("precious")
        assert_told(sil("index-gallery", "--gallery", tmp_path), 1, "not a gallery, and not empty")
        assert (tmp_path / "mine.txt").read_text() == "precious"


class TestQuery:
    @pytest.mark.parametrize("name", ["text.jpg", "cut.jpg", "dot.png", "huge.png", "missing.jpg"])
    def test_a_picture_that_is_none(self, in_world, tmp_path, name) -> None:
        (tmp_path / "text.jpg").write_text("hello")
        crop(tmp_path / "whole.jpg")
        (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:300])
        crop(tmp_path / "dot.png", size=(1, 1))
        huge_png(tmp_path / "huge.png")
        outcome = sil("query", tmp_path / name, "--sheet", tmp_path / "s.jpg")
        assert_told(outcome, 1, f"{name} can't be used as a query", "Name an image")

    @pytest.mark.parametrize("flags", [[], ["--box", "1,2,3,4"], ["--exclude-self"]])
    def test_a_picture_that_is_a_pipe_or_a_device(self, in_world, tmp_path, flags) -> None:
        os.mkfifo(tmp_path / "pipe.jpg")
        for name in (tmp_path / "pipe.jpg", "/dev/zero"):
            outcome = sil("query", name, "--sheet", tmp_path / "s.jpg", *flags)
            assert_told(outcome, 1, f"{name} can't be used as a query: not a file", "Name an image")

    def test_a_sheet_of_an_unknown_kind(self, in_world, tmp_path) -> None:
        crop(tmp_path / "a.png")
        assert_told(sil("query", tmp_path / "a.png", "--sheet", "s.doc"), 2, "can't be written as s.doc", ".png")

    def test_a_sheet_that_is_a_folder(self, in_world, tmp_path) -> None:
        crop(tmp_path / "a.png")
        (tmp_path / "s.jpg").mkdir()
        outcome = sil("query", tmp_path / "a.png", "--sheet", tmp_path / "s.jpg")
        assert outcome.code == 1
        assert "rank" in outcome.out  # answered all the same
        assert f"{tmp_path / 's.jpg'}: Is a directory. Name another file with --sheet FILE" in outcome.err
        assert list((tmp_path / "s.jpg").iterdir()) == []

    def test_a_sheet_where_there_is_no_folder_to_make(self, in_world, tmp_path) -> None:
        crop(tmp_path / "a.png")
        outcome = sil("query", tmp_path / "a.png", "--sheet", tmp_path / "a.png" / "s.jpg")
        assert outcome.code == 1
        assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("gallery/model/calibration.json", ("query", QUERY)),
        pytest.param("data/orchard/manifest.jsonl", ("evaluate", *OF_RUN), marks=pytest.mark.thorough),
        pytest.param(
            "runs/finished/model.safetensors",
            ("evaluate", *OF_RUN, "--engine", "torch"),
            marks=pytest.mark.thorough,
        ),
        pytest.param("runs/finished/metrics.jsonl", ("report", "runs/finished"), marks=pytest.mark.thorough),
        pytest.param(f"{EVALUATED}/results.json", ("report", "runs/finished"), marks=pytest.mark.thorough),
        pytest.param(f"{EVALUATED}/details.npz", ("report", "runs/finished"), marks=pytest.mark.thorough),
        pytest.param("list.txt", ("index-gallery", "list.txt"), marks=pytest.mark.thorough),
        pytest.param("table.csv", ("index-gallery", "table.csv"), marks=pytest.mark.thorough),
    ],
)
def test_files_full_of_holes_are_refused_before_they_are_read(empty, name, command):
    """300 GB that take no room on the disk: in memory they would."""
    copy_of_fixtures(empty)
    with Path(name).open("ab") as stream:
        stream.truncate(300 * 2**30)
    outcome = sil(*command)
    assert outcome.code == 1
    assert name in outcome.error
    assert "322,122,547,200" in outcome.error or "more than" in outcome.error
