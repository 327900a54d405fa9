from __future__ import annotations

import pytest

from sil_cli.data.tables import mistyped, read_rows, require_columns
from sil_cli.errors import DataError


@pytest.fixture
def rows(tmp_path):
    def read(content):
        table = tmp_path / "t.csv"
        table.write_bytes(content if isinstance(content, bytes) else content.encode())
        return list(read_rows(table, lambda columns: require_columns(table, columns, ("path", "identity"), ("time",))))

    return read


TWO = [("a.jpg", "1"), ("b.jpg", "2")]


@pytest.mark.parametrize(
    "content",
    [
        ",path,identity\n0,a.jpg,1\n1,b.jpg,2\n",
        '"","path","identity"\n"1","a.jpg","1"\n"2","b.jpg","2"\n',
        '"path","identity"\n"1","a.jpg","1"\n"2","b.jpg","2"\n',
        "path,identity,,\na.jpg,1,,\nb.jpg,2,,\n",
        "path,identity\na.jpg,1,,\nb.jpg,2, ,\n",
        'path,identity,note\na.jpg,1,"two\nlines, and a comma"\nb.jpg,2,\n',
        'path,identity,"said\n(free, text; any)"\r\na.jpg,1,"two\r\nlines"\r\nb.jpg,2,x\r\n',
        "path;identity;size (w,h,d)\na.jpg;1;0,5\nb.jpg;2;1,25\n",
        "sep=;\r\npath;identity\r\na.jpg;1\r\nb.jpg;2\r\n",
        '\ufeff"sep=;"\npath;identity\na.jpg;1\nb.jpg;2\n',
        "sep=,\npath,identity,a;b;c;d\na.jpg,1\nb.jpg,2\n",
        "path\tidentity\r\na.jpg\t1\r\nb.jpg\t2\r\n".encode("utf-16"),
        b"\xfe\xff" + "path,identity\na.jpg,1\nb.jpg,2\n".encode("utf-16-be"),
        "path,identity\ra.jpg,1\rb.jpg,2\r",
        " Path , IDENTITY \n a.jpg , 1 \nb.jpg,2\n",
        "\n# made on a Monday, by hand\n#\npath,identity\n# the first\na.jpg,1\n\nb.jpg,2\n,\n",
        "#path,identity\na.jpg,1\nb.jpg,2\n",
        "path|identity\na.jpg|1\nb.jpg|2\n",
    ],
)
def test_tables_are_taken_as_programs_write_them(rows, content):
    found = [row for _, row in rows(content)]
    assert [(row["path"], row["identity"]) for row in found] == TWO
    assert not any("" in row for row in found)


def test_a_row_that_has_more_than_the_header_is_told_from_one_that_ends_in_commas(rows):
    found = rows("path,identity\na.jpg,1,more\nb.jpg,2,,\n")
    assert [row.get("") for _, row in found] == ["more", None]


def test_rows_are_numbered_by_the_line_that_they_begin_in(rows):
    content = 'sep=,\n# x\npath,identity,said\na.jpg,1,"two\nlines"\n\nb.jpg,2,x\n#7/c.jpg,3,x\n'
    assert [(line, row["path"]) for line, row in rows(content)] == [(4, "a.jpg"), (7, "b.jpg"), (8, "#7/c.jpg")]


def test_words_for_nothing_are_text_as_it_stands(rows):
    found = rows("path,identity,x\na.jpg,NA,\nb.jpg,nan,null\nc.jpg,,None\n")
    assert [(row["identity"], row["x"]) for _, row in found] == [("NA", ""), ("nan", "null"), ("", "None")]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"PK\x03\x04\x14\x00\x06\x00", "is a workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is a workbook of old Excel"),
        (b"PAR1....", "is a Parquet file"),
        (b"\x1f\x8b\x08", r"is compressed \(gzip\)"),
        ("path,identity\na.jpg,1\n".encode("utf-16-le"), "it holds zero bytes"),
        ("path,identity\nZoë.jpg,1\n".encode("latin-1"), "is not UTF-8 text"),
        (b"path,identity,PATH\na,1,b\n", "has the column 'path' twice"),
        (b"path,identity,tiem\na,1,b\n", "a column 'tiem', which would be ignored"),
        (b"", "has no column 'path'"),
        (b'path,identity\na.jpg,"1\n', "a quote may have been left open"),
    ],
)
def test_what_is_no_table_is_told_for_what_it_is(rows, content, told):
    with pytest.raises(DataError, match=told):
        rows(content)


def test_words_of_their_own_are_not_mistyped():
    known = ("camera", "split", "time", "box", "tracklet")
    wrong = {"camra": "camera", "cameras": "camera", "tiem": "time", "boxe": "box", "splitt": "split"}
    assert {word: mistyped(word, known) for word in wrong} == wrong
    own = ["note", "name", "date", "type", "fox", "cam", "index", "frame", "size", "time", "title"]
    assert {word: mistyped(word, known) for word in own} == dict.fromkeys(own)


def test_a_table_of_a_hundred_thousand_columns_is_told_on_a_line_that_can_be_read(rows):
    with pytest.raises(DataError, match="no column 'identity'") as caught:
        rows("path," + ",".join(f"column{number}" for number in range(100_000)) + "\n")
    assert len(caught.value.what) <= 4001
    assert str(caught.value) == f"{caught.value.what} {caught.value.fix}"
