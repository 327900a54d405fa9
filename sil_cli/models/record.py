"""What is known of a model without building it: `model.json`, an export's `export.json`, and where the files lie."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sil_cli.defaults import RECORD_FILE
from sil_cli.errors import ModelError
from sil_cli.files import one_line, read_bytes, read_json, sha256_of_bytes
from sil_cli.models.engines.engine import SAME_MODEL
from sil_cli.runtime import cpu_kind

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


ExportPrecision = Literal["float32", "int8"]
GRAPH_FILES: dict[ExportPrecision, str] = {"float32": "model.onnx", "int8": "model-int8.onnx"}
RECORD_FILES: dict[ExportPrecision, str] = {"float32": "export.json", "int8": "export-int8.json"}
GRAPH_SUFFIX = ".onnx"
AGAIN = "Export the model again with `sil export`."
Cosine = Annotated[float, Field(ge=-1.001, le=1.001)]


class Agreement(BaseModel):
    """Cosine similarities between embeddings of the same crops, computed in one way and by torch in float32.

    Attributes:
        min: Of the crop on which the two differ most.
        mean: Over all crops.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    min: Cosine
    mean: Cosine


OPENVINO_BFLOAT16 = "openvino bfloat16"

FAILED = Agreement(min=-1.0, mean=-1.0)
"""Of an engine that failed, or gave NaN or infinite embeddings."""


class Float32Prefix(BaseModel):
    """The beginning of a network, which OpenVINO computes in float32 while all that follows is bfloat16.

    Attributes:
        until: The tensor that ends it, by its name in the ONNX file.
        share: Of the network's multiply-adds that it takes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    until: str
    share: float = Field(ge=0, le=1)


def described(how: str, prefix: Float32Prefix | None) -> str:
    """A way to compute an export, for people: OpenVINO's bfloat16 with what it leaves in float32."""
    return f"{how} ({prefix.share:.0%} of it float32)" if prefix and how == OPENVINO_BFLOAT16 else how


class ExportRecord(BaseModel):
    """What `export.json` says.

    Attributes:
        model: The record of the model that was exported.
        precision: Of the network's arithmetic in the file.
        file: The name of the ONNX file beside the record.
        sha256: Its checksum.
        opset: Its ONNX operator set.
        crops: How many crops the agreement was measured on.
        measured_on: Which, in words.
        agreement: By engine and precision ("openvino bfloat16"), measured on the exporting machine.
        float32_front: The prefix that OpenVINO's bfloat16 leaves in float32, so that it agrees; None for none.
        cpu: That machine's `cpu_kind`.
        versions: Of the packages that made the file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["sil-export"] = "sil-export"
    version: Literal[1] = 1
    model: ModelRecord
    precision: ExportPrecision
    file: str
    sha256: str
    opset: int
    crops: int = Field(ge=1)
    measured_on: str
    agreement: dict[str, Agreement]
    float32_front: Float32Prefix | None = None
    cpu: str = ""
    versions: dict[str, str]

    @model_validator(mode="after")
    def _stays_in_its_folder(self) -> Self:
        if Path(self.file).name != self.file or not self.file.endswith(GRAPH_SUFFIX):
            raise ValueError("`file` is not the name of an ONNX file")
        return self

    def fingerprint_with(self, engine: str) -> str:
        """The source model's in float32; int8 is a model of its own with every engine, as each rounds differently."""
        if self.precision == "float32":
            return self.model.fingerprint
        described = f"{self.model.fingerprint} {self.precision} {self.sha256} {engine}"
        return hashlib.sha256(described.encode()).hexdigest()

    def measured(self, how: str) -> Agreement | None:
        """How well a way to compute it ("openvino bfloat16") agrees with torch; None where that is unknown here.

        What was measured elsewhere says nothing: with AMX, oneDNN gets strided convolutions of narrow maps wrong in
        bfloat16, and without AMX right.
        """
        return self.agreement.get(how) if self.cpu == cpu_kind() else None

    def agrees(self, how: str) -> bool:
        """Whether computing it like this was measured to be the same model."""
        measured = self.measured(how)
        return measured is not None and measured.min >= SAME_MODEL

    def differs(self, how: str) -> bool:
        """Whether computing it like this failed or was measured to be another model (which int8 is by itself)."""
        measured = self.measured(how)
        return measured == FAILED or (measured is not None and self.precision == "float32" and not self.agrees(how))


def read_export(path: Path) -> ExportRecord:
    """Read an export's record.

    Raises:
        ModelError: It is not one that this version reads.
        SilError: It is missing or damaged.
    """
    try:
        return ExportRecord.model_validate(read_json(path, what="an export's record", fix=AGAIN))
    except ValidationError as error:
        raise ModelError(f"{path} is not an export's record that this version reads.", AGAIN) from error


def export_beside(folder: Path, precision: ExportPrecision = "float32") -> Path | None:
    """The record of the export in a model's folder, None where there is none."""
    path = folder / RECORD_FILES[precision]
    return path if path.is_file() else None


def record_of_graph(graph: Path) -> Path:
    """The record that names an ONNX file.

    Raises:
        ModelError: None does, so nothing is known of the model's input, output or origin.
        SilError: A record beside it is damaged.
    """
    for name in RECORD_FILES.values():
        path = graph.parent / name
        if path.is_file() and read_export(path).file == graph.name:
            return path
    raise ModelError(
        f"{graph} has no record: no export.json beside it names this file.",
        "Keep both together; `sil export --model RUN` writes both.",
    )


def read_graph(path: Path, record: ExportRecord) -> bytes:
    """The ONNX file's content, compared with its record's checksum before anything parses it.

    Args:
        path: The record's.
        record: What it says.

    Raises:
        ModelError: The file is missing, cut short, or not the one that was exported.
    """
    graph = path.parent / record.file
    try:
        content = read_bytes(graph)
    except OSError as error:
        raise ModelError(f"{graph} can't be read: {one_line(error)}.", AGAIN) from error
    if sha256_of_bytes(content) != record.sha256:
        raise ModelError(f"{graph} is damaged or was replaced: it is not the file that {path.name} records.", AGAIN)
    return content


@dataclass(frozen=True)
class ModelFiles:
    """Where the files of a model are, whichever of them the user named.

    Attributes:
        folder: Holds weights and `model.json`; None where there is only an export.
        export: The record of an export; None where there is none.
    """

    folder: Path | None = None
    export: Path | None = None


def find_model(path: Path) -> ModelFiles:
    """The files of the model at `path`: a folder, its weights, an ONNX file, or an export's record.

    Raises:
        ModelError: There is no model.
        SilError: A record is damaged.
    """
    if path.name == WEIGHTS_FILE:
        return ModelFiles(folder=path.parent)
    if path.suffix == GRAPH_SUFFIX:
        return ModelFiles(export=record_of_graph(path))
    if path.suffix == ".json" and path.name != RECORD_FILE:
        return ModelFiles(export=path)
    folder = path.parent if path.name == RECORD_FILE else path
    export = export_beside(folder)
    if (folder / RECORD_FILE).is_file():
        return ModelFiles(folder=folder, export=export)
    export = export or export_beside(folder, "int8")
    if export is None:
        raise ModelError(
            f"{path} holds no finished model: {RECORD_FILE} is missing, and there is no export.",
            OTHER_MODEL,
        )
    return ModelFiles(export=export)
