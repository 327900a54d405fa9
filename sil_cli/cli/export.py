"""`sil export`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import Option
from sil_cli.cli.terminal import escape, print_table
from sil_cli.errors import UsageError, visible

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.models.engines.export import ModelExportResult
    from sil_cli.report.run_exports import HubFolderResult
    from sil_cli.settings import Settings

EXAMPLES = """
sil export
sil export --model runs/001-dbs --out deployed
sil export --int8 --calibrate-on data/viaduct
sil export --to hf --licence mit --out for-the-hub
"""
OPTIONS = (
    Option("--model", "export.model", "RUN"),
    Option("--out", "export.out", "DIR|FILE.onnx"),
    Option("--int8", "export.int8"),
    Option("--calibrate-on", "export.calibrate_on", "IMAGES|DATASET"),
    Option(
        "--to",
        metavar="hf",
        help="Instead, the weights and a card in a folder for the Hugging Face Hub; nothing is uploaded.",
        kind=str,
    ),
    Option("--licence", metavar="NAME", help="With --to hf: its licence, such as mit.", kind=str),
)


def run(current: Session) -> ModelExportResult | HubFolderResult:
    """Write a model as ONNX, checked against torch, to start and run faster on CPUs."""
    settings = current.settings()
    if current.given["to"] is not None:
        return _export_for_hub(current, settings)
    if current.given["licence"] is not None:
        raise UsageError("--licence only works with --to hf.", "Leave it out.")
    from sil_cli.defaults import model_option
    from sil_cli.models.engines.export import export
    from sil_cli.models.record import described

    result = export(settings, current.reporter)
    print_table(
        current.out,
        f"Cosine to torch float32 on {result.crops} crops",
        {
            "computed by": [described(how, result.float32_front) for how in result.agreement],
            "smallest": [f"{agreement.min:.6f}" for agreement in result.agreement.values()],
            "mean": [f"{agreement.mean:.6f}" for agreement in result.agreement.values()],
        },
        left=("computed by",),
    )
    size = f"{result.height}×{result.width}, {result.precision}, {result.bytes / 2**20:.0f} MiB"
    beside = result.precision == "float32" and result.file.parent.resolve() == result.model.resolve()
    chosen = model_option(result.model if beside else result.file, settings.train.runs)
    current.next_command(f"{result.file} ({size}).", f"sil index-gallery{chosen}")
    return result


def _export_for_hub(current: Session, settings: Settings) -> HubFolderResult:
    from sil_cli.report.run_exports import export_hub_folder

    given = current.given
    if given["to"] != "hf":
        raise UsageError(f"A model can't be exported to '{visible(given['to'])}'.", "Use --to hf, or leave it out.")
    if given["int8"] or given["calibrate_on"] is not None:
        raise UsageError("--to hf takes no --int8 and no --calibrate-on.", "Leave them out.")
    result = export_hub_folder(settings, given["licence"])
    for warning in result.warnings:
        current.reporter.warn(warning)
    current.next_command(
        f"{escape(result.folder)} with figures of {len(result.evaluations)} evaluations; read README.md before you "
        "upload it."
    )
    return result
