"""What `sil export` returns: the document that `--json` prints."""

from __future__ import annotations

from pathlib import Path

from sil_cli.models.export_record import Agreement, ExportPrecision, Float32Front
from sil_cli.results import Result


class ExportResult(Result):
    """The outcome of `sil export`.

    Attributes:
        model: What was exported.
        file: The ONNX file.
        record: The record beside it.
        bytes: The file's size.
        fingerprint: Of the source model.
        crops: How many crops embeddings were compared on.
        measured_on: Which.
        agreement: By engine and precision, cosines to torch's float32 embeddings.
        float32_front: What OpenVINO's bfloat16 leaves in float32, so that it agrees; None for nothing.
    """

    model: Path
    file: Path
    record: Path
    bytes: int
    precision: ExportPrecision
    fingerprint: str
    opset: int
    height: int
    width: int
    crops: int
    measured_on: str
    agreement: dict[str, Agreement]
    float32_front: Float32Front | None
