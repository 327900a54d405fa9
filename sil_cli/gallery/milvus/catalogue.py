"""What a gallery remembers besides its entries: a small collection of named texts beside the large one.

Milvus can't list the distinct values of a field, so sources, cameras and names of metadata are noted when they first
come. The lists only grow: what is in them may have been removed since.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Literal

from sil_cli.gallery.local.schema import AUTOMATIC

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sil_cli.gallery.milvus.connection import Connection

Kind = Literal["gallery", "source", "camera", "key", "removal", "wished", "measured"]
SUFFIX = "_catalogue"
_MOST = 16_384
_NO_VECTOR = [0.0, 1.0]  # Milvus wants a vector in every row


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

    def drop(self) -> None:
        """Delete it."""
        self._connection.call("drop_collection", self.name)

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

    def wished_index(self) -> str:
        """`auto`, `exact` or the name of the index that the user wants."""
        return next(iter(self.values("wished")), AUTOMATIC)

    def measured(self) -> dict[str, Any] | None:
        """What was measured of the index: `index`, `count`, `effort` and `recall`; None for nothing."""
        found = self.values("measured")
        return json.loads(found[0]) if found else None

    def gallery(self) -> dict[str, Any] | None:
        """The format and the model of the gallery; None where nothing is recorded yet."""
        found = self.values("gallery")
        return json.loads(found[0]) if found else None

    def put(self, kind: Literal["gallery", "wished", "measured"], value: str) -> None:
        """Remember the one value of a kind."""
        self._put([(kind, kind, value)])

    def log_removal(self, time: str, count: int, criterion: str) -> None:
        """Note that entries were removed, without saying which."""
        value = json.dumps([time, count, criterion])
        self._put([(_digest("removal", value), "removal", value)])

    def removals(self) -> list[tuple[str, int, str]]:
        """Time, count and kinds of criteria of all removals, oldest first."""
        found = (json.loads(value) for value in self.values("removal"))
        return [(time, count, criterion) for time, count, criterion in found]

    def replace_removals(self, removals: Sequence[tuple[str, int, str]]) -> None:
        """Put another log of removals in the place of this one."""
        wanted = {_digest("removal", value): value for value in (json.dumps(list(one)) for one in removals)}
        old = [_digest("removal", value) for value in self.values("removal")]
        gone = [one for one in old if one not in wanted]
        if gone:
            self._connection.call("delete", self.name, ids=gone)
        self._put([(identifier, "removal", value) for identifier, value in wanted.items()])

    def _put(self, rows: Sequence[tuple[str, str, str]]) -> None:
        if rows:
            full = [{"id": one, "kind": kind, "value": value, "vector": _NO_VECTOR} for one, kind, value in rows]
            self._connection.call("upsert", self.name, full)


def _digest(kind: str, value: str) -> str:
    return hashlib.sha256(f"{kind}\0{value}".encode()).hexdigest()[:32]
