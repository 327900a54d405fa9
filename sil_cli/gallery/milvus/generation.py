"""The collections of one gallery: rows and catalogue, found under an alias that a rebuilt gallery can take over.

The catalogue is what a gallery remembers besides its entries: a small collection of named texts beside the large one.
Milvus can't list the distinct values of a field, so sources, cameras and names of metadata are noted there when they
first come. These lists only grow: what is in them may have been removed since.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Literal

from sil_cli.errors import GalleryError
from sil_cli.files import parse_json
from sil_cli.gallery.interface import AUTOMATIC
from sil_cli.gallery.milvus.collection import Collection
from sil_cli.gallery.milvus.indexes import index_kind
from sil_cli.gallery.milvus.rows import FORMAT, METADATA, VECTOR
from sil_cli.gallery.results import Removal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sil_cli.gallery.milvus.connection import Connection
    from sil_cli.gallery.milvus.indexes import IndexKind

Kind = Literal["gallery", "source", "camera", "key", "removal", "wished", "measured"]
SUFFIX = "_catalogue"
_MOST = 16_384
_NO_VECTOR = [0.0, 1.0]  # Milvus wants a vector in every row

_OTHER_NAME = "Name another collection with --store; this one is left as it is."

_MEASURED = {"count": 2**53, "effort": 2**31, "recall": 1}
"""Numbers in what was measured of an index, and how large they can be."""


class Catalogue:
    """The catalogue of one collection."""

    def __init__(self, connection: Connection, collection: str) -> None:
        self._connection = connection
        self.name = f"{collection}{SUFFIX}"
        self._known: dict[Kind, set[str]] = {}

    def create(self) -> None:
        """Make it, empty."""
        from pymilvus import DataType, MilvusClient

        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("kind", DataType.VARCHAR, max_length=16)
        schema.add_field("value", DataType.VARCHAR, max_length=65_535)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=len(_NO_VECTOR))
        self._connection.call("create_collection", self.name, schema=schema, consistency_level="Strong")
        parameters = self._connection.index_parameters()
        parameters.add_index("vector", index_type="FLAT", metric_type="IP")
        self._connection.call("create_index", self.name, parameters)
        self.load()

    def load(self) -> None:
        """Bring it into the server's memory."""
        self._connection.call("load_collection", self.name)

    def values(self, kind: Kind) -> list[str]:
        """All values of one kind, sorted."""
        rows = self._connection.call(
            "query",
            self.name,
            filter=f'kind == "{kind}"',
            output_fields=["value"],
            limit=_MOST,
            consistency_level="Strong",
        )
        return sorted(row["value"] for row in rows)

    def note(self, kind: Kind, values: Iterable[str]) -> None:
        """Remember values that may be known already."""
        if kind not in self._known:
            self._known[kind] = set(self.values(kind))
        new = sorted(set(values) - self._known[kind])
        if new:
            self._put([(_digest(kind, value), kind, value) for value in new])
            self._known[kind].update(new)

    def requested_index(self) -> str:
        """`auto`, `exact` or the name of the index that the user asked for."""
        return next(iter(self.values("wished")), AUTOMATIC)

    def measured(self) -> dict[str, Any] | None:
        """What was measured of the index: `index`, `count`, `effort` and `recall`; None for nothing."""
        found = [self._read(value) for value in self.values("measured")[:1]]
        for one in found:
            known = isinstance(one, dict) and isinstance(one.get("index"), str)
            if not known or not all(_is_within(one.get(name), most) for name, most in _MEASURED.items()):
                raise self._strange()
        return found[0] if found else None

    def gallery(self) -> dict[str, Any] | None:
        """The format and the model of the gallery; None where nothing is recorded yet."""
        found = [self._read(value) for value in self.values("gallery")[:1]]
        return found[0] if found else None

    def put(self, kind: Literal["gallery", "wished", "measured"], value: str) -> None:
        """Remember the one value of a kind."""
        self._put([(kind, kind, value)])

    def log_removal(self, removal: Removal) -> None:
        """Note that entries were removed, without saying which."""
        self._put([_removal_row(removal)])

    def removals(self) -> list[Removal]:
        """The log of removals, oldest first."""
        found = [self._read(value) for value in self.values("removal")]
        if not all(isinstance(one, list) and [type(part) for part in one] == [str, int, str] for one in found):
            raise self._strange()
        return [Removal(*one) for one in found]

    def _read(self, value: str) -> Any:
        try:
            return parse_json(value)
        except ValueError as error:
            raise self._strange() from error

    def _strange(self) -> GalleryError:
        return GalleryError(f"The collection {self.name} is not part of a gallery.", _OTHER_NAME)

    def replace_removals(self, removals: Sequence[Removal]) -> None:
        """Put another log of removals in the place of this one."""
        rows = [_removal_row(one) for one in removals]
        outdated = {_removal_row(one)[0] for one in self.removals()} - {identifier for identifier, _, _ in rows}
        if outdated:
            self._connection.call("delete", self.name, ids=sorted(outdated))
        self._put(rows)

    def _put(self, rows: Sequence[tuple[str, str, str]]) -> None:
        if rows:
            full = [{"id": one, "kind": kind, "value": value, "vector": _NO_VECTOR} for one, kind, value in rows]
            self._connection.call("upsert", self.name, full)


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
        kind = self.kind(self.catalogue.requested_index())
        measured = self.catalogue.measured()
        if measured is None or measured["index"] != str(kind):
            return kind, 0, None
        return kind, int(measured["effort"]), measured

    def kind(self, requested: str) -> IndexKind:
        """The index of that name."""
        return index_kind(requested, lite=self.connection.address.file is not None)

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
        complete = complete and isinstance(model.get("engine"), str | None)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GalleryError(f"The collection {name} is not part of a gallery.", _OTHER_NAME) from error
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


def _is_within(value: object, most: float) -> bool:
    """Whether a value is a number from 0 to `most`."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most


def _removal_row(removal: Removal) -> tuple[str, str, str]:
    value = json.dumps([removal.time, removal.count, removal.criterion])
    return _digest("removal", value), "removal", value


def _digest(kind: str, value: str) -> str:
    return hashlib.sha256(f"{kind}\0{value}".encode()).hexdigest()[:32]
