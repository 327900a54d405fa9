"""What waits for the gallery's thread, and what doesn't."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from pathlib import Path

import pytest
from commands import sil
from serve.conftest import QUERY

from sil_cli.runtime import SilentReporter
from sil_cli.serve.access import User
from sil_cli.serve.query_form import Asked
from sil_cli.serve.service import BusyError, NotThereError, Service
from sil_cli.settings import QuerySettings, load_settings

ANN = User("ann", "look")


class SlowUpload(io.BytesIO):
    """An image that keeps the gallery's thread until it may go on."""

    def __init__(self, content: bytes, gate: threading.Event) -> None:
        super().__init__(content)
        self.gate, self.began = gate, threading.Event()

    def read(self, *size: int) -> bytes:
        self.began.set()
        assert self.gate.wait(60)
        return super().read(*size)


@contextlib.contextmanager
def service(**serve):
    one = Service(load_settings(flags={"serve": serve}), SilentReporter())
    one.start()
    try:
        yield one
    finally:
        one.close()


def search(one: Service, stream: io.BytesIO, top: int = 3):
    return one.search(Asked(QuerySettings(top=top), ((stream, None),), "picture.jpg"), ANN)


def test_images_of_what_was_shown_don_t_wait_for_searches(world) -> None:
    content = Path(QUERY).read_bytes()
    with service(waiting=1) as one:
        shown = [match["id"] for match in json.loads(search(one, io.BytesIO(content)).result())["matches"]]
        gate = threading.Event()
        slow = SlowUpload(content, gate)
        under_way = search(one, slow)
        assert slow.began.wait(60)
        try:
            for each in shown:
                assert one.image(each, ANN, thumbnail=True)[:2] == b"\xff\xd8"
            with pytest.raises(BusyError):
                search(one, io.BytesIO(content))
            with pytest.raises(BusyError):  # nothing is known of this one yet
                one.image(next(each for each in range(1, 40) if each not in shown), ANN, thumbnail=True)
        finally:
            gate.set()
        assert json.loads(under_way.result())["matches"]


def test_what_was_removed_is_not_remembered(world) -> None:
    with service() as one:
        shown = [
            match["id"] for match in json.loads(search(one, io.BytesIO(Path(QUERY).read_bytes())).result())["matches"]
        ]
        assert one.image(shown[0], ANN, thumbnail=True)
        assert sil("gallery", "remove", "--id", shown[0], "--yes").code == 0
        with pytest.raises(NotThereError):
            one.image(shown[0], ANN, thumbnail=True)
        assert one.image(shown[1], ANN, thumbnail=True)
