"""What reads files that strangers may have written, and files to begin from."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import shutil
import sqlite3
import struct
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.runtime import SilentReporter
from sil_cli.settings import GallerySettings, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

DATA, GALLERY, RUN = Path("data/orchard"), Path("gallery"), Path("runs/finished")
EVALUATION = RUN / "evaluation/orchard"


@dataclass(frozen=True)
class Parser:
    """A kind of file.

    Attributes:
        files: What is changed, within a copy of `tests/fixtures/world`.
        read: Reads them in the working folder; whatever is wrong must be a SilError.
        make: Writes those that the fixtures lack.
        text: They are text.
    """

    files: tuple[Path, ...]
    read: Callable[[], object]
    make: Callable[[], object] = lambda: None
    text: bool = True


def make_settings() -> None:
    """Settings with a value of every kind."""
    Path("sil.toml").write_text(
        'device = "cpu"\nshared = false\n[data]\nname = "x"\nmax_megapixels = 5.5\n[model]\nmean = [0.5, 0.5, 0.5]\n'
        "[train]\nepochs = 5\nmilestones = [3, 4]\n[style]\nmix = 'random'\nafter_stages = 1\n[gallery]\n"
        "images = ['a', 'b']\ntimezone = 'Europe/Berlin'\n[query]\nids = [1]\n[query.filter]\n"
        "after = 2024-01-01T08:30:00Z\nbefore = '2024'\nwhere = ['a=b']\n[calibrate]\nmatch = 1e-3\n"
    )


def read_settings() -> None:
    from sil_cli.settings import find_zone, load_settings

    find_zone(load_settings().gallery.timezone)


def read_assignments() -> None:
    from sil_cli.settings import parse_assignment, resolve

    for line in in_utf8("assignments.txt").splitlines():
        resolve({"the command line": parse_assignment(line)}, users_own=())


def in_utf8(path: str) -> str:
    """What a command line could be given."""
    return Path(path).read_bytes().decode("utf-8", "surrogateescape").replace("\0", "")


def read_protocols() -> None:
    from sil_cli.data.plan import read_plan
    from sil_cli.data.protocol import read_protocol

    read_protocol(Path("data"))
    plan, cases = read_plan("plan.toml", ["orchard", "harbour"])
    [plan.all_cases[case] for case in cases if case in plan.all_cases]


def make_protocols() -> None:
    Path("plan.toml").write_text(
        'name = "Mine"\nabout = "x"\n[datasets.a]\nreader = "market1501"\nroot = "a"\n[datasets.b]\n'
        'reader = "prid2011"\nsplits = 3\n[cases.b]\nsources = ["a"]\ntargets = ["b"]\n'
    )


def seal_manifest() -> None:
    """Have a changed manifest be the one that dataset.json seals, where that can be read."""
    from sil_cli.files import sha256_of_file

    with contextlib.suppress(ValueError, TypeError):
        info = json.loads((DATA / "dataset.json").read_bytes())
        (DATA / "dataset.json").write_text(
            json.dumps(info | {"manifest_sha256": sha256_of_file(DATA / "manifest.jsonl")})
        )


def read_dataset() -> None:
    from sil_cli.data.manifest import find_records, load_dataset
    from sil_cli.gallery.ingest.sources import SourceReader

    find_records(DATA, [next((DATA / "images/query").iterdir())])
    load_dataset(DATA)
    SourceReader(GallerySettings()).read(DATA)


def read_manifest() -> None:
    seal_manifest()
    read_dataset()


def read_results() -> None:
    from sil_cli.evaluation.results import read_queries, read_results
    from sil_cli.report.run_inputs import read_runs
    from sil_cli.settings import DataSettings

    read_runs([RUN], None, DataSettings())
    read_results(EVALUATION / "results.json")
    read_queries(EVALUATION / "queries.jsonl")


def read_arrays() -> None:
    from sil_cli.evaluation.report_data import read_report_data
    from sil_cli.files import sha256_of_file

    details = json.loads((EVALUATION / "details.json").read_text())
    details["arrays_sha256"] = sha256_of_file(EVALUATION / "details.npz")
    (EVALUATION / "details.json").write_text(json.dumps(details))
    read_report_data(EVALUATION)


def read_records() -> None:
    from sil_cli.evaluation.calibration import read_calibration
    from sil_cli.models.record import read_export, read_record
    from sil_cli.runs.run_folder import read_facts, read_metrics
    from sil_cli.training.run_settings import settings_to_go_on

    read_facts(RUN)
    read_metrics(RUN)
    settings_to_go_on(RUN, Settings(), ())
    read_record(RUN)
    read_export(RUN / "export.json")
    read_calibration(RUN)


def read_gallery() -> None:
    """All that is asked of a gallery, by readers and by writers."""
    from sil_cli.gallery.filters import Filter
    from sil_cli.gallery.local.store import LocalStore

    store = LocalStore(GALLERY)
    with store.open() as gallery:
        ids = gallery.ids().tolist()
        gallery.entries(ids)
        gallery.members(ids)
        gallery.vectors(ids[:100])
        gallery.removals()
        gallery.info()
        gallery.describe_index()
        gallery.metadata_keys()
        gallery.known_values("camera")
        gallery.ids_passing(Filter(cameras=("c1",)))
        gallery.search(np.eye(1, gallery.dimension, dtype=np.float32), 3)
    store.check()
    with store.existing_writer() as writer:
        list(writer.entries_of(writer.sources()[0] if writer.sources() else ""))


def change_cells() -> None:
    """Write what `cells.json` says into cells of the database: tables of ours, with values of nobody's."""
    (GALLERY / "gallery.sqlite").write_bytes(Path("pristine.sqlite").read_bytes())
    for leftover in GALLERY.glob("gallery.sqlite-*"):
        leftover.unlink()
    changes = json.loads(Path("cells.json").read_bytes())
    with contextlib.closing(sqlite3.connect(GALLERY / "gallery.sqlite")) as database:
        for table, column, value, new in changes:
            with contextlib.suppress(sqlite3.Error, ValueError, OverflowError):
                database.execute("PRAGMA ignore_check_constraints = ON")
                database.execute(f"UPDATE {table} SET {column} = ? WHERE {column} IS ?", [new, value])
                database.commit()


def read_cells() -> None:
    try:
        change_cells()
    except (ValueError, TypeError, RecursionError):
        return
    read_gallery()


def make_cells() -> None:
    with contextlib.closing(sqlite3.connect(GALLERY / "gallery.sqlite")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        cells = [
            (table, column[1], value, value)
            for table in tables
            for column in database.execute(f"PRAGMA table_info({table})")
            for (value,) in database.execute(f"SELECT {column[1]} FROM {table} LIMIT 3")
        ]
    Path("pristine.sqlite").write_bytes((GALLERY / "gallery.sqlite").read_bytes())
    Path("cells.json").write_text("[\n" + ",\n".join(json.dumps(cell) for cell in cells) + "]")


def read_segment() -> None:
    from sil_cli.files import sha256_of_file
    from sil_cli.gallery.local.segments import count_of_whole, map_file, read_segment

    path = GALLERY / "vectors/segment-000001.faiss"
    content = map_file(path)
    count = count_of_whole(path, content)
    segment = read_segment(path, sha256=sha256_of_file(path), seen="", count=count or 32, dimension=128)
    segment.ids[:3].tolist()


def make_npz() -> None:
    np.savez(
        "embeddings.npz",
        query_embeddings=np.eye(3, 4, dtype=np.float32),
        query_identities=np.array(["a", "b", "c"]),
        query_cameras=np.array([1, 2, 3]),
        query_paths=np.array(["5", "6", "7"]),
        gallery_embeddings=np.eye(4, dtype=np.float32),
        gallery_identities=np.array(["a", "b", "c", "d"]),
        gallery_cameras=np.array([1, 2, 3, -1]),
        gallery_paths=np.array(["1", "2", "3", "4"]),
        gallery_junk=np.array([True, False, False, False]),
    )
    headers = io.StringIO()
    with zipfile.ZipFile("embeddings.npz") as archive:
        for name in archive.namelist():
            header = archive.read(name)[10:].split(b"\n")[0].decode().strip()
            headers.write(f"{name}\t{header}\n")
    Path("headers.txt").write_text(headers.getvalue())


def read_npz() -> None:
    from sil_cli.evaluation.embeddings_file import read_embeddings

    read_embeddings(Path("embeddings.npz"))


def read_headers() -> None:
    """The headers of arrays, each in a member whose checksum is right."""
    with zipfile.ZipFile("made.npz", "w") as archive:
        for line in Path("headers.txt").read_bytes().split(b"\n"):
            name, _, header = line.partition(b"\t")
            body = b"\x93NUMPY\x01\x00" + len(header[:65_000] + b"\n").to_bytes(2, "little") + header[:65_000] + b"\n"
            with contextlib.suppress(UserWarning, ValueError, IndexError):
                archive.writestr(name.decode("latin-1") or "x", body + b"a\0\0\0" * 16)
    from sil_cli.evaluation.embeddings_file import read_embeddings

    read_embeddings(Path("made.npz"), mapped_from=32)
    read_embeddings(Path("made.npz"))


def make_tables() -> None:
    rows = [
        ("path", "identity", "camera", "time", "split", "frame", "box", "note"),
        ("images/query/0005_c1_01.jpg", "5", "c1", "2024-05-01T08:30:00", "query", "1", "0,0,10,20", 'a "b", c'),
        ("images/query/0006_c1_01.jpg", "6", "c2", "20240501083000", "gallery", "2", "", "=1+1"),
        ("images/train/0001_c2_01.jpg", "7", "", "1714550400", "train", "", "1 2 3 4", ""),
    ]
    with (DATA / "table.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    Path("list.txt").write_text("data/orchard/images/query/0005_c1_01.jpg\ndata/orchard/images/query/0006_c1_01.jpg\n")


def read_tables() -> None:
    from sil_cli.data.readers.own_images import read_csv
    from sil_cli.errors import SilError
    from sil_cli.gallery.ingest.sources import SourceReader

    with contextlib.suppress(SilError):
        read_csv(DATA / "table.csv")
    with contextlib.suppress(SilError):
        SourceReader(GallerySettings()).read(DATA / "table.csv")
    SourceReader(GallerySettings()).read(Path("list.txt"))


def make_archives() -> None:
    with tarfile.open("a.tar.gz", "w:gz") as tar, zipfile.ZipFile("a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((DATA / "images/query").iterdir())[:3]:
            tar.add(path)
            archive.write(path)
    Path("a.tar").write_bytes(gzip.decompress(Path("a.tar.gz").read_bytes()))
    Path("names.txt").write_text("a/b.jpg\na/c.jpg\nd/\nLONG/" + "x" * 120 + "\n")


def read_archives() -> None:
    from sil_cli.data.archives import unpacked
    from sil_cli.errors import SilError

    for name in ("a.tar", "a.tar.gz", "a.zip"):
        with contextlib.suppress(SilError):
            unpacked(Path(name), Path("unpacked"), SilentReporter())


def read_names() -> None:
    from sil_cli.data.archives import unpacked
    from sil_cli.errors import SilError

    names = Path("names.txt").read_bytes().decode("utf-8", "surrogateescape").split("\n")
    raw = zipfile.ZipInfo()
    with (
        tarfile.open("named.tar", "w") as tar,
        contextlib.suppress(UnicodeEncodeError),
        zipfile.ZipFile("named.zip", "w") as archive,
    ):
        for name in names:
            kind = name[:1]
            member = tarfile.TarInfo(name)
            member.type = {"d": tarfile.DIRTYPE, "L": tarfile.SYMTYPE, "H": tarfile.LNKTYPE}.get(kind, tarfile.REGTYPE)
            member.linkname = names[0]
            tar.addfile(member)
            with contextlib.suppress(ValueError, IndexError, struct.error):
                raw.filename = name
                archive.writestr(raw, b"")
    for name in ("named.tar", "named.zip"):
        with contextlib.suppress(SilError):
            unpacked(Path(name), Path("unpacked"), SilentReporter())


def make_words() -> None:
    Path("words.txt").write_text(
        "20240531134507\n2024-05-01T08:30:00+02:00\n1714550400\n1714550400000\n0001-01-01T00:00:00+14:00\n"
        "9999-12-31T23:59:59-12:00\n12,30,40,50\n1e999,0,1,1\n(?P<identity>\\d+)_c(?P<camera>\\d)\n(a+)+$\n"
        "Europe/Berlin\nmilvus://localhost:19530/x\nmilvus+tls://[::1]:1/x\nx.db\n%Y-%m-%d\ncamera=c1\n"
    )


def read_words() -> None:
    """What stands on a command line or in a cell: a time, a box, a pattern, a zone, an address, a condition."""
    from sil_cli.data.images import parse_box
    from sil_cli.errors import SilError
    from sil_cli.gallery.ingest.sources import SourceReader
    from sil_cli.gallery.milvus.address import parse_address
    from sil_cli.patterns import PathPattern
    from sil_cli.settings import find_zone
    from sil_cli.times import TimeReader

    reader = SourceReader(GallerySettings())
    for word in in_utf8("words.txt").splitlines():
        reader.read_time(word, "x")
        with contextlib.suppress(ValueError):  # which its callers tell
            parse_box(word)
        for read in (
            find_zone,
            parse_address,
            TimeReader,
            lambda word: PathPattern(word, example="x").search("0001/c1s1_000001_01.jpg"),
        ):
            with contextlib.suppress(SilError):
                read(word)


def make_matlab() -> None:
    from scipy.io import savemat

    cells = np.empty((2, 3), dtype=object)
    for index in np.ndindex(cells.shape):
        cells[index] = np.arange(4)
    savemat("a.mat", {"cells": cells, "name": "text", "s": {"a": 1.5, "b": np.eye(2)}})
    savemat("small.mat", {"cells": cells}, do_compression=True)


def read_matlab() -> None:
    from sil_cli.data.readers.matlab import load_v5
    from sil_cli.errors import SilError

    with contextlib.suppress(SilError):
        load_v5(Path("small.mat"), "cells")
    load_v5(Path("a.mat"), "cells", "name", "s")


def make_hdf5() -> None:
    """A small file as MATLAB 7.3 writes them: with references, packed and not."""
    import h5py

    with h5py.File("cuhk-03.mat", "w", userblock_size=512) as file:
        pixels = np.arange(3 * 4 * 8, dtype=np.uint8).reshape(3, 4, 8)
        crop = file.create_dataset("#refs#/a", data=pixels, chunks=(1, 4, 8), compression="gzip", shuffle=True)
        empty = file.create_dataset("#refs#/b", data=np.zeros(2, np.uint64))
        empty.attrs["MATLAB_empty"] = np.int32(1)
        people = np.array([[crop.ref], [empty.ref]], dtype=h5py.ref_dtype)
        pair = file.create_dataset("#refs#/c", data=people)
        tests = file.create_dataset("#refs#/d", data=np.array([[1.0, 1], [1, 2]]))
        file.create_dataset("detected", data=np.array([[pair.ref]], dtype=h5py.ref_dtype))
        file.create_dataset("testsets", data=np.array([[tests.ref]], dtype=h5py.ref_dtype))


def read_hdf5() -> None:
    """In a process apart; only HDF5 may crash there, and no code of ours fail."""
    from sil_cli.data.readers.cuhk03_mat import classic_test, extracted
    from sil_cli.errors import SilError

    shutil.rmtree("crops", ignore_errors=True)
    for read in (
        lambda: extracted(Path("cuhk-03.mat"), "detected", Path("crops"), SilentReporter()),
        lambda: classic_test(Path("cuhk-03.mat"), 1),
    ):
        try:
            read()
        except SilError as error:
            if "crashed (code" in error.what:
                raise AssertionError(error.what) from error


def make_weights() -> None:
    import torch

    torch.save({"state_dict": {"conv1.weight": torch.zeros(2, 3, 3, 3), "fc.bias": torch.zeros(2)}}, "w.pth")
    torch.save({"a": torch.zeros(2)}, "old.pth", _use_new_zipfile_serialization=False)
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2, 3)}, "w.safetensors")


def read_weights() -> None:
    from sil_cli.errors import SilError
    from sil_cli.models.weights import read_state

    for name in ("w.pth", "old.pth", "w.safetensors"):
        with contextlib.suppress(SilError):
            read_state(Path(name))


def make_annotations() -> None:
    from sil_cli.data.annotations import Annotation, write_annotations

    people = [
        Annotation("a/1.jpg", (100, 200), (10, 20.5, 30, 40), 1, 0.5, {"identity": "5", "time": "2024-01-01T08:30"}),
        Annotation("b.jpg", (50, 60), None, attributes={"identity": "Zoë", "split": "train"}),
    ]
    for name in ANNOTATED:
        write_annotations(Path(name), people)


def read_annotated() -> None:
    from sil_cli.data.readers.own_images import read_annotated as read
    from sil_cli.errors import SilError
    from sil_cli.footage.detectors import AnnotatedPeople
    from sil_cli.footage.frames import Frame

    frame = Frame(1, None, 0.0, np.zeros((200, 100, 3), np.uint8))
    for name in ANNOTATED:
        with contextlib.suppress(SilError):
            read(Path(name))
        with contextlib.suppress(SilError):
            AnnotatedPeople(Path(name), least=0.1).detect([frame])


ANNOTATED = ("people.json", "people.xml", "samples.json")
PARSERS = {
    "settings": Parser((Path("sil.toml"),), read_settings, make_settings),
    "assignments": Parser(
        (Path("assignments.txt"),),
        read_assignments,
        lambda: Path("assignments.txt").write_text(
            "train.epochs=5\nquery.filter.after=2024\nmodel.mean=[0.5, 0.5, 0.5]\ndata.name='x'\nstyle.mix=random\n"
        ),
    ),
    "protocols": Parser((Path("data/protocol.toml"), Path("plan.toml")), read_protocols, make_protocols),
    "dataset": Parser((DATA / "dataset.json",), read_dataset),
    "manifest": Parser((DATA / "manifest.jsonl",), read_manifest),
    "results": Parser(
        (EVALUATION / "results.json", EVALUATION / "queries.jsonl", EVALUATION / "details.json"), read_results
    ),
    "report-data": Parser((EVALUATION / "details.npz",), read_arrays, text=False),
    "records": Parser(
        tuple(
            RUN / name
            for name in ("run.json", "metrics.jsonl", "settings.toml", "model.json", "export.json", "calibration.json")
        ),
        read_records,
    ),
    "gallery": Parser((GALLERY / "gallery.sqlite",), read_gallery, text=False),
    "gallery-cells": Parser((Path("cells.json"),), read_cells, make_cells),
    "segments": Parser((GALLERY / "vectors/segment-000001.faiss",), read_segment, text=False),
    "npz": Parser((Path("embeddings.npz"),), read_npz, make_npz, text=False),
    "npy-headers": Parser((Path("headers.txt"),), read_headers, make_npz),
    "tables": Parser((DATA / "table.csv", Path("list.txt")), read_tables, make_tables),
    "annotations": Parser(tuple(map(Path, ANNOTATED)), read_annotated, make_annotations),
    "archives": Parser((Path("a.tar"), Path("a.tar.gz"), Path("a.zip")), read_archives, make_archives, text=False),
    "archive-names": Parser((Path("names.txt"),), read_names, make_archives),
    "words": Parser((Path("words.txt"),), read_words, make_words),
    "matlab": Parser((Path("a.mat"), Path("small.mat")), read_matlab, make_matlab, text=False),
    "hdf5": Parser((Path("cuhk-03.mat"),), read_hdf5, make_hdf5, text=False),
    "weights": Parser((Path("w.pth"), Path("old.pth"), Path("w.safetensors")), read_weights, make_weights, text=False),
}
