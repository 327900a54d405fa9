"""Answers leave at once: what is left of Nagle's algorithm costs 40 ms each, and no result shows it."""

from __future__ import annotations

import asyncio
import socket

import pytest

pytest.importorskip("fastapi")
from sil_cli.serve.run import listening
from sil_cli.settings import load_settings


def test_connections_send_small_parts_without_waiting_for_acknowledgements() -> None:
    async def meet(bound: socket.socket) -> int:
        met: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            met.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(connected, sock=bound):
            _, writer = await asyncio.open_connection(*bound.getsockname())
            found = await met
            writer.close()
            return found

    with listening(load_settings(flags={"serve": {"port": 0}}).serve) as bound:
        assert asyncio.run(meet(bound)) != 0
