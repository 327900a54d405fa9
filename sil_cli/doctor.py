"""`sil doctor`: what this machine offers and what is missing."""

from __future__ import annotations

import contextlib
import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.data.manifest import prepared_datasets
from sil_cli.data.protocol import read_protocol
from sil_cli.defaults import EXPORT_FILE, RECORD_FILE, is_finished, numbered_runs
from sil_cli.errors import SilError
from sil_cli.installing import install_command
from sil_cli.models.engines.engine import LIBRARIES
from sil_cli.models.precision import wants_bfloat16
from sil_cli.models.record import read_export, read_record
from sil_cli.results import Result
from sil_cli.runtime import cpu_count, is_installed, resolve_device
from sil_cli.version import VERSION

if TYPE_CHECKING:
    import torch

    from sil_cli.settings import Settings

PACKAGES = (
    "torch",
    "torchvision",
    "onnxruntime",
    "faiss-cpu",
    "numpy",
    "pillow",
    "pydantic",
    "typer",
    "rich",
    "safetensors",
)
LITTLE_DISK = 2**30


class Finding(Result):
    """One thing that was looked at.

    Attributes:
        good: Nothing needs to be done about it.
        fix: What to do, where something does.
    """

    what: str
    value: str
    good: bool = True
    fix: str = ""


class Report(Result):
    """The outcome of `sil doctor`."""

    findings: list[Finding]

    @property
    def problems(self) -> int:
        """How many findings want a hand."""
        return sum(not finding.good for finding in self.findings)


def examine(settings: Settings) -> Report:
    """Look at versions, device, threads, disk, weights, and what stands in the working folder.

    Raises:
        UsageError: The device that the settings name is not on this machine.
    """
    device = resolve_device(settings.device)
    return Report(
        findings=[
            Finding(what="sil", value=f"{VERSION} on Python {platform.python_version()}, {platform.platform()}"),
            *(_package(name) for name in PACKAGES),
            _device(device),
            _threads(),
            _engines(),
            _disk(),
            _pretrained(settings),
            _data(settings),
            _runs(settings),
            *_cards(),
        ]
    )


def _package(name: str) -> Finding:
    try:
        return Finding(what=name, value=metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(what=name, value="missing", good=False, fix=install_command(name))


def _device(device: torch.device) -> Finding:
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    fast = "bfloat16 and float32" if wants_bfloat16("auto", device) else "float32"
    return Finding(what="device", value=f"{device.type} ({name}), good at {fast}")


def _threads() -> Finding:
    import torch

    cores, threads = cpu_count(), torch.get_num_threads()
    if threads > cores:
        return Finding(
            what="threads",
            value=f"{threads} torch threads on {cores} cores",
            good=False,
            fix=f"Set OMP_NUM_THREADS={cores}.",
        )
    return Finding(what="threads", value=f"{threads} torch threads on {cores} cores")


def _engines() -> Finding:
    found = [name for name in LIBRARIES if is_installed(name)]
    hint = "" if found else f"; `{install_command('onnxruntime')}` makes queries start at once"
    return Finding(what="engines", value=", ".join(["torch", *found]) + hint)


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    enough = free >= LITTLE_DISK
    return Finding(
        what="disk",
        value=f"{free / 2**30:.1f} GiB free in this folder",
        good=enough,
        fix="" if enough else "Free some space before preparing data or training.",
    )


def _pretrained(settings: Settings) -> Finding:
    from sil_cli.models.weights import imagenet_weights_are_here

    name = settings.model.backbone
    there = imagenet_weights_are_here(name)
    return Finding(
        what="ImageNet weights",
        value=f"{name}: {'here' if there else 'not here yet'}",
        good=there,
        fix="" if there else "They are downloaded at first use; offline, use --weights FILE or --weights none.",
    )


def _data(settings: Settings) -> Finding:
    there = prepared_datasets(settings.data.folder)
    if not there:
        return Finding(what="data", value="nothing prepared here", good=False, fix="Run `sil prepare-data`.")
    protocol = read_protocol(settings.data.folder)
    left_out = f"; left out: {', '.join(protocol.targets)}" if protocol else ""
    return Finding(what="data", value=", ".join(folder.name for folder in there) + left_out)


def _runs(settings: Settings) -> Finding:
    runs = numbered_runs(settings.train.runs)
    finished = [run for run in runs if is_finished(run)]
    if not finished:
        return Finding(what="models", value="none trained here", good=False, fix="Run `sil train`.")
    return Finding(what="models", value=f"{len(finished)} finished, newest {finished[-1]}")


def _cards() -> list[Finding]:
    """The models that were imported into folders of the working folder."""
    found = []
    for path in sorted((*Path().glob(f"*/{RECORD_FILE}"), *Path().glob(f"*/{EXPORT_FILE}"))):
        with contextlib.suppress(SilError):
            record = read_record(path.parent) if path.name == RECORD_FILE else read_export(path).model
            if record.card is not None:
                warned = " ".join(record.card.warnings)
                found.append(Finding(what=f"model {path.parent}", value=str(record.card), good=not warned, fix=warned))
    return found
