"""Tables of images: a column path; identity, camera, time, tracklet, box and domain; and columns of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from sil_cli.data.tables import read_rows, require_columns
from sil_cli.errors import DataError
from sil_cli.gallery.ingest.ingested_image import SeenImage, parse_box
from sil_cli.gallery.results import FailedImage

if TYPE_CHECKING:
    from collections.abc import Iterator

NEEDED = ("path",)
OPTIONAL = ("identity", "camera", "time", "tracklet", "box", "domain")


@dataclass(frozen=True)
class TableRow:
    """One line of a table: its number, where the image is, and the text of all other columns."""

    line: int
    image: SeenImage
    known: dict[str, str]


def read_table(table: Path, root: Path) -> Iterator[TableRow | FailedImage]:
    """Read a table of images; a line that can't be used is named.

    Args:
        table: A .csv or .tsv file, which may come from a stranger.
        root: Resolved; paths are relative to it, and none may lead out of it.

    Raises:
        DataError: The table can't be read, has no column `path`, or a path leads out of `root`.
    """
    for line, row in read_rows(table, lambda columns: require_columns(table, columns, NEEDED, OPTIONAL)):
        known = {column: text for column, text in row.items() if column}
        written = known.pop("path", "")
        if "" in row:
            yield FailedImage(path=written, reason=f"line {line} has more cells than the header")
            continue
        if not written:
            yield FailedImage(path=f"line {line}", reason=f"line {line} has no path")
            continue
        path = _inside(written, line, table, root)
        try:
            box = parse_box(known.pop("box")) if known.get("box") else None
        except (ValueError, OverflowError):
            reason = f"line {line}: box '{row['box']}' is not left,top,width,height in pixels"
            yield FailedImage(path=path, reason=reason)
            continue
        known.pop("box", None)
        yield TableRow(line, SeenImage(root, path, box=box), known)


def _inside(written: str, line: int, table: Path, root: Path) -> str:
    """The path relative to `root` with forward slashes; an absolute one is taken when it leads into `root`."""
    path = PurePosixPath(written.replace("\\", "/"))
    if path.is_absolute() and ".." not in path.parts and Path(path).is_relative_to(root):
        path = path.relative_to(root.as_posix())
    if path.is_absolute() or ".." in path.parts or not path.parts or ":" in path.parts[0] or "\0" in written:
        raise DataError(
            f"{table}, line {line}: {written} lies outside {root}.",
            "A table reads no file outside its own folder; say --root DIR for a folder above all of its images, "
            "and write their paths as seen from there.",
        )
    return path.as_posix()
