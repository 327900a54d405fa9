"""What every store of a gallery promises, on each of them: a folder, a Milvus Lite file, and a Milvus server."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest
from clusters import clustered
from galleries import MODEL, START, Notes, described, entry, vectors
from test_filters import passes

from sil_cli.errors import DataError, GalleryError, SilError, UsageError
from sil_cli.gallery.filters import Filter
from sil_cli.gallery.stores import open_gallery, open_store
from sil_cli.runtime import SilentReporter

OTHER = {**MODEL, "fingerprint": "fedcba9876543210" * 4}
HOUR = timedelta(hours=1)
FILTERS = [
    Filter(cameras=("c1",)),
    Filter(cameras=("c1", "c2", "nobody")),
    Filter(excluded_cameras=("c1",)),
    Filter(excluded_cameras=("c0", "c1", "c2")),
    Filter(identities=("p0", "p4"), cameras=("c0",)),
    Filter(identities=("nobody",)),
    Filter(after=START + 5 * HOUR),
    Filter(before=START + 9 * HOUR),
    Filter(after=START + 5 * HOUR, before=START + 6 * HOUR),
    Filter(domains=("station",)),
    Filter(paths=("1*.jpg",), glob=True),
    Filter(paths=("1*.jpg", "[3].jpg", "4.jpg", "15.jpg")),
    Filter(paths=("?.jpg", "2[0-3].jpg"), excluded_cameras=("c2",), glob=True),
    Filter(metadata=(("weather", "rain"),)),
    Filter(metadata=(("weather", "rain"), ("weather", "sun"), ("floor", "0"))),
    Filter(metadata=(("weather", 'r"a\\in'),)),
    Filter(metadata=(("camera", "c1"), ("source", "photos"))),
    Filter(metadata=(("source", "elsewhere"),)),
]


def fill(store, count=30, *, make=described, rows=None, model=MODEL, members=None):
    rows = vectors(count, dimension=model["dimension"]) if rows is None else rows
    with store.writer(model) as writer:
        for start in range(0, count, 2_000):
            part = range(start, min(count, start + 2_000))
            writer.add([make(one) for one in part], rows[start : start + 2_000], members=members or [()] * len(part))
        writer.finish()
        writer.refresh_index(SilentReporter())
    return store


def listed(found):
    """Matches without their ids, which are each store's own."""
    return [[(match.rank, match.path, match.score) for match in matches] for matches in found]


def ids_by_path(gallery):
    return {one.path: identifier for identifier, one in gallery.entries(gallery.ids().tolist()).items()}


def test_what_goes_in_comes_out(place):
    odd = replace(
        described(3),
        path='ä "☃"\\ 1.jpg',
        box=(1, 2, 30, 40),
        identity="p'1",
        metadata={"k 'e\"y": 'v"\\a', "empty": ""},
    )
    images = [("photos", "a.jpg", None), ("photos", "b.jpg", (1, 2, 3, 4))]
    rows = vectors(3)
    store = place.store()
    with store.writer(MODEL) as writer:
        writer.add([described(1), odd, entry(9)], rows, members=[(), images, ()])
        assert len(writer) == 3
        assert writer.sources() == ["photos"]
        assert writer.existing([odd.key, ("photos", "none.jpg", None)])[odd.key][1] == odd
        assert writer.existing([(*odd.key[:2], None)]) == {}
        assert sorted(one.path for _, one in writer.entries_of("photos")) == sorted(["1.jpg", odd.path, "9.jpg"])
        assert list(writer.entries_of("elsewhere")) == []
    with store.open() as gallery:
        ids = ids_by_path(gallery)
        assert gallery.entries(list(ids.values())) == {
            ids["1.jpg"]: described(1),
            ids[odd.path]: odd,
            ids["9.jpg"]: entry(9),
        }
        assert gallery.members(list(ids.values())) == {ids[odd.path]: images}
        units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        found = gallery.vectors([ids["9.jpg"], ids["1.jpg"]])
        np.testing.assert_allclose(found, units[[2, 0]], atol=1e-6)
        assert gallery.ids_of_content("hash9") == {ids["9.jpg"]}
        assert gallery.model["fingerprint"] == MODEL["fingerprint"]
        assert gallery.entries([77, ids["1.jpg"]]).keys() == {ids["1.jpg"]}
        with pytest.raises(GalleryError, match="has no entry 77"):
            gallery.vectors([77])
        assert len(gallery.search(rows, 1, where=Filter(metadata=(("k 'e\"y", 'v"\\a'),)))[0]) == 1


def test_a_tracklet_of_thousands_of_images_comes_back(place):
    images = [("../cameras/hall", f"2024-05-01/track-000017/frame-{number:06d}.jpg", None) for number in range(4_000)]
    with place.store().writer(MODEL) as writer:
        writer.add([entry(0)], vectors(1), members=[images])
    with place.store().open() as gallery:
        assert list(gallery.members(gallery.ids().tolist()).values()) == [images]


def test_adding_again_makes_nothing_twice(place):
    store = fill(place.store())
    with store.writer(MODEL) as writer:
        writer.add([described(number) for number in range(10)], vectors(30)[:10])
        assert len(writer) == 30
        changed = replace(described(4), content_hash="changed", identity="p9")
        writer.add([changed], vectors(1, seed=9))
        assert len(writer) == 30
        assert writer.existing([changed.key])[changed.key][1] == changed
    with store.open() as gallery:
        assert len(gallery) == len(gallery.ids()) == 30
        assert gallery.search(vectors(1, seed=9), 1)[0][0].path == "4.jpg"
    assert all(check.ok for check in store.check())


def test_matches_and_scores_are_the_local_ones(place, tmp_path):
    queries = vectors(5, seed=3)
    with fill(open_store(tmp_path / "truth", None, patience=1)).open() as truth, fill(place.store()).open() as gallery:
        assert listed(gallery.search(queries, 7)) == listed(truth.search(queries, 7))
        assert listed(gallery.search(queries, 100)) == listed(truth.search(queries, 100))
        assert listed(gallery.search(queries[2:3], 7)) == listed(truth.search(queries, 7))[2:3]
        theirs, ours = ids_by_path(truth), ids_by_path(gallery)
        few = [f"{number}.jpg" for number in range(0, 30, 4)]
        assert listed(gallery.search(queries, 5, where=Filter(ids=tuple(ours[one] for one in few)))) == listed(
            truth.search(queries, 5, where=Filter(ids=tuple(theirs[one] for one in few)))
        )
        assert listed(gallery.search(queries, 5, exclude=[{ours[one] for one in few}] * 5)) == listed(
            truth.search(queries, 5, exclude=[{theirs[one] for one in few}] * 5)
        )
        told, known = gallery.info().model_dump(), truth.info().model_dump()
        own = ("gallery", "store", "format", "index", "files", "removals")
        assert [told[key] for key in told if key not in own] == [known[key] for key in told if key not in own]


def test_a_filter_keeps_what_it_says(place):
    everyone = {f"{number}.jpg": described(number) for number in range(30)}
    queries = vectors(2, seed=3)
    with fill(place.store()).open() as gallery:
        complete = gallery.search(queries, 30)
        ids = ids_by_path(gallery)
        for wanted in [*FILTERS, Filter(ids=(ids["3.jpg"], ids["7.jpg"], 99))]:
            expected = {path for path, one in everyone.items() if passes(ids[path], one, wanted)}
            passing = set(gallery.ids_passing(wanted).tolist())
            assert {path for path in ids if ids[path] in passing} == expected, wanted
            assert gallery.count_passing(wanted) == len(expected)
            for matches, everything in zip(gallery.search(queries, 4, where=wanted), complete, strict=True):
                assert [one.path for one in matches] == [one.path for one in everything if one.path in expected][:4]
        with pytest.raises(GalleryError, match=r"No entry of the gallery has metadata 'wether'.*weather"):
            gallery.search(queries, 4, where=Filter(metadata=(("wether", "rain"),)))


@pytest.mark.parametrize("index", ["exact", "IVF32,Flat", "IVF32,SQ8"])
def test_filters_keep_their_promise_at_every_selectivity(place, index):
    """Whatever the index, and however few pass: k results where k exist, and recall@10 of at least 0.99."""
    if place.kind == "lite" and index != "exact":
        pytest.skip("a Milvus Lite file is searched exactly")
    count, k = 20_000 if place.kind == "server" else 2_600, 10  # so many a server indexes by itself, badly
    rows = clustered(count, 32, people=300, seed=1)[0]
    shares = {"few": 7, "percent": count // 100, "many": count // 3, "half": count * 52 // 100, "most": count - 300}
    order = np.random.default_rng(5).permutation(count)
    ranks = np.empty(count, dtype=int)
    ranks[order] = np.arange(count)

    def make(number):
        return entry(number, metadata={name: "yes" for name, most in shares.items() if ranks[number] < most})

    model = {**MODEL, "dimension": 32}
    store = fill(place.store(), count, make=make, rows=rows, model=model)
    with store.existing_writer() as writer:
        writer.refresh_index(SilentReporter(), requested=index)
        if index != "exact":
            writer.tune(SilentReporter(), recall=0.99, factories=())
    queries = clustered(40, 32, people=300, seed=2)[0]
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    scores = (queries / np.linalg.norm(queries, axis=1, keepdims=True)) @ units.T
    with store.open() as gallery:
        for name, most in [*shares.items(), (None, count)]:
            only = Filter(metadata=((name, "yes"),)) if name else None
            found = gallery.search(queries, k, where=only)
            assert {len(matches) for matches in found} == {min(k, most)}, name
            kept = np.flatnonzero(ranks < most)
            hits = 0
            for matches, row in zip(found, scores, strict=True):
                best = {f"{one}.jpg" for one in kept[np.argsort(-row[kept])[:k]]}
                hits += len(best & {match.path for match in matches})
            assert hits / (len(queries) * min(k, most)) >= 0.99, (name, hits)


def test_more_matches_than_a_server_gives_at_once(place, monkeypatch):
    """`--all` without a threshold asks for everything; a server gives 16,384."""
    count = 17_000 if place.kind == "server" else 2_200
    if place.kind == "lite":
        monkeypatch.setattr("sil_cli.gallery.milvus.searching.MOST_ROWS", 500)
    rows = vectors(count)
    with fill(place.store(), count, make=entry, rows=rows).open() as gallery:
        (found,) = gallery.search(vectors(1, seed=4), count)
    assert len(found) == count
    assert all(one.score >= other.score for one, other in pairwise(found))


def test_what_is_removed_is_found_no_more(place):
    store = fill(place.store())
    with store.existing_writer() as writer:
        chosen = writer.ids_passing(Filter(cameras=("c1",)))
        assert writer.remove([*chosen.tolist(), 5 * 10**15], "camera") == len(chosen) > 0
        assert len(writer) == 30 - len(chosen)
    with store.open() as gallery:
        assert len(gallery) == 30 - len(chosen)
        assert all(match.camera != "c1" for match in gallery.search(vectors(1), 30)[0])
        assert [(one.count, one.criterion) for one in gallery.removals()] == [(len(chosen), "camera")]
    with store.existing_writer() as writer:
        assert writer.compact()
    assert all(check.ok for check in store.check())


def test_describing_anew_keeps_the_vector(place):
    store = fill(place.store())
    with store.existing_writer() as writer:
        key = described(6).key
        identifier = writer.existing([key])[key][0]
        told = replace(described(6), identity="p77", metadata={"new": "yes"})
        writer.describe({identifier: told})
    with store.open() as gallery:
        assert gallery.entries([identifier]) == {identifier: told}
        assert gallery.search(vectors(30)[6:7], 1)[0][0].id == identifier
        assert gallery.count_passing(Filter(metadata=(("new", "yes"),))) == 1


def test_another_model_or_dimension_is_refused(place):
    store = fill(place.store())
    with pytest.raises(GalleryError, match="made by model 0123456789ab, not by fedcba987654"), store.writer(OTHER):
        pass
    with store.open() as gallery:
        with pytest.raises(GalleryError, match="made by model"):
            gallery.require_model(OTHER["fingerprint"])
        with pytest.raises(GalleryError, match="holds 8 dimensions"):
            gallery.search(np.ones((1, 9), dtype=np.float32), 1)
    with store.existing_writer() as writer:
        with pytest.raises(GalleryError, match="8 values"):
            writer.add([entry(1)], np.ones((1, 9), dtype=np.float32))
        with pytest.raises(DataError, match="NaN"):
            writer.add([entry(1)], np.full((1, 8), np.nan, dtype=np.float32))
        assert len(writer) == 30


def test_nothing_there_and_nothing_in_it(place):
    store = place.store()
    with pytest.raises(GalleryError, match="No gallery was found"):
        store.open()
    with pytest.raises(SilError), store.existing_writer():
        pass
    with store.writer(MODEL) as writer:
        writer.add([], np.empty((0, 8), dtype=np.float32))
        assert writer.ids().tolist() == []
    with store.open() as gallery:
        assert len(gallery) == 0
        assert gallery.sample(4) == []
        with pytest.raises(GalleryError, match="is empty"):
            gallery.search(vectors(1), 1)


def test_a_sample_is_random_and_repeats(place):
    with fill(place.store(), 200, make=entry, rows=vectors(200)).open() as gallery:
        sample = gallery.sample(16)
        assert len(set(sample)) == 16
        assert set(sample) <= set(gallery.ids().tolist())
        assert gallery.sample(16) == sample


def test_rebuilding_takes_over_in_one_step(place):
    store = fill(place.store())
    with store.open() as gallery:
        before = ids_by_path(gallery)
    with store.rebuilding(OTHER) as rebuild:  # stops halfway
        some = rebuild.to_do()[:10].tolist()
        entries = rebuild.old.entries(some)
        rebuild.new.add([entries[one] for one in some], vectors(10, seed=8), ids=some)
    with store.open() as gallery:
        assert gallery.model["fingerprint"] == MODEL["fingerprint"]
        gone = before["7.jpg"]
    with store.existing_writer() as writer:
        writer.remove([gone], "id")
    with store.rebuilding(OTHER) as rebuild:
        rest = rebuild.to_do().tolist()
        assert len(rest) == 30 - 10 - (gone not in some)
        entries = rebuild.old.entries(rest)
        rebuild.new.add([entries[one] for one in rest], vectors(len(rest), seed=9), ids=rest)
        rebuild.swap()
    with store.open() as gallery:
        assert gallery.model["fingerprint"] == OTHER["fingerprint"]
        assert ids_by_path(gallery) == {path: one for path, one in before.items() if path != "7.jpg"}
        assert [(one.count, one.criterion) for one in gallery.removals()] == [(1, "id")]
    assert all(check.ok for check in store.check())


def test_one_writer_at_a_time_from_one_folder(place):
    store = fill(place.store())
    with store.existing_writer(), pytest.raises(SilError, match="is being written by process"), store.writer(MODEL):
        pass


def test_an_index_that_cannot_keep_the_promises_is_refused(place):
    store = place.store()
    with pytest.raises(GalleryError):
        store.require_index("NONSENSE", 8)
    for requested in ("auto", "exact") if place.kind == "lite" else ("auto", "exact", "IVF16,Flat", "IVF16,SQ8"):
        store.require_index(requested, 8)
    if place.kind != "local":
        with pytest.raises(GalleryError, match="with which filters could miss matches"):
            store.require_index("HNSW32,Flat", 8)


def test_progress_of_changing_the_index_is_told(place):
    if place.kind != "server":
        pytest.skip("its index can't be changed, or it tells in other words")
    notes = Notes()
    with fill(place.store()).existing_writer() as writer:
        writer.refresh_index(notes, requested="IVF16,Flat")
        writer.refresh_index(notes, requested="IVF16,Flat")
    assert len(notes.notes) == 1
    with place.store().open() as gallery:
        assert gallery.requested_index() == "IVF16,Flat"
        assert gallery.info().index.startswith("IVF16,Flat")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("milvus://host:1", "doesn't name a host and a collection"),
        ("milvus://host:99999999/g", "no valid port"),
        ("milvus://[::1/g", "is no address"),
        ("milvus://[x]/g", "is no address"),
        ("milvus://host/9g", "letters, digits"),
        ("milvus://root:secret@host/g", "SIL_MILVUS_TOKEN"),
        ("postgres://root:secret@host/g", "not known"),
        ("somewhere", "NAME.db"),
    ],
)
def test_an_address_that_is_none(tmp_path, address, said):
    with pytest.raises(UsageError) as caught:
        open_store(tmp_path, address, patience=1)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_program_opens_any_store_and_searches_it(place):
    store = fill(place.store())
    with open_gallery(store.folder, store=place.address("gallery")) as gallery:
        (best, *others) = gallery.search(vectors(30)[2:3], where=Filter(cameras=["c2"]))[0]
        assert (best.path, best.rank, len(others)) == ("2.jpg", 1, 9 - 1)
        assert {match.camera for match in others} == {"c2"}
        assert (
            gallery.search(vectors(1), 3, where=Filter(metadata={"weather": "rain"}))[0][0].metadata["weather"]
            == "rain"
        )
        assert len(gallery) == gallery.info().entries == 30


def test_a_filter_of_one_text_is_a_mistake():
    with pytest.raises(TypeError, match=r"cameras=\.\.\.\) takes several values: write \('c1',\)"):
        Filter(cameras="c1")
