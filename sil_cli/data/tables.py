"""Tables of text, read alike wherever one comes in: a header line, then lines of commas, semicolons, tabs or bars."""

from __future__ import annotations

import csv
import io
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

from sil_cli.errors import DataError, from_cell, nearest, one_line
from sil_cli.files import MOST_LINES, open_file, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TABLE_SUFFIXES = frozenset({".csv", ".tsv"})

_SEPARATOR = re.compile(r'"?sep=([,;|\t])"?[,;|\t]*\n', re.IGNORECASE)
_PASSED = re.compile(r"#.*\n|[ \t,;|]*\n")
_SEPARATORS = ",;\t|"
_MOST_HEAD = 100_000
_NO_TABLES = {
    b"PK\x03\x04": "a workbook (.xlsx, .ods) or an archive",
    b"\xd0\xcf\x11\xe0": "a workbook of old Excel (.xls)",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"SQLite f": "a database (SQLite)",
    b"\x1f\x8b": "compressed (gzip)",
    b"{\\rtf": "a text document (.rtf)",
    b"%PDF": "a PDF document",
}
"""What is given as a table and is none, by its first bytes."""


def read_rows(table: Path, check: Callable[[list[str]], None]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, cells by column, as `as_cell` may have written them); too many cells of a row are under ''.

    Taken as programs write them: a `sep=;` before the header, comments (`# …`) and empty lines, columns without a name
    (row numbers, or commas at the end of each line), quoted line ends, decimal commas between semicolons. A row's line
    is the one that it begins in. An empty cell says nothing; all others are text as it stands, `NA` and `nan` too.

    Args:
        table: The file; its header shows which separator it uses.
        check: Called with the columns' names in lower case before the first row; raises what is wrong with them.

    Raises:
        DataError: It can't be read, is not text, or has a quote left open.
    """
    text = _text_of(table)
    said = _SEPARATOR.match(text)
    start = said.end() if said else 0
    while (passed := _PASSED.match(text, start)) and not any(_quality(passed[0], mark)[0] for mark in _SEPARATORS):
        start = passed.end()
    head = text[start : start + _MOST_HEAD]
    delimiter = said[1] if said else max(_SEPARATORS, key=lambda mark: _quality(head, mark))
    before = text.count("\n", 0, start)
    reader = csv.reader(io.StringIO(text[start:], newline=""), delimiter=delimiter, strict=True)
    try:
        columns = _columns(next(reader, []))
        check(columns)
        line = before + reader.line_num + 1
        for number, row in enumerate(reader):
            if number == 0 and len(row) == len(columns) + 1 and row[0].strip() in {"0", "1"}:
                columns = ["", *columns]  # R numbers rows and gives that column no place in the header
            if any(from_cell(cell.strip()) for cell in row) and not (row[0].startswith("# ") and not any(row[1:])):
                cells = dict(zip(columns, (from_cell(cell.strip()) for cell in row), strict=False))
                cells.pop("", None)
                if any(cell.strip() for cell in row[len(columns) :]):
                    cells[""] = delimiter.join(row[len(columns) :])
                yield line, cells
            line = before + reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{table}, line {before + reader.line_num}: {one_line(error)}.",
            "Correct this line; a quote may have been left open.",
        ) from error


def _text_of(table: Path) -> str:
    try:
        kind = binary_kind(table)
        text = "" if kind else read_text(table, most=MOST_LINES)
    except OSError as error:
        raise DataError(f"{table} can't be read: {one_line(error)}.", "Check the path.") from error
    except ValueError as error:
        raise DataError(f"{table} is not UTF-8 text: {one_line(error)}.", "Save it as 'CSV UTF-8'.") from error
    if kind:
        raise DataError(f"{table} is {kind}, not a table of text.", "Save it as 'CSV UTF-8' and name that.")
    if "\0" in text:
        raise DataError(f"{table} is not text: it holds zero bytes.", "Save it as 'CSV UTF-8'.")
    return text


def binary_kind(file: Path) -> str | None:
    """What a file is that people take for a table, and that holds no text; None for any other.

    Raises:
        OSError: It can't be read, or is not a file.
    """
    with open_file(file) as stream:
        begin = stream.read(8)
    return next((kind for mark, kind in _NO_TABLES.items() if begin.startswith(mark)), None)


def _columns(header: list[str]) -> list[str]:
    columns = [column.strip().lower() for column in header]
    return [column.lstrip("# ") if number == 0 else column for number, column in enumerate(columns)]


def _quality(text: str, delimiter: str) -> tuple[bool, int]:
    """How well a separator takes a header apart: whether there is a column `path` then, and how many there are."""
    try:
        columns = _columns(next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), []))
    except csv.Error:
        return False, 0
    return "path" in columns, len(columns)


def require_columns(table: Path, columns: list[str], needed: tuple[str, ...], optional: tuple[str, ...]) -> None:
    """Check a table's header.

    Raises:
        DataError: A needed column is missing, one comes twice, or one looks like an optional one mistyped.
    """
    listed = ", ".join(column for column in columns if column) or "none"
    for column in needed:
        if column not in columns:
            near = nearest(column, columns)
            guess = f"Rename '{near}'" if near else "Name one"
            raise DataError(
                f"{table} has no column '{column}' (its columns: {listed}).",
                f"{guess} to '{column}' in the header line.",
            )
    for column in columns:
        if column and columns.count(column) > 1:
            raise DataError(f"{table} has the column '{column}' twice.", "Keep one of them.")
        near = mistyped(column, optional)
        if near and near not in columns and column not in needed:
            raise DataError(
                f"{table} has a column '{column}', which would be ignored.",
                f"Rename it to '{near}' or to something else.",
            )


def mistyped(word: str, known: tuple[str, ...]) -> str | None:
    """The known word that `word` looks like mistyped (camra, cameras), unless it is one or a word of its own."""
    near = next(iter(get_close_matches(word, known, n=1, cutoff=0.7)), None)
    if word in known or near is None or abs(len(word) - len(near)) > 1:
        return None
    return near
