"""Talking to Milvus: every call is tried again, with growing pauses, until the server answers or patience ends.

Calls may therefore be carried out twice, where a connection was lost after the server had done what it was asked. All
that we ask can be: rows are upserted under ids that follow from what they are, and deleted by these ids.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any

from sil_cli.errors import GalleryError, UsageError, causes, one_line
from sil_cli.gallery.milvus.address import TOKEN_VARIABLE
from sil_cli.installing import extra_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from sil_cli.gallery.milvus.address import Address

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 8.0
_CALL_SECONDS = 60.0
_OPENING_SECONDS = 15.0
_PERMANENT = frozenset({100, 102, 1100, 1101})
"""Codes of Milvus that no repetition helps: no such collection, too many of them, a wrong argument."""

_REFUSED = ("auth check failure", "unauthenticated", "permission_denied", "permission deny", "check username")

_LITE_FAILED = "open local milvus failed"


class Connection:
    """One client of a server, or of a Milvus Lite file that it serves in this process.

    Attributes:
        address: Where it leads to.
    """

    def __init__(self, address: Address, *, patience: float) -> None:
        """Connect.

        Raises:
            UsageError: The packages are not installed, or credentials would go over the network in the clear.
            GalleryError: The server doesn't answer, or refuses the credentials.
        """
        self.address = address
        self._patience = patience
        self._token = os.environ.get(TOKEN_VARIABLE, "") if address.file is None else ""
        if self._token and not address.keeps_secrets:
            raise UsageError(
                f"{address.name} is not reached over TLS: anyone on the way could read {TOKEN_VARIABLE}.",
                f"Use milvus+tls:// if the server has TLS, tunnel to it through localhost, or unset {TOKEN_VARIABLE} "
                "where it wants no credentials.",
            )
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C++ part writes to stderr what we handle or repeat
        self._errors = _error_types()
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it writes tracebacks of what we handle to stderr
        for name in ("milvus_lite", "grpc._server") if address.file is not None else ():
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._client: Any = self._tried(self._connect, min(patience, _OPENING_SECONDS))

    def close(self) -> None:
        """Disconnect; a Milvus Lite file can then be opened by others."""
        self._client.close()
        if self.address.file is not None:
            from milvus_lite.server_manager import server_manager_instance

            server_manager_instance.release_server(self.address.uri)

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of pymilvus's client.

        Raises:
            GalleryError: The server refused it, or didn't answer in time.
        """
        return self.attempt(lambda seconds: getattr(self._client, method)(*arguments, timeout=seconds, **options))

    def attempt(self, work: Callable[[float], Any]) -> Any:
        """Do something, again and again; `work` gets the seconds that one attempt may take."""
        return self._tried(work, self._patience)

    def index_parameters(self) -> Any:
        """An empty description of indexes, as pymilvus wants it."""
        return self._client.prepare_index_params()

    def _connect(self, seconds: float) -> Any:
        from pymilvus import MilvusClient

        if self.address.file is not None and not self.address.file.absolute().parent.is_dir():
            raise GalleryError(f"There is no folder for {self.address.name}.", "Make it, or name another file.")
        return MilvusClient(uri=self.address.uri, token=self._token, timeout=seconds)

    def _tried(self, work: Callable[[float], Any], patience: float) -> Any:
        deadline = time.monotonic() + patience
        pause = _FIRST_PAUSE
        while True:
            left = max(0.1, deadline - time.monotonic())
            try:
                return work(min(left, _CALL_SECONDS))
            except self._errors as error:
                self._refuse_if_permanent(error)
                if time.monotonic() + pause >= deadline:
                    raise GalleryError(
                        f"{self.address.name} does not answer: {self._reason(error)}.",
                        f"Check that the server is running and can be reached, and {TOKEN_VARIABLE}, where it wants "
                        "credentials; then run the same again: what it had confirmed is kept.",
                    ) from error
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _refuse_if_permanent(self, error: Any) -> None:
        text = " ".join(str(one) for one in causes(error)).lower()  # pymilvus hides the cause of a failed connection
        if any(word in text for word in _REFUSED):
            raise GalleryError(
                f"{self.address.name} refuses the credentials.",
                f"Set {TOKEN_VARIABLE} to user:password, or to an API key, that may read and write it.",
            ) from error
        if self.address.file is not None and _LITE_FAILED in text:
            raise GalleryError(
                f"{self.address.name} can't be opened: another process has it open, or it is damaged.",
                "One process at a time can use a Milvus Lite file: wait until the other is done, or set up a server.",
            ) from error
        if self.address.file is not None or getattr(error, "code", None) in _PERMANENT:
            raise GalleryError(
                f"{self.address.name} can't do that: {self._reason(error)}.",
                "Check the collection with `sil gallery verify`.",
            ) from error

    def _reason(self, error: Any) -> str:
        message = getattr(error, "message", None) or (error.details() if hasattr(error, "details") else None)
        text = one_line(Exception(message)) if message else one_line(error)
        text = text if len(text) <= 200 else f"{text[:200]}…"
        return (text.replace(self._token, "…") if self._token else text).rstrip(".")


def _error_types() -> tuple[type[Exception], ...]:
    try:
        import grpc
        from pymilvus.exceptions import MilvusException
    except ImportError as error:
        raise UsageError(
            "A store on Milvus needs pymilvus.", f"Install it with `{extra_command('milvus')}`."
        ) from error
    return (MilvusException, grpc.RpcError, grpc.FutureTimeoutError)
