"""The embedder against its formula, and its files."""

import hashlib
import json

import pytest
import torch
import torchvision

from sil_cli.errors import ModelError, SilError
from sil_cli.models.embedder import Embedder, GeneralisedMeanPooling, load_embedder, save_model
from sil_cli.models.record import Architecture, read_record

SMALL = Architecture(backbone="resnet18", height=32, width=16)


@pytest.fixture
def embedder() -> Embedder:
    torch.manual_seed(0)
    return Embedder(SMALL)


def test_it_is_the_normalised_neck_of_the_pooled_backbone(embedder: Embedder) -> None:
    embedder.eval()
    embedder.neck.running_mean.normal_()
    images = torch.rand(3, 3, 32, 16)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    maps = embedder.backbone((images - mean[:, None, None]) / std[:, None, None])
    pooled = maps.flatten(2).mean(-1)
    neck = embedder.neck
    by_hand = (pooled - neck.running_mean) / (neck.running_var + neck.eps).sqrt() * neck.weight
    by_hand = by_hand / by_hand.norm(dim=1, keepdim=True)
    torch.testing.assert_close(embedder(images), by_hand, rtol=0, atol=1e-6)


def test_the_backbone_is_torchvisions(embedder: Embedder) -> None:
    plain = torchvision.models.resnet18(weights=None)
    backbone = Embedder(SMALL.model_copy(update={"last_stride": 2})).backbone
    backbone.load_state_dict({k: v for k, v in plain.state_dict().items() if not k.startswith("fc.")})
    plain.fc = torch.nn.Identity()
    images = torch.rand(2, 3, 64, 32)
    pooled = backbone.eval()(images).mean(dim=(2, 3))
    torch.testing.assert_close(pooled, plain.eval()(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "channels"), [("resnet18", 512), ("resnet50", 2048)])
@pytest.mark.parametrize(("stride", "shape"), [(1, (4, 2)), (2, (2, 1))])
def test_last_stride_and_feature_size(name, channels, stride, shape) -> None:
    backbone = Embedder(SMALL.model_copy(update={"backbone": name, "last_stride": stride})).backbone.eval()
    assert backbone(torch.zeros(1, 3, 64, 32)).shape == (1, channels, *shape)


def test_the_stem_relu_can_be_left_out() -> None:
    seen = []
    for relu in (True, False):
        backbone = Embedder(SMALL.model_copy(update={"stem_relu": relu})).backbone.eval()
        backbone.maxpool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].min().item()))
        backbone(torch.randn(1, 3, 32, 16))
    assert seen[0] == 0.0
    assert seen[1] < 0.0


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_a_style_sits_after_the_stage_that_is_named(embedder: Embedder, stage: int) -> None:
    channels = []

    def style(features: torch.Tensor) -> torch.Tensor:
        channels.append(features.shape[1])
        return features

    embedder(torch.rand(2, 3, 32, 16), style=style, after_stages=(stage,))
    assert channels == [64 * 2 ** (stage - 1)]


def test_bytes_and_floats_are_the_same_images(embedder: Embedder) -> None:
    images = torch.randint(0, 256, (2, 3, 32, 16), dtype=torch.uint8)
    embedder.eval()
    torch.testing.assert_close(embedder(images), embedder(images.float() / 255), rtol=0, atol=1e-6)


def test_the_necks_bias_is_frozen(embedder: Embedder) -> None:
    embedder.train()(torch.rand(4, 3, 32, 16)).sum().backward()
    assert embedder.neck.bias.grad is None
    assert embedder.neck.weight.grad is not None


def test_a_saved_model_comes_back_the_same(tmp_path, embedder: Embedder) -> None:
    record = save_model(tmp_path, embedder)
    loaded, again = load_embedder(tmp_path)
    images = torch.rand(2, 3, 32, 16)
    assert torch.equal(loaded(images), embedder.eval()(images))
    assert again == record
    assert record.dimension == 512
    assert not loaded.training


def test_the_fingerprint_follows_weights_and_preprocessing(tmp_path, embedder: Embedder) -> None:
    first = save_model(tmp_path / "a", embedder).fingerprint
    assert save_model(tmp_path / "b", embedder).fingerprint == first
    with torch.no_grad():
        embedder.neck.weight[0] += 1
    assert save_model(tmp_path / "c", embedder).fingerprint != first
    other = Embedder(SMALL.model_copy(update={"height": 48}))
    other.load_state_dict(embedder.state_dict())
    assert save_model(tmp_path / "d", other).fingerprint != save_model(tmp_path / "e", embedder).fingerprint


def test_missing_and_damaged_models_are_told(tmp_path, embedder: Embedder) -> None:
    with pytest.raises(ModelError, match="no finished model"):
        load_embedder(tmp_path)
    save_model(tmp_path, embedder)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    with pytest.raises(ModelError, match="damaged"):
        load_embedder(tmp_path)
    weights.write_bytes(whole[:-4] + b"\0\0\1\1")
    with pytest.raises(ModelError, match="does not belong"):
        load_embedder(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(SilError, match="can't be read"):
        read_record(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(ModelError, match="not a record"):
        read_record(tmp_path)


def test_gem_is_the_generalised_mean_between_average_and_maximum():
    pool = GeneralisedMeanPooling(3.0)
    maps = torch.rand(2, 4, 3, 5)
    by_hand = torch.stack(
        [torch.stack([(sum(v**3 for v in channel.flatten()) / 15) ** (1 / 3) for channel in image]) for image in maps]
    )
    torch.testing.assert_close(pool(maps), by_hand)
    with torch.no_grad():
        pool.power.fill_(1.0)
        torch.testing.assert_close(pool(maps), maps.mean(dim=(2, 3)))
        pool.power.fill_(60.0)
        torch.testing.assert_close(pool(maps), maps.amax(dim=(2, 3)), rtol=0.06, atol=0)
    assert torch.isfinite(pool(torch.full((1, 4, 3, 5), -1.0))).all()


def test_pooling_neck_and_size_are_settings(tmp_path):
    torch.manual_seed(0)
    variant = SMALL.model_copy(update={"pooling": "gem", "neck": False, "dimension": 24})
    embedder = Embedder(variant).eval()
    images = torch.rand(2, 3, 32, 16)
    maps = embedder.backbone((images - embedder.mean) / embedder.std)
    pooled = (maps.clamp(min=1e-6) ** 3).mean(dim=(2, 3)) ** (1 / 3)
    by_hand = pooled @ embedder.projection.weight.T
    torch.testing.assert_close(embedder(images), by_hand / by_hand.norm(dim=1, keepdim=True))
    assert embedder.dimension == 24
    record = save_model(tmp_path, embedder)
    assert record.dimension == 24
    again, _ = load_embedder(tmp_path)
    torch.testing.assert_close(again(images), embedder(images))


def test_fields_that_came_later_change_no_fingerprint_while_they_say_nothing(tmp_path, embedder):
    record = save_model(tmp_path, embedder)
    described = (
        '{"backbone":"resnet18","last_stride":1,"stem_relu":true,"height":32,"width":16,'
        '"mean":[0.485,0.456,0.406],"std":[0.229,0.224,0.225]}'
    )
    weights = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    assert record.fingerprint == hashlib.sha256((described + weights).encode()).hexdigest()
    cubic = Embedder(SMALL.model_copy(update={"interpolation": "bicubic"}))
    cubic.load_state_dict(embedder.state_dict())
    assert save_model(tmp_path / "cubic", cubic).fingerprint != record.fingerprint  # it sees other pixels
    other = Embedder(SMALL.model_copy(update={"pooling": "gem"}))
    other.load_state_dict(embedder.state_dict(), strict=False)
    assert save_model(tmp_path / "gem", other).fingerprint != record.fingerprint
