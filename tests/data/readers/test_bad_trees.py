"""Every reader on trees as users really have them: damaged, miscounted, oddly named, linked in circles, locked."""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from data_set_trees import TREES, put_images

from sil_cli.data.manifest import MANIFEST_FILE, load_dataset
from sil_cli.data.readers import READERS
from sil_cli.data.readers.recognise import recognise
from sil_cli.errors import DataError, SilError
from sil_cli.preparation.check_images import prepare, warnings_of
from sil_cli.preparation.prepare import prepare_data
from sil_cli.preparation.published import publication
from sil_cli.preparation.read_raw import read_raw
from sil_cli.runtime import SilentReporter
from sil_cli.settings import DataSettings, Settings

pytestmark = pytest.mark.thorough

NAMES = [
    f"{person}/{person}_c{camera}_{n}.jpg" for person in ("anna", "ben", "cleo") for camera in (1, 2) for n in (1, 2)
]
PATTERN = r"(?P<identity>[a-z]+)_c(?P<camera>\d+)_\d+"
NOBODY = 65534


def folders(root: Path) -> None:
    put_images(root, NAMES)


def csv(root: Path) -> None:
    put_images(root, NAMES)
    rows = [f"{name},{name.split('/')[0]},{name.split('_c')[1][0]}\n" for name in NAMES]
    (root / "list.csv").write_text("path,identity,camera\n" + "".join(rows))


ALL = {**TREES, "folders": ("folders", folders), "regex": ("regex", folders), "csv": ("csv", csv)}
KNOWN = list(TREES)


class Noting(SilentReporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def made(request, tmp_path):
    """A tree of this kind: its reader and its root (for csv, its list)."""
    reader, make = ALL[request.param]
    root = tmp_path / "x"
    root.mkdir()
    make(root)
    return reader, root / "list.csv" if reader == "csv" else root


@pytest.fixture
def read(tmp_path):
    def reading_of(reader, root, **options):
        if "extract_to" in READERS[reader].takes:
            options["extract_to"] = tmp_path / "extracted"
        if reader == "regex":
            options["pattern"] = PATTERN
        return READERS[reader].read(root, **options)

    return reading_of


def folder_of(root: Path) -> Path:
    return root if root.is_dir() else root.parent


def settings_for(tmp_path, reader, root, **more) -> Settings:
    pattern = {"pattern": PATTERN} if reader == "regex" else {}
    data = DataSettings(folder=tmp_path / "data", reader=reader, root=root, **pattern, **more)
    return Settings(data=data).with_users_own(["data.folder"])


every_tree = pytest.mark.parametrize("made", ALL, indirect=True)
every_known_tree = pytest.mark.parametrize("made", KNOWN, indirect=True)


DAMAGES = {
    "cut short": lambda content: content[: len(content) // 2],
    "an empty file": lambda _: b"",
    "not an image": lambda content: bytes(len(content)),
    "damaged": lambda content: content[:20] + bytes(len(content) - 20),
}


@every_tree
def test_one_in_a_hundred_images_corrupt(made, read, tmp_path):
    reader, root = made
    before = read(reader, root)
    paths = sorted({record.path for record in before.records})
    victims = random.Random(0).sample(paths, max(len(paths) // 100, min(4, len(paths) // 3)))
    for victim, damage in zip(victims, [*DAMAGES.values()] * len(victims), strict=False):
        path = before.root / victim
        path.write_bytes(damage(path.read_bytes()))
    dataset = prepare(read(reader, root), tmp_path / "out", reporter=SilentReporter(), workers=2)
    assert [record for record in before.records if record.path not in victims] == list(dataset.records)
    assert set(victims) <= {skip.path for skip in dataset.info.skipped}
    assert all(skip.reason for skip in dataset.info.skipped)


@every_tree
def test_counts_that_are_not_the_published_ones(made, read, tmp_path):
    reader, root = made
    published = publication(reader, read(reader, root).options)
    reporter = Noting()
    (dataset,) = prepare_data(settings_for(tmp_path, reader, root, name="x"), reporter).datasets
    wrong = [warning for warning in reporter.warnings if "differs from what was published" in warning]
    strict = settings_for(tmp_path, reader, root, name="strict", strict=True)
    if published is None:
        assert not wrong
        assert prepare_data(strict, reporter).datasets
        return
    assert wrong
    assert all("Likely: " in warning for warning in wrong)
    assert {count.found for count in dataset.compared} != {count.expected for count in dataset.compared}
    with pytest.raises(DataError, match="differs from what was published"):
        prepare_data(strict, reporter)
    assert not (tmp_path / "data" / "strict" / MANIFEST_FILE).exists()


@every_tree
def test_two_names_that_differ_only_in_case(made, read, tmp_path):
    reader, root = made
    before = read(reader, root)
    first = before.root / before.records[0].path
    twin = first.with_name(first.name.swapcase())
    if twin.exists():
        pytest.skip("this file system can't keep them apart")
    shutil.copy(first, twin)
    after = read(reader, root)
    mentioned = [skip.path for skip in after.skipped] + [record.path for record in after.records]
    by_list = reader == "csv" or "frames" in str(after.options) or tmp_path / "extracted" in first.parents
    # Those that read by a list look at what it names; all others say what becomes of the twin.
    assert by_list or str(twin.relative_to(before.root)) in mentioned or after.skipped != before.skipped
    assert {record.path for record in before.records} <= {record.path for record in after.records}
    if len(after.records) > len(before.records):
        assert any("differ only in case" in doubt for doubt in warnings_of(after.records))


@every_tree
def test_a_root_with_a_unicode_name(made, read, tmp_path):
    reader, root = made
    expected = read(reader, root, name="x")
    folder = tmp_path / "Überwachung ✓ 监控 it's"
    folder_of(root).rename(folder)
    found = read(reader, folder / root.name if root.is_file() or root.suffix else folder, name="x")
    assert found.records == expected.records
    assert prepare(found, tmp_path / "out ✓", reporter=SilentReporter(), workers=1).root == found.root.resolve()


@every_tree
def test_links_in_circles(made, read):
    reader, root = made
    before = read(reader, root)
    for folder in {folder_of(root), (before.root / before.records[0].path).parent}:
        (folder / "itself").symlink_to("itself")
        (folder / "here").symlink_to(folder)
        (folder / "above").symlink_to(folder.parent)
        (folder / "ping").symlink_to(folder / "pong")
        (folder / "pong").symlink_to(folder / "ping")
        (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    after = read(reader, root)
    assert after.records == before.records
    if reader not in {"folders", "regex", "csv"}:
        found = recognise(root)
        assert (found.reader, found.root) == (reader, root)


@contextlib.contextmanager
def unprivileged():
    """Be nobody for a while, where root would be let in everywhere."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(NOBODY)
    except OSError:
        pytest.skip("root can't step down here")
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_place():
    """A folder that everybody may write to."""
    folder = Path(tempfile.mkdtemp(prefix="sil-test-"))
    folder.chmod(0o777)
    yield folder
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o777)
    shutil.rmtree(folder)


@pytest.mark.parametrize("what", ["file", "folder", "root"])
@pytest.mark.parametrize("tree", ALL)
def test_without_permission(tree, what, open_place):
    reader, make = ALL[tree]
    with unprivileged():
        if reader == "cuhk03" and not os.access(sys.executable, os.X_OK, effective_ids=True):
            pytest.skip("Python itself, which reads HDF5 in a process apart, is closed to everybody but root here")
        root = open_place / "x"
        root.mkdir()
        make(root)
        source = root / "list.csv" if reader == "csv" else root
        options = {"extract_to": open_place / "extracted"} if "extract_to" in READERS[reader].takes else {}
        options |= {"pattern": PATTERN} if reader == "regex" else {}
        before = READERS[reader].read(source, **options)
        image = before.root / before.records[0].path
        locked = {"file": image, "folder": image.parent, "root": root}[what]
        locked.chmod(0)
        try:
            said, kept = outcome(reader, source, options, open_place / "out")
        finally:
            locked.chmod(0o777)
    if open_place / "extracted" in image.parents and what != "root":
        assert kept <= len(before.records)  # what was extracted is extracted again, or left out
        return
    assert kept < len(before.records)
    assert "Permission denied" in said or f"{locked} can't be listed" in said or f"permissions of {locked}" in said


def outcome(reader: str, root: Path, options: dict, out: Path) -> tuple[str, int]:
    """What is said of a tree, as an error or as reasons, and how many records are kept."""
    try:
        dataset = prepare(READERS[reader].read(root, **options), out, reporter=SilentReporter(), workers=1)
    except SilError as error:
        return str(error), 0
    return " ".join(skip.reason for skip in dataset.info.skipped), len(dataset.records)


@every_tree
def test_a_manifest_edited_by_hand(made, read, tmp_path):
    reader, root = made
    prepare(read(reader, root), tmp_path / "out", reporter=SilentReporter(), workers=1)
    manifest = tmp_path / "out" / MANIFEST_FILE
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(lines[1:]))
    with pytest.raises(DataError, match="its checksum differs") as caught:
        load_dataset(tmp_path / "out")
    assert "prepare-data" in caught.value.fix


def pack(root: Path, archive: Path, *, evil: bool) -> None:
    """All of `root` in a folder of its own, as archives come; and something that leads out of it."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as out:
            for path in files:
                out.write(path, f"inside/{path.relative_to(root)}")
            if evil:
                out.writestr("inside/../../evil.jpg", b"x")
        return
    with tarfile.open(archive, "w:gz") as out:
        for path in files:
            out.add(path, f"inside/{path.relative_to(root)}")
        if evil:
            member = tarfile.TarInfo("inside/../../evil.jpg")
            member.size = 1
            out.addfile(member, io.BytesIO(b"x"))


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
@every_known_tree
def test_an_archive_is_read_as_its_folder_and_refused_when_it_leads_out(made, tmp_path, suffix):
    reader, root = made
    for evil in (False, True):
        pack(root, tmp_path / f"{'evil' if evil else 'good'}{suffix}", evil=evil)
    expected = read_raw(settings_for(tmp_path, reader, root, name="x").data, SilentReporter())
    found = read_raw(settings_for(tmp_path, reader, tmp_path / f"good{suffix}", name="x").data, SilentReporter())
    assert found.records == expected.records
    with pytest.raises(DataError, match=r"evil.* was not unpacked: .*leads out"):
        read_raw(settings_for(tmp_path, reader, tmp_path / f"evil{suffix}").data, SilentReporter())
    assert not list(tmp_path.rglob("evil.jpg"))
    assert not list(tmp_path.rglob(".sil-staging-*"))
    assert not (tmp_path / "data" / "raw" / "evil").exists()
