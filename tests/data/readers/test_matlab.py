from __future__ import annotations

import contextlib
import io
import struct
import sys
import zlib

import apart_work
import h5py
import numpy as np
import pytest
from data_set_trees import put_cuhk03_mat
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from sil_cli.data.readers import cuhk03_mat
from sil_cli.data.readers.cuhk03_mat import extracted
from sil_cli.data.readers.matlab import cell, load_v5, open_v73
from sil_cli.errors import DataError
from sil_cli.installing import extra_command
from sil_cli.runtime import SilentReporter


def test_variables_are_read_and_others_are_not(tmp_path):
    savemat(tmp_path / "a.mat", {"wanted": [[1, 2]], "other": [[3]]})
    assert load_v5(tmp_path / "a.mat", "wanted")["wanted"].tolist() == [[1, 2]]
    assert "other" not in load_v5(tmp_path / "a.mat", "wanted")
    with pytest.raises(DataError, match="no variable 'missing'"):
        load_v5(tmp_path / "a.mat", "missing")


def test_what_is_no_matlab_file_is_told(tmp_path):
    path = tmp_path / "a.mat"
    with pytest.raises(DataError, match="No such file"):
        load_v5(path, "x")
    path.write_text("no matrix")
    with pytest.raises(DataError, match="damaged or cut short"):
        load_v5(path, "x")
    with pytest.raises(DataError, match="damaged or cut short"), open_v73(path, "x"):
        pass
    with h5py.File(path, "w", userblock_size=512) as file:
        file["y"] = [1]
    with pytest.raises(DataError, match="no variable 'x'"), open_v73(path, "x"):
        pass


def test_a_missing_package_is_told_with_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match="h5py, ") as caught, open_v73(tmp_path / "a.mat"):
        pass
    assert extra_command("datasets") in caught.value.fix


def test_cells_that_are_huge_or_lie_in_other_files_are_refused(tmp_path):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(range(12)))
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        outside = file.create_dataset("outside", shape=(12,), dtype="u1", external=[(str(secret), 0, 12)])
        huge = file.create_dataset("huge", shape=(10_000, 10_000, 3), dtype="u1", chunks=True)
        plain = file.create_dataset("plain", data=np.arange(6).reshape(2, 3))
        references = np.array([outside.ref, huge.ref, plain.ref], dtype=h5py.ref_dtype)
        file.create_dataset("cells", data=references)
    for place in (0, 1):
        with pytest.raises(DataError), open_v73(tmp_path / "a.mat", "cells") as file:
            cell(file, file["cells"][place], most=1000)
    with open_v73(tmp_path / "a.mat", "cells") as file:
        assert cell(file, file["cells"][2], most=1000).tolist() == [[0, 3], [1, 4], [2, 5]]


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def array(kind: int, shape: tuple[int, ...], content: bytes, name: bytes = b"") -> bytes:
    flags = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack(f"<{len(shape)}i", *shape))
    return element(14, flags + element(1, name) + content)


def version_5(*variables: bytes) -> bytes:
    return b"MATLAB 5.0".ljust(124) + b"\0\1IM" + b"".join(variables)


def nested(depth: int, *, lying: bool = False) -> bytes:
    """Cells in cells; lying, each says that it ends before what it holds."""
    body = array(6, (1, 1), element(9, bytes(8)))
    for level in range(depth):
        whole = array(1, (1, 1), body, b"x" if level == depth - 1 else b"")
        body = whole[:4] + struct.pack("<I", len(whole) - 8 - len(body)) + whole[8:] if lying else whole
    return body


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("variable", "reason"),
    [
        (nested(30_000), "its cells are nested more than 16 deep"),
        (nested(30_000, lying=True), "an array is not what its header says"),
        (array(1, (30_000, 30_000), b"", b"x"), "an array is not what its header says"),
        (array(1, (-1, -1), array(6, (0, 0), b""), b"x"), "an array is not what its header says"),
        (array(6, (2**31 - 1, 2**31 - 1, 2**31 - 1), element(9, bytes(8)), b"x"), "not what its header says"),
        (array(2, (2**30, 1), element(5, b"\1\0\0\0") + element(1, b""), b"x"), "not what its header says"),
        (array(2, (1, 1), element(5, b"\0\0\0\0") + element(1, b""), b"x")[:-30], "damaged or cut short"),
        (array(5, (1, 1), b"", b"x"), "objects, functions or sparse matrices"),
        (array(17, (1, 1), b"", b"x"), "objects, functions or sparse matrices"),
        (
            element(14, element(6, struct.pack("<II", 6, 0)) + element(5, b"\1") + element(1, b"x")),
            "not what its header",
        ),
        (array(6, (1, 1), element(4242, bytes(8)), b"x"), "not what its header says"),
        (array(6, (1, 1), b"", b"x"), "not what its header says"),
        (array(1, (1, 1), element(15, zlib.compress(nested(1))), b"x"), "damaged or cut short"),
        (array(6, (40_000_000, 1), element(1, bytes(40_000_000)), b"x"), "it holds more than the authors' file can"),
    ],
    ids=[
        "deep",
        "lying",
        "cells",
        "negative",
        "numbers",
        "struct",
        "short",
        "sparse",
        "opaque",
        "shape",
        "type",
        "empty",
        "twice",
        "many",
    ],
)
def test_what_would_crash_scipy_or_take_all_memory_is_refused(tmp_path, variable, reason, compressed):
    if compressed:
        packed = zlib.compress(variable)
        variable = struct.pack("<II", 15, len(packed)) + packed
    (tmp_path / "a.mat").write_bytes(version_5(variable))
    with pytest.raises(DataError, match=reason):
        load_v5(tmp_path / "a.mat", "x")


def test_a_variable_that_inflates_to_gigabytes_is_refused_when_it_is_asked_for(tmp_path):
    squeeze = zlib.compressobj()
    head = array(6, (1, 1), b"", b"x")
    packed = squeeze.compress(head[:4] + struct.pack("<I", 2**31) + head[8:])
    packed += b"".join(squeeze.compress(bytes(10**7)) for _ in range(30)) + squeeze.flush()
    content = version_5(struct.pack("<II", 15, len(packed)) + packed, array(6, (1, 1), element(9, bytes(8)), b"y"))
    (tmp_path / "a.mat").write_bytes(content)
    assert load_v5(tmp_path / "a.mat", "y")["y"].tolist() == [[0.0]]
    with pytest.raises(DataError, match="cut short, or larger than the authors' file can be"):
        load_v5(tmp_path / "a.mat", "x")


def test_everything_that_is_read_of_a_file_comes_out_as_scipy_gives_it(tmp_path):
    inner = np.empty((2, 2), dtype=object)
    inner[:] = [["Jürgen", np.arange(6.0).reshape(2, 3)], [np.zeros((0, 0)), "x"]]
    person = np.array([(1 + 2j, inner), (np.uint8([1, 2]), "é")], dtype=[("a", object), ("b", object)])
    for compressed in (False, True):
        savemat(tmp_path / "a.mat", {"x": person, "y": [[True]]}, do_compression=compressed)
        found = load_v5(tmp_path / "a.mat", "x", "y")
        assert found["x"]["a"].ravel()[0].item() == 1 + 2j
        assert found["x"]["b"].ravel()[0][0, 1].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert found["x"]["b"].ravel()[0][0, 0].item() == "Jürgen"
        assert found["y"].tolist() == [[1]]


def test_another_version_is_told(tmp_path):
    savemat(tmp_path / "a.mat", {"x": [[1]]}, format="4")
    with pytest.raises(DataError, match="damaged or cut short"):
        load_v5(tmp_path / "a.mat", "x")
    (tmp_path / "b.mat").write_bytes(b"MATLAB 7.3".ljust(124) + b"\0\2IM" + bytes(400))
    with pytest.raises(DataError, match="of another MATLAB version than the authors' file"):
        load_v5(tmp_path / "b.mat", "x")


def test_links_are_not_followed(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as other:
        other["x"] = [1, 2, 3]
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["there"] = [1]
        file["soft"] = h5py.SoftLink("/there")
        file["out"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/x")
        file.create_group("group")
        layout = h5py.VirtualLayout(shape=(3,), dtype="i8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "x", shape=(3,))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("external", shape=(4,), dtype="u1", external=[(str(tmp_path / "secret.h5"), 0, 4)])
        file.create_dataset("text", data=["a"], dtype=h5py.string_dtype())
        file.create_dataset("lzf", data=np.zeros(100), compression="lzf")
        file.create_dataset("pieces", shape=(1,), maxshape=(None,), chunks=(10**7,), dtype="u1")
    for name, reason in {
        "soft": "a variable is a link",
        "out": "a variable is a link",
        "group": "a variable is no array",
        "virtual": "points at another file",
        "external": "points at another file",
        "text": "neither numbers nor references",
        "lzf": "packed in another way than MATLAB's",
        "pieces": "pieces of a size that MATLAB doesn't write",
    }.items():
        with pytest.raises(DataError, match=reason), open_v73(tmp_path / "a.mat", name) as file:
            cell(file, name, most=1000)


def test_a_chunk_that_inflates_to_more_than_it_holds_is_not_inflated(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w") as file:
        data = file.create_dataset("x", shape=(10**6,), chunks=(10**6,), dtype="u1", compression="gzip")
        data.id.write_direct_chunk((0,), zlib.compress(bytes(5 * 10**8)))
        file.create_dataset("y", data=np.arange(100.0), chunks=(50,), compression="gzip", shuffle=True, fletcher32=True)
    with pytest.raises(DataError, match="inflates to more than it holds"), open_v73(tmp_path / "a.mat", "x") as file:
        cell(file, "x", most=10**6)
    with open_v73(tmp_path / "a.mat", "y") as file:
        assert cell(file, "y", most=1000).tolist() == list(range(100))


def test_references_that_lead_back_to_themselves_end(tmp_path):
    with h5py.File(tmp_path / "cuhk-03.mat", "w") as file:
        data = file.create_dataset("detected", shape=(3000, 10), dtype=h5py.ref_dtype)
        data[...] = np.full((3000, 10), data.ref, dtype=object)
    with pytest.raises(DataError, match="can't be read"):
        extracted(tmp_path / "cuhk-03.mat", "detected", tmp_path / "out", SilentReporter())
    assert not list((tmp_path / "out").iterdir())


def test_a_file_that_crashes_hdf5_is_told_in_two_lines(tmp_path, monkeypatch):
    """No such file is known of this version; whichever does so in another ends as this one."""
    put_cuhk03_mat(tmp_path / "cuhk-03.mat")
    monkeypatch.setattr(cuhk03_mat, "yield_people", apart_work.crash)
    with pytest.raises(DataError) as caught:
        extracted(tmp_path / "cuhk-03.mat", "detected", tmp_path / "out", SilentReporter())
    assert caught.value.what == f"{tmp_path / 'cuhk-03.mat'} can't be read: what reads it crashed (SIGSEGV)."
    assert not list((tmp_path / "out").iterdir())


def test_images_that_are_named_again_and_again_come_to_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(cuhk03_mat, "_LEAST_ROOM", 10_000_000)
    with h5py.File(tmp_path / "cuhk-03.mat", "w") as file:
        crop = file.create_dataset("crop", data=np.zeros((3, 500, 500), np.uint8), compression="gzip")
        references = np.full((20, 3000), crop.ref, dtype=object)
        people = file.create_dataset("people", data=references, dtype=h5py.ref_dtype)
        file.create_dataset("detected", data=[people.ref], dtype=h5py.ref_dtype)
    monkeypatch.setattr(cuhk03_mat, "_MOST_GROWTH", 0)
    with pytest.raises(DataError, match="its images come to far more than it can hold"):
        list(cuhk03_mat.yield_people(str(tmp_path / "cuhk-03.mat"), "detected"))


@pytest.mark.thorough
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damaged_bytes_never_do_worse_than_two_lines(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "a.mat"
    inner = np.empty((1, 2), dtype=object)
    inner[:] = [["text", np.arange(6.0)]]
    stream = io.BytesIO()
    savemat(stream, {"x": np.array([(1, inner)], dtype=[("a", object), ("b", object)])})
    content = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(100, len(content) - 1))] = data.draw(st.integers(0, 255))
    body = bytes(content[128:])
    if data.draw(st.booleans()):
        packed = zlib.compress(body)
        body = struct.pack("<II", 15, len(packed)) + packed
    path.write_bytes((bytes(content[:128]) + body)[: data.draw(st.sampled_from([10**6, 128, 300, 500]))])
    with contextlib.suppress(DataError):
        load_v5(path, "x")
