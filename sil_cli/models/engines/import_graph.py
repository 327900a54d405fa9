"""`sil import-model net.onnx`: a network that others exported becomes a model, once it has proved to be one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.errors import UsageError
from sil_cli.files import staging_folder, write_bytes, write_json
from sil_cli.models.engines.graph_input import draft_record
from sil_cli.models.engines.network import read_network
from sil_cli.models.engines.trial import proved
from sil_cli.models.record import RECORD_FILES, Agreement, ForeignGraph
from sil_cli.results import Result
from sil_cli.runtime import is_installed

if TYPE_CHECKING:
    from sil_cli.models.engines.graph_input import InputWish
    from sil_cli.models.record import ModelCard
    from sil_cli.runtime import Reporter


class GraphImportResult(Result):
    """The outcome of `sil import-model` for a graph.

    Attributes:
        model: The folder that other commands take as the model.
        graph: Where it came from.
        engines: What computes it here.
        height: Of its input in pixels.
        width: Of its input in pixels.
        dimension: Numbers in an embedding.
        fingerprint: A hash of the graph, its data and its preprocessing: equal ones embed alike.
        input: How images become its input.
        agreement: Cosines to the first engine's embeddings, by engine and precision.
        notes: What was assumed, and what looks odd.
    """

    model: Path
    graph: str
    engines: list[str]
    height: int
    width: int
    dimension: int
    fingerprint: str
    input: ForeignGraph
    agreement: dict[str, Agreement]
    notes: list[str]


def import_graph(
    path: Path, out: Path, wish: InputWish, reporter: Reporter, card: ModelCard | None = None
) -> GraphImportResult:
    """Make a model of a graph.

    Args:
        path: An ONNX file, or the .xml of an OpenVINO IR with its .bin beside it.
        out: The folder that is made.
        wish: What is known of the graph's input and output beyond what it says.
        reporter: Shows the progress, and hears what was assumed.
        card: Where it came from.

    Raises:
        UsageError: Something has to be said of the graph, or contradicts it; or `out` holds something.
        ModelError: It can't be used; says why.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not empty.", "Choose another folder with --out DIR.")
    network = read_network(path)
    notes: list[str] = []
    draft = draft_record(network, wish, notes)
    with staging_folder(out.parent) as staging:
        folder = staging / "model"
        for name, content in network.files.items():
            write_bytes(folder / name, content)
        record = proved(draft, folder, notes, reporter)
        record = record.model_copy(update={"model": record.model.model_copy(update={"card": card})})
        write_json(folder / RECORD_FILES["float32"], record.model_dump(mode="json"))
        if out.exists():
            out.rmdir()
        folder.rename(out)
    for note in notes:
        reporter.warn(note)
    assert record.foreign is not None  # noqa: S101 - as it was drafted
    size = record.model.architecture
    return GraphImportResult(
        model=out,
        graph=str(path),
        engines=[name for name in record.engines if is_installed(name) and not record.differs(f"{name} float32")],
        height=size.height,
        width=size.width,
        dimension=record.model.dimension,
        fingerprint=record.model.fingerprint,
        input=record.foreign,
        agreement=record.agreement,
        notes=notes,
    )
