"""A gallery on Milvus: opening it for searching, writing and rebuilding."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from sil_cli.errors import GalleryError, one_line, quoted
from sil_cli.files import read_text, refuse_links, require_reachable, write_text
from sil_cli.gallery.interface import MODEL_FOLDER, GalleryRebuild, GalleryStore, rebuilding_folder
from sil_cli.gallery.milvus.connection import Connection
from sil_cli.gallery.milvus.expressions import EVERYTHING
from sil_cli.gallery.milvus.generation import Generation, present_generation, read_generation
from sil_cli.gallery.milvus.indexes import index_kind
from sil_cli.gallery.milvus.reader import MilvusGallery
from sil_cli.gallery.milvus.rows import KEY_FIELDS, VECTOR, id_of, key_of
from sil_cli.gallery.milvus.writer import MilvusWriter
from sil_cli.gallery.results import Check
from sil_cli.locks import writer_lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from sil_cli.gallery.milvus.address import Address

_WAITS_FOR = "collection"  # the file that names the collection whose model waits
_NORM_ERROR = 1e-3


class MilvusStore(GalleryStore):
    """A collection that holds a gallery, or may come to hold one."""

    def __init__(self, folder: Path, address: Address, *, patience: float) -> None:
        super().__init__(folder, address.name)
        self._address = address
        self._patience = patience

    @override
    def open(self) -> MilvusGallery:
        connection = self._connect(must_exist=True)
        try:
            generation = self._present(connection)
            generation.load()
            return MilvusGallery(self.folder, generation)
        except BaseException:
            connection.close()
            raise

    @contextlib.contextmanager
    @override
    def writer(self, model: Mapping[str, Any]) -> Iterator[MilvusWriter]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise GalleryError(
                f"{self.folder} can't be used beside {self.name}: {one_line(error)}.", "Choose another --gallery DIR."
            ) from error
        with self._locked(), contextlib.closing(self._connect(must_exist=False)) as connection:
            generation = present_generation(connection) or self._make(connection, model)
            generation.load()
            writer = MilvusWriter(self.folder, generation)
            writer.require_model(model["fingerprint"])
            yield writer

    @contextlib.contextmanager
    @override
    def existing_writer(self) -> Iterator[MilvusWriter]:
        with self._locked(), contextlib.closing(self._connect(must_exist=True)) as connection:
            generation = self._present(connection)
            generation.load()
            yield MilvusWriter(self.folder, generation)

    @contextlib.contextmanager
    @override
    def rebuilding(self, model: Mapping[str, Any]) -> Iterator[MilvusRebuild]:
        with self._locked(), contextlib.closing(self._connect(must_exist=True)) as connection:
            old = self._present(connection)
            _finish_swap(self.folder, old)
            left = read_generation(connection, old.number - 1)
            if left is not None:  # a kill had come before it was dropped
                left.drop()
            new = read_generation(connection, old.number + 1)
            if new is not None and new.model["fingerprint"] != model["fingerprint"]:
                new.drop()
                new = None
            if new is None:
                new = Generation(connection, old.number + 1, dict(model))
                new.drop()  # a catalogue that was left alone
                new.make()
            old.load()
            new.load()
            staged = rebuilding_folder(self.folder)
            refuse_links(staged, within=staged.parent)
            staged.mkdir(parents=True, exist_ok=True)
            yield MilvusRebuild(MilvusGallery(self.folder, old, owns=False), MilvusWriter(staged, new))

    @override
    def require_index(self, requested: str, dimension: int) -> None:
        del dimension
        index_kind(requested, lite=self._address.file is not None)

    @override
    def check(self) -> list[Check]:
        with contextlib.closing(self._connect(must_exist=True)) as connection:
            generation = self._present(connection)
            generation.load()
            return _checks(generation)

    @override
    def size(self) -> int | None:
        file = self._address.file
        if file is None:
            return None
        return sum(path.stat().st_size for path in [file, *file.rglob("*")] if path.is_file())

    @override
    def option(self) -> str:
        folder = "" if str(self.folder) == "gallery" else f" --gallery {quoted(self.folder)}"
        return f" --store {quoted(self.name)}{folder}"

    def _connect(self, *, must_exist: bool) -> Connection:
        file = self._address.file
        if must_exist and file is not None and not file.exists():
            raise self._nothing_there()
        return Connection(self._address, patience=self._patience)

    def _present(self, connection: Connection) -> Generation:
        generation = present_generation(connection)
        if generation is None:
            raise self._nothing_there()
        return generation

    def _make(self, connection: Connection, model: Mapping[str, Any]) -> Generation:
        generation = Generation(connection, 1, dict(model))
        left = read_generation(connection, 1)
        if left is not None and left.collection.count():
            raise GalleryError(
                f"The collection {left.collection.name} holds a gallery that {self.name} does not point to.",
                "Name another collection with --store, or restore its alias.",
            )
        generation.drop()  # what a kill left before the alias was there
        generation.make()
        generation.take_alias()
        return generation

    def _nothing_there(self) -> GalleryError:
        return GalleryError(
            f"No gallery was found at {self.name}.", "Make one with `sil index-gallery IMAGES --store …`."
        )

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        require_reachable(self.folder)
        if not self.folder.is_dir():
            raise GalleryError(f"There is no folder {self.folder} for {self.name}.", "Name it with --gallery DIR.")
        return writer_lock(
            self.folder,
            while_held="Wait until it is done; searching goes on meanwhile.",
            elsewhere="Choose another folder with --gallery DIR.",
        )


class MilvusRebuild(GalleryRebuild):
    """A gallery and the collection of another model that grows beside it."""

    def __init__(self, old: MilvusGallery, new: MilvusWriter) -> None:
        super().__init__(old, new, new.folder)
        self._old, self._new = old.generation, new.generation

    def swap(self) -> None:
        """Let the new collection take over; then its model takes the old one's place in the folder.

        A kill between the two leaves a gallery whose folder has the wrong model, so queries refuse it; the same
        command sets that right.

        Raises:
            GalleryError: Somebody on another machine has added to the old collection meanwhile.
        """
        self.new.finish()
        late = len(self.to_do())
        if late:
            raise GalleryError(
                f"{late:,} entries were added to {self.old.name} while it was rebuilt.", "Run the same command again."
            )
        self.new.adopt_removals(self.old.removals())
        write_text(self.folder / _WAITS_FOR, self._new.collection.name)
        self._new.take_alias()
        _finish_swap(self.old.folder, self._new)
        self._old.drop()


def _finish_swap(folder: Path, present: Generation) -> None:
    """Put the model that waits for the present collection, if one does, into the gallery's folder."""
    waiting = rebuilding_folder(folder)
    refuse_links(waiting, within=waiting.parent)
    refuse_links(folder / MODEL_FOLDER, within=folder)
    note = waiting / _WAITS_FOR
    if not note.is_file() or read_text(note) != present.collection.name:
        return
    if (waiting / MODEL_FOLDER).is_dir():
        shutil.rmtree(folder / MODEL_FOLDER, ignore_errors=True)
        (waiting / MODEL_FOLDER).rename(folder / MODEL_FOLDER)
    shutil.rmtree(waiting, ignore_errors=True)


def _checks(generation: Generation) -> list[Check]:
    """Look at every row: its id against its name, and its vector."""
    collection = generation.collection
    rows = 0
    misplaced: list[int] = []
    bad: list[int] = []
    for part in collection.parts(EVERYTHING, [*KEY_FIELDS, VECTOR]):
        vectors = np.array([row[VECTOR] for row in part], dtype=np.float64)
        good = np.abs(np.sqrt((vectors * vectors).sum(axis=1)) - 1.0) < _NORM_ERROR  # NaN compares false
        rows += len(part)
        misplaced += [row["id"] for row in part if row["id"] != id_of(key_of(row))]
        bad += [row["id"] for row, is_unit in zip(part, good.tolist(), strict=True) if not is_unit]
    count = collection.count()
    built = str(collection.index_state().get("index_type", "none"))
    kind, _, _ = generation.index()
    return [
        Check("layout", True, f"collection {collection.name}, {collection.dimension} dimensions"),
        Check("ids", not misplaced, _such("don't follow from their rows", misplaced) or "each follows from its row"),
        Check("vectors", not bad, _such("are not of length 1", bad) or f"{rows:,} of length 1"),
        Check("entries", count == rows, f"{count:,} counted, {rows:,} read"),
        Check("index", built == kind.type, f"{built}, requested {kind}"),
    ]


def _such(what: str, ids: list[int]) -> str:
    """How many entries are wrong, with an example; '' for none."""
    return f"{len(ids):,} {what}, such as entry {ids[0]}" if ids else ""
