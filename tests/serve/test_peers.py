"""Whose a connection is, as the kernel says it: asked once, and never taken over by another connection."""

from __future__ import annotations

import os
import socket

import pytest

from sil_cli.serve import access
from sil_cli.serve.access import Access, Peer, RefusedError
from sil_cli.settings import load_settings


def test_the_kernel_is_asked_once_for_a_connection_and_again_for_another(monkeypatch, empty) -> None:
    asked = []
    owners = iter([os.getuid(), 12345])
    monkeypatch.setattr(access, "connection_owner", lambda *ends: asked.append(ends) or next(owners))
    inside = Access(load_settings(flags={"serve": {"tokens": "none.json"}}).serve)
    ends = ("127.0.0.1", 50000), ("127.0.0.1", 8765)
    known: dict[str, int | None] = {}
    for _ in range(3):
        assert inside.user({}, Peer(*ends, known)).role == "administer"
    assert len(asked) == 1
    with pytest.raises(RefusedError, match="Only the user who runs the server"):
        inside.user({}, Peer(*ends, {}))  # the same port, somebody else's connection


def test_whose_a_real_connection_is_can_be_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as one:
        assert access.connection_owner(one.getsockname(), one.getpeername()) == os.getuid()
        assert access.connection_owner(("127.0.0.1", 1), one.getpeername()) is None
