"""Anyone's embeddings: read without unpickling, in blocks where large; what is wrong is said in a line."""

from __future__ import annotations

import io
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pytest

from sil_cli.errors import DataError, causes
from sil_cli.evaluation.embeddings_file import read_embeddings, write_embeddings
from sil_cli.evaluation.pairs import EmbeddingSet
from sil_cli.evaluation.ranking import rank_matches
from sil_cli.evaluation.score import score


def arrays(**changed):
    rng = np.random.default_rng(1)
    whole = {
        "query_embeddings": rng.standard_normal((4, 8)).astype(np.float32),
        "query_identities": np.array([1, 2, 3, 4]),
        "query_cameras": np.array([0, 0, 1, 1]),
        "gallery_embeddings": rng.standard_normal((12, 8)).astype(np.float32),
        "gallery_identities": np.arange(12) % 4 + 1,
        "gallery_cameras": np.arange(12) % 3,
    }
    return {key: value for key, value in (whole | changed).items() if value is not None}


def saved(path, **changed):
    np.savez(path, **arrays(**changed))
    return path


def test_numbers_and_texts_score_alike(tmp_path):
    names = {key: np.char.add("n", value.astype(str)) for key, value in arrays().items() if "_e" not in key}
    numbers = score(*read_embeddings(saved(tmp_path / "a.npz")))
    assert score(*read_embeddings(saved(tmp_path / "b.npz", **names))) == numbers
    plain = arrays()
    sides = [
        EmbeddingSet(
            *(
                plain[f"{side}_{what}"].tolist() if what != "embeddings" else plain[f"{side}_{what}"]
                for what in ("embeddings", "identities", "cameras")
            )
        )
        for side in ("query", "gallery")
    ]
    assert score(*sides) == numbers


def test_what_is_written_is_read(tmp_path):
    rng = np.random.default_rng(2)
    query = EmbeddingSet(
        rng.standard_normal((2, 3)).astype(np.float32), ["a", "é"], ["c1", None], [False, True], ["x", "y"]
    )
    gallery = EmbeddingSet(
        rng.standard_normal((3, 3)).astype(np.float32), "aab", ["c2", None, "c1"], None, ["1", "2", "x"]
    )
    path = tmp_path / "new" / "e.npz"
    write_embeddings(path, query, gallery)
    assert [file.name for file in path.parent.iterdir()] == ["e.npz"]
    for read, given in zip(read_embeddings(path), (query, gallery), strict=True):
        assert (read.embeddings == given.embeddings).all()
        assert list(read.identities) == list(given.identities)
        assert [each or None for each in read.cameras] == given.cameras
        assert read.junk_flags().tolist() == given.junk_flags().tolist()
        assert list(read.keys) == given.keys
    assert read_embeddings(path)[0].cameras == ["c1", None]


@pytest.mark.parametrize("order", ["C", "F"])
def test_large_arrays_are_mapped_and_score_alike(tmp_path, order):
    gallery = np.asarray(arrays()["gallery_embeddings"], order=order)
    path = saved(tmp_path / "a.npz", gallery_embeddings=gallery)
    mapped = read_embeddings(path, mapped_from=0)
    assert isinstance(mapped[1].embeddings, np.memmap)
    assert (mapped[1].embeddings == gallery).all()
    assert score(*mapped) == score(*read_embeddings(path))
    assert score(*mapped, metric="euclidean") == score(*read_embeddings(path), metric="euclidean")


def test_compressed_arrays_are_read_whole(tmp_path):
    np.savez_compressed(tmp_path / "c.npz", **arrays())
    whole = read_embeddings(tmp_path / "c.npz", mapped_from=0)
    assert not isinstance(whole[1].embeddings, np.memmap)
    assert score(*whole) == score(*read_embeddings(saved(tmp_path / "a.npz")))


def test_without_cameras_only_the_query_itself_is_ignored(tmp_path):
    rows = np.eye(3)
    path = tmp_path / "e.npz"
    both = {
        f"{side}_{what}": value
        for side in ("query", "gallery")
        for what, value in (("embeddings", rows), ("identities", np.array([1, 1, 1])))
    }
    np.savez(path, **both)
    with pytest.warns(UserWarning, match="3 of 3 queries have a copy in the gallery"):
        scores = score(*read_embeddings(path))
    assert scores.gallery == 3
    assert scores.mINP == 1.0  # each finds itself and both others: 3 of 3
    both |= {f"{side}_paths": np.array(["a", "b", "c"]) for side in ("query", "gallery")}
    np.savez(path, **both)
    assert read_embeddings(path)[0].cameras == [None] * 3
    assert [len(ranks) for ranks in rank_matches(*read_embeddings(path)).ranks] == [2, 2, 2]


def test_identity_minus_1_is_junk_unless_junk_is_given(tmp_path):
    identities = arrays()["gallery_identities"]
    identities[0] = -1
    read = read_embeddings(saved(tmp_path / "a.npz", gallery_identities=identities))
    assert np.flatnonzero(read[1].junk_flags()).tolist() == [0]
    junk = np.zeros(12, bool)
    junk[3] = True
    read = read_embeddings(saved(tmp_path / "b.npz", gallery_identities=identities, gallery_junk=junk))
    assert np.flatnonzero(read[1].junk_flags()).tolist() == [3]


def test_unknown_cameras_and_half_precision(tmp_path):
    read = read_embeddings(
        saved(
            tmp_path / "a.npz",
            query_cameras=np.array([-1, 0, 1, 2]),
            query_embeddings=arrays()["query_embeddings"].astype(np.float16),
        )
    )
    assert read[0].cameras == [None, 0, 1, 2]
    assert read[0].embeddings.dtype == np.float32


def ragged():
    return np.array([None, [1, 2]], dtype=object)


@pytest.mark.parametrize(
    ("changed", "what", "fix"),
    [
        ({"query_embeddings": None}, "has no query_embeddings", "Add query_embeddings"),
        (
            {"query_embeddings": None, "query_embedding": np.ones((4, 8))},
            "has no query_embeddings",
            "query_embedding to",
        ),
        (
            {"query_embeddings": None, "gallery_dimensions": np.ones(3)},
            "has no query_embeddings",
            "Add query_embeddings",
        ),
        ({"gallery_cameras": None}, "cameras of the query only", "both sides"),
        (
            {"gallery_cameras": None, "gallery_camera": np.ones(12)},
            "gallery_camera, which isn't read",
            "gallery_cameras",
        ),
        ({"gallery_identities": ragged()}, "pickled objects", "dtype=str"),
        ({"query_embeddings": ragged()}, "pickled objects", "rows of equal length"),
        ({"query_embeddings": np.ones(4)}, "has shape (4,)", "one row"),
        ({"query_identities": np.ones(4)}, "type float64", "whole numbers"),
        ({"query_identities": np.ones(5, int)}, "there are 4 query_embeddings", "same order"),
        ({"query_identities": np.array(list("abcd"))}, "query_identities are texts", "in the same way"),
        (
            {"query_cameras": np.array(list("0011"))},
            "query_cameras are texts but gallery_cameras are numbers",
            "in the same way",
        ),
        (
            {"query_paths": np.arange(4), "gallery_paths": np.arange(12).astype(str)},
            "query_paths are numbers but gallery_paths are texts",
            "one image has one name",
        ),
        ({"sil_format": np.array(2)}, "is of version 2", "Update"),
        ({"gallery_junk": np.array(["False"] * 12)}, "gallery_junk has type <U5", "booleans"),
        (
            {"query_identities": np.array(["a", "", "b", ""]), "gallery_identities": np.array(["a", "b", "c"] * 4)},
            "2 query_identities are empty",
            "query_junk",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path, changed, what, fix):
    path = saved(tmp_path / "bad.npz", **changed)
    for mapped_from in (0, 2**28):
        with pytest.raises(DataError) as raised:
            read_embeddings(path, mapped_from=mapped_from)
        assert what in raised.value.what
        assert fix in raised.value.fix


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"query_embeddings": np.full((4, 8), np.nan, np.float32)}, "4 of 4 query embeddings hold NaN"),
        ({"gallery_embeddings": np.zeros((12, 8), np.float32)}, "12 of 12 gallery embeddings are all zeros"),
        ({"query_embeddings": np.ones((4, 7), np.float32)}, "(4, 7)"),
        ({"query_embeddings": np.ones((4, 8), int)}, "(4, 8) int64"),
        (
            {"query_embeddings": np.ones((0, 8), np.float32), "query_identities": np.ones(0, int)}
            | {"query_cameras": np.ones(0, int)},
            "query is empty",
        ),
        (
            {"gallery_embeddings": np.ones((0, 8), np.float32), "gallery_identities": np.ones(0, int)}
            | {"gallery_cameras": np.ones(0, int)},
            "gallery is empty",
        ),
        ({"query_identities": -np.ones(4, int)}, "All queries are junk"),
    ],
)
def test_embeddings_that_cannot_be_scored_are_refused(tmp_path, changed, what):
    path = saved(tmp_path / "bad.npz", **changed)
    for mapped_from in (1, 2**28):
        with pytest.raises(DataError) as raised:
            score(*read_embeddings(path, mapped_from=mapped_from))
        assert what in str(raised.value)


def test_another_spelling_of_what_is_there_is_only_left_unread(tmp_path):
    query, _ = read_embeddings(saved(tmp_path / "a.npz", query_camera=np.ones(4, int)))
    assert list(query.cameras) == [0, 0, 1, 1]


def test_empty_texts_may_name_junk(tmp_path):
    names = {"query_identities": np.array(list("abca")), "gallery_identities": np.array(["a", "b", ""] * 4)}
    _, gallery = read_embeddings(saved(tmp_path / "a.npz", **names, gallery_junk=np.array([0, 0, 1] * 4)))
    assert gallery.junk_flags().sum() == 4


def test_damaged_files_are_refused(tmp_path):
    whole = saved(tmp_path / "a.npz").read_bytes()
    bad = tmp_path / "bad.npz"
    at = whole.index(arrays()["gallery_embeddings"].tobytes()[:64])
    for content in (b"", b"hello", whole[:500], whole[:at] + bytes(8) + whole[at + 8 :]):
        bad.write_bytes(content)
        with pytest.raises(DataError, match=r"bad\.npz"):
            read_embeddings(bad)
    with pytest.raises(DataError, match="no file"):
        read_embeddings(tmp_path / "none.npz")
    with pytest.raises(DataError, match=r"not an \.npz file"):
        read_embeddings(tmp_path)


@pytest.mark.slow
def test_ten_million_gallery_rows_are_streamed(tmp_path):
    """A file of 2.6 GB is scored although a process may allocate only 1.5 GiB."""
    script = f"""
        import resource
        import numpy as np
        from pathlib import Path
        from sil_cli.evaluation.embeddings_file import read_embeddings
        from sil_cli.runtime import SilentReporter
        path = Path({str(tmp_path / "large.npz")!r})
        count, dimension = 10_000_000, 64
        raw = np.lib.format.open_memmap(path.with_suffix(".npy"), mode="w+", dtype=np.float32, shape=(count, dimension))
        rng = np.random.default_rng(0)
        people = rng.standard_normal((200_000, dimension), dtype=np.float32)
        for start in range(0, count, 100_000):
            noise = rng.standard_normal((100_000, dimension), dtype=np.float32)
            raw[start : start + 100_000] = people[np.arange(start, start + 100_000) % 200_000] + noise
        query = people[:5] + rng.standard_normal((5, dimension), dtype=np.float32)
        np.savez(path, gallery_embeddings=raw, gallery_identities=np.arange(count) % 200_000,
                 query_embeddings=query, query_identities=np.arange(5))
        del raw, people, noise
        resource.setrlimit(resource.RLIMIT_DATA, (3 * 2**29, 3 * 2**29))
        from sil_cli.evaluation.score import score
        scores = score(*read_embeddings(path), metric="cosine")
        assert scores.gallery == count
        assert scores.cmc[10] > 0.5
        assert scores.open_set.same_pairs == 5 * 50
        assert scores.open_set.different_pairs == 5 * (count - 50)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class TestHostileFiles:
    """What a stranger's file claims is not believed, and takes neither memory nor time."""

    def write(
        self, path, *, header=None, version=(1, 0), content=b"", method=zipfile.ZIP_STORED, key="query_embeddings"
    ):
        """A sound file but for one array, which is a header and what comes after it."""
        with zipfile.ZipFile(path, "w") as archive:
            for name, value in arrays().items():
                if name != key:
                    archive.writestr(f"{name}.npy", self.npy(value))
            if header is not None:
                size = len(header.encode()).to_bytes(2 if version == (1, 0) else 4, "little")
                content = b"\x93NUMPY" + bytes(version) + size + header.encode() + content
            archive.writestr(f"{key}.npy", content, method)
        return path

    def npy(self, value) -> bytes:
        stream = io.BytesIO()
        np.save(stream, value)
        return stream.getvalue()

    def refused(self, path) -> str:
        with pytest.raises(DataError) as caught:
            score(*read_embeddings(path))
        assert len(str(caught.value)) < 1000
        return str(caught.value)

    @pytest.mark.parametrize(
        "header",
        [
            "-" * 5000,
            "(" * 5000,
            "[" * 9000 + "]" * 9000,
            "'" * 99,
            "",
            "{}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 8)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 8)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 0)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-4, 8)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1e999, 8)}",
            "{'descr': '<f4', 'fortran_order': 7, 'shape': (4, 8)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (9, 8)}",
            "{'descr': '<U2000000000', 'fortran_order': False, 'shape': (4,)}",
            "{'descr': '|V0', 'fortran_order': False, 'shape': (99999999,)}",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4, 8)}",
            "{'descr': 'no', 'fortran_order': False, 'shape': (4, 8)}",
            "{'descr': '|O', 'fortran_order': False, 'shape': (4, 8)}",
            "{'descr': " + "[" * 3000 + "}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (4, " + "-" * 6000 + "[)}",
        ],
        ids=lambda header: header[:70],
    )
    @pytest.mark.parametrize("version", [(1, 0), (2, 0), (9, 9)])
    def test_headers_that_are_none(self, tmp_path, header, version):
        path = self.write(tmp_path / "bad.npz", header=header, version=version, content=bytes(128))
        assert "query" in self.refused(path).lower()

    def test_a_header_that_is_nested_too_deeply_is_no_lack_of_memory(self, tmp_path):
        header = "{'descr': '<f4', 'fortran_order': False, 'shape': (4, " + "-" * 6000 + "[)}"
        path = self.write(tmp_path / "bad.npz", header=header, version=(1, 0), content=bytes(128))
        with pytest.raises(DataError) as caught:
            read_embeddings(path)
        assert not any(isinstance(cause, MemoryError) for cause in causes(caught.value))

    @pytest.mark.thorough
    def test_what_would_fill_the_memory_is_not_inflated(self, tmp_path):
        header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1048576, 64)}"
        path = self.write(tmp_path / "bomb.npz", header=header, content=bytes(2**28), method=zipfile.ZIP_DEFLATED)
        assert path.stat().st_size < 2**20
        assert "would come to 268,435,5" in self.refused(path)
        assert "numpy.savez" in self.refused(path)

    def test_compressed_arrays_of_ordinary_size_are_read(self, tmp_path):
        names = np.array([f"a rather long name {number}" for number in range(12)])
        np.savez_compressed(tmp_path / "a.npz", **arrays(gallery_paths=names, query_paths=names[:4]))
        assert read_embeddings(tmp_path / "a.npz")[1].keys.tolist() == names.tolist()

    def test_other_compression_is_refused_as_its_chunks_have_no_bound(self, tmp_path):
        path = self.write(tmp_path / "a.npz", content=self.npy(arrays()["query_embeddings"]), method=zipfile.ZIP_LZMA)
        assert "compressed in a way that .npz files never are" in self.refused(path)

    @pytest.mark.parametrize("at", ["data", "encrypted", "method", "size"])
    def test_damaged_members(self, tmp_path, at):
        path = self.write(
            tmp_path / "a.npz", content=self.npy(arrays()["query_embeddings"]), method=zipfile.ZIP_DEFLATED
        )
        content = bytearray(path.read_bytes())
        entry = content.rindex(b"PK\x01\x02")  # of the last member, in the directory
        local = int.from_bytes(content[entry + 42 : entry + 46], "little")
        if at == "data":
            content[local + 60 : local + 90] = b"\xff" * 30
        elif at == "encrypted":
            content[entry + 8] |= 1
            content[local + 6] |= 1
        elif at == "method":
            content[entry + 10] = content[local + 8] = 77
        else:
            content[entry + 24 : entry + 28] = (2**31).to_bytes(4, "little")
        path.write_bytes(content)
        self.refused(path)

    @pytest.mark.parametrize("code", [0x110000, 0xFFFFFFFF, 0xD800, 0xDFFF])
    def test_texts_that_are_none(self, tmp_path, code):
        names = np.array(["a", "b", "c", "d"])
        names.view(np.uint32)[2] = code
        gallery = np.array(list("abcdabcdabcd"))
        path = saved(tmp_path / "a.npz", query_identities=names, gallery_identities=gallery)
        assert "query_identities holds something other than text" in self.refused(path)

    def test_names_of_members_that_no_message_could_hold(self, tmp_path):
        path = tmp_path / "a.npz"
        with zipfile.ZipFile(path, "w") as archive:
            for number in range(50):
                archive.writestr(f"{number}{'query' * 10_000}.npy", b"")
                archive.writestr(f"query{number}.npy", b"")
        assert "and 80 more" in self.refused(path)
