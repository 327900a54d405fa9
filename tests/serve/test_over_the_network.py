"""A server as others reach it: behind a proxy, by TLS, and by clients that send what no browser does."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from commands import sil, start_sil
from pins.making import copy_of_fixtures
from serve.conftest import QUERY

PROXY, OTHER = "127.0.0.9", "127.0.0.8"
"""Addresses of this machine's own, which Linux has plenty of."""

pytestmark = pytest.mark.thorough


@contextlib.contextmanager
def server(folder: Path, *options: str):
    """Serve the gallery of a folder in a process of its own; gives the port."""
    words = [part for option in options for part in ("--set", option)]
    with start_sil("serve", "--port", 0, *words, cwd=folder) as process:
        said, found = [], None
        while found is None and (line := process.stderr.readline()):
            said.append(line)
            found = re.search(r"https?://\S+:(\d+)$", line.strip())
        assert found is not None, "".join(said)
        rest = threading.Thread(target=process.stderr.read)
        rest.start()
        try:
            yield int(found[1])
        finally:
            process.send_signal(signal.SIGTERM)
            rest.join(30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return copy_of_fixtures(tmp_path_factory.mktemp("network") / "world")


class Proxy(BaseHTTPRequestHandler):
    """A proxy that knows its users by a cookie, and says to the server behind it who they are."""

    protocol_version = "HTTP/1.1"
    behind = 0

    def answer(self) -> None:
        """Hand a request on from the proxy's own address, with nothing of what it says of its user."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name: value for name, value in self.headers.items() if not name.lower().startswith("x-forwarded")}
        user = (self.headers.get("cookie") or "").removeprefix("user=")
        if user:
            headers["X-Forwarded-User"] = user
        onward = http.client.HTTPConnection("127.0.0.1", self.behind, source_address=(PROXY, 0))
        onward.request(self.command, self.path, body, headers)
        answer = onward.getresponse()
        content = answer.read()
        onward.close()
        self.send_response(answer.status)
        self.send_header("content-type", answer.headers["content-type"])
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = answer

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def behind(folder):
    """The ports of the server and of the proxy before it."""
    roles = 'serve.proxy_roles=["ann=judge","root=administer","*=look"]'
    with server(folder, f'serve.proxy=["{PROXY}"]', roles, 'serve.hosts=["people.example"]') as port:
        Proxy.behind = port
        with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
            thread = threading.Thread(target=proxy.serve_forever)
            thread.start()
            yield port, proxy.server_address[1]
            proxy.shutdown()
            thread.join()


def ask(port: int, method: str, path: str, body=None, headers=None, source: str = OTHER):
    """The status and the document of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60, source_address=(source, 0))
    content = json.dumps(body) if body is not None else None
    kind = {"content-type": "application/json"} if body is not None else {}
    connection.request(method, path, content, {"Host": "people.example", **kind, **(headers or {})})
    answer = connection.getresponse()
    document = json.loads(answer.read())
    connection.close()
    return answer.status, document


def test_whom_the_proxy_names_may_do_what_their_role_may(behind, folder) -> None:
    _, proxy = behind
    verdict = {"first": 1, "second": 2, "answer": "same"}
    may = {"ann": (200, 201, 403), "eve": (200, 403, 403), "root": (200, 201, 200)}
    for user, statuses in may.items():
        as_user = {"Cookie": f"user={user}"}
        status, document = ask(proxy, "GET", "/api/gallery", headers=as_user)
        assert (status, document["user"]) == (200, user)
        given = ask(proxy, "POST", "/api/verdicts", verdict, as_user)[0]
        read = ask(proxy, "GET", "/api/administration/log", headers=as_user)[0]
        assert (status, given, read) == statuses, user
    assert ask(proxy, "GET", "/api/gallery")[0] == 403  # the proxy names nobody
    lines = [json.loads(line) for line in (folder / "gallery/access.jsonl").read_text().splitlines()]
    assert {line["by"] for line in lines if line["event"] == "verdict"} == {"ann", "root"}


def test_nobody_but_the_proxy_is_believed(behind) -> None:
    port, proxy = behind
    named = {"X-Forwarded-User": "root"}
    for source in (OTHER, "127.0.0.1"):
        status, document = ask(port, "GET", "/api/gallery", headers=named, source=source)
        assert (status, document["error"]["what"]) == (401, "Only the proxy may ask without a token.")
    forged = {**named, "Cookie": "user=eve"}  # the proxy drops what its users say of themselves
    assert ask(proxy, "GET", "/api/gallery", headers=forged)[1]["user"] == "eve"
    assert ask(proxy, "GET", "/api/gallery", headers={"Host": "evil.example", "Cookie": "user=root"})[0] == 421
    assert (
        ask(proxy, "GET", "/api/gallery", headers={"Origin": "https://evil.example", "Cookie": "user=root"})[0] == 403
    )
    assert (
        ask(proxy, "GET", "/api/gallery", headers={"Origin": "https://people.example", "Cookie": "user=root"})[0] == 200
    )


def test_a_proxy_that_only_adds_to_what_its_users_say_is_not_believed(behind) -> None:
    port, _ = behind
    for names in (("root", "eve"), ("eve", "root")):
        with socket.create_connection(("127.0.0.1", port), source_address=(PROXY, 0)) as connection:
            told = "".join(f"X-Forwarded-User: {name}\r\n" for name in names)
            request = f"GET /api/gallery HTTP/1.1\r\nHost: people.example\r\n{told}Connection: close\r\n\r\n"
            connection.sendall(request.encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 403"), answer


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A self-signed certificate of this machine, its key, and the key with a password."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl")
    made = tmp_path_factory.mktemp("tls")
    request = "req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 2 -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        [openssl, *request.split(), "-keyout", made / "key.pem", "-out", made / "cert.pem"],
        check=True,
        capture_output=True,
    )
    lock = "rsa -aes256 -passout pass:secret"
    subprocess.run(
        [openssl, *lock.split(), "-in", made / "key.pem", "-out", made / "locked.pem"], check=True, capture_output=True
    )
    (made / "junk.pem").write_text("junk")
    return made


def test_a_certificate_has_the_network_read_nothing(folder, certificate) -> None:
    named = (f"serve.certificate={certificate / 'cert.pem'}", f"serve.key={certificate / 'key.pem'}")
    with server(folder, *named) as port:
        context = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=context)
        for _ in range(2):  # both by one connection
            connection.request("GET", "/api/gallery", headers={"Origin": f"https://127.0.0.1:{port}"})
            answer = connection.getresponse()
            assert (answer.status, json.loads(answer.read())["role"]) == (200, "administer")
        assert connection.sock.version() in ("TLSv1.2", "TLSv1.3")
        connection.close()
        plain = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with contextlib.suppress(OSError):
            plain.request("GET", "/api/gallery")
        with pytest.raises((http.client.HTTPException, OSError)):
            plain.getresponse()
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with pytest.raises(ssl.SSLError), socket.create_connection(("127.0.0.1", port)) as raw:
            old.wrap_socket(raw, server_hostname="127.0.0.1")  # who doesn't know the certificate goes no further


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"certificate": "none.pem"}, "there is no file"),
        ({"key": "key.pem"}, "serve.certificate is not"),
        ({"certificate": "cert.pem"}, "can't be used"),
        ({"certificate": "junk.pem", "key": "key.pem"}, "can't be used"),
        ({"certificate": "cert.pem", "key": "none.pem"}, "there is no file"),
        ({"certificate": "cert.pem", "key": "locked.pem"}, "can't be used"),
    ],
)
def test_a_certificate_that_can_t_be_used_is_told_before_anything_is_served(
    named, said, folder, certificate, monkeypatch
) -> None:
    monkeypatch.chdir(folder)
    words = [part for name, file in named.items() for part in ("--set", f"serve.{name}={certificate / file}")]
    outcome = sil("serve", "--port", 0, *words)
    assert (outcome.code, len(outcome.err.strip().splitlines()) <= 4) == (2, True)
    assert said in outcome.error


def test_an_upload_of_two_gib_is_cut_off_after_as_much_as_is_allowed(folder) -> None:
    """In chunks, so that nothing says beforehand how long it will be."""
    with server(folder, "serve.max_upload=1") as port:
        head = b'--x\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n\r\n'
        sent = 0
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.settimeout(60)
            start = (
                f"POST /api/query HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nTransfer-Encoding: chunked\r\n"
                "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
            )
            connection.sendall(start.encode() + b"%x\r\n%s\r\n" % (len(head), head))
            part = b"%x\r\n%s\r\n" % (2**20, bytes(2**20))
            with contextlib.suppress(OSError):  # the server has closed its side
                while sent < 2048:
                    connection.sendall(part)
                    sent += 1
            answer = b""
            with contextlib.suppress(OSError):
                answer = connection.recv(65536)
        assert sent < 64
        assert answer[:12] in (b"HTTP/1.1 413", b"")  # none where the rest of the upload ran into a closed door
        content = (folder / QUERY).read_bytes()
        body = head + content + b"\r\n--x--\r\n"
        after = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        after.request("POST", "/api/query", body, {"content-type": "multipart/form-data; boundary=x"})
        assert after.getresponse().status == 200
        after.close()


def test_a_log_with_a_changed_line_has_nothing_shown(folder) -> None:
    with server(folder) as port:
        path = folder / "gallery/access.jsonl"
        before = path.read_bytes()
        own = {"Host": f"127.0.0.1:{port}"}
        try:
            path.write_bytes(before[:-30] + b"x" + before[-29:-1])
            status, document = ask(port, "POST", "/api/verdicts", {"first": 1, "second": 3, "answer": "same"}, own)
            assert (status, set(document)) == (409, {"error"})
            assert str(folder) not in json.dumps(document)
            read = ask(port, "GET", "/api/administration/log", headers=own)[1]
            assert (read["ok"], "not what its hash" in read["problem"] or "missing" in read["problem"]) == (False, True)
        finally:
            path.write_bytes(before)
        assert ask(port, "GET", "/api/verdicts?id=1&id=3", headers=own)[1]["verdicts"] == []
