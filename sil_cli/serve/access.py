"""Who may talk to the server, as whom: tokens, proxies that say who it is, and the owner of this machine's loopback.

Nothing here decides what is shown: it says who asks, and in which role. What is refused is refused before the request's
body is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
import os
import secrets
import socket
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pydantic import ValidationError

from sil_cli.errors import SilError, UsageError, visible
from sil_cli.files import access, file_state, parse_json, read_text, refuse_links, write_json
from sil_cli.gallery.accountability.log import os_user
from sil_cli.locks import writer_lock
from sil_cli.results import Result
from sil_cli.settings.finding import Role

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sil_cli.settings.finding import ServeSettings

ROLES: tuple[Role, ...] = get_args(Role)
"""What somebody may do, each also what those before it may: look, judge matches and people, administer the gallery."""

PREFIX = "sil_"
"""What a token begins with, so that scanners for secrets know one."""

_TOKENS_FILE = "serve-tokens.json"
_LONGEST_NAME = 100
_MOST_TOKENS = 10_000
_ESTABLISHED_ON = range(1, 6)  # states of a TCP connection whose owner the kernel still names
_FAILURES, _PER = 10, 60.0
_REMEMBERED = 10_000


KNOWN_OF_CONNECTION = "connection"
"""Where a request's state has what is known of its connection, if the server keeps that."""


@dataclass(frozen=True)
class Peer:
    """The other end of a connection.

    Attributes:
        client: Address and port that it comes from.
        server: Address and port that it came to.
        known: Kept as long as the connection: whose its other end is takes milliseconds to find out.
    """

    client: tuple[str, int]
    server: tuple[str, int]
    known: dict[str, int | None]

    def owner(self) -> int | None:
        """The user of this machine who holds the other end; see `connection_owner`."""
        if "owner" not in self.known:
            self.known["owner"] = connection_owner(self.client, self.server)
        return self.known["owner"]


@dataclass(frozen=True)
class User:
    """Who asks.

    Attributes:
        name: As the log calls them.
        role: What they may do.
    """

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether they may do what this role may."""
        return ROLES.index(self.role) >= ROLES.index(role)


class TokenRecord(Result):
    """What is kept of a token: never the token itself.

    Attributes:
        name: Whose it is.
        role: What they may do.
        sha256: Of the token, which is random and long, so that no salt is needed.
        made: When, ISO 8601.
    """

    name: str
    role: Role
    sha256: str
    made: str


class TokenResult(Result):
    """The outcome of `sil serve --add-token`, `--revoke-token` and `--tokens`.

    Attributes:
        token: The new one, which nobody can show again.
        revoked: Tokens that were taken back.
        tokens: Names and roles of all there are.
        file: Where their hashes are kept.
    """

    file: Path
    token: str | None = None
    revoked: int = 0
    tokens: dict[str, Role]


def tokens_file(settings: ServeSettings) -> Path:
    """Where the hashes of tokens are kept: never in a gallery, which a stranger may have made."""
    if settings.tokens is not None:
        return settings.tokens
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "sil" / _TOKENS_FILE


def read_tokens(path: Path) -> list[TokenRecord]:
    """The tokens that are known; none where there is no file.

    Raises:
        SilError: The file can't be read, or others may write to it.
    """
    fix = "Correct it, or delete it and make tokens anew with `sil serve --add-token NAME`."
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return []
    if facts.st_mode & 0o022 or facts.st_uid not in (os.getuid(), 0):
        raise SilError(f"{path} may be written by others, who could let themselves in.", f"Run `chmod 600 {path}`.")
    try:
        documents = parse_json(read_text(path))
        if not isinstance(documents, list) or len(documents) > _MOST_TOKENS:
            raise ValueError("it is no list of tokens")
        return [TokenRecord.model_validate(each) for each in documents]
    except (OSError, ValueError, ValidationError) as error:
        raise SilError(f"{path} can't be read as a file of tokens.", fix) from error


def add_token(path: Path, name: str, role: Role) -> TokenResult:
    """Make a token for somebody, and keep its hash.

    Raises:
        UsageError: The name can't be one.
        SilError: The file can't be read or written.
    """
    if not name.strip() or visible(name) != name or len(name) > _LONGEST_NAME:
        raise UsageError("A token is made for somebody, by a name of up to 100 letters.", "Use --add-token NAME.")
    token = PREFIX + secrets.token_urlsafe(32)
    record = TokenRecord(
        name=name, role=role, sha256=_digest(token), made=datetime.now(UTC).isoformat(timespec="seconds")
    )
    with _changing(path) as records:
        records.append(record)
    return TokenResult(file=path, token=token, tokens=_names(read_tokens(path)))


def revoke_token(path: Path, name: str) -> TokenResult:
    """Take back all tokens of a name: from the next request on they let nobody in.

    Raises:
        SilError: There are none, or the file can't be read or written.
    """
    with _changing(path) as records:
        kept = [each for each in records if each.name != name]
        revoked = len(records) - len(kept)
        if not revoked:
            raise SilError(f"Nobody called {visible(name)} has a token.", "`sil serve --tokens` lists who has one.")
        records[:] = kept
    return TokenResult(file=path, revoked=revoked, tokens=_names(read_tokens(path)))


def list_tokens(path: Path) -> TokenResult:
    """Who has a token.

    Raises:
        SilError: The file can't be read.
    """
    return TokenResult(file=path, tokens=_names(read_tokens(path)))


@contextlib.contextmanager
def _changing(path: Path) -> Iterator[list[TokenRecord]]:
    """The tokens, which are written again at the end of the block; one process at a time."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    elsewhere = "Name another file with --set serve.tokens=FILE."
    with writer_lock(path.parent, while_held="Try again.", elsewhere=elsewhere), access(shared=False):
        refuse_links(path, within=path.parent)
        records = read_tokens(path)
        yield records
        write_json(path, [each.model_dump(mode="json") for each in records])


def _names(records: Sequence[TokenRecord]) -> dict[str, Role]:
    return {each.name: each.role for each in records}


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class RefusedError(SilError):
    """A request that isn't let in.

    Args:
        what: Why, in a sentence.
        fix: What to do.
        status: Of HTTP.
        retry_after: Seconds after which it may be tried again.
    """

    def __init__(self, what: str, fix: str, status: int, retry_after: float | None = None) -> None:
        super().__init__(what, fix)
        self.status = status
        self.retry_after = retry_after


class Access:
    """Decides who a request comes from; see `Access.user`.

    Args:
        settings: Where the server listens, and whom it trusts.

    Raises:
        UsageError: The settings would let in anybody, or nobody.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._path = tokens_file(settings)
        self._state, self._records = "", list[TokenRecord]()
        self._proxies = [_network(each) for each in settings.proxy]
        self._roles = _roles(settings.proxy_roles)
        self._is_loopback = is_loopback(settings.address)
        self._failures = RateLimit(_FAILURES, _PER)
        self._asked = RateLimit(settings.rate, 60.0)
        self._refresh()
        if self._proxies and not self._roles:
            raise UsageError(
                "A proxy is named, but nobody whom it may let in.", "Name them: --set 'serve.proxy_roles=[\"*=look\"]'."
            )
        if not self._is_loopback and not self._records and not self._proxies:
            raise UsageError(
                f"{settings.address} can be reached by others, and nobody has a token.",
                "Make one with `sil serve --add-token NAME --role look`, or leave --address out: 127.0.0.1.",
            )
        if self._is_loopback and not self._records and not self._proxies and not Path("/proc/net/tcp").exists():
            raise UsageError(
                "This system doesn't say which user a connection comes from, and nobody has a token.",
                "Make one with `sil serve --add-token NAME --role administer`.",
            )

    @property
    def needs_token(self) -> bool:
        """Whether somebody on this machine needs a token."""
        return bool(self._records) or not self._is_loopback

    def user(self, headers: Mapping[str, str], peer: Peer) -> User:
        """Who a request comes from.

        Args:
            headers: By lower-case names.
            peer: That sent it.

        Raises:
            RefusedError: Nobody who belongs; or they have tried too often.
        """
        address = peer.client[0]
        self._failures.require(address, "Too many wrong tokens came from there.", spend=False)
        token = _bearer(headers.get("authorization", ""))
        if token is not None:
            self._refresh()
            digest = _digest(token)
            for record in self._records:
                if hmac.compare_digest(record.sha256, digest):
                    return User(record.name, record.role)
            self._failures.require(address, "Too many wrong tokens came from there.")
            raise RefusedError("This token lets nobody in.", "Ask whoever runs the server for one.", 401)
        if self._proxies:
            return self._from_proxy(headers, address)
        if self.needs_token:
            raise RefusedError("A token is needed.", "Send it as `Authorization: Bearer TOKEN`.", 401)
        return _owner(peer)

    def require_rate(self, user: User, cost: float = 1.0) -> None:
        """Refuse a user who asks too often.

        Raises:
            RefusedError: They do.
        """
        self._asked.require(user.name, "Too much was asked at once.", cost=cost)

    def _from_proxy(self, headers: Mapping[str, str], client: str) -> User:
        address = _address(client)
        if address is None or not any(address in network for network in self._proxies):
            raise RefusedError("Only the proxy may ask without a token.", "Go through the proxy, or send a token.", 401)
        name = headers.get(self._settings.proxy_header.lower(), "").strip()
        role = self._roles.get(name, self._roles.get("*"))
        if not name or len(name) > _LONGEST_NAME or visible(name) != name or role is None:
            raise RefusedError("The proxy names nobody who may look.", "Ask whoever runs the server.", 403)
        return User(name, role)

    def _refresh(self) -> None:
        """Take up what changed among the tokens, so that one that is taken back lets nobody in."""
        try:
            state = file_state(self._path)
        except OSError:
            state = "none"
        if state != self._state:
            self._records, self._state = read_tokens(self._path), state


class RateLimit:
    """At most so many of something in a span of time for each who asks: a bucket that fills evenly.

    Args:
        most: So many at once.
        seconds: In which an empty bucket fills.
    """

    def __init__(self, most: float, seconds: float) -> None:
        self._most, self._rate = float(most), most / seconds
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def require(self, who: str, why: str, *, cost: float = 1.0, spend: bool = True) -> None:
        """Take one out of somebody's bucket.

        Raises:
            RefusedError: It is empty; says when there is one again.
        """
        now = time.monotonic()
        left, at = self._left.pop(who, (self._most, now))
        left = min(self._most, left + (now - at) * self._rate)
        is_enough = left >= cost
        self._left[who] = (left - cost if is_enough and spend else left, now)
        while len(self._left) > _REMEMBERED:
            self._left.popitem(last=False)
        if not is_enough:
            wait = (cost - left) / self._rate
            raise RefusedError(why, f"Try again in {wait:.0f} s." if wait >= 1 else "Try again.", 429, wait)


def is_loopback(address: str) -> bool:
    """Whether an address to listen on can be reached from this machine alone."""
    found = _address(address)
    return found.is_loopback if found is not None else address == "localhost"


def allowed_hosts(settings: ServeSettings, port: int) -> frozenset[str]:
    """What the header Host may be: a name by which nobody but us is reached, against DNS rebinding."""
    names = [*settings.hosts]
    if is_loopback(settings.address):
        names += ["127.0.0.1", "localhost", "[::1]"]
    elif not ipaddress.ip_address(settings.address).is_unspecified:
        names.append(f"[{settings.address}]" if ":" in settings.address else settings.address)
    else:
        names += [socket.gethostname()]
    hosts = {name.lower() for name in names}
    return frozenset(hosts | {f"{name}:{port}" for name in hosts})


def _bearer(header: str) -> str | None:
    kind, _, token = header.partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise UsageError(f"serve.proxy: '{text}' is no address.", "Name the proxy's, such as 10.0.0.5.") from None


def _roles(texts: Sequence[str]) -> dict[str, Role]:
    roles: dict[str, Role] = {}
    for text in texts:
        name, _, role = text.rpartition("=")
        known = next((each for each in ROLES if each == role), None)
        if not name or known is None:
            raise UsageError(f"serve.proxy_roles: '{text}' is not USER=ROLE.", f"Roles are {', '.join(ROLES)}.")
        roles[name] = known
    return roles


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _owner(peer: Peer) -> User:
    """The user who runs the server, where a connection on loopback is theirs (or root's).

    Raises:
        RefusedError: It is somebody else's, or nothing says whose.
    """
    owner = peer.owner()
    if owner is None or owner not in (os.getuid(), 0):
        raise RefusedError(
            "Only the user who runs the server may ask without a token.",
            "Ask them for a token (`sil serve --add-token NAME`), or configure your proxy as serve.proxy.",
            403,
        )
    return User(os_user(), "administer")


def connection_owner(client: tuple[str, int], server: tuple[str, int]) -> int | None:
    """The number of the user whose process on this machine holds the other end of a connection.

    Linux says it in /proc/net/tcp (man 5 proc); None where nothing does.
    """
    ends = _kernel_form(client), _kernel_form(server)
    for file in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(file).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            parts = row.split()
            if (parts[1], parts[2]) == ends and int(parts[3], 16) in _ESTABLISHED_ON:
                return int(parts[7])
    return None


def _kernel_form(end: tuple[str, int]) -> str:
    """An address and a port as /proc/net/tcp writes them: words of four bytes in the machine's order."""
    address = _address(end[0])
    if address is None:
        return ""
    packed = address.packed
    words = [packed[at : at + 4][::-1].hex() for at in range(0, len(packed), 4)]
    return f"{''.join(words)}:{end[1]:04x}".upper()
