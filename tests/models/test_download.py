"""Models by address: resumed, checked, and led nowhere that the user didn't name; all on this machine's own servers."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading

import pytest
import safetensors.torch
import torch
import torchvision
from commands import sil

from sil_cli.errors import ModelError, UsageError
from sil_cli.installing import extra_command
from sil_cli.models import download
from sil_cli.models.download import find
from sil_cli.runtime import SilentReporter

CONTENT = bytes(range(256)) * 4000
SUM = hashlib.sha256(CONTENT).hexdigest()


class Web(http.server.BaseHTTPRequestHandler):
    """Serves files with ranges, cuts the first `cuts` connections in the middle, leads elsewhere where it is told."""

    def do_GET(self):
        web = self.server
        web.asked.append((self.path, self.headers.get("Range")))
        if self.path in web.elsewhere:
            self.send_response(302)
            self.send_header("Location", web.elsewhere[self.path])
            self.end_headers()
            return
        if self.path not in web.files:
            self.send_error(404)
            return
        content, start = web.files[self.path], 0
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        if "Range" in self.headers and self.headers.get("If-Range") == etag:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if web.etags:
            self.send_header("ETag", etag)
        self.send_header("Content-Length", str(web.claimed or len(content) - start))
        self.end_headers()
        end = start + (len(content) - start) // 2 if web.cuts else len(content)
        web.cuts -= web.cuts > 0
        self.wfile.write(content[start:end])

    def do_HEAD(self):
        """As the Hub answers for a file, with its revision."""
        content = self.server.files.get(self.path)
        self.send_response(404 if content is None else 200)
        if content is not None:
            self.send_header("X-Repo-Commit", self.server.commit)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def web(monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        server.files, server.elsewhere, server.asked = {"/net.pth": CONTENT}, {}, []
        server.cuts, server.claimed, server.etags = 0, None, True
        server.handle_error = lambda *_: None  # of clients that went away, as they should
        server.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(web, path: str = "/net.pth", sha256: str | None = SUM):
    return find(f"{web.address}{path}", sha256, SilentReporter())


def kept(tmp_path) -> list[str]:
    return [path.name for path in tmp_path.rglob("*") if path.is_file()]


def test_a_file_is_fetched_once_while_its_checksum_is_known(web):
    origin = fetch(web)
    assert origin.path.read_bytes() == CONTENT
    assert (origin.sha256, origin.source) == (SUM, f"{web.address}/net.pth")
    assert origin.path.stat().st_mode & 0o077 == 0 or origin.path.parent.stat().st_mode & 0o077 == 0
    fetch(web)
    assert len(web.asked) == 1


def test_a_cut_connection_goes_on_where_it_stopped(web):
    web.cuts = 2
    assert fetch(web).path.read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert web.asked[1:] == [("/net.pth", f"bytes={half}-"), ("/net.pth", f"bytes={half + half // 2}-")]


def test_so_does_the_next_command(web):
    web.cuts = download.ATTEMPTS
    with pytest.raises(ModelError, match="cut at") as caught:
        fetch(web)
    assert "goes on where it stopped" in caught.value.fix
    before = len(web.asked)
    assert fetch(web).path.read_bytes() == CONTENT
    assert web.asked[before][1] is not None


def test_another_version_in_between_begins_again(web):
    web.cuts = download.ATTEMPTS
    with pytest.raises(ModelError, match="cut at"):
        fetch(web)
    web.files["/net.pth"] = CONTENT[::-1]
    assert fetch(web, sha256=None).path.read_bytes() == CONTENT[::-1]


def test_a_server_without_versions_begins_again_and_is_right(web):
    web.etags, web.cuts = False, 1
    with pytest.raises(ModelError, match="cut at"):
        fetch(web)
    assert fetch(web).path.read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(web, tmp_path):
    with pytest.raises(ModelError, match=rf"has the SHA-256 {SUM}, not {'0' * 64}; it was deleted"):
        fetch(web, sha256="0" * 64)
    assert kept(tmp_path) == []
    with pytest.raises(UsageError, match="is not a checksum"):
        fetch(web, sha256="abc")


@pytest.mark.parametrize("real", [True, False])
def test_one_that_is_too_large_is_not_fetched(web, tmp_path, monkeypatch, real):
    monkeypatch.setattr(download, "LARGEST_FILE", len(CONTENT) - 1 if real else 2**30)
    web.claimed = None if real else 2**40
    with pytest.raises(ModelError, match=r"GiB, and files of more than"):
        fetch(web)
    assert kept(tmp_path) == []


@pytest.mark.parametrize(
    ("to", "told"),
    [
        ("file:///etc/passwd", "not a file on the web"),
        ("ftp://127.0.0.1/net.pth", "not a file on the web"),
        ("http://10.0.0.1/net.pth", "not encrypted"),
        ("https://10.0.0.1/net.pth", "in a private network"),
        ("https://169.254.169.254/latest", "in a private network"),
        ("https://[::1]/net.pth", "in a private network"),
        ("https://localhost/net.pth", "in a private network"),
        ("/away", "without end"),
    ],
)
def test_a_redirect_leads_nowhere_that_was_not_named(web, to, told):
    web.elsewhere["/away"] = to
    with pytest.raises(ModelError, match=told):
        fetch(web, "/away")


def test_a_redirect_to_the_same_host_is_followed(web):
    web.elsewhere["/latest"] = "/net.pth"
    assert fetch(web, "/latest").sha256 == SUM


@pytest.mark.parametrize(
    "address", ["file:///etc/passwd", "ftp://example.org/net.pth", "hf://owner/name", "https:///net.pth", "hf://a/b@/"]
)
def test_other_addresses_are_refused(address):
    with pytest.raises(UsageError, match="isn't the address of a file"):
        find(address, None, SilentReporter())


def test_plain_http_is_for_this_machine_alone(monkeypatch):
    monkeypatch.setattr(download.socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("93.184.216.34", 80))])
    with pytest.raises(ModelError, match="not encrypted"):
        find("http://example.org/net.pth", None, SilentReporter())


def test_offline_is_one_clear_line(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def nowhere(*_, **__):
        raise download.socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(download.socket, "getaddrinfo", nowhere)
    with pytest.raises(
        ModelError, match=r"can't be had: there is no way to its host; this machine may be offline\."
    ) as told:
        find("https://example.org/net.pth?token=secret", None, SilentReporter())
    assert "secret" not in str(told.value)


def test_a_missing_file_is_told(web):
    with pytest.raises(ModelError, match="the server answers 404"):
        fetch(web, "/none.pth")


def test_a_local_file_is_held_against_its_checksum(tmp_path):
    (tmp_path / "net.pth").write_bytes(CONTENT)
    assert find(str(tmp_path / "net.pth"), SUM, SilentReporter()).source == "net.pth"
    with pytest.raises(ModelError, match=rf"has the SHA-256 {SUM}, not"):
        find(str(tmp_path / "net.pth"), "0" * 64, SilentReporter())
    assert (tmp_path / "net.pth").exists()


@pytest.fixture
def published(web):
    torch.manual_seed(0)
    state = torchvision.models.resnet18(weights=None).state_dict()
    content = safetensors.torch.save({name: value for name, value in state.items() if not name.startswith("fc.")})
    web.files["/resnet.safetensors"] = content
    return f"{web.address}/resnet.safetensors", hashlib.sha256(content).hexdigest()


def test_a_model_keeps_its_card_and_every_command_shows_it(world, published, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    address, checksum = published
    words = ("--sha256", checksum, "--licence", "MIT", "--trained-on", "DukeMTMC-reID", "--trained-on", "MSMT17")
    size = ("--stride", 2, "--height", 32, "--width", 16)
    outcome = sil("import-model", address, *words, *size, "--out", "fetched", "--json")
    assert outcome.code == 0, outcome.err
    card = outcome.document["card"]
    assert (card["source"], card["sha256"], card["licence"]) == (address, checksum, "MIT")
    assert "This model learnt from DukeMTMC-reID" in outcome.error
    assert json.loads((tmp_path / "fetched" / "model.json").read_text())["card"] == card
    data = next(path.parent for path in (world / "data").glob("*/manifest.jsonl"))
    scored = sil("evaluate", "--model", "fetched", "--target", data)
    indexed = sil("index-gallery", data, "--model", "fetched", "--gallery", "shown")
    assert indexed.code == 0, indexed.err
    shown, doctor = sil("gallery", "info", "shown"), sil("doctor")
    for outcome in (scored, shown, doctor):
        said = " ".join(f"{outcome.out} {outcome.err}".split())
        assert address in said
        assert "licence MIT, trained on DukeMTMC-reID, MSMT17" in said
        assert "withdrew it" in said
    assert sil("gallery", "info", "shown", "--json").document["card"] == card
    assert sil("evaluate", "--model", "fetched", "--target", data, "--json").document["card"] == card


@pytest.fixture
def hub(web, monkeypatch, tmp_path):
    """A Hub on this machine, which huggingface-hub is pointed at."""
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_ENDPOINT", web.address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    commit = "a" * 40
    web.commit = commit
    for revision in ("main", "v1", commit):
        web.files[f"/owner/name/resolve/{revision}/sub/net.pth"] = CONTENT
    card = {"id": "owner/name", "cardData": {"license": "apache-2.0", "datasets": ["msmt17"]}, "siblings": []}
    web.files[f"/api/models/owner/name/revision/{commit}"] = json.dumps(card).encode()
    return web


@pytest.mark.parametrize("revision", ["", "@v1"])
def test_a_file_of_the_hub_brings_its_card_along(hub, revision):
    origin = find(f"hf://owner/name{revision}/sub/net.pth", SUM, SilentReporter())
    assert origin.path.read_bytes() == CONTENT
    assert origin.source == f"hf://owner/name@{hub.commit}/sub/net.pth"
    assert (origin.licence, origin.trained_on) == ("apache-2.0", ("msmt17",))


def test_a_model_of_this_program_brings_its_record_along(hub):
    for revision in ("main", hub.commit):
        hub.files[f"/owner/name/resolve/{revision}/model.safetensors"] = CONTENT
        hub.files[f"/owner/name/resolve/{revision}/model.json"] = b"{}"
    origin = find("hf://owner/name/model.safetensors", SUM, SilentReporter())
    assert (origin.path.parent / "model.json").read_bytes() == b"{}"
    for revision in ("main", hub.commit):
        hub.files[f"/owner/name/resolve/{revision}/other/model.safetensors"] = CONTENT
    origin = find("hf://owner/name/other/model.safetensors", SUM, SilentReporter())
    assert [path.name for path in origin.path.parent.iterdir()] == ["model.safetensors"]


def test_a_file_of_the_hub_is_checked_too(hub, tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="it was deleted"):
        find("hf://owner/name/sub/net.pth", "0" * 64, SilentReporter())
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == CONTENT]
    monkeypatch.setattr(download, "LARGEST_FILE", 1000)
    with pytest.raises(ModelError, match=r"GiB, and files of more than"):
        find("hf://owner/name/sub/net.pth", None, SilentReporter())


def test_what_the_hub_has_not_is_told(hub):
    with pytest.raises(ModelError, match="the Hub answers 404"):
        find("hf://owner/name/none.pth", None, SilentReporter())


def test_without_its_library_the_hub_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match="hf:// needs huggingface-hub") as caught:
        find("hf://owner/name/net.pth", None, SilentReporter())
    assert extra_command("hub") in caught.value.fix


def test_the_hub_offline_is_one_clear_line(monkeypatch, tmp_path):
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"hf://owner/name@main/net.pth can't be had: .*\.$") as caught:
        find("hf://owner/name@main/net.pth", None, SilentReporter())
    assert "internet" in caught.value.fix
    assert "\n" not in caught.value.what
