"""The five commands on a tiny world: what they make, say and print as JSON."""

import json
import shutil
from pathlib import Path

import pytest
from commands import TINY_DATA_FLAGS, TINY_TRAIN_FLAGS, sil
from PIL import Image


def first_query(folder: Path) -> Path:
    target = json.loads((folder / "runs/001-dbs/run.json").read_text())["sources"]
    names = {child.name for child in (folder / "data").iterdir() if child.is_dir()} - {each["name"] for each in target}
    (left_out,) = names
    return sorted((folder / "data" / left_out / "images/query").glob("*.jpg"))[0]


def test_generated_data_of_earlier_versions_stands_although_they_knew_fewer_options(in_world, tmp_path) -> None:
    shutil.copytree(in_world / "data", tmp_path / "data")
    for file in (tmp_path / "data").glob("*/dataset.json"):
        info = json.loads(file.read_text())
        info["options"] = {name: value for name, value in info["options"].items() if name not in ("networks", "gap")}
        file.write_text(json.dumps(info))
    assert len(info["options"]) == 9
    again = ["prepare-data", "--out", tmp_path / "data", *TINY_DATA_FLAGS]
    then = (*again, "--set", "data.synthetic.networks=wardrobes")
    assert [dataset["unchanged"] for dataset in sil(*then, "--json").document["datasets"]] == [True] * 3
    shown = sil("show", file.parent, "--out", tmp_path / "sheet.jpg", "--json").document["datasets"][0]
    assert (shown["generated_gap"]["clothes"], shown["generated_gap"]["pose"]) == (1.0, 0.0)
    other = sil(*again)
    assert other.code == 1
    assert "other options" in other.error


def test_prepare_data_says_what_stands_already(in_world) -> None:
    outcome = sil("prepare-data", *TINY_DATA_FLAGS, "--json")
    document = outcome.document
    assert [dataset["unchanged"] for dataset in document["datasets"]] == [True] * 3
    assert len(document["sources"]) == 2
    for dataset in document["datasets"]:
        assert {"name", "reader", "manifest", "splits", "skipped"} <= dataset.keys()
        assert set(dataset["splits"]) == {"train", "query", "gallery"}
        assert set(dataset["splits"]["train"]) == {"images", "identities", "cameras"}
        assert dataset["splits"]["train"]["identities"] == 4
        assert Path(dataset["manifest"]).is_file()
    assert Path(document["sheet"]).is_file()


def test_prepare_data_never_replaces_other_data_unless_told(in_world, tmp_path) -> None:
    shutil.copytree(in_world / "data", tmp_path / "data")
    folder = tmp_path / "data"
    before = {path: path.read_bytes() for path in folder.rglob("manifest.jsonl")}
    again = ["prepare-data", "--out", folder, *TINY_DATA_FLAGS, "--set", "data.synthetic.seed=2"]
    outcome = sil(*again)
    assert outcome.code == 1
    assert "prepared with other options" in outcome.error
    assert "--force" in outcome.error
    assert {path: path.read_bytes() for path in folder.rglob("manifest.jsonl")} == before
    assert sil(*again, "--force").code == 0
    assert {path: path.read_bytes() for path in folder.rglob("manifest.jsonl")} != before
    assert not list(folder.glob(".sil-staging-*"))


def test_train_leaves_a_complete_run(in_world) -> None:
    run = in_world / "runs/001-dbs"
    assert {path.name for path in run.iterdir()} >= {
        "settings.toml",
        "run.json",
        "metrics.jsonl",
        "checkpoint-0000002.pt",
        "checkpoint-0000004.pt",
        "model.safetensors",
        "model.json",
    }
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    facts = json.loads((run / "run.json").read_text())
    assert facts["recipe"] == "generated"
    assert facts["selected"] == "last"
    assert {"python", "sil", "torch", "torchvision", "numpy"} <= facts["versions"].keys()


def test_train_json_and_the_same_seed_gives_the_same_model(in_world, tmp_path) -> None:
    documents = [
        sil("train", *TINY_TRAIN_FLAGS, "--style", "dbs", "--run", tmp_path / name, "--json").document
        for name in ("a", "b")
    ]
    keys = {"run", "checkpoint", "sources", "style", "epochs", "iterations", "loss", "images_per_second", "selected"}
    assert keys <= documents[0].keys()
    assert documents[0]["style"] == "dbs"
    assert documents[0]["iterations"] == 4
    assert documents[0]["fingerprint"] == documents[1]["fingerprint"]
    other = sil("train", *TINY_TRAIN_FLAGS, "--seed", 2, "--run", tmp_path / "c", "--json").document
    assert other["fingerprint"] != documents[0]["fingerprint"]


def test_resuming_a_finished_run_changes_nothing(in_world) -> None:
    model = in_world / "runs/001-dbs/model.safetensors"
    before = model.read_bytes()
    outcome = sil("train", "--resume", "--run", "runs/001-dbs", "--json")
    assert outcome.code == 0
    assert "finished already" in outcome.error
    assert model.read_bytes() == before


def test_evaluate_scores_the_network_that_was_left_out(in_world) -> None:
    document = sil("evaluate", "--json").document
    assert {"model", "target", "queries", "gallery", "dropped_queries", "mAP", "mINP", "results"} <= document.keys()
    assert set(document["cmc"]) == {"1", "5", "10"}
    sources = json.loads((in_world / "runs/001-dbs/run.json").read_text())["sources"]
    assert document["target"] not in {source["name"] for source in sources}
    assert document["trained_on_target"] is False
    assert json.loads(Path(document["results"]).read_text()) == document


def test_evaluate_says_when_the_target_was_trained_on(in_world, tmp_path) -> None:
    source = json.loads((in_world / "runs/001-dbs/run.json").read_text())["sources"][0]["folder"]
    outcome = sil("evaluate", "--target", source, "--out", tmp_path / "out", "--json")
    assert outcome.document["trained_on_target"] is True
    assert "do not show generalisation" in outcome.error


def test_indexing_again_adds_nothing(in_world) -> None:
    document = sil("index-gallery", "--json").document
    assert document["added"] == 0
    assert document["replaced"] == 0
    assert document["unchanged"] == document["total"] > 0
    assert document["dimension"] == 512
    assert document["failed"] == []


def test_a_folder_is_indexed_incrementally_and_names_what_fails(in_world, tmp_path) -> None:
    crops, gallery = tmp_path / "crops", tmp_path / "gallery"
    shutil.copytree(first_query(in_world).parent, crops)
    first, second = sorted(crops.glob("*.jpg"))[:2]
    (crops / "notes.jpg").write_text("no picture")
    document = sil("index-gallery", crops, "--gallery", gallery, "--json").document
    count = len(list(crops.glob("*.jpg"))) - 1
    assert (document["added"], document["total"]) == (count, count)
    assert document["failed"] == [{"path": "notes.jpg", "reason": "not an image"}]
    Image.new("RGB", (24, 48), "red").save(first)
    Image.new("RGB", (24, 48), "blue").save(crops / "new.png")
    second.touch()
    document = sil("index-gallery", crops, "--gallery", gallery, "--json").document
    assert (document["added"], document["replaced"], document["unchanged"]) == (1, 1, count - 1)
    assert document["total"] == count + 1


def test_query_prints_a_ranked_table_and_draws_a_sheet(in_world, tmp_path) -> None:
    sheet = tmp_path / "sheet.png"
    outcome = sil("query", first_query(in_world), "--top", 3, "--sheet", sheet)
    assert outcome.code == 0
    assert "rank" in outcome.out
    with Image.open(sheet) as image:
        assert image.width > image.height > 100
    document = sil("query", first_query(in_world), "--top", 3, "--sheet", sheet, "--json").document
    assert {"image", "gallery", "matches"} <= document.keys()
    assert [match["rank"] for match in document["matches"]] == [1, 2, 3]
    scores = [match["score"] for match in document["matches"]]
    assert scores == sorted(scores, reverse=True)
    assert {"rank", "score", "path", "identity", "camera", "id"} <= document["matches"][0].keys()
    # The query belongs to a prepared data set, so right and wrong are known.
    assert document["identity"] == first_query(in_world).name.split("_")[0]
    for match in document["matches"]:
        assert match["correct"] == (match["identity"] == document["identity"])


def test_a_stranger_has_no_right_or_wrong(in_world, tmp_path) -> None:
    stranger = tmp_path / "stranger.png"
    Image.effect_noise((24, 48), 80).convert("RGB").save(stranger)
    document = sil("query", stranger, "--sheet", tmp_path / "sheet.jpg", "--json").document
    assert document["identity"] is None
    assert {match["correct"] for match in document["matches"]} == {None}


def test_several_pictures_are_one_document(in_world, tmp_path) -> None:
    two = sorted(first_query(in_world).parent.glob("*.jpg"))[:2]
    document = sil("query", *two, "--sheet", tmp_path / "sheet.jpg", "--json").document
    assert [Path(each["image"]) for each in document["queries"]] == two


def test_an_image_finds_itself_first(in_world, tmp_path) -> None:
    inside = sorted(first_query(in_world).parent.parent.joinpath("gallery").glob("*.jpg"))[0]
    document = sil("query", inside, "--top", 1, "--sheet", tmp_path / "sheet.jpg", "--json").document
    (match,) = document["matches"]
    assert match["score"] == pytest.approx(1.0, abs=1e-5)
    assert Path(match["path"]).name == inside.name


def test_more_matches_than_there_are_is_all_of_them(in_world, tmp_path) -> None:
    total = sil("index-gallery", "--json").document["total"]
    document = sil("query", first_query(in_world), "--top", 10_000, "--sheet", tmp_path / "s.jpg", "--json").document
    assert len(document["matches"]) == total


def test_doctor_reports(in_world) -> None:
    outcome = sil("doctor", "--json")
    assert outcome.code == 0
    whats = {finding["what"] for finding in outcome.document["findings"]}
    assert {"sil", "torch", "faiss-cpu", "device", "threads", "data", "models"} <= whats


def test_every_command_ends_with_the_next_one(in_world, tmp_path) -> None:
    assert "Next: sil train" in sil("prepare-data", *TINY_DATA_FLAGS).out
    assert (
        f"Next: sil evaluate --model {tmp_path / 'r'}\n" in sil("train", *TINY_TRAIN_FLAGS, "--run", tmp_path / "r").out
    )
    assert "Next: sil index-gallery\n" in sil("evaluate", "--model", "runs/001-dbs").out
    assert "Next: sil query data/" in sil("index-gallery", "--model", "runs/001-dbs").out
    assert "Contact sheet in" in sil("query", first_query(in_world), "--sheet", tmp_path / "s.jpg").out
