"""Where things are when nobody says: the newest run, the prepared sources, the target."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from sil_cli.data.manifest import is_dataset, prepared_datasets
from sil_cli.data.protocol import read_protocol
from sil_cli.errors import ModelError, UsageError, quoted
from sil_cli.files import require_reachable

if TYPE_CHECKING:
    from pathlib import Path

RECORD_FILE = "model.json"
"""What is known of a model; a run folder that holds one is finished."""

EXPORT_FILE = "export.json"
"""What is known of a model's export; of an imported graph it is all there is."""

RUN_NAME = re.compile(r"(\d+)-")
SPLIT_NAME = re.compile(r"split-(\d+)")


def source_folders(sources: tuple[Path, ...], data_folder: Path) -> list[Path]:
    """The data sets to learn from: those named, or those of the protocol in the data folder.

    Raises:
        UsageError: None is named and there is no protocol, or one is named twice.
    """
    if sources:
        resolved = [source.resolve() for source in sources]
        twice = next((source for source in resolved if resolved.count(source) > 1), None)
        if twice is not None:
            raise UsageError(f"The source {twice.name} is named twice.", "Name each source once.")
        return list(sources)
    protocol = read_protocol(data_folder)
    if protocol is not None:
        return [data_folder / name for name in protocol.sources]
    raise UsageError("There is nothing to learn from yet.", _how_to_name("--source", data_folder))


def target_folders(target: Path | None, data_folder: Path) -> list[Path]:
    """The data sets to test on: the one named, or those that the protocol leaves out.

    Raises:
        UsageError: None is named and there is no protocol.
    """
    if target is not None:
        return [target]
    protocol = read_protocol(data_folder)
    if protocol is not None:
        return [data_folder / name for name in protocol.targets]
    raise UsageError("No target data set is named.", _how_to_name("--target", data_folder))


def target_folder(target: Path | None, data_folder: Path) -> Path:
    """The first data set to test on, or the first split of it."""
    folder = target_folders(target, data_folder)[0]
    return (split_folders(folder) or [folder])[0]


def split_folder(folder: Path, number: int) -> Path:
    """Where one of several splits of a data set is prepared."""
    return folder / f"split-{number:02d}"


def split_folders(folder: Path) -> list[Path]:
    """The splits in the folder of a data set that was prepared in several; none where it is a data set itself."""
    if is_dataset(folder) or not folder.is_dir():
        return []
    numbered = [(int(found[1]), child) for child in folder.iterdir() if (found := SPLIT_NAME.fullmatch(child.name))]
    return [child for _, child in sorted(numbered) if is_dataset(child)]


def left_out_beside(sources: list[Path]) -> Path | None:
    """The first target of the protocol in the sources' folder, if there is one and none of the sources is it."""
    folders = {source.parent for source in sources}
    if len(folders) != 1:
        return None
    (folder,) = folders
    protocol = read_protocol(folder)
    if protocol is None or set(protocol.targets) & {source.name for source in sources}:
        return None
    return folder / protocol.targets[0]


def numbered_runs(runs: Path) -> list[Path]:
    """The run folders in `runs`, in the order of their numbers."""
    if not runs.is_dir():
        return []
    numbered = [(int(found[1]), child) for child in runs.iterdir() if (found := RUN_NAME.match(child.name))]
    return [child for _, child in sorted(numbered)]


def new_run_folder(runs: Path, label: str) -> Path:
    """Make the next numbered run folder, `runs/003-ubs`."""
    runs.mkdir(parents=True, exist_ok=True)
    while True:
        last = numbered_runs(runs)
        number = 1 + (int(last[-1].name.partition("-")[0]) if last else 0)
        folder = runs / f"{number:03d}-{label}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder


def is_finished(run: Path) -> bool:
    """Whether a run has made its model, or is one that was imported."""
    imported = (run / EXPORT_FILE).is_file() and not (run / "run.json").is_file()  # which a training writes
    return imported or (run / RECORD_FILE).is_file()


def model_folder(model: Path | None, runs: Path) -> Path:
    """The model to use: the one named, or that of the newest finished run.

    Raises:
        ModelError: There is none.
    """
    if model is not None:
        return model
    require_reachable(runs)
    finished = [run for run in numbered_runs(runs) if is_finished(run)]
    if not finished:
        unfinished = numbered_runs(runs)
        if unfinished:
            raise ModelError(
                f"{unfinished[-1]} has not finished yet.",
                f"Resume it with `sil train --resume --run {quoted(unfinished[-1])}`.",
            )
        raise ModelError(f"There is no trained model in {runs} yet.", "Train one with `sil train`.")
    return finished[-1]


def model_option(model: Path, runs: Path) -> str:
    """The arguments that make a command take this model: none, if it does so by default."""
    finished = [run for run in numbered_runs(runs) if is_finished(run)]
    return "" if finished and finished[-1].resolve() == model.resolve() else f" --model {shlex.quote(str(model))}"


def _how_to_name(flag: str, data_folder: Path) -> str:
    require_reachable(data_folder)
    there = prepared_datasets(data_folder)
    if there:
        return f"Name it with {flag}; prepared here: {', '.join(str(path) for path in there)}."
    return f"Run `sil prepare-data` first, or name a prepared data set with {flag} DIR."
