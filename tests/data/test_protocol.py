from __future__ import annotations

import pytest

from sil_cli.data.protocol import PROTOCOL_FILE, Protocol, read_protocol, write_protocol
from sil_cli.errors import DataError


def test_what_is_written_is_read(tmp_path):
    protocol = Protocol(
        name="P3 market1501",
        sources=("msmt17", "cuhk03"),
        source_splits="train+test",
        targets=("market1501",),
        settings={"model": {"height": 256}},
    )
    write_protocol(tmp_path, protocol)
    assert read_protocol(tmp_path) == protocol


def test_one_target_may_be_written_short(tmp_path):
    (tmp_path / PROTOCOL_FILE).write_text('sources = ["a"]\ntarget = "b"\n')
    assert read_protocol(tmp_path) == Protocol(sources=("a",), targets=("b",))


def test_it_pins_settings_and_what_is_learnt_from():
    protocol = Protocol(
        name="mine",
        sources=("a",),
        source_splits="train+test",
        targets=("b",),
        settings={"train": {"select": "last"}, "model": {"height": 384}},
    )
    assert protocol.layer == {
        "model": {"height": 384},
        "train": {"source_splits": "train+test", "protocol": "mine", "select": "last"},
    }


def test_no_file_is_no_protocol(tmp_path):
    assert read_protocol(tmp_path) is None


@pytest.mark.parametrize(
    "text",
    [
        "sources = [",
        'sources = ["a"]',
        'targets = ["a"]',
        'sources = []\ntargets = ["b"]',
        'sources = ["a"]\ntarget = "b"\ntargets = ["c"]',
        'sources = ["a"]\ntarget = "b"\ncolour = "red"',
        'sources = ["a"]\ntarget = "b"\nsource_splits = "test"',
    ],
)
def test_what_is_no_protocol_says_what_one_holds(tmp_path, text):
    (tmp_path / PROTOCOL_FILE).write_text(text)
    with pytest.raises(DataError) as raised:
        read_protocol(tmp_path)
    assert "targets" in raised.value.fix


@pytest.mark.parametrize("values", ['sources = ["../x"]\ntarget = "b"', 'sources = ["a"]\ntargets = ["b", "/etc"]'])
def test_sources_and_targets_are_names_of_folders_beside_the_file(tmp_path, values):
    (tmp_path / "protocol.toml").write_text(values)
    with pytest.raises(DataError, match=r"is not valid: (sources|targets)\.[01]: must be a name"):
        read_protocol(tmp_path)
