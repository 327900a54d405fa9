from __future__ import annotations

import sys

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from sil_cli.data.readers.matlab import cell, load_v5, open_v73
from sil_cli.errors import DataError


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
    with pytest.raises(DataError, match=r"h5py, .*pip install 'sil-cli\[datasets\]'"), open_v73(tmp_path / "a.mat"):
        pass


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
