"""What is known of a model without building it: `model.json`. Needs no torch."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sil_cli.defaults import RECORD_FILE
from sil_cli.errors import ModelError
from sil_cli.files import read_json, sha256_of_bytes

if TYPE_CHECKING:
    from pathlib import Path

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
WEIGHTS_FILE = "model.safetensors"
OTHER_MODEL = "Point --model at a finished run, or train one with `sil train`."


class Normalisation(NamedTuple):
    """What images are normalised by: (value − mean) / std of each channel of RGB values in 0..1."""

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


class Architecture(BaseModel):
    """What must be known to build an embedder and to feed it.

    Attributes:
        backbone: The network's name, see `backbones.names`.
        last_stride: Stride of its last stage.
        stem_relu: ReLU after its first batch norm.
        pooling: How maps become vectors.
        neck: A batch norm without a shift before the embedding is normalised.
        dimension: Length of an embedding; None: the channels of the backbone's map, without a linear layer.
        height: Input height in pixels.
        width: Input width in pixels.
        mean: Per channel, subtracted from RGB values in 0..1.
        std: Per channel, divided by afterwards.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str
    last_stride: Literal[1, 2] = 1
    stem_relu: bool = True
    pooling: Literal["average", "gem"] = "average"
    neck: bool = True
    dimension: int | None = Field(None, ge=1)
    height: int
    width: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


class ModelRecord(BaseModel):
    """What `model.json` says.

    Attributes:
        architecture: How to build and feed the model.
        dimension: Length of an embedding.
        fingerprint: SHA-256 over the architecture and the weights file; two models with the same fingerprint
            give the same embeddings.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    architecture: Architecture
    dimension: int
    fingerprint: str


def read_record(folder: Path) -> ModelRecord:
    """Read the record of the model in `folder`.

    Raises:
        ModelError: It is missing, or of another format.
        SilError: It is damaged.
    """
    if not (folder / RECORD_FILE).is_file():
        raise ModelError(f"{folder} holds no finished model: {RECORD_FILE} is missing.", OTHER_MODEL)
    try:
        return ModelRecord.model_validate(read_json(folder / RECORD_FILE, what="a model's record", fix=OTHER_MODEL))
    except ValidationError as error:
        raise ModelError(f"{folder / RECORD_FILE} is not a record that this version reads.", OTHER_MODEL) from error


def fingerprint_of(architecture: Architecture, weights: bytes) -> str:
    """The fingerprint of a model: its architecture and the bytes of its weights file."""
    # Fields that came later count only where they say something new, so that models made before keep their name.
    later = {"pooling", "neck", "dimension"}
    plain = later - architecture.model_dump(exclude_defaults=True).keys()
    described = architecture.model_dump_json(exclude=plain).encode()
    return hashlib.sha256(described + sha256_of_bytes(weights).encode()).hexdigest()
