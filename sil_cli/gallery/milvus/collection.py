"""A collection as the rest of the package uses it: rows in, rows out, whatever pymilvus wants for it.

Consistency. What decides what is written (which entries exist, how many there are) is read with Milvus's level
Strong: it sees everything that was acknowledged before it was asked. Strong costs a wait of up to a time tick (200 ms
by default) a call, so searches use Bounded: they may miss what was written in the last five seconds by others.
Opening a gallery counts it strongly, so its searches see at least what had been written before it was opened, on a
server with one replica; and a search that finds fewer than it should is repeated strongly.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from sil_cli.gallery.milvus.expressions import EVERYTHING, among_ids, both
from sil_cli.gallery.milvus.rows import ID_BITS, INSTANT, METADATA, TEXTS, VECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from sil_cli.gallery.milvus.connection import Connection
    from sil_cli.gallery.milvus.indexes import IndexKind

Consistency = Literal["Strong", "Bounded"]

MOST_ROWS = 16_384
"""Results that one search or query of Milvus may have."""

_BYTES_AT_ONCE = 2**23  # of vectors in one message; servers refuse those above 64 MiB
_IDS_AT_ONCE = 2_048
_ROWS_AT_ONCE = 4_096
_TOO_FEW_FOR_AN_INDEX = 1_024  # rows of a file; the server's `rootCoord.minSegmentSizeToEnableIndex`


class Hits(NamedTuple):
    """What one query found: ids, the server's scores, and the vectors, best first."""

    ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    vectors: NDArray[np.float32]


class Collection:
    """A collection of a gallery's rows.

    Attributes:
        name: Its own, not the alias under which the gallery is found.
        dimension: Of its vectors.
    """

    def __init__(self, connection: Connection, name: str, dimension: int) -> None:
        self.name = name
        self.dimension = dimension
        self._connection = connection

    def create(self, index: IndexKind) -> None:
        """Make it, empty and loaded."""
        from pymilvus import DataType, MilvusClient

        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=self.dimension)
        for name, length in TEXTS.items():
            schema.add_field(name, DataType.VARCHAR, max_length=length)
        schema.add_field(INSTANT, DataType.DOUBLE)
        schema.add_field(METADATA, DataType.JSON)
        self._connection.call("create_collection", self.name, schema=schema, consistency_level="Strong")
        self._index(index)

    def change_index(self, index: IndexKind) -> None:
        """Give it another index; it can't be searched until that is built."""
        self._connection.call("release_collection", self.name)
        self._connection.call("drop_index", self.name, VECTOR)
        self._index(index)

    def _index(self, index: IndexKind) -> None:
        parameters = self._connection.index_parameters()
        parameters.add_index(VECTOR, index_type=index.type, metric_type="IP", params=index.building())
        self._connection.call("create_index", self.name, parameters)
        self.load()

    def load(self) -> None:
        """Bring it into the server's memory, where it isn't."""
        self._connection.call("load_collection", self.name)

    def index_state(self) -> dict[str, Any]:
        """What the server says of the index: its type, and rows that wait to be indexed."""
        state: dict[str, Any] = self._connection.call("describe_index", self.name, VECTOR) or {}
        return state

    def is_handed_over(self) -> bool:
        """Whether the server searches all that was flushed through its own index, or row by row.

        What is not handed over yet it searches through an inverted file of its own, whatever it is asked for.
        """
        loaded = self._connection.call("list_loaded_segments", self.name)
        indexed = [part for part in loaded if part.index_name or part.num_rows < _TOO_FEW_FOR_AN_INDEX]
        return len(indexed) == len(loaded) and sum(part.num_rows for part in loaded) >= self.stored_rows()

    def count(self, condition: str = EVERYTHING, *, consistency: Consistency = "Strong") -> int:
        """The rows that fulfil a condition."""
        rows = self._query(condition, ["count(*)"], consistency)
        return int(rows[0]["count(*)"])

    def rows(
        self, ids: Sequence[int], fields: Sequence[str], *, consistency: Consistency = "Strong"
    ) -> dict[int, dict[str, Any]]:
        """The rows of some ids; an unknown id is left out."""
        found: dict[int, dict[str, Any]] = {}
        for start in range(0, len(ids), self._at_once(fields, _IDS_AT_ONCE)):
            some = ids[start : start + self._at_once(fields, _IDS_AT_ONCE)]
            for row in self._query(among_ids(some), ["id", *fields], consistency):
                found[int(row["id"])] = dict(row)
        return found

    def some(
        self, condition: str, fields: Sequence[str], limit: int, *, consistency: Consistency = "Strong"
    ) -> list[dict[str, Any]]:
        """At most `limit` of the rows that fulfil a condition, in no order."""
        return [dict(row) for row in self._query(condition, ["id", *fields], consistency, limit=limit)]

    def parts(self, condition: str, fields: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
        """All rows that fulfil a condition, some at a time, by ascending id.

        Ids are hashes, spread evenly, so that equal spans of numbers hold about as many rows each.
        """
        size = self._at_once(fields, _ROWS_AT_ONCE)
        spans = 1 + self.count(condition) * 5 // (4 * size)  # Strong: what comes next sees at least what was counted
        bounds = [number * 2**ID_BITS // spans for number in range(spans + 1)]
        for first, end in pairwise(bounds):
            yield from self._span(condition, fields, first, end, 2 * size)

    def _span(
        self, condition: str, fields: Sequence[str], first: int, end: int, most: int
    ) -> Iterator[list[dict[str, Any]]]:
        """The rows of a span of ids, in halves where they are too many for one message."""
        within = both(f"id >= {first} and id < {end}", condition)
        rows = self.some(within, fields, most, consistency="Bounded")
        if len(rows) < most or end - first <= 1:
            if rows:
                yield sorted(rows, key=lambda row: int(row["id"]))
            return
        middle = (first + end) // 2
        yield from self._span(condition, fields, first, middle, most)
        yield from self._span(condition, fields, middle, end, most)

    def search(
        self,
        queries: NDArray[np.float32],
        limit: int,
        condition: str,
        parameters: dict[str, int],
        *,
        consistency: Consistency = "Bounded",
    ) -> list[Hits]:
        """The server's best `limit` rows of each query, with their vectors."""
        found: list[Hits] = []
        together = max(1, _BYTES_AT_ONCE // (4 * self.dimension * limit))
        for start in range(0, len(queries), together):
            answers = self._connection.call(
                "search",
                self.name,
                data=list(queries[start : start + together]),
                anns_field=VECTOR,
                limit=limit,
                filter=condition,
                output_fields=[VECTOR],
                search_params={"metric_type": "IP", "params": parameters},
                consistency_level=consistency,
            )
            found += [self._hits(answer) for answer in answers]
        return found

    def upsert(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows, or put them in the place of those with their ids; durable when this returns."""
        together = max(1, _BYTES_AT_ONCE // (4 * self.dimension))
        for start in range(0, len(rows), together):
            self._connection.call("upsert", self.name, list(rows[start : start + together]))

    def delete(self, ids: Sequence[int]) -> None:
        """Delete the rows of some ids."""
        for start in range(0, len(ids), _IDS_AT_ONCE):
            self._connection.call("delete", self.name, ids=list(ids[start : start + _IDS_AT_ONCE]))

    def flush(self) -> None:
        """Have the server write what it holds in memory as files that it can index."""
        self._connection.call("flush", self.name)

    def compact(self) -> None:
        """Have the server write files again without deleted rows; returns when it has begun."""
        self._connection.call("compact", self.name)

    def stored_rows(self) -> int:
        """Rows in the server's files, with those that are deleted but not yet compacted away."""
        return int(self._connection.call("get_collection_stats", self.name)["row_count"])

    def _query(self, condition: str, fields: Sequence[str], consistency: Consistency, **options: Any) -> Any:
        return self._connection.call(
            "query",
            self.name,
            filter=condition,
            output_fields=list(fields),
            consistency_level=consistency,
            **options,
        )

    def _hits(self, answer: Any) -> Hits:
        vectors = np.array([hit["entity"][VECTOR] for hit in answer], dtype=np.float32)
        return Hits(
            np.array([hit["id"] for hit in answer], dtype=np.int64),
            np.array([hit["distance"] for hit in answer], dtype=np.float64),
            vectors.reshape(len(answer), self.dimension),
        )

    def _at_once(self, fields: Sequence[str], most: int) -> int:
        """Rows in one message."""
        if VECTOR not in fields:
            return most
        return max(1, min(most, _BYTES_AT_ONCE // (4 * self.dimension)))
