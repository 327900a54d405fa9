"""Tables of text, read alike wherever one comes in: UTF-8, a header line, commas, semicolons or tabs."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from sil_cli.errors import DataError, nearest
from sil_cli.files import from_cell, one_line, open_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TABLE_SUFFIXES = frozenset({".csv", ".tsv"})


def read_rows(table: Path, check: Callable[[list[str]], None]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, cells by column, as `as_cell` may have written them); too many cells of a row are under ''.

    Args:
        table: The file; its header line shows which separator it uses.
        check: Called with the columns' names in lower case before the first row; raises what is wrong with them.

    Raises:
        DataError: It can't be read, is not UTF-8, or has a quote left open.
    """
    try:
        with open_file(table) as stream:
            text = stream.read().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{table} can't be read: {one_line(error)}.", "Check the path.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{table} is not UTF-8 text.", "Save it as 'CSV UTF-8'.") from error
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = [column.strip().lower() for column in next(reader, [])]
        check(columns)
        for row in reader:
            if any(cell.strip() for cell in row):
                cells = dict(zip(columns, (from_cell(cell.strip()) for cell in row), strict=False))
                if len(row) > len(columns):
                    cells[""] = delimiter.join(row[len(columns) :])
                yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(
            f"{table}, line {reader.line_num}: {one_line(error)}.",
            "Correct this line; a quote may have been left open.",
        ) from error


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
    near = nearest(word, known)
    if word in known or near is None or abs(len(word) - len(near)) > 1 or nearest(near, [word]) is None:
        return None
    return near
