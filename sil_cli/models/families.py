"""Whose a published weights file is, as its names and shapes tell, and what its embeddings depend on beside them.

What the names and shapes say is `fixed`. What they don't, but all that a family has published shares, is `usual`, and
whoever imports the file is told so. What differs within a family is asked for. Each family's embedding was compared
with that of its own code: docs/backbones.md has the figures.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from sil_cli.errors import ModelError, UsageError, visible
from sil_cli.models.backbones.names import IBN
from sil_cli.models.backbones.osnet import OSNET_WIDTHS
from sil_cli.models.record import HALVES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor

    State = dict[str, Tensor]

WRAPPERS = re.compile(r"(?:(?:module|model)\.)*")
"""What DataParallel and training loops put before every name."""

BACKBONE = re.compile(r"(?:(?:backbone|base|net|module|model)\.)*")
"""What re-identification code calls the backbone within its model: this program, the paper's authors, timm here."""

NECK = re.compile(r"(?:(?:neck|feat_bn0|bottleneck)\.)+")
"""What it calls the batch norm before the embedding: this program, the paper's authors, "Bag of Tricks"."""

DEPTHS = {
    (True, 3, 4, 6, 3): "resnet50",
    (True, 3, 4, 23, 3): "resnet101",
    (False, 2, 2, 2, 2): "resnet18",
    (False, 3, 4, 6, 3): "resnet34",
}
"""ResNets by whether their blocks have three convolutions, and the blocks of their stages."""

VEHICLES = {575: "VeRi-776", 576: "VeRi-776", 13164: "VehicleID", 30671: "VERI-Wild"}
PEOPLE = {751: "Market-1501", 702: "DukeMTMC-reID", 1041: "MSMT17", 767: "CUHK03", 1367: "CUHK03"}
"""Data sets by the number of people, or vehicles, that they have to train on."""

CLASSIFIERS = re.compile(
    rf"{BACKBONE.pattern}(heads\.)?(weight|classifier(_?\d|_proj)?(\.weight)?|classifier\.\d\.weight|fc\.weight)$"
)

UNREAD: dict[str, str] = {
    r"fm_conv1\.": "torchreid's MLFN: its blocks with learnt factors",
    r"conv\.conv\.weight|^fc_local\.": "torchreid's HACNN: its branches with hard attention",
    r"^(.*\.)?b1_head\.|^(.*\.)?b1\.0\.0\.bn": "fast-reid's MGN: its branches of whole and parts",
    r"attnpool\.": "CLIP's ResNet, as in CLIP-ReID: its attention pooling and stem of three convolutions",
    r"^fc_fusion\.": "torchreid's resnet50mid: its fusion of middle features",
    r"se_module\.|\.se\.fc": "a squeeze-and-excitation network: its channel gates",
    r"^classifier\.5\.|conv5\.0\.bn": "torchreid's PCB or a network of parts: its classifier of stripes",
    r"backbone\.conv1\.0\.|\.conv2\.(conv|fc1|bn0)\.": "a ResNeSt: its split attention",
    r"^block1\.conv1\.conv": "torchreid's MuDeep",
    r"(denseblock|norm5)": "a DenseNet",
    r"^conv2d_1a\.|branch3\.1\.(conv|bn)": "an Inception network",
    r"^cell_\d+\.|^features\.\d+\.squeeze": "a NASNet or SqueezeNet",
    r"\.IN\.weight": "a ResNet of IBN-b or another placing of instance norms",
}
"""Families that are known by name and not built here, with what they would need."""


@dataclass(frozen=True)
class Published:
    """A published file, read as a model of this program.

    Attributes:
        family: Whose it is, in words.
        backbone: This program's name of the network.
        state: Its parameters under this program's names.
        fixed: Fields of `Architecture` that its names and shapes tell.
        usual: Fields that they don't, and that all which the family has published shares.
        open: Fields that differ within the family, and how to say them.
        like: The names in `LIKE` that it may be like.
        dropped: Names of its parameters that no embedding needs.
        notes: What its user should know.
        cameras: (N, C) what was learnt of each camera, which `seen_by` adds to one of the parameters; None for nothing.
        camera_target: Which.
    """

    family: str
    backbone: str
    state: State
    fixed: Mapping[str, Any] = field(default_factory=dict)
    usual: Mapping[str, Any] = field(default_factory=dict)
    open: tuple[str, ...] = ()
    like: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    cameras: Tensor | None = None
    camera_target: str = ""

    def seen_by(self, camera: str) -> State:
        """The parameters as for images of one camera.

        Args:
            camera: Its number, from 0; or `mean` for the mean of all cameras.

        Raises:
            UsageError: There is no such camera.
        """
        if self.cameras is None:
            raise UsageError(f"This file knows no cameras, so --camera {camera} has no effect.", "Leave --camera out.")
        learnt = self.cameras.flatten(0, -2).float()
        if camera != "mean" and not (camera.isdecimal() and int(camera) < len(learnt)):
            raise UsageError(
                f"There is no camera {camera} in this file.", f"Choose --camera 0 to {len(learnt) - 1}, or mean."
            )
        chosen = learnt.mean(dim=0) if camera == "mean" else learnt[int(camera)]
        return self.state | {self.camera_target: self.state[self.camera_target].float() + CAMERA_WEIGHT * chosen}


CAMERA_WEIGHT = 3.0
"""By which TransReID and CLIP-ReID multiply what was learnt of a camera (SIE_COE), in all of their configurations."""


@dataclass
class _Names:
    """A file's parameters without wrappers, taken one by one into a model; what is left over is dropped or unknown."""

    source: str
    left: dict[str, Tensor]
    origins: dict[str, str]
    state: State = field(default_factory=dict)
    taken: dict[str, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def has(self, pattern: str) -> bool:
        return any(re.search(pattern, name) for name in self.left)

    def take(self, pattern: str, replacement: str) -> None:
        """Move parameters whose names match from their beginning under other names."""
        for name in list(self.left):
            new, matched = re.subn(f"^(?:{pattern})", replacement, name, count=1)
            if matched:
                if new in self.state:
                    raise twice(self.source, new.removeprefix("backbone."), self.taken[new], self.origins[name])
                self.state[new] = self.left.pop(name)
                self.taken[new] = self.origins[name]

    def drop(self, pattern: str, *, told: bool = True) -> None:
        """Leave parameters out whose names match from their beginning, and note what a classifier tells."""
        for name in [each for each in self.left if re.match(pattern, each)]:
            value = self.left.pop(name)
            self.notes.extend(_of_classes(name, value) if told else [])
            self.dropped.append(self.origins[name])


def recognise(source: str, state: State) -> Published | None:
    """Whose a file is.

    Args:
        source: The file, for messages.
        state: What it holds, under the names that it has there.

    Returns:
        None where it is of no family that is told by its names.

    Raises:
        ModelError: It is of a family that this program doesn't build, or holds two networks.
    """
    origins: dict[str, str] = {}
    for name in state:
        short = WRAPPERS.sub("", name, count=1)
        if short in origins:
            raise twice(source, short, origins[short], name)
        origins[short] = name
    names = _Names(source, {short: state[name] for short, name in origins.items()}, origins)
    if names.has(r"^(neck|pool|projection)\."):
        return None  # a model of this program, whose record says the rest
    if names.has(r"^backbone\.") and names.has(r"^heads\."):
        return _fast_reid(names)
    if names.has(r"^image_encoder\.class_embedding$"):
        return _clip_reid(names)
    if names.has(r"^base\.cls_token$") and names.has(r"^bottleneck\."):
        return _trans_reid(names)
    if names.has(r"^(.*\.)?conv5\.conv\.weight$") and names.has(r"^(.*\.)?conv4\.0\.gate\."):
        return _osnet(names)
    if names.has(rf"^{BACKBONE.pattern}layer4\.0\.conv1\.weight$"):
        return _resnet(names)
    _refuse_unread(names)
    return None


def _refuse_unread(names: _Names) -> None:
    for pattern, family in UNREAD.items():
        if names.has(pattern):
            who, _, needs = family.partition(": ")
            raise ModelError(
                f"{names.source} is {who}, which this program can't build{f': it needs {needs}' if needs else ''}.",
                "Export it as ONNX where it was trained, and import that; or embed with its own code and use "
                "`sil evaluate --embeddings`.",
            )


def _resnet(names: _Names) -> Published:
    """ResNets by torchvision's names: the paper's authors', "Bag of Tricks"', TransReID's, torchreid's and its own."""
    in_base = not names.has(r"^layer4\.")
    own_neck, tricks = names.has(r"^feat_bn0\."), names.has(r"^bottleneck\.")
    layer = names.has(r"^fc\.0\.weight$") and names.has(r"^fc\.1\.running_mean$")
    names.take(r"feat_bn0\.|bottleneck\.", "neck.")
    fixed: dict[str, Any] = {"neck": own_neck, "dimension": None}
    if layer:
        fixed |= _fully_connected(names)
    names.drop(rf"{BACKBONE.pattern}(classifier|fc\.|head\.)")
    names.take(rf"{BACKBONE.pattern}(?=conv1\.|bn1\.|layer\d\.)", "backbone.")
    backbone = _depth(names)
    _all_known(names)
    usual: dict[str, Any] = {"pooling": "average", "height": 256, "width": 128}
    if own_neck:
        fixed |= {
            "last_stride": 1,
            "stem_relu": in_base,
            "interpolation": "bicubic",
        }  # one of their two classes has no ReLU there
        return _found("a model of the paper's authors", backbone, names, fixed, usual)
    if layer:
        return _found("torchreid's ResNet with a layer of its own", backbone, names, fixed, usual | {"last_stride": 1})
    if tricks:
        del fixed["neck"]
        like = ("bag-of-tricks", "transreid-resnet")
        title = 'a ResNet with the names of "Bag of Tricks"'
        return _found(
            title, backbone, names, fixed, usual, open=("stem_pooling", "stem_relu", "last_stride", "neck"), like=like
        )
    like = ("torchvision", "torchreid")
    return _found("a ResNet with torchvision's names", backbone, names, fixed, usual, open=("last_stride",), like=like)


def _depth(names: _Names) -> str:
    stages = [
        len({name.split(".")[2] for name in names.state if name.startswith(f"backbone.layer{n}.")}) for n in range(1, 5)
    ]
    first, second, third, fourth = stages
    backbone = DEPTHS.get(("backbone.layer1.0.conv3.weight" in names.state, first, second, third, fourth))
    wide = names.state.get("backbone.layer1.0.conv2.weight")
    if backbone is None or wide is None or wide.shape[:2] != (64, 64):
        raise ModelError(
            f"{names.source} is a ResNet of {'-'.join(map(str, stages))} blocks or other widths, which this program "
            "can't build.",
            "Use one of 18, 34, 50 or 101 layers, or export it as ONNX where it was trained, and import that.",
        )
    return f"{backbone}{IBN}" if "backbone.layer1.0.bn1.IN.weight" in names.state else backbone


def _fast_reid(names: _Names) -> Published:
    """fast-reid's ResNets: BoT, AGW, SBS; https://github.com/JDAI-CV/fast-reid."""
    if not names.has(r"^backbone\.layer4\.0\.conv1\.weight$"):
        _refuse_unread(names)
        raise ModelError(
            f"{names.source} is a fast-reid model on another network than a ResNet, which this program can't build.",
            "Export it as ONNX with fast-reid's tools/deploy, and import that.",
        )
    if names.has(r"\.se\.|conv1\.0\.|^b1") or names.has(r"^heads\.(b\d|bnneck\.\d)"):
        _refuse_unread(names)
    fixed: dict[str, Any] = {"stem_pooling": "ceil", "stem_relu": True, "dimension": None, "interpolation": "bicubic"}
    usual: dict[str, Any] = {"last_stride": 1, "height": 256, "width": 128}
    fixed["non_local"] = names.has(r"^backbone\.NL_")
    for key, buffer in (("mean", "pixel_mean"), ("std", "pixel_std")):
        if buffer in names.left:
            fixed[key] = tuple(round(each, 6) for each in (names.left.pop(buffer).double().flatten() / 255).tolist())
    if "heads.pool_layer.p" in names.left:
        fixed["pooling"] = "gem"
        names.state["pool.power"] = names.left.pop("heads.pool_layer.p").reshape(())
        usual |= {"height": 384, "width": 128}
        title = "fast-reid's SBS"
    elif fixed["non_local"]:
        usual["pooling"] = "gem"
        names.state["pool.power"] = torch.tensor(3.0)
        title = "fast-reid's AGW"
    else:
        usual["pooling"] = "average"
        title = "fast-reid's BoT"
    reduced = names.left.get("heads.bottleneck.0.weight")
    if reduced is not None and reduced.ndim == 4:
        fixed["dimension"] = reduced.shape[0]
        names.state["projection.weight"] = names.left.pop("heads.bottleneck.0.weight").flatten(1)
        names.left.pop("heads.bottleneck.0.bias", None)
    names.take(r"heads\.(bottleneck\.[01]|bnneck|bottleneck)\.", "neck.")
    fixed["neck"] = "neck.running_mean" in names.state
    names.drop(r"heads\.(weight|classifier|cls_layer)")
    names.take(r"backbone\.", "backbone.")
    backbone = _depth(names)
    _all_known(names)
    return _found(title, backbone, names, fixed, usual)


def _osnet(names: _Names) -> Published:
    """OSNets of https://github.com/KaiyangZhou/deep-person-reid. Their embedding is that of `fc`, behind its ReLU."""
    fixed: dict[str, Any] = {"neck": False, "dimension": None}
    if names.has(r"^fc\.0\.weight$"):
        fixed |= _fully_connected(names)
    names.drop(r"classifier\.")
    names.take(rf"{BACKBONE.pattern}conv(?=[1-5]\.)", "backbone.conv")
    names.take(rf"{BACKBONE.pattern}pool([23])\.0\.", r"backbone.conv\1.2.0.")
    kind = "osnet"
    if "backbone.conv2.0.conv2.0.layers.0.conv1.weight" in names.state:
        kind = "osnet_ain"
        names.state = {_stream(name): value for name, value in names.state.items()}
    elif "backbone.conv2.0.IN.weight" in names.state:
        kind = "osnet_ibn"
    widths = tuple(
        names.state[f"backbone.{conv}.weight"].shape[0] if f"backbone.{conv}.weight" in names.state else 0
        for conv in ("conv1.conv", "conv2.0.conv3.conv", "conv3.0.conv3.conv", "conv4.0.conv3.conv")
    )
    width = next((name for name, each in OSNET_WIDTHS.items() if each == widths), None)
    if width is None or (kind == "osnet_ibn" and width != "x1_0"):
        raise ModelError(
            f"{names.source} is an {kind} of {'-'.join(map(str, widths))} channels, which this program can't build.",
            "torchreid's have a width of 1, 0.75, 0.5 or 0.25; export it as ONNX, and import that.",
        )
    _all_known(names)
    usual = {"pooling": "average", "height": 256, "width": 128}
    return _found(f"torchreid's {kind}_{width}", f"{kind}_{width}", names, fixed, usual)


def _stream(name: str) -> str:
    """A parameter of OSNet-AIN's streams of light convolutions, `conv2.2.layers.1`, as OSNet names it: `conv2c.1`."""

    def renamed(match: re.Match[str]) -> str:
        stream, number = int(match[1]), match[2]
        return f".conv2{'abcd'[stream]}." if stream == 0 else f".conv2{'abcd'[stream]}.{number}."

    return re.sub(r"\.conv2\.([0-3])\.layers\.([0-3])\.", renamed, name)


def _fully_connected(names: _Names) -> dict[str, Any]:
    """The layer that torchreid has behind the pooling: linear, batch norm, ReLU; the bias goes into the norm's mean."""
    if names.has(r"^fc\.3\."):
        raise ModelError(
            f"{names.source} has more than one layer behind its pooling, which this program can't build.",
            "Export it as ONNX where it was trained, and import that.",
        )
    weight, bias = names.left.pop("fc.0.weight"), names.left.pop("fc.0.bias", None)
    names.take(r"fc\.1\.", "neck.0.")
    names.state["projection.weight"] = weight
    if bias is not None and "neck.0.running_mean" in names.state:
        names.state["neck.0.running_mean"] = names.state["neck.0.running_mean"] - bias
    return {"dimension": weight.shape[0], "neck": True, "neck_relu": True}


BLOCKS = {
    r"ln_1\.|norm1\.": "ln_1.",
    r"ln_2\.|norm2\.": "ln_2.",
    r"attn\.qkv\.": "self_attention.in_proj_",
    r"attn\.in_proj_": "self_attention.in_proj_",
    r"attn\.(out_proj|proj)\.": "self_attention.out_proj.",
    r"mlp\.(c_fc|fc1)\.": "mlp.0.",
    r"mlp\.(c_proj|fc2)\.": "mlp.3.",
}
"""What CLIP and timm call the parameters of a transformer's block, and torchvision."""


def _block(names: _Names, prefix: str, target: str) -> None:
    for pattern, replacement in BLOCKS.items():
        names.take(f"{prefix}(?:{pattern})", f"{target}{replacement}")


def _trans_reid(names: _Names) -> Published:
    """TransReID's ViT-B/16 with or without jigsaw patches; https://github.com/damo-cv/TransReID."""
    blocks = len({name.split(".")[2] for name in names.left if name.startswith("base.blocks.")})
    channels = names.left["base.cls_token"].shape[-1]
    if (blocks, channels) != (12, 768):
        raise ModelError(
            f"{names.source} is TransReID's transformer of {blocks} blocks and {channels} channels, which is not built "
            "here.",
            "Use its ViT-B/16, or export it as ONNX where it was trained, and import that.",
        )
    parts = names.has(r"^b1\.0\.") and names.has(r"^b2\.0\.")
    positions = names.left.pop("base.pos_embed")
    cameras = names.left.pop("base.sie_embed", None)
    fixed: dict[str, Any] = _grid(names, positions.shape[1] - 1) | {"dimension": None}
    if parts and fixed["height"] == fixed["width"]:
        raise ModelError(
            f"{names.source} is TransReID with parts for square images, which its authors use for vehicles only.",
            "Export it as ONNX where it was trained, and import that.",
        )
    names.state["backbone.encoder.pos_embedding"] = positions
    names.state["backbone.class_token"] = names.left.pop("base.cls_token")
    names.take(r"base\.patch_embed\.proj\.", "backbone.conv_proj.")
    for number in range(11 if parts else 12):
        _block(names, rf"base\.blocks\.{number}\.", f"backbone.encoder.layers.encoder_layer_{number}.")
    if parts:
        for number, name in enumerate(("b1", "b2")):
            _block(names, rf"{name}\.0\.", f"backbone.parts.{number}.0.")
            names.take(rf"{name}\.1\.", f"backbone.parts.{number}.1.")
        names.drop(r"base\.(blocks\.11|norm)\.")
    else:
        names.take(r"base\.norm\.", "backbone.encoder.ln.")
    names.drop(r"base\.(fc|head)", told=False)  # which it never uses
    names.drop(r"classifier")
    _necks(names, ["bottleneck", *(f"bottleneck_{number}" for number in range(1, 5) if parts)])
    _all_known(names)
    return _found(
        f"TransReID's ViT-B/16{' with jigsaw patches' if parts else ''}",
        "transreid_jpm_vit_b_16" if parts else "transreid_vit_b_16",
        names,
        fixed,
        {"neck": False, "pooling": "average"},
        open=("mean", "std", *(["camera"] if cameras is not None else [])),
        like=("transreid-vit", "transreid-deit"),
        cameras=cameras,
        camera_target="backbone.encoder.pos_embedding",
    )


def _clip_reid(names: _Names) -> Published:
    """CLIP-ReID's ViT-B/16; https://github.com/Syliz517/CLIP-ReID."""
    token = names.left.pop("image_encoder.class_embedding")
    positions = names.left.pop("image_encoder.positional_embedding")
    projection = names.left.get("image_encoder.proj")
    if token.shape != (768,) or projection is None or projection.shape != (768, 512):
        raise ModelError(
            f"{names.source} is CLIP-ReID's transformer of {token.shape[-1]} channels, which this program can't build.",
            "Export it as ONNX where it was trained, and import that.",
        )
    cameras = names.left.pop("cv_embed", None)
    fixed: dict[str, Any] = _grid(names, positions.shape[0] - 1) | {"dimension": None}
    names.state["backbone.class_token"] = token.view(1, 1, -1)
    names.state["backbone.encoder.pos_embedding"] = positions.unsqueeze(0)
    names.state["backbone.projection.weight"] = names.left.pop("image_encoder.proj").T.contiguous()
    names.take(r"image_encoder\.conv1\.", "backbone.conv_proj.")
    names.take(r"image_encoder\.ln_pre\.", "backbone.before.")
    names.take(r"image_encoder\.ln_post\.", "backbone.encoder.ln.")
    for number in range(12):
        _block(
            names,
            rf"image_encoder\.transformer\.resblocks\.{number}\.",
            f"backbone.encoder.layers.encoder_layer_{number}.",
        )
    names.drop(r"(classifier|prompt_learner\.|text_encoder\.)")
    _necks(names, ["bottleneck", "bottleneck_proj"])
    _all_known(names)
    usual = {"neck": False, "pooling": "average", "mean": HALVES, "std": HALVES}
    return _found(
        "CLIP-ReID's ViT-B/16",
        "clip_reid_vit_b_16",
        names,
        fixed,
        usual,
        open=("camera",) if cameras is not None else (),
        cameras=cameras,
        camera_target="backbone.class_token",
    )


GRIDS = {
    ((height - 16) // stride + 1) * ((width - 16) // stride + 1): (height, width, stride)
    for height, width in ((256, 256), (384, 128), (256, 128))
    for stride in (16, 14, 12)
}
"""Image size and patch stride by the number of patches, of what TransReID and CLIP-ReID published; all differ."""


def _grid(names: _Names, patches: int) -> dict[str, Any]:
    if patches not in GRIDS:
        raise ModelError(
            f"{names.source} has positions for {patches} patches, a size that its family never published.",
            "256×128, 384×128 and 256×256 pixels in steps of 16, 14 or 12 are known; export another as ONNX.",
        )
    height, width, stride = GRIDS[patches]
    if height == width:
        names.notes.append(
            "It takes square images, as its family has them for vehicles: nothing says it is for people."
        )
    return {"height": height, "width": width, "patch_stride": stride}


def _necks(names: _Names, parts: Iterable[str]) -> None:
    """Several batch norms, of one part of the embedding each, as one; a part that is divided by 4 keeps its scale."""
    for name in ("weight", "bias", "running_mean", "running_var"):
        found = []
        for number, part in enumerate(parts):
            value = names.left.pop(f"{part}.{name}", None)
            if value is not None:
                quarter = number > 0 and "proj" not in part and name in ("bias", "running_mean")
                found.append(value / 4 if quarter else value)
        if found:
            names.state[f"neck.{name}"] = torch.cat(found)
    names.drop(r"bottleneck(_\w+)?\.num_batches_tracked$")


def _all_known(names: _Names) -> None:
    if names.left:
        _refuse_unread(names)
        raise ModelError(
            f"{names.source} does not fit any network here: it has unknown {name_some(sorted(names.left))}.",
            "It is not the network that its other names suggest: export it as ONNX where it was trained, import that.",
        )


def _of_classes(name: str, value: Tensor) -> list[str]:
    """What the size of a classifier tells."""
    if not CLASSIFIERS.match(name) or value.ndim != 2:
        return []
    classes = value.shape[0]
    told = f"Its classifier had {classes:,} classes"
    if classes in VEHICLES:
        return [f"{told}, as many as {VEHICLES[classes]} has vehicles to train on: it may not be for people."]
    if classes in PEOPLE:
        return [f"{told}, as many as {PEOPLE[classes]} has people to train on."]
    if classes == 1000:
        return [f"{told}, as many as ImageNet has: it may not have learnt to tell people apart."]
    return [f"{told}; nothing in the file says of whom, or that they are people."]


def name_some(names: Sequence[str], most: int = 3) -> str:
    """The first few of several names, for people, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(visible(name) for name in names[:most])}{more}"


def twice(source: str, place: str, first: str, second: str) -> ModelError:
    """The error of a file that holds one parameter under two names."""
    return ModelError(
        f"{source} holds {visible(place)} twice, as {visible(first)} and as {visible(second)}.",
        "Give a file that holds one network.",
    )


def _found(
    family: str, backbone: str, names: _Names, fixed: Mapping[str, Any], usual: Mapping[str, Any], **more: Any
) -> Published:
    dropped, notes = tuple(sorted(names.dropped)), tuple(dict.fromkeys(names.notes))
    return Published(family, backbone, names.state, fixed, usual, dropped=dropped, notes=notes, **more)
