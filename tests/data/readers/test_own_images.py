from __future__ import annotations

import unicodedata
from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sil_cli.data.readers.own_images import (
    FoundImage,
    query_positions,
    read_csv,
    read_folders,
    read_regex,
    to_records,
)
from sil_cli.errors import DataError, UsageError

seen = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["1", "2", None])), max_size=40)


def images_of(pairs) -> list[FoundImage]:
    return [FoundImage(f"{n}.jpg", identity, camera) for n, (identity, camera) in enumerate(pairs)]


@given(seen)
def test_every_query_can_find_somebody(pairs):
    images = images_of(pairs)
    queries = query_positions(enumerate(images))
    for identity, count in Counter(identity for identity, _ in pairs).items():
        mine = [n for n, pair in enumerate(pairs) if pair[0] == identity]
        cameras = {pairs[n][1] for n in mine}
        in_gallery = {pairs[n][1] for n in mine if n not in queries}
        if count == 1:
            assert not queries & set(mine)
            continue
        assert queries & set(mine)
        for n in queries & set(mine):
            assert n == next(m for m in mine if pairs[m][1] == pairs[n][1])  # the first of its camera
        if len(cameras) > 1:  # then a query finds itself in another camera
            assert all(in_gallery - {pairs[n][1]} for n in queries & set(mine))


def test_one_image_a_camera_gives_one_query():
    assert query_positions(enumerate(images_of([("a", "2"), ("a", "1"), ("b", "1")]))) == {0}


@given(seen, st.integers(0, 1000))
def test_half_of_the_identities_are_tested(pairs, seed):
    records = to_records(images_of(pairs), domain="d", split="half", seed=seed)
    train = {record.identity for record in records if record.split == "train"}
    test = {record.identity for record in records if record.split != "train"}
    assert not train & test
    assert len(test) == len({identity for identity, _ in pairs}) // 2
    assert [record.path for record in records] == [f"{n}.jpg" for n in range(len(pairs))]


def test_the_seed_draws_the_halves():
    images = images_of([(f"{n}", None) for n in range(40)])
    drawn = {
        seed: tuple(record.split for record in to_records(images, domain="d", split="half", seed=seed))
        for seed in (0, 1)
    }
    assert drawn[0] != drawn[1]
    assert drawn[0] == tuple(r.split for r in to_records(images, domain="d", split="half", seed=0))


def test_beside_queries_the_test_is_their_gallery():
    images = [
        FoundImage("1", "a", "1", "query"),
        FoundImage("2", "a", "1", "test"),
        FoundImage("3", "a", "1", "test"),
        FoundImage("4", "a", "1"),
    ]
    splits = [record.split for record in to_records(images, domain="d", split="train", seed=0)]
    assert splits == ["query", "gallery", "gallery", "train"]
    splits = [record.split for record in to_records(images[1:], domain="d", split="train", seed=0)]
    assert splits == ["query", "gallery", "train"]


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("My Cameras (2)", "my-cameras-2"),
        ("Données", "données"),
        ("___", "dataset"),
        ("v1.0", "v1.0"),
        ("CON", "data-con"),
        ("nul.jpg", "data-nul.jpg"),
        ("名" * 80, "名" * 33),
    ],
)
def test_a_domain_is_named_after_its_folder(tmp_path, folder, expected):
    (tmp_path / folder).mkdir()
    assert read_folders(tmp_path / folder).name == expected
    assert read_folders(tmp_path / folder, name="Mine").name == "Mine"


def tree(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def facts(reading):
    return [(record.split, record.identity, record.path) for record in reading.records]


def test_a_folder_is_an_identity(tmp_path):
    root = tree(tmp_path / "Shop 7", "Zoë/1.jpg", "Zoë/2.png", "bob/inner/3.jpg", "stray.jpg", "bob/notes.txt")
    reading = read_folders(root)
    assert reading.name == "shop-7"
    assert facts(reading) == [
        ("train", "Zoë", "Zoë/1.jpg"),
        ("train", "Zoë", "Zoë/2.png"),
        ("train", "bob", "bob/inner/3.jpg"),
    ]
    assert {skip.path: skip.reason for skip in reading.skipped} == {
        "bob/notes.txt": "not an image by its name",
        "stray.jpg": "not in an identity's folder",
    }
    assert reading.options == {"split": "train", "seed": 0}


def test_top_folders_may_be_splits(tmp_path):
    names = ["train/a/1.jpg", "query/b/2.jpg", "gallery/b/3.jpg", "extra/c/4.jpg", "train/5.jpg"]
    reading = read_folders(tree(tmp_path, *names), split="test")
    assert sorted(facts(reading)) == [
        ("gallery", "b", "gallery/b/3.jpg"),
        ("query", "b", "query/b/2.jpg"),
        ("train", "a", "train/a/1.jpg"),
    ]
    assert {skip.path: skip.reason for skip in reading.skipped} == {
        "extra/c/4.jpg": "outside the folders train, query and gallery",
        "train/5.jpg": "not in an identity's folder",
    }


def test_a_test_folder_is_divided_into_queries_and_gallery(tmp_path):
    reading = read_folders(tree(tmp_path, "Train/a/1.jpg", "Test/b/1.jpg", "Test/b/2.jpg", "Test/c/1.jpg"))
    assert sorted((split, identity) for split, identity, _ in facts(reading)) == [
        ("gallery", "b"),
        ("gallery", "c"),
        ("query", "b"),
        ("train", "a"),
    ]


def test_an_identity_may_be_called_train(tmp_path):
    reading = read_folders(tree(tmp_path, "train/1.jpg", "anna/1.jpg"), split="test")
    assert {identity for _, identity, _ in facts(reading)} == {"train", "anna"}


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"There is no \S+\. Check the path"):
        read_folders(tmp_path / "missing")


def test_a_missing_table_is_not_called_a_folder(tmp_path):
    with pytest.raises(DataError, match=r"There is no \S+/people\.csv\. Check the path"):
        read_csv(tmp_path / "people.csv")


def test_an_empty_folder_reads_as_nothing(tmp_path):
    assert read_folders(tmp_path).records == []


def test_named_groups_become_fields(tmp_path):
    root = tree(
        tmp_path,
        "bounding_box_train/0002_c1s1_000451_03.jpg",
        "query/0005_c2.jpg",
        "val/0006_c3.jpg",
        "query/nobody.jpg",
        "query/x.txt",
    )
    pattern = r"^(?P<split>\w+)/(?P<identity>\d+)_c(?P<camera>\d+)(s\d_(?P<frame>\d+)_\d+)?"
    reading = read_regex(root, pattern=pattern, name="mine")
    found = [(r.path, r.identity, r.camera, r.split, r.frame, r.domain) for r in reading.records]
    assert found == [
        ("bounding_box_train/0002_c1s1_000451_03.jpg", "0002", "1", "train", 451, "mine"),
        ("query/0005_c2.jpg", "0005", "2", "query", None, "mine"),
    ]
    reasons = {skip.path: skip.reason for skip in reading.skipped}
    assert reasons["query/nobody.jpg"] == "the pattern doesn't match"
    assert reasons["query/x.txt"] == "not an image by its name"
    assert reasons["val/0006_c3.jpg"].startswith("split 'val' is not one of train, ")
    assert reading.options["pattern"] == pattern


def test_only_the_identity_is_needed(tmp_path):
    root = tree(tmp_path, "7-1.jpg", "7-2.jpg", "8-1.jpg")
    reading = read_regex(root, pattern=r"(?P<identity>\d+)-", split="test")
    assert [(r.identity, r.camera, r.split) for r in reading.records] == [
        ("7", None, "query"),
        ("7", None, "gallery"),
        ("8", None, "gallery"),
    ]


def test_a_match_that_says_too_little_is_named(tmp_path):
    root = tree(tmp_path, "_c1.jpg", "7_f.jpg")
    reading = read_regex(root, pattern=r"(?P<identity>\d*)_(?P<frame>f|c1)")
    assert {skip.path: skip.reason for skip in reading.skipped} == {
        "_c1.jpg": "the pattern finds no identity",
        "7_f.jpg": "frame 'f' is not a whole number",
    }


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"(?P<identity>\d+", "not a regular expression"),
        (r"(\d+)_c", "no group"),
        (r"(?P<identity>\d+)_c(?P<cam>\d)", "unknown group 'cam'. Did you mean 'camera'"),
    ],
)
def test_a_wrong_pattern_is_refused(tmp_path, pattern, message):
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        read_regex(tmp_path, pattern=pattern)


@pytest.fixture
def table(tmp_path):
    def write(text: str | bytes, name: str = "images.csv"):
        content = text.encode() if isinstance(text, str) else text
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


def rows_of(reading):
    return [(r.path, r.identity, r.camera, r.split) for r in reading.records]


EXPECTED = [("a/1.jpg", "anna", "1", "query"), ("b 2.jpg", "bob", None, "train")]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables_come_in_several_dialects(table, tmp_path, delimiter, start, end):
    lines = ["Path,Identity, camera,split,colour", "a/1.jpg,anna,1,Query,red", "", "b 2.jpg,bob,,,"]
    path = table(start + end.join(lines).replace(",", delimiter))
    reading = read_csv(path)
    assert rows_of(reading) == EXPECTED
    assert reading.root == tmp_path
    assert reading.skipped == []
    assert rows_of(read_csv(tmp_path)) == EXPECTED
    assert rows_of(read_csv(path)) == EXPECTED


def test_quotes_backslashes_and_absolute_paths_inside_root(table, tmp_path):
    text = f'path,identity\n"a,b.jpg",1\nc\\d.jpg,1\n./e.jpg,2\n{tmp_path}/f.jpg,2\n'
    assert [r.path for r in read_csv(table(text)).records] == ["a,b.jpg", "c/d.jpg", "e.jpg", "f.jpg"]


def test_time_is_read(table):
    text = "path,identity,time\n1.jpg,a,2024-05-31T13:45:00Z\n2.jpg,a,\n3.jpg,a,noon\n"
    reading = read_csv(table(text))
    times = [r.time for r in reading.records]
    assert times == [datetime(2024, 5, 31, 13, 45, tzinfo=UTC), None]
    assert [skip.path for skip in reading.skipped] == ["3.jpg"]


def test_times_are_read_as_the_gallery_reads_them(table):
    times = ["20240531_134500", "2024:05:31 13:45:00", "31.05.2024 13:45", "1717163100", "03/04/2024"]
    reading = read_csv(table("path,identity,time\n" + "".join(f"{n}.jpg,a,{time}\n" for n, time in enumerate(times))))
    moment = datetime(2024, 5, 31, 13, 45)
    assert [r.time for r in reading.records] == [moment, moment, moment, moment.replace(tzinfo=UTC)]
    assert "can be read in several ways" in reading.skipped[0].reason


def test_boxes_are_cut_from_images_that_may_come_several_times(table):
    text = "path;identity;box\n1.jpg;a;0,0,30,60\n1.jpg;b;30 0 30 60\n2.jpg;a;\n2.jpg;b;1,2,3\n"
    reading = read_csv(table(text))
    boxes = [(record.path, record.box) for record in reading.records]
    assert boxes == [("1.jpg", (0, 0, 30, 60)), ("1.jpg", (30, 0, 30, 60)), ("2.jpg", None)]
    assert [skip.reason for skip in reading.skipped] == ["line 5: box '1,2,3' is not left,top,width,height in pixels"]
    with pytest.raises(DataError, match="twice, in lines 2 and 3"):
        read_csv(table("path;identity;box\n1.jpg;a;0,0,3,6\n./1.jpg;b;0,0,3,6\n"))


def test_paths_may_be_relative_to_another_folder_than_the_table_s(table, tmp_path):
    images = tree(tmp_path / "images", "a/1.jpg")
    reading = read_csv(table("path,identity\na/1.jpg,x\n"), images=images)
    assert (reading.root, reading.name) == (images, "images")
    assert [record.path for record in reading.records] == ["a/1.jpg"]
    with pytest.raises(DataError, match=r"There is no \S+\. Check the path"):
        read_csv(table("path,identity\na/1.jpg,x\n"), images=tmp_path / "absent")


def test_people_called_as_programs_call_nobody_are_taken_and_said(table):
    reading = read_csv(table("path,identity,camera\n1.jpg,NA,1\n2.jpg,nan,None\n3.jpg,nan,1\n4.jpg,,1\n"))
    assert [record.identity for record in reading.records] == ["NA", "nan", "nan"]
    advice = "leave the cell empty where it is unknown."
    assert list(reading.warnings) == [
        f"'NA' is taken for the name of a person (1 images); {advice}",
        f"'nan' is taken for the name of a person (2 images); {advice}",
        f"'None' is taken for the name of a camera (1 images); {advice}",
    ]


def test_incomplete_rows_are_named(table):
    text = "path,identity,split\n1.jpg,,train\n,bob,train\n2.jpg,bob,val\n3.jpg,bob,train,more\n4.jpg\n5.jpg,c\n"
    reading = read_csv(table(text))
    assert [r.path for r in reading.records] == ["5.jpg"]
    reasons = {skip.path: skip.reason for skip in reading.skipped}
    assert reasons.pop("2.jpg").startswith("line 4: split 'val' is not one of")
    assert reasons == {
        "1.jpg": "line 2 has no identity",
        "line 3": "line 3 has no path",
        "3.jpg": "line 5 has more cells than the header",
        "4.jpg": "line 6 has no identity",
    }


def test_what_people_and_cameras_are_called_is_compared_in_composed_letters(tmp_path):
    nfc, nfd = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    reading = read_folders(tree(tmp_path / "a", f"query/{nfd}/cam ö/1.jpg", f"gallery/{nfc}/2.jpg"), split="test")
    assert [(record.identity, record.path) for record in reading.records] == [
        (nfc, f"gallery/{nfc}/2.jpg"),
        (nfc, f"query/{nfd}/cam ö/1.jpg"),
    ]
    root = tree(tmp_path / "b", f"{nfd}.jpg", "2.jpg")
    (root / "list.csv").write_text(
        f"path,identity,camera\n{nfc}.jpg,{nfd},{nfd}\n2.jpg,{nfc},{nfc}\n", encoding="utf-8"
    )
    reading = read_csv(root, split="half")
    assert [(r.path, r.identity, r.camera) for r in reading.records] == [(f"{nfd}.jpg", nfc, nfc), ("2.jpg", nfc, nfc)]
    named = read_regex(root, pattern=f"(?P<identity>{nfc})")
    assert [(record.path, record.identity) for record in named.records] == [(f"{nfd}.jpg", nfc)]
    with pytest.raises(DataError, match="twice"):
        read_csv(root_with_both_spellings(root, nfc, nfd))


def root_with_both_spellings(root, nfc, nfd):
    (root / "list.csv").write_text(f"path,identity\n{nfc}.jpg,1\n{nfd}.jpg,1\n", encoding="utf-8")
    return root


def test_colons_are_letters_and_links_may_lie_on_the_way(tmp_path):
    root = tree(tmp_path / "real", "12:30:01_c1.png", "A:1/2.jpg", "3.jpg", "4.jpg")
    (tmp_path / "link").symlink_to(root)
    rows = ["12:30:01_c1.png,a", "A:1/2.jpg,b", f"{tmp_path}/link/3.jpg,c", f"{tmp_path}/link/../real/4.jpg,d"]
    (root / "list.csv").write_text("\n".join(["path,identity", *rows]))
    for folder in (root, tmp_path / "link", tmp_path / "link" / ".." / "real" / "list.csv"):
        assert [r.path for r in read_csv(folder).records] == ["12:30:01_c1.png", "A:1/2.jpg", "3.jpg", "4.jpg"]
    assert ("train", "A:1", "A:1/2.jpg") in facts(read_folders(root))


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
    assert rows_of(reading) == [("1.jpg", "a", "2", "train")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,identity\nä.jpg,1\n".encode("latin-1"), "not UTF-8"),
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
    with pytest.raises(DataError, match=r"There is no \S+\. Check the path"):
        read_csv(tmp_path / "missing")


def test_a_table_gives_its_name_to_the_domain_and_a_folder_its_own(table, tmp_path):
    path = table("path,identity\na.jpg,p1\n", "My List.csv")
    assert read_csv(path).name == "my-list"
    assert read_csv(path, name="other").name == "other"
    assert read_csv(tmp_path).name == read_csv(tmp_path).records[0].domain != "my-list"


def test_a_table_of_tracklets_says_what_is_missing(tmp_path):
    (tmp_path / "crops.csv").write_text("path,camera,time,tracklet\na.jpg,c1,,c1-0001\n")
    with pytest.raises(DataError, match="no column 'identity': a tracklet is somebody whom one camera saw") as raised:
        read_csv(tmp_path / "crops.csv")
    assert "sil people find" in raised.value.fix
