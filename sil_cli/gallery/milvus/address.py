"""What a user calls a collection of Milvus."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sil_cli.errors import UsageError, one_line

TOKEN_VARIABLE = "SIL_MILVUS_TOKEN"  # noqa: S105 -- the name of a variable, not a secret
DEFAULT_PORT = 19530
LITE_SUFFIX = ".db"
LITE_COLLECTION = "gallery"

_COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_FORMS = "Write milvus://HOST:PORT/COLLECTION (milvus+tls:// for TLS), or name a Milvus Lite file NAME.db."


@dataclass(frozen=True)
class Address:
    """A collection, and where it is.

    Attributes:
        name: As the user wrote it; never with credentials.
        uri: As pymilvus wants it.
        collection: The name under which the gallery is found.
        file: Of Milvus Lite, None for a server.
    """

    name: str
    uri: str
    collection: str
    file: Path | None = None

    @property
    def keeps_secrets(self) -> bool:
        """Whether nobody on the way can read what is sent there: it goes by TLS, or never leaves this machine."""
        parts = urlsplit(self.uri)
        return self.file is not None or parts.scheme == "https" or _is_this_machine(parts.hostname or "")


def parse_address(text: str) -> Address:
    """Read an address.

    Raises:
        UsageError: It is no address, or it holds credentials, which other users of the machine could see.
    """
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise UsageError(f"The store {_shown(text)} is no address: {one_line(error)}.", _FORMS) from error
    if parts.scheme in ("milvus", "milvus+tls"):
        return _server(text)
    if not parts.scheme and text.endswith(LITE_SUFFIX):
        return Address(text, text, LITE_COLLECTION, Path(text))
    raise UsageError(f"The store {_shown(text)} is not known.", _FORMS)


def _server(text: str) -> Address:
    parts = urlsplit(text)
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            "The store's address holds credentials.", f"Put them into the environment: {TOKEN_VARIABLE}=user:password."
        )
    collection = parts.path.removeprefix("/")
    try:
        port = parts.port or DEFAULT_PORT
    except ValueError as error:
        raise UsageError(f"The store {_shown(text)} has no valid port.", _FORMS) from error
    if not parts.hostname or parts.query or parts.fragment or not _COLLECTION.fullmatch(collection):
        raise UsageError(
            f"The store {_shown(text)} doesn't name a host and a collection.",
            f"{_FORMS} A collection's name has letters, digits and _.",
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    scheme = "https" if parts.scheme == "milvus+tls" else "http"
    return Address(text, f"{scheme}://{host}:{port}", collection)


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(text: str) -> str:
    """An address without whatever may be a secret in it."""
    return re.sub(r"//.*@", "//…@", text)
