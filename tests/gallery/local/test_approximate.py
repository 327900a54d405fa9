from __future__ import annotations

import faiss
import numpy as np
import pytest
from galleries import Notes, entry, make_gallery, vectors

from sil_cli.errors import GalleryError
from sil_cli.gallery.local import approximate as approximate_module
from sil_cli.gallery.local import tuning
from sil_cli.gallery.local.approximate import (
    ApproximateIndex,
    automatic_factory,
    exact_is_enough,
    graph_factory,
    is_automatic,
    plain_index,
    training_size,
)
from sil_cli.gallery.local.store import LocalStore
from sil_cli.gallery.results import MeasuredIndex
from sil_cli.gallery.stores import open_gallery
from sil_cli.similarity.distance import unit_rows

ROWS = unit_rows(vectors(2000, dimension=16))
IDS = np.arange(2000) * 3 + 7


def written(tmp_path, factory):
    index = ApproximateIndex.build(factory, ROWS, [(IDS[:1500], ROWS[:1500]), (IDS[1500:], ROWS[1500:])])
    path = tmp_path / "index-000001.faiss"
    sha256, seen = index.write(path)
    return path, {"factory": factory, "sha256": sha256, "seen": seen, "count": 2000, "dimension": 16}


@pytest.mark.parametrize(
    ("factory", "takes_filter"),
    [
        ("IVF16,Flat", True),
        ("IVF16,SQ8", True),
        ("IVF16_HNSW8,SQfp16", True),
        ("HNSW8", True),
        ("HNSW8,SQ8", True),
        ("SQfp16", True),
        ("Flat", True),
        ("PCA16,IVF16,SQ8", True),
        ("L2norm,HNSW8,SQ8", True),
    ],
)
def test_an_index_is_written_mapped_and_searched(tmp_path, factory, takes_filter):
    path, facts = written(tmp_path, factory)
    index = ApproximateIndex.read(path, **facts)
    assert len(index) == 2000
    assert sorted(index.ids.tolist()) == IDS.tolist()
    assert index.takes_filter is takes_filter
    most = index.efforts[-1] if index.efforts else 0
    found = index.search(ROWS[:50], 5, most, None)
    assert np.mean(found[:, 0] == IDS[:50]) >= (0.98 if takes_filter else 0.9)
    if takes_filter:
        keep = np.zeros(IDS[-1] + 1, dtype=bool)
        keep[IDS[::5]] = True
        found = index.search(ROWS[:50], 400, most, keep)
        assert set(found[0][found[0] >= 0].tolist()) <= set(IDS[::5].tolist())
        assert np.mean(found >= 0) > 0.9


def test_more_effort_finds_more(tmp_path):
    index = ApproximateIndex.build("IVF16,Flat", ROWS, [(IDS, ROWS)])
    best = ROWS[:100] @ ROWS.T
    truth = IDS[np.argsort(-best, axis=1)[:, :10]]
    recalls = []
    for effort in index.efforts:
        found = index.search(ROWS[:100], 10, effort, None)
        recalls.append(np.mean([np.isin(one, right).mean() for one, right in zip(found, truth, strict=True)]))
    assert index.efforts[0] == 1
    assert index.efforts[-1] == 16
    assert recalls == sorted(recalls)
    assert recalls[0] < 0.9
    assert recalls[-1] == 1.0


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("Nonsense", "can't make an index 'Nonsense' for 16 dimensions: could not parse"),
        ("", "can't make an index ''"),
        ("IVF0,Flat", "has a size that no gallery needs"),
        ("IVF999999999,Flat", "has a size that no gallery needs"),
        ("HNSW100000", "has a size that no gallery needs"),
        ("IVF16," + "x" * 200, "has a size that no gallery needs"),
        ("IDMap2,Flat", "can't serve a gallery"),
        ("IVF16,SQ8,RFlat", "can't serve a gallery"),
        ("NSG16", "can't serve a gallery"),
        ("LSH", "LSH"),
    ],
)
def test_a_senseless_factory_is_refused_in_words(factory, words):
    with pytest.raises(GalleryError, match=words) as caught:
        plain_index(factory, 16)
    assert "faiss/" not in caught.value.what
    assert "IVF1024,SQ8" in caught.value.fix


def test_a_factory_that_needs_more_vectors_or_dimensions_is_refused():
    with pytest.raises(GalleryError, match="needs at least 4,096 vectors; the gallery has 2,000"):
        training_size("IVF4096,SQ8", 16, 2000)
    assert training_size("IVF16,SQ8", 16, 2000) == 2000
    assert training_size("IVF1024,SQ8", 16, 10**6) == 40_960
    with pytest.raises(GalleryError, match="PCA32,IVF16,SQ8 can't be built from 2,000 vectors"):
        ApproximateIndex.build("PCA32,IVF16,SQ8", ROWS, [(IDS, ROWS)])


@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda content: b"IwFl" + content[4:], lambda _: b""])
def test_a_hostile_index_is_refused_before_faiss_sees_it(tmp_path, monkeypatch, damage):
    path, facts = written(tmp_path, "IVF16,SQ8")
    path.write_bytes(damage(path.read_bytes()))
    monkeypatch.setattr(approximate_module.faiss, "read_index", lambda *_: pytest.fail("FAISS parsed it"))
    with pytest.raises(GalleryError, match=r"damaged or was replaced.*sil gallery repair"):
        ApproximateIndex.read(path, **facts)


def test_another_index_under_the_right_checksum_is_refused(tmp_path):
    path, facts = written(tmp_path, "IVF16,SQ8")
    for changed in ({"count": 1999}, {"dimension": 8}):
        with pytest.raises(GalleryError, match="not the index that the gallery's database names"):
            ApproximateIndex.read(path, **facts | changed)
    faiss.write_index(faiss.IndexFlatIP(16), str(path))
    sha256 = approximate_module.sha256_of_file(path)
    with pytest.raises(GalleryError, match="not the index"):
        ApproximateIndex.read(path, **facts | {"sha256": sha256, "count": 0})


def test_the_automatic_index_goes_by_size():
    def chosen(count, dimension):
        if exact_is_enough(count, dimension):
            return None
        return automatic_factory(count, np.random.default_rng(0).standard_normal((500, dimension), dtype=np.float32))

    assert chosen(0, 512) is None
    assert chosen(50_000, 512) is None
    assert chosen(50_001, 512) == "PCA128,HNSW32,SQ8"
    assert chosen(12_500, 2048) is None
    assert chosen(12_501, 2048) == "PCA128,HNSW32,SQ8"
    assert chosen(100_000, 128) is None
    assert chosen(100_001, 128) == "HNSW32,SQ8"
    assert chosen(4_000_000, 2048) == "PCA128,HNSW32,SQ8"
    assert chosen(4_000_001, 2048) == "IVF8192,SQ8"


@pytest.mark.parametrize(("directions", "components"), [(20, 64), (64, 64), (90, 96), (110, 128), (256, 128)])
def test_a_graph_holds_as_many_components_as_the_vectors_vary_in(directions, components):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((600, directions)) @ rng.standard_normal((directions, 256)) + 5.0
    rows += 1e-3 * rng.standard_normal(rows.shape)
    assert graph_factory(rows.astype(np.float32)) == f"PCA{components},HNSW32,SQ8"


@pytest.mark.parametrize("rows", [np.zeros((0, 256)), np.ones((1, 256)), np.ones((50, 256)), np.ones((300, 256))])
def test_a_graph_of_vectors_that_tell_nothing(rows):
    assert graph_factory(rows.astype(np.float32)) in ("PCA64,HNSW32,SQ8", "PCA128,HNSW32,SQ8")


def test_what_may_have_been_chosen_by_size():
    assert is_automatic("PCA64,HNSW32,SQ8", 1000)
    assert is_automatic("PCA128,HNSW32,SQ8", 4_000_000)
    assert is_automatic("HNSW32,SQ8", 1000)
    assert is_automatic("IVF8192,SQ8", 4_000_001)
    assert not is_automatic("IVF8192,SQ8", 4_000_000)
    assert not is_automatic("PCA128,HNSW32,SQ8", 4_000_001)
    assert not is_automatic("HNSW8,SQ8", 1000)
    assert not is_automatic("SQfp16", 1000)


@pytest.fixture
def folder(tmp_path):
    return make_gallery(tmp_path / "g", 600, batch=200)


def test_an_index_is_built_said_and_used(folder, monkeypatch):
    monkeypatch.setattr(approximate_module, "EXACT_UP_TO", 500)
    notes = Notes()
    with LocalStore(folder).existing_writer() as writer:
        writer.refresh_index(notes)
    assert notes.notes[0].startswith("Index: HNSW32,SQ8, recall@10 ")
    with open_gallery(folder) as gallery:
        info = gallery.describe_index()
        assert info.startswith("HNSW32,SQ8 over 600 vectors (efSearch ")
        used = []
        search = ApproximateIndex.search
        monkeypatch.setattr(ApproximateIndex, "search", lambda *one: used.append(1) or search(*one))
        found = gallery.search(vectors(20, seed=4), 5)
        assert used
        used.clear()
        exact = gallery.search(vectors(20, seed=4), 5, exact=True)
        assert not used
    same = [len({a.id for a in one} & {b.id for b in other}) for one, other in zip(found, exact, strict=True)]
    assert sum(same) >= 0.97 * 100


def test_an_index_is_built_again_only_when_much_has_changed(folder, monkeypatch):
    monkeypatch.setattr(approximate_module, "EXACT_UP_TO", 500)
    notes = Notes()
    with LocalStore(folder).existing_writer() as writer:
        writer.refresh_index(notes)
        first = writer.index.record()
        writer.add([entry(number) for number in range(1000, 1100)], vectors(100, seed=8))
        writer.refresh_index(notes)
        assert writer.index.record() == first
        found = writer.index.searcher(writer.index.read()).search(
            unit_rows(vectors(100, seed=8))[:3], 1, None, [set()] * 3
        )
        assert [ranked[0][0] for ranked in found] == [601, 602, 603]  # came after the index, and found all the same
        writer.add([entry(number) for number in range(1100, 1200)], vectors(100, seed=9))
        writer.refresh_index(notes)
        assert writer.index.record().count == 800
        writer.remove(range(1, 300), "id")
        writer.refresh_index(notes)
        assert writer.index.record().count == 501
        assert len(list((folder / "vectors").glob("index-*"))) == 1
        writer.refresh_index(notes, requested="exact")
        assert writer.index.record() is None
        assert writer.index.requested() == "exact"
        writer.refresh_index(notes)
        assert writer.index.record() is None
        writer.refresh_index(notes, requested="HNSW8,SQ8")
        assert writer.index.record().factory == "HNSW8,SQ8"
        with pytest.raises(GalleryError, match="Nonsense"):
            writer.refresh_index(notes, requested="Nonsense")
        assert writer.index.requested() == "HNSW8,SQ8"
    assert list((folder / "vectors").glob("index-*"))


def test_tune_keeps_the_quickest_that_is_good_enough(folder, monkeypatch):
    seconds = {"exact": 9.0, "IVF16,SQ8": 3.0, "HNSW8,SQ8": 2.0, "IVF64,SQ4": 1.0}
    recalls = {"IVF16,SQ8": 1.0, "HNSW8,SQ8": 0.995, "IVF64,SQ4": 0.5}

    def least(_, searcher, __, ___):
        searcher.effort = 7
        return 7, recalls[searcher._index.factory]

    monkeypatch.setattr(tuning, "least_effort", least)
    monkeypatch.setattr(
        tuning.Bench,
        "measure",
        lambda _, __, factory, recall: MeasuredIndex(factory, 7, recall, 1 / seconds[factory], 1.0, 1.0),
    )
    monkeypatch.setattr(
        tuning.Bench,
        "__init__",
        lambda bench, _, held_out: setattr(bench, "exact", MeasuredIndex("exact", 0, 1.0, 1 / 9, 1.0, 1.0)),
    )
    with LocalStore(folder).existing_writer() as writer:
        for needed, chosen in ((0.99, "HNSW8,SQ8"), (0.999, "IVF16,SQ8"), (0.4, "IVF64,SQ4")):
            measured, best = writer.tune(Notes(), recall=needed, factories=list(recalls))
            assert [one.index for one in measured] == ["exact", *recalls]
            assert best.index == chosen == writer.index.record().factory == writer.index.requested()
            assert writer.index.record().effort == 7


def test_tune_measures_truly(folder):
    with LocalStore(folder).existing_writer() as writer:
        measured, best = writer.tune(Notes(), recall=0.99, factories=["IVF16,Flat", "SQfp16"])
        assert [one.index for one in measured] == ["exact", "IVF16,Flat", "SQfp16"]
        assert all(one.recall >= 0.99 for one in measured)
        assert all(one.queries_per_second > 0 and one.milliseconds > 0 for one in measured)
        assert best in measured
        assert best.queries_per_second == max(one.queries_per_second for one in measured)
        assert writer.index.requested() == ("auto" if best.index == "exact" else best.index)
        with pytest.raises(GalleryError, match="can't make an index"):
            writer.tune(Notes(), recall=0.99, factories=["Nonsense"])


def test_what_was_held_out_while_measuring_is_in_the_index_at_last(folder, monkeypatch):
    built = []
    build = ApproximateIndex.build
    monkeypatch.setattr(ApproximateIndex, "build", lambda *one: built.append(build(*one)) or built[-1])
    held = []
    add = ApproximateIndex.add
    monkeypatch.setattr(ApproximateIndex, "add", lambda index, ids, rows: held.append(ids) or add(index, ids, rows))
    with LocalStore(folder).existing_writer() as writer:
        writer.refresh_index(Notes(), requested="HNSW8,SQ8")
        index = writer.index.read()
        assert len(held[0]) == 600 // 20
        assert sorted(index.ids.tolist()) == writer.ids().tolist()
        found = index.search(writer.vectors(held[0]), 1, 200, None)
        assert np.mean(found[:, 0] == held[0]) >= 0.9


def test_a_searcher_without_some(folder):
    with LocalStore(folder).existing_writer() as writer:
        writer.remove(range(1, 50), "id")
        searcher = writer.index.searcher(None, without=np.array([60, 300, 599]))
        assert searcher.ids().tolist() == [one for one in range(50, 601) if one not in (60, 300, 599)]
        assert sum(len(ids) for ids, _ in searcher.parts()) == len(searcher) == 548


def test_an_empty_gallery_is_not_tuned(tmp_path):
    folder = make_gallery(tmp_path / "g", 0)
    with (
        LocalStore(folder).existing_writer() as writer,
        pytest.raises(GalleryError, match="empty gallery can't be tuned"),
    ):
        writer.tune(Notes(), recall=0.99, factories=[])
