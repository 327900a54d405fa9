"""The collections of one gallery: rows and catalogue, found under an alias that a rebuilt gallery can take over."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from sil_cli.errors import GalleryError
from sil_cli.gallery.local.schema import AUTOMATIC
from sil_cli.gallery.milvus.catalogue import Catalogue
from sil_cli.gallery.milvus.collection import Collection
from sil_cli.gallery.milvus.indexes import index_kind
from sil_cli.gallery.milvus.rows import FORMAT, METADATA, VECTOR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sil_cli.gallery.milvus.connection import Connection
    from sil_cli.gallery.milvus.indexes import IndexKind

_OTHER_NAME = "Name another collection with --store; this one is left as it is."


class Generation:
    """A gallery's collection and its catalogue.

    Attributes:
        connection: To the server.
        number: From 1; every rebuild makes the next one.
        model: The record of the model that made its embeddings.
        collection: Its rows.
        catalogue: What it remembers besides.
    """

    def __init__(self, connection: Connection, number: int, model: Mapping[str, Any]) -> None:
        self.connection = connection
        self.number = number
        self.model = model
        self.collection = Collection(connection, collection_name(connection, number), int(model["dimension"]))
        self.catalogue = Catalogue(connection, self.collection.name)

    def metadata_keys(self) -> list[str]:
        """The names under which entries have, or had, metadata of their own."""
        return self.catalogue.values("key")

    def index(self) -> tuple[IndexKind, int, Mapping[str, Any] | None]:
        """The index, the cells to look into (0: all), and what was measured of it."""
        kind = self.kind(self.catalogue.wished_index())
        measured = self.catalogue.measured()
        if measured is None or measured["index"] != str(kind):
            return kind, 0, None
        return kind, int(measured["effort"]), measured

    def kind(self, wished: str) -> IndexKind:
        """The index that is wished."""
        return index_kind(wished, lite=self.connection.address.file is not None)

    def make(self) -> None:
        """Make both collections, empty."""
        self.catalogue.create()
        self.catalogue.put("gallery", json.dumps({"format": FORMAT, "model": dict(self.model)}))
        self.collection.create(self.kind(AUTOMATIC))

    def load(self) -> None:
        """Bring both into the server's memory, where they aren't."""
        self.collection.load()
        self.catalogue.load()

    def take_alias(self) -> None:
        """Let the gallery be found in this generation from now on."""
        alias = self.connection.address.collection
        known = self.connection.call("has_collection", alias)
        self.connection.call("alter_alias" if known else "create_alias", self.collection.name, alias)

    def drop(self) -> None:
        """Delete both collections."""
        for name in (self.collection.name, self.catalogue.name):
            if self.connection.call("has_collection", name):
                self.connection.call("drop_collection", name)


def collection_name(connection: Connection, number: int) -> str:
    """What a generation's collection is called."""
    return f"{connection.address.collection}_{number:03d}"


def present_generation(connection: Connection) -> Generation | None:
    """The generation in which a gallery is found now; None where there is none.

    Raises:
        GalleryError: What is there is no gallery, or of a newer version.
    """
    alias = connection.address.collection
    if not connection.call("has_collection", alias):
        return None
    try:
        name = str(connection.call("describe_alias", alias)["collection_name"])
    except GalleryError as error:
        raise GalleryError(f"{connection.address.name} is a collection of something else.", _OTHER_NAME) from error
    number = re.fullmatch(rf"{re.escape(alias)}_(\d+)", name)
    found = None if number is None else read_generation(connection, int(number[1]))
    if found is None:
        raise GalleryError(f"{connection.address.name} is an alias of something else.", _OTHER_NAME)
    return found


def read_generation(connection: Connection, number: int) -> Generation | None:
    """The generation of a number; None where there is none.

    Raises:
        GalleryError: It is of a newer version, or a stranger's.
    """
    name = collection_name(connection, number)
    if not connection.call("has_collection", name):
        return None
    catalogue = Catalogue(connection, name)
    try:
        if not connection.call("has_collection", catalogue.name):
            raise KeyError(catalogue.name)
        catalogue.load()
        record = catalogue.gallery() or {}
        made, model = record["format"], record["model"]
        dimension, complete = model["dimension"], isinstance(model["fingerprint"], str)
    except (ValueError, KeyError, TypeError) as error:
        raise GalleryError(f"The collection {name} is none of a gallery.", _OTHER_NAME) from error
    described = connection.call("describe_collection", name)
    if made != FORMAT:
        raise GalleryError(
            f"{connection.address.name} is a gallery of format {made}; this version reads format {FORMAT}.",
            "Use the version of sil that made it, or name another collection with --store.",
        )
    problem = _schema_problem(described, dimension)
    if problem or not complete:
        raise GalleryError(f"{name} isn't laid out as a gallery: {problem or 'its model is unknown'}.", _OTHER_NAME)
    return Generation(connection, number, model)


def _schema_problem(described: Mapping[str, Any], dimension: int) -> str | None:
    fields = {field["name"]: field for field in described["fields"]}
    missing = [name for name in ("id", VECTOR, METADATA, "source", "path", "members") if name not in fields]
    if missing:
        return f"it lacks the field {missing[0]}"
    found = int(fields[VECTOR]["params"]["dim"])
    return None if found == dimension else f"its vectors have {found} dimensions, its model {dimension}"
