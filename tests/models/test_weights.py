"""Pretrained weights: what loads, what is refused, and what is said offline."""

from urllib.error import URLError

import pytest
import safetensors.torch
import torch
import torchvision

from sil_cli.errors import ModelError, UsageError
from sil_cli.models.embedder import Architecture, Embedder
from sil_cli.models.weights import load_pretrained


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return torchvision.models.resnet18(weights=None).state_dict()


def model(backbone: str = "resnet18", seed: int = 2, **options) -> Embedder:
    torch.manual_seed(seed)
    return Embedder(Architecture(backbone=backbone, height=32, width=32, **options))


def loaded(weights: str, backbone: str = "resnet18", **options):
    embedder = model(backbone, **options)
    load_pretrained(embedder, weights)
    return embedder.backbone


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


@pytest.mark.parametrize("wrapped", ["module.model.", "module.module.", "model.backbone.model.", "module.model.base."])
def test_every_wrappers_prefix_goes(tmp_path, state, wrapped: str) -> None:
    torch.save({f"{wrapped}{key}": value for key, value in state.items()}, tmp_path / "w.pth")
    assert torch.equal(loaded(str(tmp_path / "w.pth")).conv1.weight, state["conv1.weight"])


@pytest.mark.parametrize(
    ("first", "second"), [("", "module."), ("model.", "module."), ("base.", "backbone."), ("net.", "base.net.")]
)
def test_a_file_of_two_networks_is_refused(tmp_path, state, first: str, second: str) -> None:
    both = {f"{first}{key}": value for key, value in state.items()}
    both |= {f"{second}{key}": torch.zeros_like(value) for key, value in state.items()}
    torch.save(both, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=rf"conv1.weight twice, as {first}conv1.weight and as {second}conv1.weight"):
        loaded(str(tmp_path / "w.pth"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_numbers_that_are_not_finite_are_refused(tmp_path, state, value: float) -> None:
    state["fc.weight"].fill_(torch.nan)  # of the classifier, which is nobody's here
    torch.save(state, tmp_path / "w.pth")
    loaded(str(tmp_path / "w.pth"))
    for key in ("layer2.0.bn1.running_var", "layer3.0.conv1.weight"):
        state[key] = state[key].double()
        state[key].view(-1)[3] = value
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"w.pth holds NaN or infinite values for layer2\.0\.bn1\.running_var\."):
        loaded(str(tmp_path / "w.pth"))


def test_whole_numbers_are_no_weights(tmp_path, state) -> None:
    for key in ("layer2.0.conv1.weight", "layer3.0.conv1.weight"):
        state[key] = (state[key] * 127).to(torch.int8)
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"values of type int8 for layer2\.0\.conv1\.weight"):
        loaded(str(tmp_path / "w.safetensors"))


def test_counters_may_be_floating(tmp_path, state) -> None:
    floating = {key: value.double() for key, value in state.items()}
    torch.save(floating, tmp_path / "w.pth")
    assert torch.equal(loaded(str(tmp_path / "w.pth")).conv1.weight, state["conv1.weight"])


def test_files_from_before_batch_counters_load(tmp_path, state) -> None:
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "w.pth")
    assert torch.equal(loaded(str(tmp_path / "w.pth")).conv1.weight, state["conv1.weight"])


def test_none_leaves_the_random_weights() -> None:
    assert torch.equal(loaded("none").conv1.weight, model().backbone.conv1.weight)


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
    with pytest.raises(ModelError, match=r"an object of builtins\.print, which is not made here"):
        loaded(str(tmp_path / "w.pth"))
    assert "executed" not in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
def test_a_program_in_a_file_is_not_run(tmp_path) -> None:
    network = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
    network.save(tmp_path / "clip.pt")
    with pytest.raises(ModelError, match="TorchScript program") as raised:
        loaded(str(tmp_path / "clip.pt"))
    assert "state_dict()" in raised.value.fix


def test_damaged_and_missing_files_are_told(tmp_path) -> None:
    for name in ("w.pth", "w.safetensors"):
        (tmp_path / name).write_bytes(b"not weights")
        with pytest.raises(ModelError, match="can't be read as weights"):
            loaded(str(tmp_path / name))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="does not hold a table of tensors"):
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


def test_the_authors_file_brings_its_neck_along(tmp_path, state):
    authors = {f"module.base.{key}": value for key, value in state.items() if not key.startswith("fc.")}
    authors |= {
        "module.feat_bn0.weight": torch.full((512,), 2.0),
        "module.feat_bn0.bias": torch.zeros(512),
        "module.feat_bn0.running_mean": torch.full((512,), 3.0),
        "module.feat_bn0.running_var": torch.ones(512),
        "module.classifier1.weight": torch.zeros(5, 512),
    }
    torch.save({"state_dict": authors, "epoch": 70, "best_mAP": 0.65}, tmp_path / "authors.pth")
    embedder = model()
    load_pretrained(embedder, str(tmp_path / "authors.pth"))
    assert torch.equal(embedder.backbone.conv1.weight, state["conv1.weight"])
    assert (embedder.neck.running_mean == 3).all()
    assert (embedder.neck.weight == 2).all()


def test_a_whole_model_must_be_whole(tmp_path, state):
    part = {f"base.{key}": value for key, value in state.items() if not key.startswith("fc.")}
    torch.save(part | {"feat_bn0.weight": torch.ones(512)}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="lacks neck"):
        loaded(str(tmp_path / "w.pth"))


def test_a_model_of_this_program_loads_whole(tmp_path):
    trained = model(seed=7, pooling="gem", dimension=16)
    safetensors.torch.save_file(trained.state_dict(), tmp_path / "model.safetensors")
    fresh = model(seed=8, pooling="gem", dimension=16)
    load_pretrained(fresh, str(tmp_path / "model.safetensors"))
    for key, value in trained.state_dict().items():
        assert torch.equal(fresh.state_dict()[key], value), key


def test_a_timm_model_of_this_program_loads_whole(tmp_path):
    trained = model("timm:resnet18", seed=7)
    safetensors.torch.save_file(trained.state_dict(), tmp_path / "model.safetensors")
    fresh = model("timm:resnet18", seed=8)
    load_pretrained(fresh, str(tmp_path / "model.safetensors"))
    for key, value in trained.state_dict().items():
        assert torch.equal(fresh.state_dict()[key], value), key


def test_ibn_nets_file_loads_and_a_plain_one_does_not(tmp_path, state):
    published = model("resnet18-ibn-a", seed=4).backbone.state_dict() | {"fc.weight": torch.zeros(1000, 512)}
    torch.save({f"module.{key}": value for key, value in published.items()}, tmp_path / "ibn.pth")
    backbone = loaded(str(tmp_path / "ibn.pth"), "resnet18-ibn-a")
    assert torch.equal(backbone.layer1[0].bn1.IN.weight, published["layer1.0.bn1.IN.weight"])
    torch.save(state, tmp_path / "plain.pth")
    with pytest.raises(ModelError, match=r"lacks layer1\.0\.bn1\.BN"):
        loaded(str(tmp_path / "plain.pth"), "resnet18-ibn-a")


def test_torchreids_osnet_loads_without_its_head(tmp_path):
    published = model("osnet_x0_25", seed=4).backbone.state_dict()
    head = {
        "fc.0.weight": torch.zeros(512, 128),
        "fc.1.running_mean": torch.zeros(512),
        "classifier.bias": torch.zeros(9),
    }
    torch.save(published | head, tmp_path / "osnet.pth")
    backbone = loaded(str(tmp_path / "osnet.pth"), "osnet_x0_25")
    assert torch.equal(backbone.conv1.conv.weight, published["conv1.conv.weight"])


def test_timms_own_file_loads(tmp_path):
    import timm

    torch.manual_seed(5)
    published = timm.create_model("resnet18", pretrained=False).state_dict()
    torch.save(published, tmp_path / "timm.pth")
    backbone = loaded(str(tmp_path / "timm.pth"), "timm:resnet18")
    assert torch.equal(backbone.net.conv1.weight, published["conv1.weight"])


@pytest.mark.parametrize("backbone", ["resnet18-ibn-a", "osnet_x0_25"])
def test_where_no_weights_can_be_downloaded_a_file_is_asked_for(backbone):
    with pytest.raises(UsageError, match="no ImageNet weights") as raised:
        loaded("imagenet", backbone)
    assert "--weights FILE" in raised.value.fix
