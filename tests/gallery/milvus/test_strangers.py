"""What lies in Milvus under a gallery's name and is none, or half of one: refused by name, and left as it is."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest
from galleries import MODEL, entry, vectors

from sil_cli.errors import GalleryError
from sil_cli.gallery.milvus.address import parse_address
from sil_cli.gallery.milvus.connection import Connection
from sil_cli.gallery.milvus.writer import MilvusWriter

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.parametrize("place", ["lite", pytest.param("server", marks=pytest.mark.slow)], indirect=True),
]


@contextlib.contextmanager
def connected(place):
    """A connection beside the store's, and the gallery's name; a Lite file serves one at a time."""
    address = parse_address(place.address("gallery"))
    connection = Connection(address, patience=60)
    try:
        yield connection, address.collection
    finally:
        connection.close()


def make_stranger(connection, name):
    """A collection of somebody else, with two rows."""
    connection.call("create_collection", name, dimension=4, auto_id=False, consistency_level="Strong")
    connection.call("insert", name, [{"id": one, "vector": [1.0, 0.0, 0.0, float(one)]} for one in (1, 2)])


def rows_of(connection, name):
    connection.call("load_collection", name)
    found = connection.call("query", name, filter="id > 0", output_fields=["count(*)"], consistency_level="Strong")
    return found[0]["count(*)"]


def require_refused(place, match):
    with pytest.raises(GalleryError, match=match) as caught:
        place.store().open()
    with pytest.raises(GalleryError, match=match), place.store().writer(MODEL):
        pass
    return caught.value


def filled(place, count=3):
    store = place.store()
    with store.writer(MODEL) as writer:
        writer.add([entry(one) for one in range(count)], vectors(count))
    return store


def test_a_collection_of_somebody_else(place):
    with connected(place) as (connection, name):
        make_stranger(connection, name)
    refused = require_refused(place, "is a collection of something else")
    assert "this one is left as it is" in refused.fix
    with connected(place) as (connection, name):
        assert rows_of(connection, name) == 2


def test_an_alias_of_somebody_else(place):
    with connected(place) as (connection, name):
        make_stranger(connection, f"other_{name}")
        connection.call("create_alias", f"other_{name}", name)
    require_refused(place, "is an alias of something else")
    with connected(place) as (connection, name):
        assert rows_of(connection, name) == 2


def test_a_strangers_collection_where_the_first_generation_would_lie(place):
    """Nothing is found under the gallery's own name, so a writer would make one, and delete what is in its way."""
    with connected(place) as (connection, name):
        make_stranger(connection, f"{name}_001")
    with pytest.raises(GalleryError, match="_001 is not part of a gallery"), place.store().writer(MODEL):
        pass
    with connected(place) as (connection, name):
        assert rows_of(connection, f"{name}_001") == 2


def test_a_gallery_that_lost_its_alias_is_not_overwritten(place):
    filled(place)
    with connected(place) as (connection, name):
        connection.call("drop_alias", name)
    with pytest.raises(GalleryError, match=r"holds a gallery that .* does not point to"), place.store().writer(MODEL):
        pass
    with connected(place) as (connection, name):
        connection.call("create_alias", f"{name}_001", name)
    with place.store().open() as gallery:
        assert len(gallery) == 3


def test_what_a_kill_left_before_the_alias_is_made_anew(place):
    with place.store().writer(MODEL):
        pass
    with connected(place) as (connection, name):
        connection.call("drop_alias", name)
    with filled(place).open() as gallery:
        assert len(gallery) == 3


def change_record(place, **changes):
    with connected(place) as (connection, name):
        record = {"format": 1, "model": dict(MODEL)} | changes
        row = {"id": "gallery", "kind": "gallery", "value": json.dumps(record), "vector": [0.0, 1.0]}
        connection.call("upsert", f"{name}_001_catalogue", [row])


def look_at(place):
    with place.store().open() as gallery:
        gallery.info()
        everyone = gallery.ids().tolist()
        gallery.entries(everyone)
        gallery.members(everyone)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *(("gallery", value) for value in ("[" * 5000, "1" * 5000, "[]", "7", '{"format": 1, "model": []}')),
        ("gallery", json.dumps({"format": 1, "model": {**MODEL, "engine": 7}})),
        *(("removal", value) for value in ("[" * 5000, "{}", "[1, 2, 3]", '["a", "b", "c"]', '["a", 1]')),
        *(("measured", value) for value in ("[" * 5000, "[]", "{}", '{"index": 1}')),
        ("measured", json.dumps({"index": "x", "count": 1, "effort": "a", "recall": 1})),
        ("measured", json.dumps({"index": "x", "count": 1, "effort": 1, "recall": float("inf")})),
        ("measured", json.dumps({"index": "x", "count": -1, "effort": 1, "recall": 1})),
    ],
)
def test_a_catalogue_of_somebody_else(place, kind, value):
    filled(place)
    with connected(place) as (connection, name):
        row = {"id": kind, "kind": kind, "value": value, "vector": [0.0, 1.0]}
        connection.call("upsert", f"{name}_001_catalogue", [row])
    with pytest.raises(GalleryError, match=r"_001.* (is not part of a gallery|isn't laid out as a gallery)"):
        look_at(place)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("box", value) for value in ("{}", "[1e999, 1, 1, 1]", "[1, 2, 3]", "[" * 60, "x")),
        *(("time", value) for value in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-05:00", "yesterday")),
        ("path", "a\0b"),
        *(("members", value) for value in ("[[1]]", "[7]", "no base64", "AAAA", '[["a", "b", {}, 4]]', "[" * 5000)),
    ],
)
def test_rows_of_somebody_else(place, field, value):
    filled(place)
    with connected(place) as (connection, name):
        connection.call("load_collection", f"{name}_001")
        (row,) = connection.call("query", f"{name}_001", filter="id > 0", output_fields=["*"], limit=1)
        connection.call("upsert", f"{name}_001", [dict(row) | {field: value}])
    with pytest.raises(GalleryError, match=r"is not part of a gallery"):
        look_at(place)


def test_a_newer_format(place):
    filled(place)
    change_record(place, format=99)
    assert "version of sil" in require_refused(place, "format 99; this version reads format 1").fix


def test_a_record_that_names_another_dimension(place):
    filled(place)
    change_record(place, model={**MODEL, "dimension": 16})
    require_refused(place, "its vectors have 8 dimensions, its model 16")


def test_a_lost_catalogue(place):
    filled(place)
    with connected(place) as (connection, name):
        connection.call("drop_collection", f"{name}_001_catalogue")
    require_refused(place, "_001 is not part of a gallery")


def test_what_comes_in_from_elsewhere_during_a_rebuild_stops_it(place):
    """Another machine adds while this one embeds anew: the rebuilt gallery doesn't take over without it."""
    other = {**MODEL, "fingerprint": "fedcba9876543210" * 4}
    store = filled(place)
    with store.rebuilding(other) as rebuild:
        ids = rebuild.to_do().tolist()
        entries = rebuild.old.entries(ids)
        rebuild.new.add([entries[one] for one in ids], vectors(3, seed=5), ids=ids)
        elsewhere = MilvusWriter(
            store.folder, rebuild.old.generation
        )  # a writer that no lock of this folder holds back
        elsewhere.add([entry(7)], vectors(1, seed=6))
        with pytest.raises(GalleryError, match=r"1 entries were added to .* while it was rebuilt"):
            rebuild.swap()
    with store.open() as gallery:
        assert gallery.model["fingerprint"] == MODEL["fingerprint"]
        assert len(gallery) == 4
        np.testing.assert_allclose(np.linalg.norm(gallery.vectors(gallery.ids().tolist()), axis=1), 1, atol=1e-6)
