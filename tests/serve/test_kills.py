"""A server that is killed loses no verdict that it answered with success, and its log stays whole."""

from __future__ import annotations

import http.client
import json
import re
import signal
import threading
import time
from itertools import combinations
from pathlib import Path

import pytest
from commands import start_sil
from pins.making import copy_of_fixtures

from sil_cli.gallery.accountability.log import read_log
from sil_cli.gallery.people import open_people
from sil_cli.gallery.stores import open_gallery

pytestmark = pytest.mark.thorough


def judge(port: int, pairs: list[tuple[int, int]], kept: list[tuple[int, int]]) -> None:
    """Give verdicts until the server is gone; those that were answered with success are `kept`."""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        for first, second in pairs:
            body = json.dumps({"first": first, "second": second, "answer": "different"})
            connection.request("POST", "/api/verdicts", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            if answer.status == 201:
                kept.append((first, second))
    except (OSError, http.client.HTTPException):
        connection.close()


def test_a_kill_loses_no_verdict_that_was_answered(tmp_path) -> None:
    world = copy_of_fixtures(tmp_path / "world")
    with open_gallery(world / "gallery") as gallery:
        keys = {entry.key: one for one, entry in gallery.entries(range(1, 40)).items()}
    pairs = list(combinations(sorted(keys.values()), 2))
    kept: list[tuple[int, int]] = []
    for pause in (0.2, 0.5):
        with start_sil("serve", "--port", 0, "--set", "serve.rate=100000", cwd=world) as process:
            while (found := re.search(r"http://127.0.0.1:(\d+)", line := process.stderr.readline())) is None:
                assert line
            judges = [threading.Thread(target=judge, args=(int(found[1]), pairs[start::4], kept)) for start in range(4)]
            for each in judges:
                each.start()
            before = len(kept)
            while len(kept) < before + 5:
                time.sleep(0.01)
            time.sleep(pause)
            process.send_signal(signal.SIGKILL)
            for each in judges:
                each.join()
        with open_people(Path(world / "gallery"), write=False) as people:
            there = {tuple(sorted((keys[one.first], keys[one.second]))) for one in people.standing()}
        assert there >= set(kept)
        assert len(kept) > before
    log = read_log(world / "gallery", last=None, verify=True)
    assert log.ok, log.problem
    logged = {(line.details["first"], line.details["second"]) for line in log.lines if line.event == "verdict"}
    assert logged >= set(kept)
