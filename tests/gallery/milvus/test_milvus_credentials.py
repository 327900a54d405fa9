"""Where a credential for Milvus may go: to nobody whom only a stranger's file names, and never in the clear."""

from __future__ import annotations

import socket

import pytest
from commands import sil

from sil_cli.gallery.milvus.address import parse_address

TOKEN = "root:secret"


@pytest.fixture
def stranger(monkeypatch):
    """The address of a server that only takes connections, and what says whether somebody came."""
    pytest.importorskip("pymilvus")
    monkeypatch.setenv("SIL_MILVUS_TOKEN", TOKEN)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)

        def was_called() -> bool:
            try:
                server.accept()[0].close()
            except TimeoutError:
                return False
            return True

        yield f"milvus://127.0.0.1:{server.getsockname()[1]}/x", was_called


@pytest.mark.parametrize(
    "arguments",
    [
        ("query", "--id", "1"),
        ("gallery", "info"),
        ("gallery", "compact"),
        ("gallery", "verify"),
        ("index-gallery", "."),
    ],
)
def test_a_found_file_has_no_credential_sent(world, tmp_path, monkeypatch, stranger, arguments) -> None:
    address, was_called = stranger
    monkeypatch.chdir(tmp_path)
    run = ["--model", world / "runs/001-dbs"] if arguments[0] == "index-gallery" else []
    if run:
        image = next((world / "data").rglob("*.png"), None) or next((world / "data").rglob("*.jpg"))
        (tmp_path / f"one{image.suffix}").write_bytes(image.read_bytes())
    (tmp_path / "sil.toml").write_text(f"[gallery]\nstore = '{address}'\npatience = 0.5\n")
    outcome = sil(*arguments, *run)
    assert outcome.code == 2
    assert f"The store {address} was named by a sil.toml found in the working folder" in outcome.err
    assert f"--store {address}" in outcome.err
    assert TOKEN not in outcome.err
    assert not was_called()


@pytest.mark.parametrize("how", ["flag", "variable", "config"])
def test_a_store_that_the_user_names_is_connected_to(tmp_path, monkeypatch, stranger, how) -> None:
    address, was_called = stranger
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sil.toml").write_text(f"[gallery]\nstore = '{address}'\npatience = 0.5\n")
    more = {"flag": ["--store", address], "variable": [], "config": ["--config", "sil.toml"]}[how]
    if how == "variable":
        monkeypatch.setenv("SIL_GALLERY__STORE", address)
    outcome = sil("query", "--id", "1", *more)
    assert "does not answer" in outcome.err
    assert was_called()


def test_a_token_stays_off_an_open_network(tmp_path, monkeypatch) -> None:
    pytest.importorskip("pymilvus")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIL_MILVUS_TOKEN", TOKEN)
    monkeypatch.setattr("pymilvus.MilvusClient", lambda **_: pytest.fail("connected"))
    outcome = sil("query", "--id", "1", "--store", "milvus://192.0.2.1:19530/x")
    assert outcome.code == 2
    assert "milvus://192.0.2.1:19530/x is not reached over TLS" in outcome.err
    assert "milvus+tls://" in outcome.err
    assert TOKEN not in outcome.err


@pytest.mark.parametrize(
    ("address", "safe"),
    [
        ("milvus+tls://db.example/x", True),
        ("milvus://db.example/x", False),
        ("milvus://127.0.0.1/x", True),
        ("milvus://127.8.0.1/x", True),
        ("milvus://[::1]/x", True),
        ("milvus://localhost/x", True),
        ("milvus://LOCALHOST/x", True),
        ("milvus://localhost.example/x", False),
        ("milvus://127.0.0.1.example/x", False),
        ("milvus://10.0.0.1/x", False),
        ("milvus://0.0.0.0/x", False),
        ("people.db", True),
    ],
)
def test_what_keeps_secrets(address, safe) -> None:
    assert parse_address(address).keeps_secrets is safe


def test_a_found_file_names_no_database_elsewhere(tmp_path, monkeypatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "work/sil.toml").write_text("[gallery]\nstore = '../own.db'\n")
    outcome = sil("gallery", "info")
    assert outcome.code == 2
    assert "gallery.store = ../own.db was set by a file found in the working folder" in outcome.err
