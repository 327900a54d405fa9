"""`sil export`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import Option
from sil_cli.cli.terminal import print_table

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.models.engines.export import ModelExportResult

EXAMPLES = """
sil export
sil export --model runs/001-dbs --out deployed
sil export --int8 --calibrate-on data/viaduct
"""
OPTIONS = (
    Option("--model", "export.model", "RUN"),
    Option("--out", "export.out", "DIR|FILE.onnx"),
    Option("--int8", "export.int8"),
    Option("--calibrate-on", "export.calibrate_on", "IMAGES|DATASET"),
)


def run(current: Session) -> ModelExportResult:
    """Write a model as ONNX, checked against torch, to start and run faster on CPUs."""
    settings = current.settings()
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
