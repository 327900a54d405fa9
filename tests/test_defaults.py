"""What comes next is said so that it takes what was made, and not the newest run of another name."""

from __future__ import annotations

import pytest

from sil_cli.defaults import RECORD_FILE, model_folder, model_option
from sil_cli.errors import ModelError


def finished(folder):
    folder.mkdir(parents=True)
    (folder / RECORD_FILE).write_text("{}")
    return folder


def test_only_the_newest_numbered_run_goes_without_saying(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs"
    own = finished(runs / "my own")
    assert model_option(own, runs) == f" --model '{own}'"
    with pytest.raises(ModelError):
        model_folder(None, runs)
    old, new = finished(runs / "009-ubs"), finished(runs / "010-dbs")
    (runs / "011-fbf").mkdir()  # not finished
    assert model_option(new, runs) == ""
    assert model_option(new.relative_to(tmp_path), runs) == ""
    assert model_folder(None, runs) == new
    assert model_option(old, runs) == f" --model {old}"
    assert model_option(own, runs) == f" --model '{own}'"
