"""A gallery that is held open for many: model and vectors are loaded once, and taken up anew when they change.

The gallery lives in one thread, since a snapshot of SQLite belongs to the thread that opened it; what is asked of it
waits there in line. A search is done there from the upload to the answer's text: going from thread to thread costs more
than what is done between.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict

from sil_cli.data.images import ImageError, load_image, pixels_in
from sil_cli.errors import DataError, GalleryError, SilError, UsageError
from sil_cli.gallery.accountability.commands import expire_gallery
from sil_cli.gallery.accountability.log import append, read_log
from sil_cli.gallery.accountability.policy import policy_of, require_reason
from sil_cli.gallery.care import gallery_info
from sil_cli.gallery.entry import GalleryEntry, Time
from sil_cli.gallery.people import Answer, Verdict, open_people
from sil_cli.gallery.results import GalleryInfo, LogResult, RemoveResult
from sil_cli.gallery.stores import gallery_store, gallery_store_to_write
from sil_cli.people.overview import PeopleList, PersonEntry, PersonSummary, people_in, person_in
from sil_cli.people.register import confirm_members, merge_people, name_person, split_person
from sil_cli.people.telling import changing_people
from sil_cli.report.canvas import pixelated, shrunk
from sil_cli.results import Result
from sil_cli.runtime import SilentReporter
from sil_cli.search.answerable import log_search
from sil_cli.search.drawing import was_asked_for
from sil_cli.search.matching import learnt_of, make_matcher
from sil_cli.search.queries import Query, complete_queries, embed_queries, ids_to_exclude
from sil_cli.search.query_results import QueryResult
from sil_cli.search.search import load_own_engine, make_result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from typing import BinaryIO

    from PIL import Image

    from sil_cli.data.images import Box
    from sil_cli.gallery.entry import EntryKey
    from sil_cli.gallery.interface import Gallery
    from sil_cli.gallery.people import People
    from sil_cli.models.embed import ImageFile
    from sil_cli.models.engines.engine import Engine
    from sil_cli.runtime import Reporter
    from sil_cli.search.matching import Learnt
    from sil_cli.serve.access import User
    from sil_cli.serve.query_form import Asked
    from sil_cli.settings import Settings

Answered = TypeVar("Answered")

THUMBNAIL, WHOLE = (160, 320), (640, 1280)
"""Width and height that an entry's image is scaled into."""

_MOST_BYTES = 64 * 2**20  # of thumbnails in the memory
_MOST_REVEALED = 100_000
_MOST_ENTRIES = 10_000
_CAMERAS = 500
_JPEG_QUALITY = 85


class NotThereError(GalleryError):
    """What was asked for isn't in the gallery, or isn't any more."""


class BusyError(SilError):
    """More is waiting than can be answered soon."""


class ServedGallery(Result):
    """What a page needs to know before anything is searched.

    Attributes:
        name: Of the gallery's folder.
        entries: How many there are.
        cameras: Their names, the first of many.
        earliest, latest: Times of entries.
        timezone: Of the times shown.
        purpose, legal_basis: What the gallery is kept for, where somebody said so.
        require_purpose: Every search must say what it is for.
        blur: People who are neither a match nor a possible one are blurred.
        user: Who asks, as the log calls them.
        role: What they may do.
        max_upload: Bytes that a request may have.
    """

    name: str
    entries: int
    cameras: list[str]
    earliest: str | None
    latest: str | None
    timezone: str
    purpose: str | None
    legal_basis: str | None
    require_purpose: bool
    blur: bool
    user: str
    role: str
    max_upload: int


class ServedEntry(Result):
    """One entry, without a score.

    Attributes:
        path: Of the image below its source, or its name alone where that would tell where it lies on the machine.
    """

    id: int
    path: str
    identity: str | None
    camera: str | None
    domain: str | None
    time: Time | None
    box: tuple[int, int, int, int] | None
    metadata: dict[str, str]


class VerdictGiven(BaseModel):
    """What somebody says of two entries, by their ids.

    Attributes:
        first, second: The entries.
        answer: `same`, `different`, `unsure`; or `withdrawn`, by which what they said before no longer counts.
        why: In their words.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: int
    second: int
    answer: Answer
    why: str = ""


class VerdictKept(VerdictGiven):
    """A verdict that is on the disk.

    Attributes:
        by: Who gave it.
        at: When.
    """

    by: str
    at: Time


class ServedPerson(Result):
    """One person, and the entries that show them or were said not to: the surest first, the rejected last."""

    person: PersonSummary
    entries: list[PersonEntry]


class Verdicts(Result):
    """Verdicts that count, of entries that are there."""

    verdicts: list[VerdictKept]


@dataclass
class _Opened:
    """The gallery as it was when it was opened."""

    gallery: Gallery
    engine: Engine
    learnt: Learnt
    state: str


class Service:
    """One gallery, ready to be searched. Its methods may be called from any thread, at once.

    Args:
        settings: With the gallery, and the limits that hold for all searches.
        reporter: Hears what goes wrong and what changes.
    """

    def __init__(self, settings: Settings, reporter: Reporter) -> None:
        self.settings = settings
        self.folder = settings.gallery.folder
        self.name = self.folder.resolve().name
        self._reporter = reporter
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sil-gallery")
        self._waiting, self._lock = 0, threading.Lock()
        self._opened: _Opened | None = None
        self._uploads: tempfile.TemporaryDirectory[str] | None = None
        self._thumbnails: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        self._held = 0
        self._shown: OrderedDict[int, GalleryEntry] = OrderedDict()
        self._revealed: dict[str, OrderedDict[int, None]] = {}

    def start(self) -> None:
        """Open gallery and model.

        Raises:
            SilError: They can't be used.
        """
        self._do(lambda opened: opened.engine)

    def close(self) -> None:
        """Close the gallery; what waits is answered first."""
        self._thread.submit(self._let_go).result()
        self._thread.shutdown()
        if self._uploads is not None:
            self._uploads.cleanup()

    def describe(self, user: User) -> ServedGallery:
        """What a page needs to know."""

        def ask(opened: _Opened) -> tuple[GalleryInfo, list[str]]:
            return opened.gallery.info(), opened.gallery.known_values("camera", _CAMERAS)

        info, cameras = self._do(ask)
        policy = policy_of(self.settings, self.folder)
        return ServedGallery(
            name=self.name,
            entries=info.entries,
            cameras=sorted(cameras),
            earliest=info.earliest,
            latest=info.latest,
            timezone=self.settings.gallery.timezone,
            purpose=policy.purpose,
            legal_basis=policy.legal_basis,
            require_purpose=policy.require_purpose,
            blur=self.settings.query.blur,
            user=user.name,
            role=user.role,
            max_upload=int(self.settings.serve.max_upload * 2**20),
        )

    def search(self, asked: Asked, user: User) -> Future[str]:
        """Search for one person, and write down who did before anything is shown.

        Args:
            asked: For whom, and how.
            user: Who searches.

        Returns:
            A `QueryResult` as JSON, which says nothing of where on the machine anything lies. In its stead may come a
            UsageError (no purpose is said where the gallery asks for one; or a setting makes no sense), a NotThereError
            (of an entry that is searched for), a DataError (of an image), or a SilError of the gallery or its log.

        Raises:
            BusyError: Too many are asking at once.
        """
        wanted = asked.wanted
        settings = self.settings.model_copy(update={"query": wanted})

        def find(opened: _Opened) -> str:
            require_reason(settings, self.folder)
            gallery = opened.gallery
            with self._kept(asked.images) as files:
                query = Query(files, wanted.ids)
                if wanted.ids:
                    _require_entries(gallery, wanted.ids)
                    known = complete_queries([Query((), wanted.ids)], gallery, SilentReporter())[0]
                    query = replace(query, entries=known.entries, person=known.person)
                matcher = make_matcher(settings, gallery, SilentReporter(), opened.learnt)
                try:
                    embeddings = embed_queries([query], gallery, opened.engine, settings.gallery.batch)
                except DataError as error:
                    told = "The image can't be used: " + error.what.partition(": ")[2]
                    raise DataError(told, error.fix) from error
                exclude = ids_to_exclude(query, gallery, exclude_self=wanted.exclude_self)
                groups = matcher.find([query], embeddings, [exclude])[0]
                result = make_result(settings, matcher, query, groups)
                log_search(settings, [query], [result.matches], by=user.name, always=True)
            self._remember(result)
            self._reveal(user, result)
            return self._public(result, asked.name).model_dump_json()

        return self._begin(find)

    @contextlib.contextmanager
    def _kept(self, images: Sequence[tuple[BinaryIO, Box | None]]) -> Iterator[tuple[ImageFile, ...]]:
        """Uploads as files of ours while the block runs, which the gallery's thread alone does."""
        if self._uploads is None:
            self._uploads = tempfile.TemporaryDirectory(prefix="sil-serve-")
        files = tuple((Path(self._uploads.name, str(number)), box) for number, (_, box) in enumerate(images))
        try:
            for (path, _), (stream, _) in zip(files, images, strict=True):
                with path.open("wb") as copy:
                    shutil.copyfileobj(stream, copy)
            yield files
        finally:
            for path, _ in files:
                path.unlink(missing_ok=True)

    def entry(self, identifier: int) -> ServedEntry:
        """One entry.

        Raises:
            NotThereError: There is none of this number.
        """
        entry = self._entry(identifier)
        facts = {name: getattr(entry, name) for name in ("identity", "camera", "domain", "time", "box")}
        return ServedEntry(id=identifier, path=_public_path(entry), metadata=dict(entry.metadata), **facts)

    def image(self, identifier: int, user: User, *, thumbnail: bool) -> bytes:
        """An entry's image as a JPEG file: its box alone, scaled down; blurred where nobody asked for them.

        Raises:
            NotThereError: There is no such entry, or its image can't be read any more.
        """
        entry = self._entry(identifier)
        blur = self.settings.query.blur and identifier not in self._revealed.get(user.name, ())
        key = (identifier, entry.content_hash, entry.box, thumbnail, blur)
        with self._lock:
            if key in self._thumbnails:
                self._thumbnails.move_to_end(key)
                return self._thumbnails[key]
        path = entry.file(self.folder)
        try:
            most = pixels_in(self.settings.data.max_megapixels)
            image = shrunk(load_image(path, max_pixels=most, box=entry.box), THUMBNAIL if thumbnail else WHOLE)
        except ImageError as error:
            raise NotThereError(
                f"The image of entry {identifier} can't be shown: {error.reason}.", "It may have moved."
            ) from error
        content = _as_jpeg(pixelated(image) if blur else image)
        self._keep(key, content)
        return content

    def give_verdict(self, given: VerdictGiven, user: User) -> VerdictKept:
        """Keep what somebody says of two entries; when this returns, it is on the disk.

        Raises:
            NotThereError: One of the entries is not there any more.
            SilError: It is no verdict, or can't be written.
        """
        at = datetime.now(UTC)

        def keep(opened: _Opened) -> None:
            keys = _require_entries(opened.gallery, (given.first, given.second))
            verdict = Verdict(
                keys[given.first].key, keys[given.second].key, given.answer, user.name, at, given.why, origin="page"
            )
            with self._changing_people("verdict", given.model_dump(mode="json"), user) as people:
                people.add_verdicts([verdict])

        self._do(keep)
        return VerdictKept(**given.model_dump(), by=user.name, at=at)

    def verdicts(self, identifiers: Sequence[int]) -> Verdicts:
        """The verdicts that count on pairs of these entries.

        Raises:
            SilError: They can't be read.
        """

        def ask(opened: _Opened) -> Verdicts:
            ids = {entry.key: one for one, entry in opened.gallery.entries(identifiers).items()}
            with open_people(self.folder, write=False) as people:
                standing = people.standing()
            return Verdicts(
                verdicts=[
                    VerdictKept(
                        first=ids[one.first],
                        second=ids[one.second],
                        answer=one.answer,
                        why=one.why,
                        by=one.by,
                        at=one.at,
                    )
                    for one in standing
                    if one.first in ids and one.second in ids
                ]
            )

        return self._do(ask)

    def people(self) -> PeopleList:
        """The people of the gallery.

        Raises:
            SilError: They can't be read.
        """

        def ask(opened: _Opened) -> PeopleList:
            with open_people(self.folder, write=False) as people:
                return people_in(opened.gallery, people)

        return self._do(ask).model_copy(update={"gallery": Path(self.name)})

    def person(self, number: int) -> ServedPerson:
        """One person.

        Raises:
            NotThereError: There is no such person.
        """

        def ask(opened: _Opened) -> ServedPerson:
            with open_people(self.folder, write=False) as people:
                return _served(opened.gallery, people, number)

        return self._do(ask)

    def name_entries(self, identifiers: Sequence[int], name: str, user: User) -> ServedPerson:
        """Say that some entries show one person, who is known by a name or is somebody new.

        Raises:
            NotThereError: One of the entries is not there.
            UsageError: Nothing is named, or the name can't be one.
        """

        def change(people: People, keys: list[EntryKey]) -> int:
            if not keys or not name.strip():
                raise UsageError("Entries and a name are needed.", "Send both.")
            known = [person for person, called in people.names().items() if called == name.strip()]
            person = known[0] if known else people.add_person()
            if not known:
                name_person(people, str(person), name)
            confirm_members(people, str(person), keys, by=user.name)
            return person

        return self._change_people(change, identifiers, user, {"did": "name", "entries": list(identifiers)})

    def rename_person(self, number: int, name: str, user: User) -> ServedPerson:
        """Give a person a name, or take it back by ''. Raises as `name_person`."""
        return self._change_people(
            lambda people, _: name_person(people, _known(people, number), name),
            (),
            user,
            {"did": "name", "person": number},
        )

    def merge_people(self, number: int, others: Sequence[int], user: User) -> ServedPerson:
        """Make some people one.

        Raises:
            NotThereError: One of them is gone, as when somebody else merged them meanwhile.
            UsageError: Only one is named.
        """

        def change(people: People, _: list[EntryKey]) -> int:
            return merge_people(people, _known(people, number), [_known(people, one) for one in others], by=user.name)

        return self._change_people(change, (), user, {"did": "merge", "person": number, "others": list(others)})

    def split_person(self, number: int, identifiers: Sequence[int], user: User) -> ServedPerson:
        """Make a new person of some of a person's entries; returns the new one. Raises as `split_person`."""
        return self._change_people(
            lambda people, keys: split_person(people, _known(people, number), keys, by=user.name),
            identifiers,
            user,
            {"did": "split", "person": number, "entries": list(identifiers)},
        )

    def _change_people(
        self,
        change: Callable[[People, list[EntryKey]], int],
        identifiers: Sequence[int],
        user: User,
        details: dict[str, object],
    ) -> ServedPerson:
        """Decide something of people, all or nothing, and write down who did."""

        def decide(opened: _Opened) -> ServedPerson:
            found = _require_entries(opened.gallery, identifiers)
            with self._changing_people("people", details, user) as people:
                person = change(people, [found[one].key for one in dict.fromkeys(identifiers)])
                return _served(opened.gallery, people, person)

        return self._do(decide)

    def _changing_people(
        self, event: str, details: dict[str, object], user: User
    ) -> contextlib.AbstractContextManager[People]:
        return changing_people(self.settings, self.folder, event, details, by=user.name, always=True)

    def info(self) -> GalleryInfo:
        """All that `sil gallery info` says, without where on the machine it lies."""
        return self._do(lambda _: gallery_info(self.settings)).model_copy(
            update={"gallery": Path(self.name), "store": None}
        )

    def remove(self, identifiers: Sequence[int], user: User) -> RemoveResult:
        """Remove entries: nobody finds them any more when this returns.

        Raises:
            NotThereError: One of them is not there.
            SilError: Somebody else is writing to the gallery.
        """

        def take_away(opened: _Opened) -> RemoveResult:
            _require_entries(opened.gallery, identifiers)
            with gallery_store_to_write(self.settings).existing_writer() as writer:
                append(self.folder, "removal", user.name, {"why": "id", "entries": list(identifiers)})
                removed = writer.remove(identifiers, "id")
                return RemoveResult(gallery=Path(self.name), removed=removed, not_found=[], entries=len(writer))

        return self._do(take_away)

    def log(self, last: int) -> LogResult:
        """The last lines of the gallery's log, and whether all are as they were written."""
        found = read_log(self.folder, last=last, verify=True)
        lines = [
            line.model_copy(update={"details": {name: each for name, each in line.details.items() if name != "file"}})
            for line in found.lines
        ]
        return found.model_copy(update={"gallery": Path(self.name), "lines": lines})

    def expire(self) -> int:
        """Remove what is older than the gallery keeps it, and every trace of it; returns how many entries that were.

        Raises:
            SilError: Somebody else is writing to the gallery.
        """
        policy = policy_of(self.settings, self.folder)
        if not policy.expires and policy.log_keep_days is None:
            return 0

        def take_away() -> int:
            self._let_go()  # a snapshot would keep the database's log alive
            return expire_gallery(self.settings, SilentReporter()).expired

        return self._thread.submit(take_away).result()

    def refresh(self) -> None:
        """Take up what somebody wrote to the gallery, and let go of what was before; they may wait for that."""
        opened = self._opened
        if opened is None or _state_of(self.folder) not in ("", opened.state):
            self._do(lambda opened: opened.state)

    def _remember(self, result: QueryResult) -> None:
        """Keep the entries that are about to be looked at: twenty browsers' images would fill the line of searches."""
        with self._lock:
            self._shown.update((match.id, match) for match in result.matches)
            while len(self._shown) > _MOST_ENTRIES:
                self._shown.popitem(last=False)

    def _entry(self, identifier: int) -> GalleryEntry:
        opened = self._opened  # before what is known of its entries, and that before a look at whether somebody wrote
        with self._lock:
            shown = self._shown.get(identifier)
        if shown is not None and opened is not None and _state_of(self.folder) == opened.state:
            return shown
        return self._do(lambda opened: _require_entries(opened.gallery, (identifier,))[identifier])

    def _do(self, ask: Callable[[_Opened], Answered]) -> Answered:
        """Ask the gallery in its thread, after taking up what has changed, and wait for the answer."""
        return self._begin(ask).result()

    def _begin(self, ask: Callable[[_Opened], Answered]) -> Future[Answered]:
        """Have the gallery asked in its thread, once it is the turn of whoever asks."""
        with self._lock:
            if self._waiting >= self.settings.serve.waiting:
                raise BusyError("Too many are asking at once.", "Try again in a moment.")
            self._waiting += 1
        future = self._thread.submit(lambda: ask(self._present()))
        future.add_done_callback(self._answered)
        return future

    def _answered(self, _: Future[Answered]) -> None:
        with self._lock:
            self._waiting -= 1

    def _present(self) -> _Opened:
        """The gallery as it is now; opened again where somebody wrote to it."""
        opened = self._opened
        state = _state_of(self.folder)
        if opened is not None and (state == opened.state or not state):
            return opened
        gallery = gallery_store(self.settings).open()
        try:
            same = opened is not None and opened.gallery.model["fingerprint"] == gallery.model["fingerprint"]
            engine = (
                opened.engine
                if opened is not None and same
                else load_own_engine(self.settings, gallery, self._reporter, images=None)
            )
            learnt = learnt_of(self.settings, gallery)
        except BaseException:
            gallery.close()
            raise
        self._let_go()
        with self._lock:  # what was removed is shown no more
            self._thumbnails.clear()
            self._shown.clear()
            self._held = 0
        self._opened = _Opened(gallery, engine, learnt, state)
        return self._opened

    def _let_go(self) -> None:
        if self._opened is not None:
            self._opened.gallery.close()
            self._opened = None

    def _keep(self, key: tuple[object, ...], content: bytes) -> None:
        with self._lock:
            if key not in self._thumbnails:
                self._thumbnails[key] = content
                self._held += len(content)
            while self._held > _MOST_BYTES:
                self._held -= len(self._thumbnails.popitem(last=False)[1])

    def _reveal(self, user: User, result: QueryResult) -> None:
        """Remember which entries somebody asked for: with `blur` they see no others as they are."""
        if not self.settings.query.blur:
            return
        with self._lock:
            revealed = self._revealed.setdefault(user.name, OrderedDict())
            for match in result.matches:
                if was_asked_for(match):
                    revealed[match.id] = None
            while len(revealed) > _MOST_REVEALED:
                revealed.popitem(last=False)

    def _public(self, result: QueryResult, name: str) -> QueryResult:
        """An answer that doesn't say where on the machine anything lies."""
        matches = [replace(match, source=Path(match.source).name, path=_public_path(match)) for match in result.matches]
        return result.model_copy(
            update={"image": Path(name), "query": name, "gallery": Path(self.name), "matches": matches}
        )


def _known(people: People, number: int) -> str:
    """A person as others name them.

    Raises:
        NotThereError: There is none of this number any more.
    """
    if number not in people.names():
        raise NotThereError(f"There is no person {number} any more.", "Somebody may have merged them: look again.")
    return str(number)


def _served(gallery: Gallery, people: People, number: int) -> ServedPerson:
    person, entries = person_in(gallery, people, _known(people, number))
    shown = [one.model_copy(update={"source": Path(one.source).name, "path": _name_below(one.path)}) for one in entries]
    return ServedPerson(person=person, entries=shown)


def _require_entries(gallery: Gallery, identifiers: Sequence[int]) -> dict[int, GalleryEntry]:
    """The entries of some numbers.

    Raises:
        NotThereError: One is not there.
    """
    found = gallery.entries([one for one in identifiers if 0 < one < 2**53])
    missing = next((one for one in identifiers if one not in found), None)
    if missing is not None:
        raise NotThereError(f"There is no entry {missing}.", "It may have been removed or replaced: search again.")
    return found


def _state_of(folder: Path) -> str:
    """What changes whenever somebody writes to the gallery; '' where nothing can be seen, as while it is swapped."""
    parts = []
    for name in ("gallery.sqlite", "gallery.sqlite-wal", "chance.json", "model/calibration.json"):
        try:
            facts = (folder / name).stat()
            parts.append(f"{facts.st_ino} {facts.st_size} {facts.st_mtime_ns}")
        except OSError:
            parts.append("")
    return " ".join(parts) if parts[0] else ""


def _public_path(entry: GalleryEntry) -> str:
    return _name_below(entry.path)


def _name_below(path: str) -> str:
    """A path below a source; of one that leads elsewhere the name alone."""
    parts = Path(path)
    return parts.name if parts.is_absolute() or ".." in parts.parts else path


def _as_jpeg(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=_JPEG_QUALITY)
    return stream.getvalue()
