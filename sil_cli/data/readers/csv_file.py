"""A table of images: the columns path and identity, and camera, split and time where they are known."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path, PurePosixPath

from sil_cli.data.manifest import Skipped
from sil_cli.data.readers.common import (
    Sighting,
    SplitMode,
    check_root,
    domain_name,
    slug,
    split_names,
    split_of,
    to_records,
)
from sil_cli.data.reading import Reading
from sil_cli.data.tables import read_rows, require_columns
from sil_cli.errors import DataError

VERSION = 1
NEEDED = ("path", "identity")
OPTIONAL = ("camera", "split", "time")


def read_csv(
    root: Path, *, table: Path | None = None, name: str | None = None, split: SplitMode = "train", seed: int = 0
) -> Reading:
    """Read a table in UTF-8, with a header line, separated by commas, semicolons or tabs.

    Paths are relative to ROOT. Further columns are ignored.

    Args:
        root: The folder that paths are relative to, or the table itself when it lies in that folder.
        table: The table; when None the only .csv or .tsv file in `root`.
        name: The domain's name; when None that of the table, where ROOT is one, or else of the folder.
        split: What to do with images of no known split (see `SplitMode`).
        seed: Draws the identities for `half`.

    Raises:
        DataError: There is no such table, a column is missing, a path leaves ROOT or comes twice.
    """
    if table is None and _is_file(root):
        root, table = root.parent, root
        name = name or slug(table.stem)
    check_root(root)
    table = table or _only_table(root)
    sightings: list[Sighting] = []
    skipped: list[Skipped] = []
    first_line: dict[str, int] = {}
    for line, row in read_rows(table, lambda columns: require_columns(table, columns, NEEDED, OPTIONAL)):
        seen = _take_apart(row, line, table, root)
        if isinstance(seen, Skipped):
            skipped.append(seen)
            continue
        if seen.path in first_line:
            raise DataError(
                f"{table} names {seen.path} twice, in lines {first_line[seen.path]} and {line}.",
                "Keep one of them.",
            )
        first_line[seen.path] = line
        sightings.append(seen)
    domain = domain_name(root, name)
    records = to_records(sightings, domain=domain, split=split, seed=seed)
    options = {"table": table.name, "split": split, "seed": seed}
    return Reading(domain, "csv", VERSION, root, records, skipped, options)


def _only_table(root: Path) -> Path:
    tables = sorted(child for child in root.iterdir() if child.suffix.lower() in {".csv", ".tsv"})
    if len(tables) == 1:
        return tables[0]
    names = ", ".join(table.name for table in tables[:5])
    what = f"{root} has {len(tables)} tables: {names}." if tables else f"{root} has no .csv file."
    raise DataError(what, "Give the table itself as ROOT.")


def _take_apart(row: dict[str, str], line: int, table: Path, root: Path) -> Sighting | Skipped:
    written = row.get("path", "")
    where = written or f"line {line}"
    identity, split = row.get("identity", ""), row.get("split", "")
    time: datetime | None = None
    reason = None
    if "" in row:
        reason = f"line {line} has more cells than the header"
    elif not written or not identity:
        reason = f"line {line} has no {'identity' if written else 'path'}"
    elif split and split_of(split) is None:
        reason = f"line {line}: split '{split}' is none of {split_names()}"
    elif row.get("time"):
        try:
            time = datetime.fromisoformat(row["time"])
        except ValueError:
            reason = f"line {line}: time '{row['time']}' is not like 2024-05-31T13:45:00"
    if reason:
        return Skipped(path=where, reason=reason)
    return Sighting(
        path=_inside(written, line, table, root),
        identity=identity,
        camera=row.get("camera") or None,
        split=split_of(split) if split else None,
        time=time,
    )


def _inside(written: str, line: int, table: Path, root: Path) -> str:
    """The path relative to `root` with forward slashes; an absolute one is taken when it leads into `root`."""
    path = PurePosixPath(written.replace("\\", "/"))
    if path.is_absolute() and Path(path).is_relative_to(root.absolute()):
        path = PurePosixPath(Path(path).relative_to(root.absolute()).as_posix())
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in written:
        raise DataError(
            f"{table}, line {line}: {written} lies outside {root}.",
            "Write paths relative to ROOT, and choose ROOT so that all images lie below it.",
        )
    return path.as_posix()


def _is_file(root: Path) -> bool:
    try:
        return root.is_file()
    except OSError:  # a folder above it is locked, which `check_root` then says
        return False
