"""`sil export`: from a trained model to an ONNX file that needs no torch, compared with it on crops."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.data.images import pixels_in
from sil_cli.defaults import RECORD_FILE, model_folder
from sil_cli.errors import ModelError, SilError, UsageError, one_line
from sil_cli.files import sha256_of_bytes, write_bytes, write_json
from sil_cli.installing import extra_command, install_command
from sil_cli.models.engines.agreement import Crops, crops_of, drawn_crops, given_crops, with_agreement
from sil_cli.models.engines.engine import SAME_MODEL
from sil_cli.models.record import (
    GRAPH_FILES,
    GRAPH_SUFFIX,
    RECORD_FILES,
    Agreement,
    ExportPrecision,
    ExportRecord,
    Float32Prefix,
    ModelRecord,
    export_beside,
    read_export,
    read_record,
)
from sil_cli.results import Result
from sil_cli.runtime import cpu_kind, is_installed
from sil_cli.settings import refuse_outside
from sil_cli.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sil_cli.models.embed import ImageFile
    from sil_cli.models.embedder import Embedder
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

QUANTISER = "onnx"
"""What int8 needs beside ONNX Runtime."""

POOR_AGREEMENT = 0.98


class ModelExportResult(Result):
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
        float32_front: The prefix that OpenVINO's bfloat16 leaves in float32, so that it agrees; None for none.
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
    float32_front: Float32Prefix | None


def export(settings: Settings, reporter: Reporter) -> ModelExportResult:
    """Export a model, compare it with torch, and write the ONNX file and its record.

    Raises:
        UsageError: A package is missing, or no crops are named to calibrate int8 on.
        ModelError: There is no model, or the export gives other embeddings.
        SilError: The crops can't be used.
    """
    wanted = settings.export
    _require_tools(int8=wanted.int8)
    if wanted.out is None:
        refuse_outside(settings, "export.model")
    folder = model_folder(wanted.model, settings.train.runs)
    precision: ExportPrecision = "int8" if wanted.int8 else "float32"
    if wanted.int8 and wanted.calibrate_on is None:
        raise UsageError(
            "int8 needs crops to calibrate on.", "Name crops like those to be searched: --calibrate-on IMAGES|DATASET."
        )
    graph, record = _destination(wanted.out or folder, precision)
    from sil_cli.models.embedder import load_embedder

    embedder, source = load_embedder(folder)
    size = source.architecture
    if wanted.calibrate_on is not None:
        crops = given_crops(
            wanted.calibrate_on, size.height, size.width, reporter, max_pixels=pixels_in(settings.data.max_megapixels)
        )
    else:
        crops = drawn_crops(size.height, size.width, reporter)
    made = make_export(embedder, source, crops, precision, (graph, record), reporter)
    shared = {"precision", "opset", "crops", "measured_on", "agreement", "float32_front"}
    return ModelExportResult(
        model=folder,
        file=graph,
        record=record,
        bytes=graph.stat().st_size,
        fingerprint=source.fingerprint,
        height=size.height,
        width=size.width,
        **made.model_dump(include=shared),
    )


def make_export(
    embedder: Embedder,
    source: ModelRecord,
    crops: Crops,
    precision: ExportPrecision,
    paths: tuple[Path, Path],
    reporter: Reporter,
) -> ExportRecord:
    """Export an embedder that is on the CPU in eval mode, and write it once it has proved to agree with torch.

    Args:
        embedder: The model.
        source: Its record.
        crops: What it is compared, and for int8 calibrated, on.
        precision: Of the exported network.
        paths: Of the ONNX file and of its record.
        reporter: Shows the progress.

    Raises:
        ModelError: In float32, a cosine between its embeddings and torch's is below `SAME_MODEL`.
        OSError: The files can't be written.
    """
    graph_path, record_path = paths
    from sil_cli.models.engines.onnx_export import export_onnx, quantize
    from sil_cli.models.engines.onnx_writer import OPSET

    with reporter.task("Exporting", None) as task:
        content = export_onnx(embedder)
        task.advance()
        if precision == "int8":
            content = quantize(content, crops.calibration)
            task.advance()
    draft = ExportRecord(
        model=source,
        precision=precision,
        file=graph_path.name,
        sha256=sha256_of_bytes(content),
        opset=OPSET,
        crops=len(crops.pixels),
        measured_on=crops.described,
        agreement={},
        cpu=cpu_kind(),
        versions=_versions(),
    )
    record = with_agreement(draft, embedder, content, crops.pixels, reporter)
    _refuse_disagreement(record.agreement, precision, reporter)
    write_bytes(graph_path, content)
    write_json(record_path, record.model_dump(mode="json", exclude={"foreign"}))
    return record


def export_if_possible(
    model: Path, files: Sequence[ImageFile], reporter: Reporter, *, called: str, max_pixels: int
) -> None:
    """Give a run the export that it lacks, so that everything after starts at once; without ONNX Runtime, nothing.

    A failed export is reported, and never stops what it was meant to speed up.

    Args:
        model: What was named as the model; only a run folder can be given an export.
        files: Image files with their boxes, to compare embeddings on.
        reporter: Shows the progress.
        called: What these files are, for the record.
        max_pixels: The most pixels of an image that is read.
    """
    if not (model / RECORD_FILE).is_file() or not is_installed("onnxruntime") or _has_export(model):
        return
    from sil_cli.models.embedder import load_embedder

    embedder, source = load_embedder(model)
    size = source.architecture
    try:
        crops = crops_of(files, size.height, size.width, reporter, called=called, max_pixels=max_pixels)
        paths = (model / GRAPH_FILES["float32"], model / RECORD_FILES["float32"])
        made = make_export(embedder, source, crops, "float32", paths, reporter)
    except (SilError, OSError) as error:
        why = error.what if isinstance(error, SilError) else f"{one_line(error)}."
        fix = (
            f" For quick starts copy {model} to where it can be written, and run the command again with --model COPY."
            if isinstance(error, OSError)
            else ""
        )
        reporter.warn(f"The model was not exported: {why} It still works, with torch.{fix}")
        return
    least = made.agreement["onnxruntime float32"].min
    reporter.note(
        f"Exported the model to {paths[0]}, for quick starts: its smallest cosine to torch's embeddings is {least:.7f}."
    )


def _has_export(model: Path) -> bool:
    path = export_beside(model)
    try:
        return path is not None and read_export(path).model == read_record(model)
    except SilError:
        return False  # damaged or of another version: it is made again


def _require_tools(*, int8: bool) -> None:
    """Refuse to export without the packages for it.

    Raises:
        UsageError: Names the first that is missing.
    """
    if not is_installed("onnxruntime"):
        raise UsageError(
            "Exporting needs onnxruntime, which is not installed.",
            f"Install it with `{install_command('onnxruntime')}`.",
        )
    if int8 and not is_installed(QUANTISER):
        raise UsageError("int8 needs onnx, which is not installed.", f"Install it with `{extra_command('int8')}`.")


def _destination(out: Path, precision: ExportPrecision) -> tuple[Path, Path]:
    """Where the ONNX file and its record go: into a folder by their usual names, or to the file that is named."""
    is_file = out.suffix == GRAPH_SUFFIX
    folder = out.parent if is_file else out
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, not a folder.", f"Name a folder, or a file that ends in {GRAPH_SUFFIX}.")
    graph = out if is_file else out / GRAPH_FILES[precision]
    record = folder / RECORD_FILES[precision]
    if record.is_file() and (other := read_export(record).file) != graph.name:
        raise UsageError(
            f"{record} belongs to {other}, and a folder has one record of each precision.", "Choose another --out."
        )
    return graph, record


def _refuse_disagreement(agreement: dict[str, Agreement], precision: ExportPrecision, reporter: Reporter) -> None:
    first = agreement[f"onnxruntime {precision}"]
    if precision == "float32" and first.min < SAME_MODEL:
        raise ModelError(
            f"The export gives other embeddings than torch: a cosine of {first.min:.6f} where {SAME_MODEL} is needed.",
            "Nothing was written. Only torch can run this model.",
        )
    if precision == "int8" and first.mean < POOR_AGREEMENT:
        reporter.warn(
            f"int8 changes this model's embeddings considerably (mean cosine {first.mean:.4f}): "
            "compare `sil evaluate` of both."
        )


def _versions() -> dict[str, str]:
    packages = ("torch", "onnxruntime", QUANTISER, "openvino")
    versions = {name: metadata.version(name) for name in packages if is_installed(name)}
    return {"python": platform.python_version(), "sil": VERSION, **versions}
