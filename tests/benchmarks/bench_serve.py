"""`sil serve` under load, on loopback: how long a search takes, alone and among others, while images are indexed.

    python tests/benchmarks/bench_serve.py --gallery gallery --image person.jpg
    python tests/benchmarks/bench_serve.py --gallery gallery --image person.jpg --users 50 --seconds 120 --index crops

Each user searches by the image, looks at the best four matches, and waits for an answer before asking again. The warm
query is held against the same forward pass and search in this process, taken by turns and in a thread as the server's,
so that what else the machine does spoils both alike; processor time beside the clock's says how much of that is the
machine's. `--seconds 0` leaves it at that.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sil_cli.models.embed import embed
from sil_cli.runtime import SilentReporter
from sil_cli.search.search import load_own_engine
from sil_cli.settings import load_settings

BOUNDARY = "boundary-of-the-benchmark"
QUERIES = 200


def form(image: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    return head.encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode()


class User:
    """Somebody with a browser."""

    def __init__(self, port: int, image: bytes) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self.body = form(image)
        self.searches: list[float] = []
        self.errors: list[str] = []

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"} if body else {}
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            self.errors.append(f"{answer.status} {path} {content[:200]!r}")
        return content

    def search(self, images: int = 4) -> None:
        began = time.perf_counter()
        content = self.ask("POST", "/api/query", self.body)
        self.searches.append(time.perf_counter() - began)
        for match in json.loads(content).get("matches", [])[:images]:
            self.ask("GET", f"/api/entries/{match['id']}/image")

    def work(self, until: float) -> None:
        try:
            while time.perf_counter() < until:
                self.search()
        except (OSError, ValueError, http.client.HTTPException) as error:
            self.errors.append(repr(error))


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gallery", type=Path, required=True)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--index", help="images to index meanwhile, into the same gallery")
    chosen = parser.parse_args()
    image = chosen.image.read_bytes()
    words = [
        sys.executable,
        "-m",
        "sil_cli",
        "serve",
        str(chosen.gallery),
        "--port",
        "0",
        "--set",
        "serve.rate=1000000",
    ]
    server = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    found = None
    while found is None and (line := server.stderr.readline()):
        found = re.search(r":(\d+)$", line.strip())
    threading.Thread(target=server.stderr.read, daemon=True).start()
    port = int(found[1])
    try:
        compare(server.pid, port, image, chosen)
        if chosen.seconds:
            load(port, image, chosen)
    finally:
        server.terminate()
        server.wait()


def cpu_of(process: int) -> float:
    """Seconds of processor time that a process has used (man 5 proc)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def compare(process: int, port: int, image: bytes, chosen: argparse.Namespace) -> None:
    """A warm query against the forward pass and the search that it is made of."""
    from sil_cli.gallery.stores import open_gallery

    settings, user = load_settings(flags={"gallery": {"folder": str(chosen.gallery)}}), User(port, image)
    bare, own_cpu, server_cpu = [], 0.0, 0.0

    def by_turns() -> None:
        nonlocal own_cpu, server_cpu
        with open_gallery(chosen.gallery) as gallery:
            engine = load_own_engine(settings, gallery, SilentReporter(), images=None)
            for turn in range(QUERIES + 5):
                if turn == 5:  # warm
                    user.searches.clear()
                    bare.clear()
                    own_cpu = server_cpu = 0.0
                began, used = time.perf_counter(), time.process_time()
                gallery.search(embed(engine, [chosen.image]), 10)
                bare.append(time.perf_counter() - began)
                own_cpu += time.process_time() - used
                used = cpu_of(process)
                user.search(images=0)
                server_cpu += cpu_of(process) - used

    with ThreadPoolExecutor(1) as thread:
        thread.submit(by_turns).result()
    own, whole = statistics.median(bare), statistics.median(user.searches)
    print(f"warm query {1e3 * whole:.1f} ms, forward pass and search {1e3 * own:.1f} ms: {whole / own:.2f} times")
    cpu = [1e3 * seconds / QUERIES for seconds in (server_cpu, own_cpu)]
    print(f"of processor time {cpu[0]:.1f} ms and {cpu[1]:.1f} ms: {cpu[0] / cpu[1]:.2f} times")


def load(port: int, image: bytes, chosen: argparse.Namespace) -> None:
    """One user alone, then all at once."""
    alone = User(port, image)
    alone.work(time.perf_counter() + 10)
    indexing = None
    if chosen.index:
        model = chosen.gallery / "model"
        words = ["index-gallery", chosen.index, "--gallery", str(chosen.gallery), "--model", str(model)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        indexing = subprocess.Popen([sys.executable, "-m", "sil_cli", *words], **quiet)
    users = [User(port, image) for _ in range(chosen.users)]
    until = time.perf_counter() + chosen.seconds
    threads = [threading.Thread(target=user.work, args=(until,)) for user in users]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if indexing is not None:
        print(f"indexing ended with code {indexing.wait()}")
    times = [one for user in users for one in user.searches]
    errors = [one for user in users for one in user.errors]
    print(f"one user: median {1e3 * statistics.median(alone.searches):.0f} ms of {len(alone.searches)} searches")
    half, most = statistics.median(times), percentile(times, 0.95)
    one = statistics.median(alone.searches)
    print(
        f"{chosen.users} users, {chosen.seconds:.0f} s: {len(times):,} searches, {len(errors)} errors, "
        f"median {1e3 * half:.0f} ms, p95 {1e3 * most:.0f} ms: {half / one:.1f} and {most / one:.1f} times one user's"
    )
    for error in errors[:5]:
        print(error)


if __name__ == "__main__":
    main()
