from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sil_cli.data.readers.csv_file import read_csv
from sil_cli.errors import DataError


@pytest.fixture
def table(tmp_path):
    def write(text: str | bytes, name: str = "images.csv"):
        content = text.encode() if isinstance(text, str) else text
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


def facts(reading):
    return [(r.path, r.identity, r.camera, r.split) for r in reading.records]


EXPECTED = [("a/1.jpg", "anna", "1", "query"), ("b 2.jpg", "bob", None, "train")]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables_come_in_several_dialects(table, tmp_path, delimiter, start, end):
    lines = ["Path,Identity, camera,split,colour", "a/1.jpg,anna,1,Query,red", "", "b 2.jpg,bob,,,"]
    path = table(start + end.join(lines).replace(",", delimiter))
    reading = read_csv(path)
    assert facts(reading) == EXPECTED
    assert reading.root == tmp_path
    assert reading.skipped == []
    assert facts(read_csv(tmp_path)) == EXPECTED
    assert facts(read_csv(tmp_path, table=path)) == EXPECTED


def test_quotes_backslashes_and_absolute_paths_inside_root(table, tmp_path):
    text = f'path,identity\n"a,b.jpg",1\nc\\d.jpg,1\n./e.jpg,2\n{tmp_path}/f.jpg,2\n'
    assert [r.path for r in read_csv(table(text)).records] == ["a,b.jpg", "c/d.jpg", "e.jpg", "f.jpg"]


def test_time_is_read(table):
    text = "path,identity,time\n1.jpg,a,2024-05-31T13:45:00Z\n2.jpg,a,\n3.jpg,a,noon\n"
    reading = read_csv(table(text))
    times = [r.time for r in reading.records]
    assert times == [datetime(2024, 5, 31, 13, 45, tzinfo=UTC), None]
    assert [skip.path for skip in reading.skipped] == ["3.jpg"]


def test_incomplete_rows_are_named(table):
    text = "path,identity,split\n1.jpg,,train\n,bob,train\n2.jpg,bob,val\n3.jpg,bob,train,more\n4.jpg\n5.jpg,c\n"
    reading = read_csv(table(text))
    assert [r.path for r in reading.records] == ["5.jpg"]
    reasons = {skip.path: skip.reason for skip in reading.skipped}
    assert reasons.pop("2.jpg").startswith("line 4: split 'val' is none of")
    assert reasons == {
        "1.jpg": "line 2 has no identity",
        "line 3": "line 3 has no path",
        "3.jpg": "line 5 has more cells than the header",
        "4.jpg": "line 6 has no identity",
    }


@pytest.mark.parametrize(
    "path", ["../x.jpg", "a/../../x.jpg", "/etc/passwd", "C:\\x.jpg", "..\\x.jpg", "\\\\server\\x.jpg"]
)
def test_a_path_that_leaves_root_is_refused(table, path):
    with pytest.raises(DataError, match=r"line 3: .* lies outside"):
        read_csv(table(f"path,identity\nfine.jpg,1\n{path},1\n"))


def test_a_path_twice_is_refused(table):
    with pytest.raises(DataError, match=r"names a/1\.jpg twice, in lines 2 and 4"):
        read_csv(table("path,identity\na/1.jpg,1\nb.jpg,1\n./a\\1.jpg,2\n"))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("path,identiy", "no column 'identity'.* Rename 'identiy' to 'identity'"),
        ("identity,where", "no column 'path' .*Name one to 'path'"),
        ("", "no column 'path'"),
        ("path,identity,path", "column 'path' twice"),
        ("path,identity,camra", "column 'camra', which would be ignored.* 'camera'"),
        ("path,identity,cameras", "Rename it to 'camera'"),
    ],
)
def test_a_wrong_header_is_refused(table, header, message):
    with pytest.raises(DataError, match=message):
        read_csv(table(f"{header}\n1.jpg,a,b\n"))


def test_columns_of_other_names_are_ignored(table):
    reading = read_csv(table("path,identity,camera,camera_type,height\n1.jpg,a,2,dome,17\n"))
    assert facts(reading) == [("1.jpg", "a", "2", "train")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,identity\nä.jpg,1\n".encode("latin-1"), "not UTF-8"),
        ("path,identity\na.jpg,1\n".encode("utf-16"), "not UTF-8"),
        (b'path,identity\n"a.jpg,1\n', "line 2: .*quote"),
        (b"path,identity\n" + b"a" * 200_000 + b",1\n", "line 2: field larger"),
    ],
)
def test_what_is_no_table_is_refused(table, content, message):
    with pytest.raises(DataError, match=message):
        read_csv(table(content))


def test_the_table_must_be_found(table, tmp_path):
    with pytest.raises(DataError, match=r"has no \.csv file"):
        read_csv(tmp_path)
    table("path,identity\n", "a.csv")
    table("path,identity\n", "b.csv")
    with pytest.raises(DataError, match=r"has 2 tables: a\.csv, b\.csv"):
        read_csv(tmp_path)
    with pytest.raises(DataError, match="can't be read"):
        read_csv(tmp_path, table=tmp_path / "c.csv")
    with pytest.raises(DataError, match="There is no folder"):
        read_csv(tmp_path / "missing")


def test_a_table_gives_its_name_to_the_domain_and_a_folder_its_own(table, tmp_path):
    path = table("path,identity\na.jpg,p1\n", "My List.csv")
    assert read_csv(path).name == "my-list"
    assert read_csv(path, name="other").name == "other"
    assert read_csv(tmp_path).name == read_csv(tmp_path).records[0].domain != "my-list"
