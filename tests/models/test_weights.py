"""Pretrained weights: what loads, what is refused, and what is said offline."""

from urllib.error import URLError

import pytest
import safetensors.torch
import torch
import torchvision

from sil_cli.errors import ModelError, UsageError
from sil_cli.models.backbone import StagedResNet
from sil_cli.models.weights import load_pretrained


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return torchvision.models.resnet18(weights=None).state_dict()


def loaded(weights: str) -> StagedResNet:
    torch.manual_seed(2)
    backbone = StagedResNet("resnet18")
    load_pretrained(backbone, "resnet18", weights)
    return backbone


def test_torchvisions_file_loads_without_its_classifier(tmp_path, state) -> None:
    torch.save(state, tmp_path / "w.pth")
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        backbone = loaded(str(tmp_path / name))
        for key, value in backbone.state_dict().items():
            assert torch.equal(value, state[key])


def test_wrapped_and_prefixed_states_load(tmp_path, state) -> None:
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "w.pth")
    assert torch.equal(loaded(str(tmp_path / "w.pth")).conv1.weight, state["conv1.weight"])


def test_files_from_before_batch_counters_load(tmp_path, state) -> None:
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "w.pth")
    assert torch.equal(loaded(str(tmp_path / "w.pth")).conv1.weight, state["conv1.weight"])


def test_none_leaves_the_random_weights() -> None:
    torch.manual_seed(2)
    fresh = StagedResNet("resnet18")
    assert torch.equal(loaded("none").conv1.weight, fresh.conv1.weight)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: state.pop("layer1.0.conv1.weight"), "lacks layer1.0.conv1.weight"),
        (lambda state: state.update(extra=torch.zeros(1)), "has unknown extra"),
        (lambda state: state.update({"conv1.weight": torch.zeros(1)}), "has other shapes for conv1.weight"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, state, change, told) -> None:
    change(state)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=told):
        loaded(str(tmp_path / "w.pth"))


class Trap:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, capsys) -> None:
    torch.save({"conv1.weight": Trap()}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="can't be read as weights"):
        loaded(str(tmp_path / "w.pth"))
    assert "executed" not in capsys.readouterr().out


def test_damaged_and_missing_files_are_told(tmp_path) -> None:
    for name in ("w.pth", "w.safetensors"):
        (tmp_path / name).write_bytes(b"not weights")
        with pytest.raises(ModelError, match="can't be read as weights"):
            loaded(str(tmp_path / name))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="no table of tensors"):
        loaded(str(tmp_path / "list.pth"))
    with pytest.raises(UsageError, match="no weights file"):
        loaded(str(tmp_path / "nothing.pth"))


def test_offline_says_what_to_do(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    with pytest.raises(ModelError, match="can't be downloaded") as caught:
        loaded("imagenet")
    assert "--weights FILE" in caught.value.fix


def test_torchvisions_weights_are_taken_from_its_cache(monkeypatch, tmp_path, state) -> None:
    entry = torchvision.models.get_model_weights("resnet18")["IMAGENET1K_V1"]
    asked = []

    def from_cache(self, *args, **kwargs):
        asked.append(self)
        return state

    monkeypatch.setattr(type(entry), "get_state_dict", from_cache)
    assert torch.equal(loaded("imagenet").conv1.weight, state["conv1.weight"])
    assert asked == [entry]
