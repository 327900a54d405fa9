"""Many queries: what is said of them when Ctrl-C comes at the worst moment."""

import io
import json
import os
import shutil
import signal

import pytest

from sil_cli.errors import InterruptedWorkError
from sil_cli.runtime import SilentReporter
from sil_cli.search.batch_query import query_batch
from sil_cli.settings import load_settings


class _StopsOnce(io.StringIO):
    """Ctrl-C comes while lines are on their way: they are written, but not yet counted."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._at = at

    def write(self, text: str) -> int:
        count = super().write(text)
        self._at -= 1
        if self._at == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return count


@pytest.mark.parametrize(("at", "done"), [(1, 2), (2, 4), (3, 5)])
def test_ctrl_c_between_lines_and_their_count(in_world, tmp_path, at, done) -> None:
    picture = next((in_world / "data").glob("*/images/query/*.jpg"))
    names = tmp_path / "names.txt"
    names.write_text(f"{picture}\n" * 5)
    settings = load_settings(flags={"query": {"batch": names, "top": 1}, "gallery": {"batch": 2}})
    lines = _StopsOnce(at)
    with pytest.raises(InterruptedWorkError, match=f"Stopped after {done} queries; their lines are whole"):
        query_batch(settings, SilentReporter(), lines)
    assert lines.getvalue().count("\n") == done


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_lines_are_json_in_any_encoding(in_world, tmp_path, encoding) -> None:
    picture = next((in_world / "data").glob("*/images/query/*.jpg"))
    name = tmp_path / "Zo\u00eb \u540d.jpg"
    shutil.copyfile(picture, name)
    (tmp_path / "names.txt").write_text(f"{name}\n", encoding="utf-8")
    settings = load_settings(flags={"query": {"batch": tmp_path / "names.txt", "top": 1}})
    lines = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    query_batch(settings, SilentReporter(), lines)
    assert json.loads(lines.buffer.getvalue().decode(encoding))["image"] == str(name)
