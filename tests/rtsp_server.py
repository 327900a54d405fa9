"""A camera for tests: an RTSP server that sends H.264 over its own TCP connection, and can misbehave.

RFC 2326 says how it is talked to, RFC 6184 how H.264 goes into packets.
"""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from footage_videos import RATE, make_video

_CLOCK = 90_000  # ticks a second of RTP's timestamps for video
_SLICES = (1, 5)  # NAL units that hold a picture; the others belong to the one that follows
_LONGEST = 1200  # bytes of a packet; longer NAL units go in fragments


@dataclass
class Camera:
    """What a camera does, and what it was asked.

    Attributes:
        film: A file of H.264, of which each frame is one slice.
        login: `name:password` that it wants.
        refuses: The status of its answer to DESCRIBE, if it refuses.
        stalls_after: Frames after which it says nothing more.
        closes_after: Frames after which it closes the connection.
        rubbish: Bytes that it answers everything with.
        port: Where it listens.
        methods: Of the requests that it got.
    """

    film: Path
    login: str = ""
    refuses: str = ""
    stalls_after: int | None = None
    closes_after: int | None = None
    rubbish: bytes = b""
    port: int = 0
    methods: list[str] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def listening(self) -> Iterator[Camera]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = server.getsockname()[1]
            server.settimeout(0.1)
            thread = threading.Thread(target=self._accept, args=(server,))
            thread.start()
            try:
                yield self
            finally:
                self._ended.set()
                thread.join()

    def _accept(self, server: socket.socket) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = server.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(30)
                    self._converse(connection)

    def _converse(self, connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        while (request := _request(stream)) is not None:
            method, _, rest = request.partition(" ")
            self.methods.append(method)
            sequence = re.search(r"CSeq: *(\d+)", rest, re.IGNORECASE)
            head = [f"CSeq: {sequence[1] if sequence else 0}"]
            if self.rubbish:
                connection.sendall(self.rubbish)
                return
            status, body = "200 OK", ""
            basic = base64.b64encode(self.login.encode()).decode()
            if method != "OPTIONS" and self.login and f"Authorization: Basic {basic}" not in rest:
                status = "401 Unauthorized"
                head.append('WWW-Authenticate: Basic realm="camera"')
            elif method == "OPTIONS":
                head.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
            elif method == "DESCRIBE" and self.refuses:
                status = self.refuses
            elif method == "DESCRIBE":
                body = self._description()
                head += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
            elif method == "SETUP":
                head += ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 7"]
            else:
                head.append("Session: 7")
            connection.sendall("\r\n".join([f"RTSP/1.0 {status}", *head, "", body]).encode())
            if method == "TEARDOWN":
                return
            if method == "PLAY":
                self._play(connection)
                return

    def _description(self) -> str:
        units = [unit for unit in _units(self.film) if unit[0] & 31 in (7, 8)][:2]
        parameters = ",".join(base64.b64encode(unit).decode() for unit in units)
        lines = [
            *("v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=camera", "c=IN IP4 0.0.0.0", "t=0 0"),
            *("m=video 0 RTP/AVP 96", f"a=rtpmap:96 H264/{_CLOCK}"),
            *(f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={parameters}", "a=control:track1", ""),
        ]
        return "\r\n".join(lines)

    def _play(self, connection: socket.socket) -> None:
        """Send the film in its own time, as RTP packets between the answers."""
        frame = number = 0
        for unit in _units(self.film):
            for last, payload in _fragments(unit):
                ends = last and unit[0] & 31 in _SLICES
                header = struct.pack(
                    ">BBHII", 0x80, 96 | ends << 7, number & 0xFFFF, frame * _CLOCK // RATE & 0xFFFFFFFF, 1
                )
                connection.sendall(struct.pack(">cBH", b"$", 0, len(header) + len(payload)) + header + payload)
                number += 1
            if unit[0] & 31 in _SLICES:
                frame += 1
                if frame == self.closes_after or self._ended.wait(1 / RATE):
                    return
                if frame == self.stalls_after:
                    break
        self._ended.wait(60)


def make_film(path: Path, frames: int) -> Path:
    """Frames for a camera: one slice each, in the order in which they are shown, with parameters at each key frame."""
    return make_video(path, frames, options={"bf": "0", "threads": "1", "x264-params": "slices=1:repeat-headers=1"})


def _request(stream: BinaryIO) -> str | None:
    """The head of the next request; None where the client has gone."""
    lines = []
    while (line := stream.readline()) not in (b"", b"\r\n"):
        lines.append(line.decode())
    return "".join(lines) or None


def _units(film: Path) -> list[bytes]:
    """The NAL units of a file of H.264, without their start codes."""
    return [unit.rstrip(b"\0") for unit in re.split(rb"\0\0\0?\x01", film.read_bytes()) if unit.rstrip(b"\0")]


def _fragments(unit: bytes) -> Iterator[tuple[bool, bytes]]:
    """Payloads that hold a NAL unit, and which one is the last: itself, or fragments (FU-A)."""
    if len(unit) <= _LONGEST:
        yield True, unit
        return
    for start in range(1, len(unit), _LONGEST):
        last = start + _LONGEST >= len(unit)
        flags = (start == 1) << 7 | last << 6
        yield last, bytes([unit[0] & 0xE0 | 28, flags | unit[0] & 31]) + unit[start : start + _LONGEST]
