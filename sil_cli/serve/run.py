"""Starting and stopping the server."""

from __future__ import annotations

import contextlib
import errno
import signal
import socket
import ssl
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from sil_cli.errors import SilError, UsageError, one_line
from sil_cli.gallery.accountability.log import append, os_user
from sil_cli.results import Result
from sil_cli.serve.access import KNOWN_OF_CONNECTION, Access, is_loopback
from sil_cli.serve.app import make_app
from sil_cli.serve.service import Service

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from fastapi import FastAPI

    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings
    from sil_cli.settings.finding import ServeSettings

_OWN = ("address", "hosts", "tokens", "proxy", "proxy_header", "proxy_roles", "certificate", "key")
"""Settings that decide who is let in: a file that was merely found says nothing of them."""

_MOST_CONNECTIONS = 1000
_PATIENCE = 10  # seconds for requests under way when the server is stopped


class ServeResult(Result):
    """The outcome of `sil serve`, once it was stopped.

    Attributes:
        address: Where it was reached.
        requests: How many it answered, whatever the answer.
    """

    address: str
    requests: int


def serve(settings: Settings, reporter: Reporter, *, say: Callable[[str], None]) -> ServeResult:
    """Serve a gallery until Ctrl-C or SIGTERM; what is being answered then is answered.

    Args:
        settings: With the gallery, and `serve`.
        reporter: Hears what goes wrong.
        say: Is told the address, once requests are answered.

    Raises:
        UsageError: The settings would let in anybody or nobody, or were found and not given.
        SilError: The gallery can't be used, or the address can't be listened on.
    """
    wanted = settings.serve
    _refuse_found(settings)
    _require_certificate(wanted)
    with listening(wanted) as bound:
        port = bound.getsockname()[1]
        access, service = Access(wanted), Service(settings, reporter)
        service.start()
        app = make_app(service, access, reporter, port=port)
        append(settings.gallery.folder, "serve", os_user(), {"loopback": is_loopback(wanted.address)})
        scheme = "https" if wanted.certificate is not None else "http"
        name = f"[{wanted.address}]" if ":" in wanted.address else wanted.address
        address = f"{scheme}://{name}:{port}"
        if not is_loopback(wanted.address) and wanted.certificate is None and not wanted.proxy:
            reporter.warn("Tokens and images go over the network unencrypted: name serve.certificate and serve.key.")
        server = _Server(_config(app, wanted), lambda: say(address))
        server.run(sockets=[bound])
    return ServeResult(address=address, requests=server.server_state.total_requests)


def _config(app: FastAPI, wanted: ServeSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_Connection,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_PATIENCE,
        ssl_certfile=wanted.certificate,
        ssl_keyfile=wanted.key,
    )


class _Connection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """A connection, whose requests share what was found out about it."""

    app_state: dict[str, object]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with nothing known."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, KNOWN_OF_CONNECTION: {}}


class _Server(uvicorn.Server):
    """A server that says when it is ready, and whose end by a signal is an ordinary one."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let Ctrl-C and SIGTERM end the server, the second one at once."""
        before = {each: signal.signal(each, self.handle_exit) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


@contextlib.contextmanager
def listening(wanted: ServeSettings) -> Iterator[socket.socket]:
    """A socket that is bound to the address.

    Raises:
        SilError: It can't be.
    """
    family = socket.AF_INET6 if ":" in wanted.address else socket.AF_INET
    # asyncio switches Nagle's algorithm off for sockets that name TCP alone. With it an answer's body waited 40 ms for
    # the acknowledgement of its head.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((wanted.address, wanted.port))
        except OSError as error:
            fix = "Name another with --port, 0 for a free one." if error.errno == errno.EADDRINUSE else "Name another."
            raise SilError(f"{wanted.address}:{wanted.port} can't be listened on: {one_line(error)}.", fix) from error
        yield bound


def _require_certificate(wanted: ServeSettings) -> None:
    """Look whether the certificate and its key can be used, before anything is loaded.

    Raises:
        UsageError: They can't.
    """
    if wanted.certificate is None:
        if wanted.key is not None:
            raise UsageError("serve.key is named, and serve.certificate is not.", "Name both, or none.")
        return
    for name, path in (("serve.certificate", wanted.certificate), ("serve.key", wanted.key)):
        if path is not None and not path.is_file():
            raise UsageError(f"{name}: there is no file {path}.", "Correct the path.")
    try:
        # no password: one that is asked for at the terminal would stop a server that nobody sits at
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(wanted.certificate, wanted.key, password="")
    except (OSError, ValueError) as error:
        why = one_line(error) if str(error) else "it has a password"
        raise UsageError(
            f"{wanted.certificate} and its key can't be used: {why}.",
            "Name both as .pem files, the key without a password: --set serve.certificate=FILE --set serve.key=FILE",
        ) from error


def _refuse_found(settings: Settings) -> None:
    """Refuse what a `sil.toml` that was merely found says of who is let in: it may be a stranger's.

    Raises:
        UsageError: It says something.
    """
    plain = type(settings.serve)()
    for name in _OWN:
        if getattr(settings.serve, name) != getattr(plain, name) and not settings.is_users_own(f"serve.{name}"):
            raise UsageError(
                f"serve.{name} was set by a file found in the working folder, which may let nobody in.",
                "If you trust that file, use --config sil.toml.",
            )
