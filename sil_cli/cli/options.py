"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sil_cli.cli.session import Common

SHARED = "Options of every command"


class Device(StrEnum):
    """Where the network runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class EngineChoice(StrEnum):
    """What computes embeddings."""

    auto = "auto"
    torch = "torch"
    onnxruntime = "onnxruntime"
    openvino = "openvino"


EngineOption = Annotated[
    EngineChoice | None,
    typer.Option(
        "--engine",
        metavar="auto|torch|onnxruntime|openvino",
        help="What computes embeddings; default: the quickest that is there.",
    ),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="ADDRESS",
        help="milvus://HOST:PORT/COLLECTION, or a Milvus Lite file NAME.db; default: the gallery's folder.",
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings file instead of sil.toml.", rich_help_panel=SHARED),
]
DeviceOption = Annotated[
    Device | None,
    typer.Option("--device", metavar="auto|cpu|cuda|mps", help="Where the network runs.", rich_help_panel=SHARED),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any setting, for example train.epochs=5; may be repeated.",
        rich_help_panel=SHARED,
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="One JSON document on stdout; messages on stderr.", rich_help_panel=SHARED),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks.", rich_help_panel=SHARED)]


def common(
    config: Path | None, device: Device | None, assignments: list[str] | None, as_json: bool, debug: bool
) -> Common:
    """Gather the shared options."""
    return Common(
        config=config,
        device=device.value if device else None,
        assignments=assignments or [],
        as_json=as_json,
        debug=debug,
    )
