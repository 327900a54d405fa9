"""From settings to a reading: which reader, which folder, and which of the options it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sil_cli.data.archives import is_archive, unpacked
from sil_cli.data.readers import READERS, Reader
from sil_cli.data.readers.recognise import locate, recognise_here
from sil_cli.data.reading import SYNTHETIC
from sil_cli.errors import DataError, UsageError, did_you_mean, quoted

if TYPE_CHECKING:
    from pathlib import Path

    from sil_cli.data.reading import Reading
    from sil_cli.runtime import Reporter
    from sil_cli.settings import DataSettings

AUTO = "auto"
OWN_OPTIONS = {
    "name": "--name",
    "images": "--root",
    "pattern": "--pattern",
    "partition": "--partition",
    "labelled": "--labelled",
}
"""Settings that only some readers take, and their flags."""
RAW_FOLDER = "raw"
"""Where archives are unpacked and images extracted, in the folder of the prepared data sets."""


def find_raw(data: DataSettings, reporter: Reporter) -> list[DataSettings]:
    """Settings for each data set that is asked for: with `auto`, for all that are recognised in ROOT.

    Raises:
        DataError: There is none.
    """
    if data.reader != AUTO or data.root is None:
        return [data]
    found = recognise_here(_opened(data, data.root, reporter))
    for each in found:
        reporter.note(f"Recognised {each.reader} in {each.root}: {each.why}.")
    return [data.model_copy(update={**each.options, "reader": each.reader, "root": each.root}) for each in found]


def read_raw(data: DataSettings, reporter: Reporter) -> Reading:
    """Read a raw data set by the reader that is asked for.

    Raises:
        UsageError: The reader is unknown, or lacks its ROOT or an option, or takes none of that kind.
        DataError: The data can't be read.
    """
    name = data.reader
    if name not in READERS and (name != AUTO or data.root is not None):
        raise UsageError(f"There is no reader '{name}'.", did_you_mean(name, [SYNTHETIC, AUTO, *READERS]))
    if data.root is None:
        raise UsageError(f"The reader {name} needs the folder of the raw data.", f"Run `sil prepare-data {name} ROOT`.")
    root = _opened(data, data.root, reporter)
    _refuse_another_set(name, root)
    reader = READERS[name]
    options = _options(name, reader, data, reporter)
    if reader.notice:
        reporter.warn(reader.notice)
    reading = reader.read(root, **options)
    for warning in reading.warnings:
        reporter.warn(f"{reading.name}: {warning}")
    return reading


def _refuse_another_set(name: str, root: Path) -> None:
    """Say so when the reader of one data set is given the folder of another."""
    asked = READERS[name].layout
    if asked is None or asked.signs(root) is not None:
        return
    for other, reader in READERS.items():
        sign = reader.layout.signs(root) if reader.layout else None
        if reader.layout and sign:
            raise DataError(
                f"{root} is not {asked.title} but {reader.layout.title}: {sign.why}.",
                f"Run `sil prepare-data {other} {quoted(root)}`.",
            )


def _opened(data: DataSettings, root: Path, reporter: Reporter) -> Path:
    """ROOT, or what comes out of it when it is an archive."""
    if not is_archive(root):
        return root
    folder = unpacked(root, data.folder / RAW_FOLDER, reporter)
    return folder if data.reader == AUTO else locate(data.reader, folder)


def _options(name: str, reader: Reader, data: DataSettings, reporter: Reporter) -> dict[str, Any]:
    """The options that this reader takes, of those that were given; others, and a needed one's lack, are refused."""
    options = {key: getattr(data, key) for key in OWN_OPTIONS if getattr(data, key) is not None}
    for key in options:
        if key not in reader.takes:
            raise UsageError(
                f"The reader {name} takes no {OWN_OPTIONS[key]}.", "Leave it out, or choose another reader."
            )
    if "pattern" in reader.takes and data.pattern is None:
        raise UsageError(
            f"The reader {name} needs --pattern.", r"For example: --pattern '(?P<identity>\d+)_c(?P<camera>\d+)'"
        )
    always = {
        "split": data.split,
        "seed": data.seed,
        "extract_to": data.folder / RAW_FOLDER / name,
        "reporter": reporter,
    }
    return options | {key: value for key, value in always.items() if key in reader.takes}
