"""Every method and style through the command, and what its run folder says of it."""

import json

import pytest
import safetensors.torch
import torch
from commands import TINY_TRAIN_FLAGS, sil

pytestmark = pytest.mark.thorough

SHORT = [*TINY_TRAIN_FLAGS, "--set", "train.epochs=1", "--set", "train.milestones=[]"]


@pytest.mark.parametrize(
    ("label", "flags"),
    [
        ("mixstyle", ["--style", "mixstyle", "--set", "style.after_stages=[1,2]"]),
        ("efdmix", ["--style", "efdmix", "--set", "style.passes=both", "--set", "style.probability=0.5"]),
        ("fb", ["--style", "none", "--set", "train.second_pass=false", "--set", "train.prototypes=random"]),
        ("fb-dsu", ["--style", "dsu", "--set", "train.second_pass=false", "--set", "style.passes=first"]),
        ("supervised", ["--style", "none", "--set", "train.method=supervised", "--set", "supervised.margin=soft"]),
    ],
)
def test_a_run_is_called_by_its_method(in_world, tmp_path, label, flags) -> None:
    outcome = sil("train", *SHORT, *flags, "--set", f"train.runs={tmp_path}", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.document["run"] == str(tmp_path / f"001-{label}")
    facts = json.loads((tmp_path / f"001-{label}" / "run.json").read_text())
    assert facts["method"] == ("supervised" if label == "supervised" else "interleaved")
    assert facts["weights"] == "trained"
    assert "git" in facts


def test_zero_shot_prototypes_and_averaged_weights(in_world, tmp_path) -> None:
    names = [line for path in sorted(in_world.glob("data/*/manifest.jsonl")) for line in path.read_text().splitlines()]
    people = {(record["domain"], record["identity"]) for record in map(json.loads, names)}
    torch.manual_seed(0)
    vectors = {f"{domain}/{identity}": torch.randn(512) for domain, identity in people}
    safetensors.torch.save_file(vectors, tmp_path / "words.safetensors")
    run = tmp_path / "run"
    flags = ["--set", f"train.prototypes={tmp_path / 'words.safetensors'}", "--set", "train.ema=0.9"]
    outcome = sil("train", *SHORT, *flags, "--run", run, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.document["weights"] == "averaged"
    assert json.loads((run / "run.json").read_text())["weights"] == "averaged"
    kept = safetensors.torch.load_file(run / "model.safetensors")
    state = torch.load(run / "checkpoint-0000002.pt", weights_only=True)
    assert torch.equal(kept["neck.weight"], state["averaged"]["module.neck.weight"])
    assert not torch.equal(kept["neck.weight"], state["embedder"]["neck.weight"])
    conditions = sil("evaluate", "--model", run, "--json").document["conditions"]
    assert conditions["model"] == "last epoch, averaged weights"
    of_checkpoint = sil("evaluate", "--model", run / "checkpoint-0000002.pt", "--json").document
    assert of_checkpoint["fingerprint"] == outcome.document["fingerprint"]
    assert of_checkpoint["conditions"]["model"] == "checkpoint after iteration 2, averaged weights"
