"""What a user or a stranger's folder names may be a pipe, or hold what no parser bears: that is told at once."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from commands import sil

from sil_cli.data.archives import unpacked
from sil_cli.data.manifest import INFO_FILE, MANIFEST_FILE, load_dataset
from sil_cli.data.plan import read_plan
from sil_cli.data.protocol import PROTOCOL_FILE, read_protocol
from sil_cli.defaults import RECORD_FILE
from sil_cli.errors import SilError
from sil_cli.evaluation.calibration import CALIBRATION_FILE, read_calibration
from sil_cli.evaluation.embeddings_file import read_embeddings
from sil_cli.evaluation.report_data import ARRAYS_FILE, DETAILS_FILE, read_report_data
from sil_cli.files import parse_json, parse_toml, read_bytes, read_json, read_text
from sil_cli.gallery.local.schema import DATABASE_FILE
from sil_cli.gallery.local.segments import map_file
from sil_cli.gallery.local.tables import Tables
from sil_cli.models.embedder import WEIGHTS_FILE, load_embedder
from sil_cli.runtime import SilentReporter
from sil_cli.settings import load_settings, parse_assignment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEEP = "[" * 100_000
MANY_DIGITS = "9" * 5000


@pytest.fixture(autouse=True)
def _without_waiting() -> Iterator[None]:
    """Opening a pipe waits for whoever writes to it: fail instead."""

    def fail(*_: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A pipe that nobody writes to."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def read_named_json(path: Path) -> object:
    return read_json(path, what="a thing", fix="Mend it.")


@pytest.mark.parametrize("read", [read_bytes, read_text])
def test_bytes_and_text_are_read_from_files_alone(pipe, read) -> None:
    with pytest.raises(OSError, match="not a file"):
        read(pipe)


def test_text_has_newlines_for_line_ends_and_may_have_a_mark(tmp_path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\n")
    assert read_text(tmp_path / "a.txt") == "a\nb\n"


@pytest.mark.parametrize(
    "read",
    [
        lambda path: load_settings(config=path),
        read_named_json,
        read_embeddings,
        map_file,
    ],
    ids=["config", "json", "embeddings", "segment"],
)
def test_a_pipe_in_place_of_a_file(pipe, read: Callable[[Path], object]) -> None:
    with pytest.raises(SilError, match="not a file"):
        read(pipe)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        (PROTOCOL_FILE, read_protocol),
        (CALIBRATION_FILE, read_calibration),
        (DETAILS_FILE, read_report_data),
        (DATABASE_FILE, lambda folder: Tables(folder, write=False)),
        (DATABASE_FILE, lambda folder: Tables(folder, write=True)),
        ("plan.toml", lambda folder: read_plan(str(folder / "plan.toml"), [])),
    ],
    ids=["protocol", "calibration", "details", "database", "database-written", "plan"],
)
def test_a_pipe_in_a_folder(tmp_path, name: str, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(SilError, match="not a file"):
        read(tmp_path)


def with_pipe(source: Path, folder: Path, name: str) -> Path:
    """`source` by links, but with a pipe under this name."""
    folder.mkdir()
    for path in source.iterdir():
        if path.name != name:
            (folder / path.name).symlink_to(path.resolve())
    os.mkfifo(folder / name)
    return folder


def test_pipes_in_data_sets_models_and_results(in_world, tmp_path) -> None:
    (run,) = Path("runs").iterdir()
    (results,) = (run / "evaluation").iterdir()
    target = next(path for path in Path("data").iterdir() if (path / MANIFEST_FILE).is_file())
    for number, (source, name, read) in enumerate(
        [
            (target, MANIFEST_FILE, load_dataset),
            (results, ARRAYS_FILE, read_report_data),
            (run, WEIGHTS_FILE, load_embedder),
        ]
    ):
        with pytest.raises(SilError, match=name.replace(".", r"\.") if name == WEIGHTS_FILE else "not a file"):
            read(with_pipe(source, tmp_path / str(number), name))
    other = with_pipe(results, tmp_path / "results", "queries.jsonl")
    outcome = sil("compare", other / "results.json", other / "results.json")
    assert outcome.code == 1
    assert "queries.jsonl can't be read: not a file" in outcome.error
    assert (run / RECORD_FILE).is_file()


def test_what_was_unpacked_has_a_pipe_for_a_seal(tmp_path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a" / ".unpacked.json")
    with pytest.raises(SilError, match="in the way"):
        unpacked(tmp_path / "a.zip", tmp_path, SilentReporter())


@pytest.mark.parametrize("text", [DEEP, MANY_DIGITS])
def test_json_that_no_parser_bears(tmp_path, text: str) -> None:
    with pytest.raises(ValueError, match=r"nested too deeply|limit"):
        parse_json(text)
    (tmp_path / INFO_FILE).write_text(text)
    with pytest.raises(SilError, match=INFO_FILE.replace(".", r"\.")):
        load_dataset(tmp_path)


@pytest.mark.parametrize("value", [DEEP, MANY_DIGITS])
def test_settings_that_no_parser_bears(tmp_path, value: str, monkeypatch) -> None:
    with pytest.raises(ValueError, match=r"nested too deeply|limit"):
        parse_toml(f"value = {value}")
    with pytest.raises(SilError, match=r"--set train\.milestones can't be read"):
        parse_assignment(f"train.milestones={value}")
    (tmp_path / "f.toml").write_text(f"[train]\nmilestones = {value}\n")
    with pytest.raises(SilError, match=r"f\.toml can't be read"):
        load_settings(config=tmp_path / "f.toml")
    monkeypatch.setenv("SIL_TRAIN__MILESTONES", value)
    with pytest.raises(SilError, match=r"SIL_TRAIN__MILESTONES = .* can't be read"):
        load_settings()


@pytest.mark.parametrize("value", ["0x" + "f" * 5000, "[" * 300 + "]" * 300, "'" + "x" * 5000 + "'"])
def test_a_wrong_value_is_shown_in_a_line(value: str) -> None:
    with pytest.raises(SilError, match=r"model\.height = .{0,210} is not valid") as caught:
        load_settings(flags=parse_assignment(f"model.height={value}"))
    assert len(caught.value.what) < 500
