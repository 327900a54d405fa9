"""A gallery on Milvus: opening it for searching, writing and rebuilding."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from sil_cli.errors import GalleryError
from sil_cli.files import one_line
from sil_cli.gallery.local.gallery import require_same_model
from sil_cli.gallery.milvus.connection import Connection
from sil_cli.gallery.milvus.generation import Generation, present_generation, read_generation
from sil_cli.gallery.milvus.health import check_generation
from sil_cli.gallery.milvus.indexes import index_kind
from sil_cli.gallery.milvus.reader import MilvusGallery
from sil_cli.gallery.milvus.rebuild import MilvusRebuild, beside, finish_swap
from sil_cli.gallery.milvus.writer import MilvusWriter
from sil_cli.locks import writer_lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from sil_cli.gallery.local.health import Check
    from sil_cli.gallery.milvus.address import Address


class MilvusStore:
    """A collection that holds a gallery, or may come to hold one; a `GalleryStore`.

    Attributes:
        folder: Keeps the model, and is what sources are relative to.
        name: What messages call it.
    """

    def __init__(self, folder: Path, address: Address, *, patience: float) -> None:
        self.folder = folder
        self.name = address.name
        self._address = address
        self._patience = patience

    def open(self) -> MilvusGallery:
        """Open the gallery for searching.

        Raises:
            GalleryError: There is none, or the server doesn't answer.
        """
        connection = self._connect(must_exist=True)
        try:
            generation = self._present(connection)
            generation.load()
            return MilvusGallery(self.folder, generation)
        except BaseException:
            connection.close()
            raise

    @contextlib.contextmanager
    def writer(self, model: Mapping[str, Any]) -> Iterator[MilvusWriter]:
        """Open the gallery for writing, or make it.

        Raises:
            SilError: It belongs to another model, somebody writes to it by way of this folder, or the server doesn't
                answer.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise GalleryError(
                f"{self.folder} can't be used beside {self.name}: {one_line(error)}.", "Choose another --gallery DIR."
            ) from error
        with self._locked(), contextlib.closing(self._connect(must_exist=False)) as connection:
            generation = present_generation(connection) or self._make(connection, model)
            require_same_model(self.name, self.folder, generation.model, model["fingerprint"])
            generation.load()
            yield MilvusWriter(generation)

    @contextlib.contextmanager
    def existing_writer(self) -> Iterator[MilvusWriter]:
        """Open a gallery that is there for writing, whatever its model."""
        with self._locked(), contextlib.closing(self._connect(must_exist=True)) as connection:
            generation = self._present(connection)
            generation.load()
            yield MilvusWriter(generation)

    @contextlib.contextmanager
    def rebuilding(self, model: Mapping[str, Any]) -> Iterator[MilvusRebuild]:
        """Open the gallery to embed it anew by another model; goes on with what an earlier attempt has done."""
        with self._locked(), contextlib.closing(self._connect(must_exist=True)) as connection:
            old = self._present(connection)
            finish_swap(self.folder, old)
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
            staged = beside(self.folder)
            staged.mkdir(parents=True, exist_ok=True)
            yield MilvusRebuild(MilvusGallery(self.folder, old, owns=False), MilvusWriter(new), staged)

    def require_index(self, wished: str, dimension: int) -> None:
        """Refuse a kind of index that the store can't build.

        Raises:
            GalleryError: It is none.
        """
        del dimension
        index_kind(wished, lite=self._address.file is not None)

    def check(self) -> list[Check]:
        """Look at everything that the gallery says of itself; reads every row."""
        with contextlib.closing(self._connect(must_exist=True)) as connection:
            generation = self._present(connection)
            generation.load()
            return check_generation(generation)

    def size(self) -> int | None:
        """The bytes of a Milvus Lite file; a server doesn't say."""
        file = self._address.file
        if file is None:
            return None
        return sum(path.stat().st_size for path in [file, *file.rglob("*")] if path.is_file())

    def option(self) -> str:
        """`--store ADDRESS`, and the folder where it isn't the default one."""
        folder = "" if str(self.folder) == "gallery" else f" --gallery {self.folder}"
        return f" --store {self.name}{folder}"

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
                f"The collection {left.collection.name} holds a gallery that {self.name} doesn't lead to.",
                "Name another collection with --store, or give it its alias back.",
            )
        generation.drop()  # what a kill left before the alias was there
        generation.make()
        generation.take_alias()
        return generation

    def _nothing_there(self) -> GalleryError:
        return GalleryError(
            f"There is no gallery in {self.name}.", "Make one with `sil index-gallery IMAGES --store …`."
        )

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        if not self.folder.is_dir():
            raise GalleryError(f"There is no folder {self.folder} for {self.name}.", "Name it with --gallery DIR.")
        return writer_lock(
            self.folder,
            while_held="Wait until it is done; searching goes on meanwhile.",
            elsewhere="Choose another folder with --gallery DIR.",
        )
