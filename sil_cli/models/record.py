"""What is known of a model without building it: `model.json`, an export's `export.json`, and where the files lie."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sil_cli.data.images import Interpolation
from sil_cli.defaults import EXPORT_FILE, RECORD_FILE
from sil_cli.errors import ModelError, one_line
from sil_cli.files import open_file, read_json, require_reachable, sha256_of_bytes
from sil_cli.models.engines.engine import SAME_MODEL
from sil_cli.runtime import cpu_kind

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
WEIGHTS_FILE = "model.safetensors"
IMAGENET, NONE = "imagenet", "none"
"""Weights to begin with that are no file."""
OTHER_MODEL = "Point --model at a finished run, or train one with `sil train`."


class Normalisation(NamedTuple):
    """What images are normalised by: (value − mean) / std of each channel of RGB values in 0..1."""

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


StemPooling = Literal["padded", "ceil", "even"]
"""Of a ResNet's max pooling: 3×3 with a border, as published; 3×3 without one, rounding up; 2×2."""


class Architecture(BaseModel):
    """What must be known to build an embedder and to feed it.

    Attributes:
        backbone: The network's name, see `backbones.names`.
        last_stride: Stride of its last stage.
        stem_relu: ReLU after its first batch norm.
        stem_pooling: Max pooling in its stem.
        non_local: Non-local blocks in its second and third stages.
        patch_stride: Of a transformer's patches, in pixels; below 16 they overlap.
        pooling: How maps become vectors.
        neck: A batch norm without a shift before the embedding is normalised.
        neck_relu: ReLU after it.
        dimension: Length of an embedding; None: the channels of the backbone's map, without a linear layer.
        height: Input height in pixels.
        width: Input width in pixels.
        interpolation: By which images are resized to that.
        mean: Per channel, subtracted from RGB values in 0..1.
        std: Per channel, divided by afterwards.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str
    last_stride: Literal[1, 2] = 1
    stem_relu: bool = True
    stem_pooling: StemPooling = "padded"
    non_local: bool = False
    patch_stride: int = Field(16, ge=1, le=16)
    pooling: Literal["average", "gem"] = "average"
    neck: bool = True
    neck_relu: bool = False
    dimension: int | None = Field(None, ge=1, le=65_536)
    height: int = Field(ge=1, le=2048)
    width: int = Field(ge=1, le=2048)
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


HALVES = (0.5, 0.5, 0.5)

LIKE: dict[str, dict[str, Any]] = {
    "torchvision": {"last_stride": 2},
    "torchreid": {"last_stride": 2},
    "bag-of-tricks": {"stem_relu": False, "stem_pooling": "padded", "last_stride": 1, "neck": True},
    "transreid-resnet": {"stem_relu": False, "stem_pooling": "even", "last_stride": 1, "neck": True},
    "transreid-vit": {"mean": HALVES, "std": HALVES},
    "transreid-deit": {"mean": IMAGENET_MEAN, "std": IMAGENET_STD},
}
"""What `--like NAME` says of a file whose names leave it open, as that code's configurations have it."""


WITHDRAWN = {"duke": "DukeMTMC-reID: its authors withdrew it in 2019, as the people in it had not been asked"}
"""Data sets that should not be used any more, by a part of their names, and why."""


class ModelCard(BaseModel):
    """Where a model came from.

    Attributes:
        source: The address or the name of its file.
        sha256: That file's checksum.
        family: Whose code wrote it, in words.
        licence: As whoever published or imported it states; None where nobody did.
        trained_on: The data sets that it learnt from, likewise.
        notes: What the file itself tells of that.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    sha256: str
    family: str = ""
    licence: str | None = None
    trained_on: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """What whoever uses the model should know of its training data."""
        stated, told = (" ".join(each).lower() for each in (self.trained_on, self.notes))
        return [
            f"This model {'learnt' if part in stated else 'may have learnt'} from {why}."
            for part, why in WITHDRAWN.items()
            if part in stated or part in told
        ]

    def __str__(self) -> str:
        """The card in one line."""
        learnt = ", ".join(self.trained_on) or "unknown data"
        return f"{self.source} (SHA-256 {self.sha256[:12]}…), licence {self.licence or 'unknown'}, trained on {learnt}"


NEWER = {"stem_pooling", "non_local", "patch_stride", "neck_relu", "interpolation"}
"""Fields of `Architecture` that came with published models."""


class ModelRecord(BaseModel):
    """What `model.json` says.

    Attributes:
        architecture: How to build and feed the model.
        dimension: Length of an embedding.
        fingerprint: SHA-256 over the architecture and the weights file; two models with the same fingerprint
            give the same embeddings.
        card: Where a model that was imported came from; None for one that was trained here.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    architecture: Architecture
    dimension: int = Field(ge=1, le=65_536)
    fingerprint: str
    card: ModelCard | None = None

    def document(self) -> dict[str, Any]:
        """What `model.json` holds; what earlier versions don't know is written only where it says something."""
        plain = NEWER - self.architecture.model_dump(exclude_defaults=True).keys()
        return self.model_dump(mode="json", exclude={"architecture": plain, **({} if self.card else {"card": True})})


def read_record(folder: Path) -> ModelRecord:
    """Read the record of the model in `folder`.

    Raises:
        ModelError: It is missing, of another format, or an imported graph's.
        SilError: It is damaged.
    """
    require_reachable(folder / RECORD_FILE)
    if not (folder / RECORD_FILE).is_file():
        if (export := export_beside(folder)) is not None and read_export(export).foreign is not None:
            raise ModelError(
                f"{folder} is an imported graph: it has no weights that torch could train, export or look into.",
                "Use it to evaluate, calibrate, index and query; for more, import the weights that it was made from.",
            )
        raise ModelError(f"{folder} holds no finished model: {RECORD_FILE} is missing.", OTHER_MODEL)
    try:
        return ModelRecord.model_validate(read_json(folder / RECORD_FILE, what="a model's record", fix=OTHER_MODEL))
    except ValidationError as error:
        raise ModelError(f"{folder / RECORD_FILE} is not a record that this version reads.", OTHER_MODEL) from error


def fingerprint_of(architecture: Architecture, weights: bytes) -> str:
    """The fingerprint of a model: its architecture and the bytes of its weights file."""
    # Fields that came later count only where they say something new, so that models made before keep their name.
    later = NEWER | {"pooling", "neck", "dimension"}
    plain = later - architecture.model_dump(exclude_defaults=True).keys()
    described = architecture.model_dump_json(exclude=plain).encode()
    return hashlib.sha256(described + sha256_of_bytes(weights).encode()).hexdigest()


ExportPrecision = Literal["float32", "int8"]
GRAPH_FILES: dict[ExportPrecision, str] = {"float32": "model.onnx", "int8": "model-int8.onnx"}
RECORD_FILES: dict[ExportPrecision, str] = {"float32": EXPORT_FILE, "int8": "export-int8.json"}
GRAPH_SUFFIX = ".onnx"
IR_SUFFIX = ".xml"
LARGEST_GRAPH = 2 * 2**30
"""Bytes of a graph with all its data: as many as one protobuf message can have."""

AGAIN = "Export the model again with `sil export`."
IMPORT_AGAIN = "Import the graph again with `sil import-model`."
Cosine = Annotated[float, Field(ge=-1.001, le=1.001)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Deviation = Annotated[float, Field(gt=0, allow_inf_nan=False)]


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


class ForeignGraph(BaseModel):
    """What has to be known of a graph that this program did not make, to feed it with pixels and to take its result.

    What goes in is (value / scale − mean) / std of each channel of RGB values in 0..255.

    Attributes:
        input: The name of its input.
        output: The name of the output that is the embedding.
        layout: The order of the input's axes.
        type: What the input consists of.
        batch: How many images it takes at once; None for any number.
        bgr: Whether its channels are blue, green, red.
        scale: What values are divided by first.
        mean: Of red, green and blue, what is subtracted then.
        std: And what the result is divided by.
        data: The files beside it that hold its values, by name, with their checksums.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: str
    output: str
    layout: Literal["NCHW", "NHWC"]
    type: Literal["float32", "float16", "float64", "uint8"]
    batch: int | None = Field(None, ge=1)
    bgr: bool = False
    scale: float = Field(255.0, gt=0, allow_inf_nan=False)
    mean: tuple[Finite, Finite, Finite] = IMAGENET_MEAN
    std: tuple[Deviation, Deviation, Deviation] = IMAGENET_STD
    data: dict[str, str] = {}

    def fingerprint(self, graph: str, height: int, width: int) -> str:
        """Of the network: its files, and how images become its input.

        Args:
            graph: The graph file's checksum.
            height: Of its input.
            width: Of its input.
        """
        return hashlib.sha256(f"{graph} {height}x{width} {self.model_dump_json()}".encode()).hexdigest()


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
        foreign: How to use a graph that was imported; None where `sil export` made it, which takes pixels.
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
    foreign: ForeignGraph | None = None

    @model_validator(mode="after")
    def _stays_in_its_folder(self) -> Self:
        suffixes = (GRAPH_SUFFIX,) if self.foreign is None else (GRAPH_SUFFIX, IR_SUFFIX)
        if not self.file.endswith(suffixes) or any(Path(name).name != name for name in self.files):
            raise ValueError("`file` is not the name of a graph")
        return self

    @model_validator(mode="after")
    def _is_what_its_fingerprint_says(self) -> Self:
        size = self.model.architecture
        if self.foreign and self.foreign.fingerprint(self.sha256, size.height, size.width) != self.model.fingerprint:
            raise ValueError("the fingerprint is another graph's")
        return self

    @property
    def files(self) -> dict[str, str]:
        """The graph and what belongs to it: names with checksums."""
        return {self.file: self.sha256, **(self.foreign.data if self.foreign else {})}

    @property
    def again(self) -> str:
        """What to do where its files are not right."""
        return IMPORT_AGAIN if self.foreign else AGAIN

    @property
    def engines(self) -> tuple[Literal["onnxruntime", "openvino"], ...]:
        """What can compute it."""
        return ("openvino",) if self.file.endswith(IR_SUFFIX) else ("onnxruntime", "openvino")

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
        f"{graph} has no record: no {EXPORT_FILE} beside it names this file.",
        f"Make a model of it with `sil import-model {shlex.quote(str(graph))} --out DIR`; "
        "`sil export` writes graph and record.",
    )


def is_graph(path: Path) -> bool:
    """Whether a file is a graph and not a table of weights: by what it begins with, or else by its name."""
    named = path.suffix.lower() in (GRAPH_SUFFIX, IR_SUFFIX)
    try:
        with open_file(path) as stream:
            head = stream.read(64)
    except OSError:
        return named
    safetensors = head[8:9] == b"{" and int.from_bytes(head[:8], "little") < LARGEST_GRAPH
    if safetensors or head.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04")):  # zip archives, pickles
        return False
    xml = head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<?xml", b"<net"))
    return named or xml or re.match(rb"\x08[\x03-\x1f][\x12\x1a\x3a\x42]", head) is not None


def read_part(file: Path, fix: str) -> bytes:
    """The content of a graph file, or of one that holds values of it.

    Args:
        file: A regular file.
        fix: What to do where it can't be read.

    Raises:
        ModelError: It can't, or is larger than any that is used.
    """
    try:
        with open_file(file) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size <= LARGEST_GRAPH:
                return stream.read()
    except OSError as error:
        raise ModelError(f"{file} can't be read: {one_line(error)}.", fix) from error
    raise ModelError(
        f"{file} holds {size / 2**30:.1f} GiB; a graph may have {LARGEST_GRAPH / 2**30:.0f} GiB with its values.",
        "Use a smaller network, or export it in float16.",
    )


def read_graph(path: Path, record: ExportRecord) -> dict[str, bytes]:
    """The content of the graph's files by name, compared with the record's checksums before anything parses them.

    Args:
        path: The record's.
        record: What it says.

    Raises:
        ModelError: A file is missing, cut short, too large, or not the one that was exported.
    """
    found = {}
    for name, checksum in record.files.items():
        file = path.parent / name
        content = read_part(file, record.again)
        if sha256_of_bytes(content) != checksum:
            raise ModelError(
                f"{file} is damaged or was replaced: it is not the file that {path.name} records.", record.again
            )
        found[name] = content
    return found


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
    if path.suffix in (GRAPH_SUFFIX, IR_SUFFIX):
        return ModelFiles(export=record_of_graph(path))
    if path.suffix == ".json" and path.name != RECORD_FILE:
        return ModelFiles(export=path)
    folder = path.parent if path.name == RECORD_FILE else path
    require_reachable(folder / RECORD_FILE)
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


def fingerprint_at(path: Path, engine: str = "auto") -> str:
    """The fingerprint of the model at `path`; of an export without weights, as this engine computes it.

    Raises:
        ModelError: There is no model.
        SilError: A record is damaged.
    """
    files = find_model(path)
    if files.folder is None and files.export is not None:
        return read_export(files.export).fingerprint_with(engine)
    return read_record(files.folder or path).fingerprint
