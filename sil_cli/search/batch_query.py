"""`sil query --batch`: many queries, one JSON line each, in the order of the input and with bounded memory."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

from sil_cli.data.manifest import INFO_FILE, MANIFEST_FILE, Skipped
from sil_cli.errors import DataError, InterruptedWorkError, UsageError, json_for_terminals
from sil_cli.files import writing
from sil_cli.gallery.ingest.sources import STREAM, SourceReader
from sil_cli.gallery.interface import has_policy
from sil_cli.gallery.stores import gallery_store
from sil_cli.models.embed import embed_batches
from sil_cli.output_checks import refuse_overwriting
from sil_cli.runtime import one_ahead, stop_at_safe_point
from sil_cli.search.matching import make_matcher
from sil_cli.search.queries import KnownPerson, Query, ids_to_exclude
from sil_cli.search.query_results import BatchLine, BatchResult
from sil_cli.search.search import load_own_engine, refuse_harming_gallery, refuse_overwriting_entries

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    import numpy as np

    from sil_cli.gallery.entry import GalleryEntry, Match
    from sil_cli.gallery.ingest.sources import SourceImages
    from sil_cli.gallery.interface import Gallery
    from sil_cli.models.embed import EmbeddedBatch
    from sil_cli.models.engines.engine import Engine
    from sil_cli.runtime import Reporter, Task
    from sil_cli.search.matching import Matcher
    from sil_cli.settings import Settings

_LINGER = 0.05
"""Seconds that a path of a stream waits for others."""


def query_batch(settings: Settings, reporter: Reporter, out: TextIO) -> BatchResult:
    """Answer every image of a source by one JSON line; one that can't be used gets a line that says why.

    Args:
        settings: `query.batch` names the source.
        reporter: Shows the progress.
        out: Where lines go, unless `query.out` names a file.

    Raises:
        UsageError: An option is named that makes no sense for many queries, or an image would be overwritten.
        DataError: Not one image could be used.
        SilError: The source, the gallery or the model can't be used.
    """
    wanted = settings.query
    assert wanted.batch is not None  # noqa: S101 -- the caller asked for a batch
    _refuse_others(settings)
    refuse_harming_gallery(wanted.out, settings, option="--out")
    if has_policy(settings, settings.gallery.folder):
        from sil_cli.gallery.accountability.policy import require_reason

        require_reason(settings, settings.gallery.folder)
    source = Path("/dev/stdin") if wanted.batch == STREAM else wanted.batch
    refuse_overwriting(wanted.out, [source, source / MANIFEST_FILE, source / INFO_FILE], option="--out")
    reader = SourceReader(settings.gallery)
    total, portions = _portions(wanted.batch, reader, reporter)
    began = time.monotonic()
    with gallery_store(settings).open() as gallery:
        refuse_overwriting_entries(wanted.out, gallery, option="--out")
        matcher = make_matcher(settings, gallery, reporter)
        engine = load_own_engine(settings, gallery, reporter, images=None)
        answering = _Answering(gallery, matcher, engine, settings)
        try:
            users_own = settings.is_users_own("query.out")
            with (
                reporter.task("Querying", total, "images") as task,
                _lines_to(wanted.out, out, users_own=users_own) as stream,
            ):
                for portion in portions:
                    refuse_overwriting(wanted.out, [file for file, _ in portion.files], option="--out")
                    answering.answer(portion.items, stream, task)
        except KeyboardInterrupt:
            kept = "their lines are whole" if wanted.out is None else f"{wanted.out} was not written"
            raise InterruptedWorkError(
                f"Stopped after {answering.done:,} queries; {kept}.", "Run the same command again."
            ) from None
    reader.warnings.report(reporter)
    if answering.failed == answering.done:
        raise DataError(f"None of the {answering.done:,} images could be used.", "Their lines in the output say why.")
    return BatchResult(
        gallery=settings.gallery.folder,
        queries=answering.done,
        failed=answering.failed,
        seconds=round(time.monotonic() - began, 3),
        out=wanted.out,
    )


def _refuse_others(settings: Settings) -> None:
    wanted = settings.query
    for name, given in (
        ("an image", bool(wanted.images)),
        ("--id", bool(wanted.ids)),
        ("--box", bool(wanted.boxes)),
        ("--person", wanted.person is not None),
        ("--fuse", wanted.fuse),
        ("--group", wanted.group != "none"),
        ("--html", wanted.html is not None),
    ):
        if given:
            refuse_with_batch(name)


def refuse_with_batch(name: str) -> NoReturn:
    """Refuse an option that makes no sense for many queries.

    Raises:
        UsageError: Always.
    """
    fixes = {
        "an image": "Name all images in the batch.",
        "--box": "Boxes go into a column of a .csv table: --batch TABLE.csv.",
    }
    raise UsageError(f"--batch and {name} don't go together.", fixes.get(name, "Leave one of them out."))


def _portions(source: Path, reader: SourceReader, reporter: Reporter) -> tuple[int | None, Iterator[SourceImages]]:
    """The number of queries where it is known, and the queries, those of a stream as they come."""
    if source != STREAM:
        whole = reader.read(source, queries=True)
        return len(whole.items), iter([whole])
    if sys.stdin.isatty():
        reporter.note("Type one path per line; end with Ctrl-D.")
    portions = reader.stream(sys.stdin.buffer, linger=_LINGER)
    first = next(portions, None)
    if first is None:
        raise DataError(
            "There was no path on stdin.", "Pipe one path per line into it: find crops | sil query --batch -"
        )
    return None, chain([first], portions)


@contextlib.contextmanager
def _lines_to(path: Path | None, out: TextIO, *, users_own: bool) -> Iterator[TextIO]:
    """Where lines go: a file that is whole or absent, or `out`."""
    if path is None:
        yield out
        return
    with writing(path, users_own=users_own) as binary:
        text = io.TextIOWrapper(binary, encoding="utf-8", newline="\n")
        yield text
        text.flush()
        text.detach()


class _Answering:
    """Answers one portion of images after another.

    Attributes:
        done: Lines written.
        failed: Those of them that say why an image could not be used.
    """

    def __init__(self, gallery: Gallery, matcher: Matcher, engine: Engine, settings: Settings) -> None:
        self.done = self.failed = 0
        self._gallery, self._matcher, self._engine = gallery, matcher, engine
        self._batch = settings.gallery.batch
        self._exclude_self = settings.query.exclude_self
        self._settings = settings
        self._governed = has_policy(settings, settings.gallery.folder)
        self._here = f"{Path.cwd()}{os.sep}"

    def answer(self, items: Sequence[GalleryEntry | Skipped], stream: TextIO, task: Task) -> None:
        """Write one line for each item, in order."""
        answers = self._answers([item for item in items if not isinstance(item, Skipped)])
        with closing(answers):
            lines = (
                BatchLine(image=item.path, matches=[], error=item.reason)
                if isinstance(item, Skipped)
                else next(answers)
                for item in items
            )
            while some := list(islice(lines, self._batch)):
                self._write(some, stream)
                task.advance(len(some))

    def _write(self, lines: Sequence[BatchLine], stream: TextIO) -> None:
        """Write lines and count them: Ctrl-C comes before both or after both."""
        utf8 = (stream.encoding or "utf-8").lower().replace("-", "") == "utf8"
        documents = [line.model_dump_json() if utf8 else json.dumps(line.model_dump(mode="json")) for line in lines]
        text = "".join(f"{json_for_terminals(document)}\n" for document in documents)
        with stop_at_safe_point():
            stream.write(text)
            stream.flush()
            self.done += len(lines)
            self.failed += sum(line.error is not None for line in lines)

    def _answers(self, images: Sequence[GalleryEntry]) -> Generator[BatchLine, None, None]:
        """The lines of images, worked out one batch after another; the next one is embedded meanwhile."""
        files = [(Path(image.source, image.path), image.box) for image in images]
        start = 0
        with closing(one_ahead(embed_batches(self._engine, files, batch=self._batch))) as batches:
            for batch in batches:
                count = len(batch.positions) + len(batch.failed)
                yield from self._lines(images[start : start + count], start, batch)
                start += count

    def _lines(self, images: Sequence[GalleryEntry], start: int, batch: EmbeddedBatch) -> Iterator[BatchLine]:
        """One line for each image of a batch, those that failed among the others."""
        usable = [position - start for position in batch.positions]
        found = dict(zip(usable, self._find([images[at] for at in usable], batch.embeddings), strict=True))
        reasons = iter(batch.failed)
        for at, image in enumerate(images):
            matches = found.get(at)
            yield BatchLine(
                image=self._shown(image),
                box=image.box,
                identity=image.identity,
                decision=None if matches is None else self._matcher.decide(matches),
                matches=matches or [],
                error=next(reasons)[1] if matches is None else None,
            )

    def _find(self, images: Sequence[GalleryEntry], embeddings: np.ndarray) -> list[list[Match]]:
        """The matches of each image."""
        if not images:
            return []
        queries = [
            Query(
                ((Path(image.source, image.path), image.box),),
                person=KnownPerson(image.identity, image.camera, image.domain),
            )
            for image in images
        ]
        exclude = [ids_to_exclude(query, self._gallery, exclude_self=self._exclude_self) for query in queries]
        found = [[group[0] for group in groups] for groups in self._matcher.find(queries, embeddings, exclude)]
        if self._governed:
            from sil_cli.search.answerable import log_search

            log_search(self._settings, queries, found)
        return found

    def _shown(self, image: GalleryEntry) -> str:
        """The image's path from the working folder, or a whole one where it lies elsewhere."""
        whole = str(Path(image.source, image.path))
        return whole.removeprefix(self._here).replace(os.sep, "/") if whole.startswith(self._here) else whole
