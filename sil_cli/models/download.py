"""Published models by name: one file from https:// or from the Hugging Face Hub, checked before anybody reads it."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import ipaddress
import os
import re
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit

from sil_cli.defaults import RECORD_FILE
from sil_cli.errors import ModelError, UsageError, one_line, visible
from sil_cli.files import LARGEST_FILE, MOST_TEXT, sha256_of_file
from sil_cli.installing import extra_command
from sil_cli.models.record import WEIGHTS_FILE, ModelCard
from sil_cli.runtime import import_quietly

if TYPE_CHECKING:
    from sil_cli.runtime import Reporter, Task

HUB = re.compile(r"hf://(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?/(?P<file>[^?#]+)")
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as cut."""

ATTEMPTS = 4
CHUNK = 2**20
REDIRECTS = 5
AGAIN = "Run the same command again: it goes on where it stopped."
OFFLINE = "Connect to the internet, or download the file elsewhere and import it by its path."


@dataclass(frozen=True)
class Origin:
    """A file to import, and what is known of where it came from.

    Attributes:
        path: Where it lies; what was fetched lies in the user's cache.
        source: The address that it came from, with the revision where there is one; or its name.
        sha256: Its checksum.
        licence: What its repository says of it; None where nothing does.
        trained_on: The data sets that its repository names.
    """

    path: Path
    source: str
    sha256: str
    licence: str | None = None
    trained_on: tuple[str, ...] = ()

    def card(self, family: str = "", notes: tuple[str, ...] = ()) -> ModelCard:
        """The card of a model that is made of it."""
        return ModelCard(
            source=self.source,
            sha256=self.sha256,
            family=family,
            licence=self.licence,
            trained_on=self.trained_on,
            notes=notes,
        )


def find(address: str, sha256: str | None, reporter: Reporter) -> Origin:
    """The file that a path or an address names; downloaded, or what is missing of it since the last try.

    Args:
        address: A path; `https://…`, `http://…` on this machine alone, or `hf://owner/name[@revision]/file`.
        sha256: The checksum that it must have; None where nobody knows.
        reporter: Shows the progress.

    Raises:
        UsageError: It is no such address, or huggingface-hub is not installed.
        ModelError: It can't be had, is too large, or is another file than the checksum's; nothing of that is kept.
    """
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise UsageError(
            f"--sha256 {sha256} is not a checksum.", "It has 64 digits from 0 to f, as sha256sum prints them."
        )
    if not ADDRESS.match(address):
        return Origin(Path(address), Path(address).name, _verified(Path(address), sha256))
    found = HUB.fullmatch(address)
    if found is not None:
        origin = _from_hub(found, address, reporter)
    elif urlsplit(address).scheme.lower() in ("https", "http") and urlsplit(address).hostname:
        path = _download(address, sha256, reporter)
        origin = Origin(path, _without_secrets(address), sha256_of_file(path))
    else:
        raise UsageError(
            f"{visible(address)} isn't the address of a file that can be fetched.",
            "Give https://…, or hf://owner/name/file, hf://owner/name@revision/file.",
        )
    if sha256 is None:
        reporter.warn(
            f"Nothing says what this file should be: its SHA-256 is {origin.sha256}. Next time, pass that as --sha256."
        )
    elif origin.sha256 != sha256.lower():
        origin.path.resolve().unlink(missing_ok=True)
        origin.path.unlink(missing_ok=True)
        raise ModelError(
            f"{visible(origin.source)} has the SHA-256 {origin.sha256}, not {sha256.lower()}; it was deleted.",
            "Ask whoever published it which is right, and don't use the file until then.",
        )
    return origin


def _from_hub(found: re.Match[str], address: str, reporter: Reporter) -> Origin:
    """A file of the Hugging Face Hub, by its own library, which keeps and resumes what it downloads."""
    try:
        huggingface_hub = import_quietly("huggingface_hub")
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        raise UsageError("hf:// needs huggingface-hub.", f"Install it with `{extra_command('hub')}`.") from None
    repository, revision, file = found["repository"], found["revision"], found["file"]
    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        url = huggingface_hub.hf_hub_url(repository, file, revision=revision, endpoint=endpoint)
        metadata = huggingface_hub.get_hf_file_metadata(url, timeout=TIMEOUT)
        _check_size(metadata.size, address)
        reporter.note(f"Fetching {visible(address)}.")
        path = huggingface_hub.hf_hub_download(repository, file, revision=metadata.commit_hash, endpoint=endpoint)
        if file.rpartition("/")[2] == WEIGHTS_FILE:  # of `sil export --to hf`: how to build it lies beside
            beside, commit = file.removesuffix(WEIGHTS_FILE) + RECORD_FILE, metadata.commit_hash
            with contextlib.suppress(HfHubHTTPError):
                url = huggingface_hub.hf_hub_url(repository, beside, revision=commit, endpoint=endpoint)
                if (huggingface_hub.get_hf_file_metadata(url, timeout=TIMEOUT).size or 0) <= MOST_TEXT:
                    huggingface_hub.hf_hub_download(repository, beside, revision=commit, endpoint=endpoint)
        licence, trained_on = _stated(repository, metadata.commit_hash, endpoint)
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        raise ModelError(
            f"{visible(address)} can't be had: the Hub answers {status}.",
            "Check owner, name, revision and file; for one that needs a login, run `hf auth login` first.",
        ) from error
    except ModelError:
        raise
    except Exception as error:  # the library lets its transport's errors through, which differ by version
        raise ModelError(f"{visible(address)} can't be had: {_reason(error)}.", OFFLINE) from error
    source = f"hf://{repository}@{metadata.commit_hash or revision or 'main'}/{file}"
    return Origin(Path(path), source, sha256_of_file(Path(path)), licence, trained_on)


def _stated(repository: str, revision: str | None, endpoint: str | None) -> tuple[str | None, tuple[str, ...]]:
    """The licence and the data sets that a repository's card names; nothing where it has none."""
    huggingface_hub = import_quietly("huggingface_hub")
    with contextlib.suppress(Exception):  # the card is a courtesy: without it the file is what it is
        card = (
            huggingface_hub.HfApi(endpoint=endpoint)
            .model_info(repository, revision=revision, timeout=TIMEOUT)
            .card_data
        )
        if card is not None:
            datasets = card.datasets or ()
            named = (datasets,) if isinstance(datasets, str) else tuple(datasets)
            licence = card.license_name or card.license
            return (str(licence) if licence else None), tuple(str(each) for each in named)
    return None, ()


def _download(address: str, sha256: str | None, reporter: Reporter) -> Path:
    """A file from https://, by as many connections as it takes; none if the cache has one of this checksum."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sil" / "downloads"
    folder = cache / hashlib.sha256(address.encode()).hexdigest()[:32]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = re.sub(r"[^\w.-]", "_", unquote(urlsplit(address).path).rpartition("/")[2])
    whole, part, told = folder / f"file-{name}", folder / "part", folder / "version"
    if whole.is_file() and sha256 is not None and sha256_of_file(whole) == sha256.lower():
        return whole
    whole.unlink(missing_ok=True)  # the address may hold another file by now
    with reporter.task(f"Fetching {visible(_without_secrets(address))}", None, "bytes") as task:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _receive(address, part, told, task)
                break
            except (OSError, http.client.HTTPException) as error:
                cut = part.stat().st_size if part.exists() else 0
                if attempt == ATTEMPTS or not cut or not told.exists():
                    kept = f" after {cut:,} bytes" if cut else ""
                    raise ModelError(
                        f"{visible(_without_secrets(address))} can't be had: {_reason(error)}{kept}.",
                        AGAIN if cut else OFFLINE,
                    ) from error
    part.replace(whole)
    told.unlink(missing_ok=True)
    return whole


def _receive(address: str, part: Path, told: Path, task: Task) -> None:
    """Append to `part` what is missing of it, over one connection.

    Raises:
        OSError: The connection was cut, or none came about.
        ModelError: The server refuses, leads elsewhere, or the file is too large.
    """
    version = told.read_text() if part.exists() and told.exists() else ""
    start = part.stat().st_size if version else 0
    with _opened(address, {"Range": f"bytes={start}-", "If-Range": version} if start else {}) as response:
        if response.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink()
            raise ConnectionError("the server has another file by now")
        begins = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if response.status != http.client.PARTIAL_CONTENT or begins is None or int(begins[1]) != start:
            if response.status != http.client.OK:
                raise ModelError(
                    f"{visible(_without_secrets(address))} can't be had: the server answers {response.status}.",
                    "Check the address.",
                )
            start = 0
        length = response.headers.get("Content-Length", "")
        expected = start + int(length) if length.isdecimal() else None
        _check_size(expected, address)
        etag = response.headers.get("ETag", "")
        told.unlink(missing_ok=True)
        if etag.startswith('"'):  # a weak one doesn't tell whether the bytes are the same
            told.write_text(etag)
        with part.open("ab" if start else "wb") as file:
            task.advance(start)
            while chunk := response.read(CHUNK):
                file.write(chunk)
                task.advance(len(chunk))
                if file.tell() > LARGEST_FILE:
                    break
        received = part.stat().st_size
    if received > LARGEST_FILE:
        part.unlink()
        told.unlink(missing_ok=True)
        _check_size(received, address)
    if expected is not None and received < expected:
        raise ConnectionError(f"the connection was cut at {received:,} of {expected:,} bytes")


def _check_size(size: int | None, address: str) -> None:
    if size is not None and size > LARGEST_FILE:
        name, most = visible(_without_secrets(address)), LARGEST_FILE // 2**30
        raise ModelError(
            f"{name} has {size / 2**30:.1f} GiB, and files of more than {most} GiB aren't fetched.",
            "Name the file of one model.",
        )


class _Unsent(urllib.request.HTTPRedirectHandler):
    """Leaves redirects to `_opened`, and errors to whoever reads the status."""

    def redirect_request(self, *_: Any) -> None:
        """None, so that nothing is followed."""

    def http_error_default(self, req: Any, fp: Any, code: Any, msg: Any, hdrs: Any) -> Any:
        """The answer as it is."""
        del req, code, msg, hdrs
        return fp


@contextlib.contextmanager
def _opened(address: str, headers: dict[str, str]) -> Any:
    """An answer to GET, over at most a few redirects: each to https, and none to a private network that was not named.

    Raises:
        ModelError: A redirect leads where it must not.
    """
    first, here = urlsplit(address).hostname, address
    opener = urllib.request.build_opener(_Unsent())
    for _ in range(REDIRECTS + 1):
        _check_place(here, named=urlsplit(here).hostname == first)
        request = urllib.request.Request(here, headers={"User-Agent": "sil-cli", **headers})  # noqa: S310 - checked
        try:
            response: Any = opener.open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            if response.status not in (301, 302, 303, 307, 308):
                yield response
                return
            here = urljoin(here, response.headers.get("Location", ""))
    raise ModelError(
        f"{visible(_without_secrets(address))} leads from one address to the next without end.", "Check it."
    )


def _check_place(address: str, *, named: bool) -> None:
    """Refuse an address that isn't https (but on this machine), and a private one that the user didn't name.

    Raises:
        ModelError: It is one.
        OSError: There is no such host.
    """
    parts = urlsplit(address)
    host = parts.hostname or ""
    shown = visible(_without_secrets(address))
    if parts.scheme not in ("https", "http") or not host:
        raise ModelError(f"The address leads to {shown}, which is not a file on the web.", "Don't use it.")
    proxied = urllib.request.getproxies().get(parts.scheme) and not urllib.request.proxy_bypass(host)
    if proxied:
        local = private = False
    else:
        port = parts.port or {"https": 443, "http": 80}[parts.scheme]
        found = {each[4][0] for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
        addresses = [ipaddress.ip_address(str(each).partition("%")[0]) for each in found]
        local, private = all(each.is_loopback for each in addresses), any(not each.is_global for each in addresses)
    if parts.scheme == "http" and not local:
        raise ModelError(
            f"{shown} is not encrypted: anybody on the way could change the file.", "Use its https:// address."
        )
    if private and not named:
        raise ModelError(f"The address leads to {shown}, which is in a private network.", "Don't use it.")


def _without_secrets(address: str) -> str:
    """An address without the user, the password and the query in it, which may be somebody's secrets."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _reason(error: BaseException) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) and isinstance(error.reason, OSError) else error
    if isinstance(cause, socket.gaierror):
        return "there is no way to its host; this machine may be offline"
    return one_line(cause) or type(cause).__name__


def _verified(path: Path, sha256: str | None) -> str:
    """The checksum of a file on this disk, held against the one that it must have.

    Raises:
        UsageError: There is no such file.
        ModelError: It is another file.
    """
    if not path.is_file():
        raise UsageError(f"There is no file {path}.", "Name a .pth, .safetensors, .onnx or .xml file, or its address.")
    found = sha256_of_file(path)
    if sha256 is not None and found != sha256.lower():
        raise ModelError(f"{path} has the SHA-256 {found}, not {sha256.lower()}.", "Get the file again.")
    return found
