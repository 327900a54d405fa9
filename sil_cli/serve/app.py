"""The server of `sil serve`: routes over a `Service`, and what every request must pass before it gets there."""

from __future__ import annotations

import asyncio
import contextlib
import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from sil_cli.errors import DataError, SilError, UsageError, in_plain_words, visible
from sil_cli.gallery.results import GalleryInfo, LogResult, RemoveResult
from sil_cli.people.overview import PeopleList
from sil_cli.search.query_results import QueryResult
from sil_cli.serve.access import KNOWN_OF_CONNECTION, Access, Peer, RefusedError, User, allowed_hosts
from sil_cli.serve.query_form import MOST_FIELD, MOST_IMAGES, read_form, request_body
from sil_cli.serve.service import (
    BusyError,
    NotThereError,
    ServedEntry,
    ServedGallery,
    ServedPerson,
    Service,
    VerdictGiven,
    VerdictKept,
    Verdicts,
)
from sil_cli.settings.finding import Role
from sil_cli.version import VERSION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping

    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
"""What every answer says: it is neither kept nor framed by others, and the page loads nothing from elsewhere."""

_THREADS_BESIDE = 16
"""More threads than requests may wait for the gallery: one too many is told so, and doesn't wait for a thread."""
_PLAIN_BODY = 100_000
"""Bytes of a request that brings no image."""
_BODY_SECONDS = 120.0
_FRESH_EVERY, _EXPIRE_EVERY, _AGAIN_AFTER = 0.2, 3600.0, 60.0
_MOST_LINES = 1000
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_MACHINE_PATH = re.compile(r"(?<![\w.<])/(?!api/)(?:[^\s/'\"`:,;]+/)+([^\s/'\"`:,;]*)")


class ErrorDetail(BaseModel):
    """What went wrong, and what to do about it."""

    what: str
    fix: str


class ErrorAnswer(BaseModel):
    """The answer where something went wrong."""

    error: ErrorDetail


class EntriesGiven(BaseModel):
    """Entries by their ids."""

    ids: list[int] = Field(min_length=1, max_length=10_000)


class NameGiven(BaseModel):
    """A person's name; '' takes it back."""

    name: str = Field(max_length=1000)


class EntriesOfPerson(BaseModel):
    """Entries that show a person, by their ids."""

    entries: list[int] = Field(min_length=1, max_length=10_000)


class NamedEntries(EntriesOfPerson, NameGiven):
    """Entries that show one person, and what they are called."""


class PeopleGiven(BaseModel):
    """People who are one with another, by their numbers."""

    others: list[int] = Field(min_length=1, max_length=1000)


def make_app(service: Service, access: Access, reporter: Reporter, *, port: int) -> FastAPI:
    """The server's application.

    Args:
        service: The gallery; closed when the application ends.
        access: Says who is let in.
        reporter: Hears what goes wrong.
        port: That it is reached by.
    """
    settings = service.settings

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = settings.serve.waiting + _THREADS_BESIDE
        tending = asyncio.create_task(_tend(service, reporter))
        try:
            yield
        finally:
            tending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await tending
            await run_in_threadpool(service.close)

    app = FastAPI(
        title="sil serve",
        version=VERSION,
        summary="Search for people in a gallery of images, and say who is who.",
        openapi_url="/api/openapi.json",
        docs_url=None,  # these pages would load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        responses={status: {"model": ErrorAnswer} for status in (400, 401, 403, 404, 413, 422, 429, 503)},
    )
    for router in (
        _gallery_routes(service),
        _search_routes(service, settings),
        _verdicts_routes(service),
        _people_routes(service),
        _administration_routes(service),
    ):
        app.include_router(router)
    _add_page(app)
    _tell_errors(app, reporter)
    app.add_middleware(
        Guard,
        access=access,
        hosts=allowed_hosts(settings.serve, port),
        most=int(settings.serve.max_upload * 2**20),
    )
    return app


async def _tend(service: Service, reporter: Reporter) -> None:
    """Let go of old states of the gallery soon after somebody wrote to it, and remove what is too old."""
    loop = asyncio.get_running_loop()
    next_expiry = loop.time()
    while True:
        is_due = loop.time() >= next_expiry
        try:
            if is_due:
                next_expiry += _EXPIRE_EVERY
                await run_in_threadpool(service.expire)
            await run_in_threadpool(service.refresh)
        except (SilError, OSError) as error:
            if is_due:  # somebody else is writing: not an hour later
                next_expiry = loop.time() + _AGAIN_AFTER
                reporter.warn(str(error))
        await asyncio.sleep(_FRESH_EVERY)


class Guard:
    """What every request passes first: its Host and Origin, who it comes from, how often they ask, how much they send.

    Args:
        app: The application behind it.
        access: Says who somebody is.
        hosts: What the header Host may be.
        most: Bytes that a request's body may have.
    """

    def __init__(self, app: Any, access: Access, hosts: frozenset[str], most: int) -> None:
        self._app, self._access, self._hosts, self._most = app, access, hosts, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers: dict[str, str] = {}
        for raw, value in scope["headers"]:  # one that stands twice is nobody's word: somebody may have added to it
            name = raw.decode("latin-1").lower()
            headers[name] = (
                f"{headers[name]}\n{value.decode('latin-1')}" if name in headers else value.decode("latin-1")
            )
        began = is_replaced = False
        body: _Bounded | None = None

        async def send_guarded(message: Message) -> None:
            nonlocal began, body, is_replaced
            if is_replaced:
                return
            if body is not None and body.refused is not None and not began:
                refused, body = body.refused, None
                await _refusal(refused)(scope, receive, send_guarded)
                is_replaced = True  # whoever parsed it made another error of that, and tells it
                return
            if message["type"] == "http.response.start":
                began = True
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                kept = [pair for pair in message.get("headers", []) if pair[0].decode().lower() not in HEADERS]
                message = {**message, "headers": [*kept, *own]}
            await send(message)

        try:
            _require_own_page(headers, self._hosts, scope["scheme"])
            most = self._most if scope["path"] == "/api/query" else _PLAIN_BODY
            if scope["path"].startswith("/api/"):
                state = scope.setdefault("state", {})
                peer = Peer(tuple(scope["client"]), tuple(scope["server"]), state.get(KNOWN_OF_CONNECTION, {}))
                state["user"] = user = self._access.user(headers, peer)
                self._access.require_rate(user, 1.0 if scope["path"] == "/api/query" else _COST_OF_OTHERS)
            _require_size(headers, most)
            body = _Bounded(receive, most)
            await self._app(scope, body, send_guarded)
        except RefusedError as error:
            if not began:
                body = None
                await _refusal(error)(scope, receive, send_guarded)


_COST_OF_OTHERS = 0.02
"""What a request costs that searches nothing, where a search costs 1."""


class _Bounded:
    """A request's body as it comes in, which ends with an error where it is too long or too slow.

    Attributes:
        refused: That error.
    """

    def __init__(self, receive: Receive, most: int) -> None:
        self.refused: RefusedError | None = None
        self._receive, self._left = receive, most
        self._until = asyncio.get_running_loop().time() + _BODY_SECONDS
        self._is_whole = False

    async def __call__(self) -> Message:
        if self.refused is not None:
            raise self.refused
        if self._is_whole:  # what comes now is the end of the connection, whenever that is
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            self.refused = RefusedError("The request took too long to arrive.", "Send it again.", 408)
            raise self.refused from None
        self._left -= len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._left < 0:
            self.refused = _too_large()
            raise self.refused
        return message


def _too_large() -> RefusedError:
    return RefusedError("The request is too large.", "Send a smaller image, or raise serve.max_upload.", 413)


def _require_size(headers: dict[str, str], most: int) -> None:
    length = headers.get("content-length", "0")
    if not length.isdecimal() or len(length) > 18 or int(length) > most:
        raise _too_large()


def _require_own_page(headers: dict[str, str], hosts: frozenset[str], scheme: str) -> None:
    """Refuse what comes by a name that isn't ours (DNS rebinding), or from another site's page.

    Raises:
        RefusedError: It does.
    """
    host = headers.get("host", "").lower()
    if host not in hosts:
        raise RefusedError(
            f"The server isn't called {visible(host[:100]) or 'nothing'}.",
            "Use the address that it printed, or name another with --set 'serve.hosts=[\"NAME\"]'.",
            421,
        )
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}"):
        raise RefusedError("Another site's page asked.", "Ask from the server's own page.", 403)
    is_followed = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not is_followed:
        raise RefusedError("Another site's page asked.", "Ask from the server's own page.", 403)


def _refusal(error: RefusedError) -> JSONResponse:
    headers = {} if error.retry_after is None else {"retry-after": str(max(1, round(error.retry_after)))}
    headers |= {"www-authenticate": "Bearer"} if error.status == 401 else {}
    headers |= {"connection": "close"} if error.status in (408, 413) else {}
    return _error(error.status, error, headers)


def _error(status: int, error: SilError, headers: dict[str, str] | None = None) -> JSONResponse:
    detail = ErrorDetail(what=without_paths(error.what), fix=without_paths(error.fix))
    return JSONResponse(ErrorAnswer(error=detail).model_dump(), status, headers)


def without_paths(text: str) -> str:
    """A message that doesn't say where on the machine anything lies: of a whole path its last name."""
    return _MACHINE_PATH.sub(lambda found: found[1] or "a folder", visible(text))


def _tell_errors(app: FastAPI, reporter: Reporter) -> None:
    """Have every failure be the two lines that it is at the command line."""

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)  # noqa: S101 -- what it is registered for
        return _refusal(error)

    async def failed(_: Request, error: Exception) -> Response:
        assert isinstance(error, SilError)  # noqa: S101 -- what it is registered for
        status = 503 if isinstance(error, BusyError) else 404 if isinstance(error, NotThereError) else 409
        status = 400 if isinstance(error, UsageError) else 422 if isinstance(error, DataError) else status
        return _error(status, error, {"retry-after": "1"} if status == 503 else None)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError | ValidationError)  # noqa: S101 -- what it is registered for
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
        told = UsageError(f"{place or 'The request'}: {in_plain_words(first['msg'])}.", "See /api/openapi.json.")
        return _error(422, told)

    async def unknown(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 -- what it is registered for
        return _error(error.status_code, SilError(f"{error.detail}.", "See /api/openapi.json."))

    async def unexpected(_: Request, error: Exception) -> Response:
        reporter.warn(f"A request failed: {type(error).__name__}: {visible(str(error))[:300]}")
        return _error(500, SilError("Something went wrong.", "The server's messages say what."))

    app.add_exception_handler(RefusedError, refused)
    app.add_exception_handler(SilError, failed)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(ValidationError, invalid)
    app.add_exception_handler(HTTPException, unknown)
    app.add_exception_handler(OSError, unexpected)
    app.add_exception_handler(Exception, unexpected)


def _user(request: Request) -> User:
    user: User = request.state.user
    return user


def _require(role: Role) -> Any:
    """A user who may do what this role may."""

    async def check(request: Request) -> User:  # a plain function would be called in a thread of its own
        user = _user(request)
        if not user.may(role):
            raise RefusedError(f"You may {user.role}; this needs the role {role}.", "Ask whoever runs the server.", 403)
        return user

    return Depends(check)


Looking = Annotated[User, _require("look")]
Judging = Annotated[User, _require("judge")]
Administering = Annotated[User, _require("administer")]


def _gallery_routes(service: Service) -> APIRouter:
    router = APIRouter(prefix="/api", tags=["gallery"])

    @router.get("/gallery")
    def describe(user: Looking) -> ServedGallery:
        """What is searched, and what the one who asks may do."""
        return service.describe(user)

    @router.get("/entries/{identifier}")
    def entry(identifier: int, user: Looking) -> ServedEntry:
        """One entry."""
        del user
        return service.entry(identifier)

    @router.get("/entries/{identifier}/image", response_class=Response)
    def image(
        identifier: int, user: Looking, size: Annotated[str, Query(pattern="^(thumbnail|whole)$")] = "thumbnail"
    ) -> Response:
        """An entry's image as a JPEG file: its box alone, scaled down."""
        content = service.image(identifier, user, thumbnail=size == "thumbnail")
        return Response(content, media_type="image/jpeg")

    return router


def _search_routes(service: Service, settings: Settings) -> APIRouter:
    router = APIRouter(prefix="/api", tags=["search"])

    # Neither FastAPI's form nor a thread of its pool: together they took longer than the search (docs/serve.md).
    @router.post(
        "/query",
        openapi_extra=request_body(),
        response_model=None,
        responses={200: {"model": QueryResult}},
    )
    async def query(request: Request, user: Looking) -> Response:
        """Find the person of some images or entries; written into the gallery's log before it is answered."""
        async with request.form(max_files=MOST_IMAGES + 1, max_part_size=MOST_FIELD) as sent:
            asked = read_form(sent, settings.query)
            found = await asyncio.wrap_future(service.search(asked, user))
        return Response(found, media_type="application/json")

    return router


def _verdicts_routes(service: Service) -> APIRouter:
    router = APIRouter(prefix="/api/verdicts", tags=["verdicts"])

    @router.get("")
    def verdicts(user: Looking, id: Annotated[list[int], Query(max_length=2000)]) -> Verdicts:  # noqa: A002
        """The verdicts that count on pairs of some entries."""
        del user
        return service.verdicts(id)

    @router.post("", status_code=201)
    def give_verdict(given: VerdictGiven, user: Judging) -> VerdictKept:
        """Keep what somebody says of two entries; the answer comes when it is on the disk."""
        return service.give_verdict(given, user)

    return router


def _people_routes(service: Service) -> APIRouter:
    router = APIRouter(prefix="/api/people", tags=["people"])

    @router.get("")
    def people(user: Looking) -> PeopleList:
        """The people of the gallery, as they were found and named."""
        del user
        return service.people()

    @router.post("")
    def name_entries(given: NamedEntries, user: Judging) -> ServedPerson:
        """Say that some entries show one person, and what they are called."""
        return service.name_entries(given.entries, given.name, user)

    @router.get("/{number}")
    def person(number: int, user: Looking) -> ServedPerson:
        """One person and their entries."""
        del user
        return service.person(number)

    @router.post("/{number}/name")
    def rename_person(number: int, given: NameGiven, user: Judging) -> ServedPerson:
        """Give a person a name."""
        return service.rename_person(number, given.name, user)

    @router.post("/{number}/merge")
    def merge(number: int, given: PeopleGiven, user: Judging) -> ServedPerson:
        """Make some people one."""
        return service.merge_people(number, given.others, user)

    @router.post("/{number}/split")
    def split(number: int, given: EntriesOfPerson, user: Judging) -> ServedPerson:
        """Make a new person of some of a person's entries."""
        return service.split_person(number, given.entries, user)

    return router


def _administration_routes(service: Service) -> APIRouter:
    router = APIRouter(prefix="/api/administration", tags=["administration"])

    @router.get("/info")
    def info(user: Administering) -> GalleryInfo:
        """All that can be said of the gallery."""
        del user
        return service.info()

    @router.get("/log")
    def log(user: Administering, last: Annotated[int, Query(ge=0, le=_MOST_LINES)] = 50) -> LogResult:
        """Who searched what, and whether the log is as it was written."""
        del user
        return service.log(last)

    @router.post("/remove")
    def remove(given: EntriesGiven, user: Administering) -> RemoveResult:
        """Remove entries; `sil gallery compact` then deletes every trace of them."""
        return service.remove(given.ids, user)

    return router


def _add_page(app: FastAPI) -> None:
    """The page's files, as they lie in the package: nothing else can be named."""
    folder = resources.files("sil_cli.serve") / "web"
    files = {each.name: each.read_bytes() for each in folder.iterdir() if Path(each.name).suffix in _MEDIA_TYPES}

    @app.get("/", include_in_schema=False)
    @app.get("/web/{name}", include_in_schema=False)
    def page(name: str = "index.html") -> Response:
        if name not in files:
            raise HTTPException(404, "There is no such page")
        return Response(files[name], media_type=_MEDIA_TYPES[Path(name).suffix])
