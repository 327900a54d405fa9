"""From a raw data set, packed or not, to a prepared one: `auto`, archives, published counts, notices."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from PIL import Image

from sil_cli.data.manifest import load_dataset
from sil_cli.errors import DataError, UsageError
from sil_cli.preparation.prepare import prepare_data
from sil_cli.runtime import SilentReporter
from sil_cli.settings import DataSettings, Settings

MARKET = [
    *(f"bounding_box_train/{p:04d}_c{c}s1_000451_03.jpg" for p in (2, 7) for c in (1, 2)),
    *(f"query/{p:04d}_c1s1_001051_00.jpg" for p in (1, 3)),
    *(f"bounding_box_test/{p:04d}_c2s1_001051_00.jpg" for p in (0, 1, 3)),
]
DUKE = [
    f"{f}/000{p}_c{c}_f0046985.jpg"
    for f, p in (("bounding_box_train", 1), ("query", 2), ("bounding_box_test", 2))
    for c in (1, 2)
]


class Noting(SilentReporter):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def put(root, names):
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (32, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / name)
    return root


def run(tmp_path, reporter=None, **data):
    settings = Settings(data=DataSettings(folder=tmp_path / "data", **data)).with_users_own(["data.folder"])
    return prepare_data(settings, reporter or Noting())


def test_auto_reads_an_archive_and_says_what_it_is(tmp_path):
    root = put(tmp_path / "in" / "Market-1501-v15.09.15", MARKET)
    with zipfile.ZipFile(tmp_path / "download.zip", "w") as archive:
        for path in sorted(root.rglob("*.jpg")):
            archive.write(path, path.relative_to(tmp_path / "in"))
    reporter = Noting()
    result = run(tmp_path, reporter, reader="auto", root=tmp_path / "download.zip")
    (dataset,) = result.datasets
    assert dataset.reader == "market1501"
    assert load_dataset(dataset.folder).root == tmp_path / "data" / "raw" / "download" / "Market-1501-v15.09.15"
    (note,) = reporter.notes
    assert note.startswith("Recognised market1501 in ")
    assert note.endswith("with names such as 0002_c1s1_000451_03.jpg.")
    again = run(tmp_path, reader="market1501", root=tmp_path / "download.zip")
    assert again.datasets[0].splits == dataset.splits


def test_counts_are_compared_with_the_published_ones(tmp_path):
    root, reporter = put(tmp_path / "in", MARKET), Noting()
    (dataset,) = run(tmp_path, reporter, reader="market1501", root=root).datasets
    assert dataset.published == "Zheng et al., ICCV 2015"
    first = dataset.compared[0]
    assert (first.split, first.what, first.expected, first.found) == ("train", "images", 12_936, 4)
    assert reporter.warnings[0].startswith(
        "market1501 differs from what was published: 4 images in train, not 12,936; 2 ident"
    )
    assert reporter.warnings[0].endswith("; and 6 more. Likely: unpacked in part, or another edition of the data set.")


def test_strict_makes_a_difference_an_error_and_writes_nothing(tmp_path):
    root = put(tmp_path / "in", MARKET)
    with pytest.raises(DataError, match="market1501 differs from what was published"):
        run(tmp_path, reader="market1501", root=root, strict=True)
    assert not list((tmp_path / "data" / "market1501").iterdir())


def test_a_withdrawn_set_is_read_with_a_warning(tmp_path):
    reporter = Noting()
    run(tmp_path, reporter, reader="auto", root=put(tmp_path / "in", DUKE))
    assert "withdrawn by its authors" in reporter.warnings[0]


def test_the_folder_of_another_set_is_told(tmp_path):
    root = put(tmp_path / "in", DUKE)
    with pytest.raises(DataError, match=r"is not Market-1501 but DukeMTMC-reID: .*sil prepare-data dukemtmc"):
        run(tmp_path, reader="market1501", root=root)


@pytest.mark.parametrize("option", [{"partition": 2}, {"labelled": True}, {"pattern": "x"}])
def test_an_option_that_the_reader_does_not_take_is_refused(tmp_path, option):
    with pytest.raises(UsageError, match=f"The reader market1501 takes no --{next(iter(option))}"):
        run(tmp_path, reader="auto", root=put(tmp_path / "in", MARKET), **option)


def test_auto_needs_a_root_and_is_named_among_the_readers(tmp_path):
    with pytest.raises(UsageError, match="The reader auto needs the folder"):
        run(tmp_path, reader="auto")
    with pytest.raises(UsageError, match=r"no reader 'cuhk3'.*Did you mean 'cuhk03'.*auto"):
        run(tmp_path, reader="cuhk3", root=tmp_path)


def test_auto_prepares_all_data_sets_of_a_folder_and_passes_over_what_it_can_t(tmp_path):
    put(tmp_path / "all" / "a" / "Market", MARKET)
    put(tmp_path / "all" / "duke", DUKE)
    put(tmp_path / "all" / "copy", MARKET)
    reporter = Noting()
    result = run(tmp_path, reporter, reader="auto", root=tmp_path / "all")
    assert [(each.name, each.folder) for each in result.datasets] == [
        ("market1501", tmp_path / "data" / "market1501"),
        ("dukemtmc", tmp_path / "data" / "dukemtmc"),
    ]
    assert [load_dataset(each.folder).root for each in result.datasets] == [
        tmp_path / "all/copy",
        tmp_path / "all/duke",
    ]
    assert [each.path for each in result.failed] == [str(tmp_path / "all" / "a" / "Market")]
    assert "second data set called market1501" in result.failed[0].reason
    assert any("is skipped" in warning for warning in reporter.warnings)
    with pytest.raises(UsageError, match="holds 3 data sets, which can't share one --name"):
        run(tmp_path, reader="auto", root=tmp_path / "all", name="x")
    for path in (tmp_path / "all").rglob("*.jpg"):
        path.write_text("no image")
    with pytest.raises(DataError, match=r"None of the 3 data sets in .* can be prepared"):
        run(tmp_path, reader="auto", root=tmp_path / "all", force=True)


def test_auto_prepares_images_of_one_s_own_side_by_side(tmp_path):
    for name in ("shop", "station"):
        put(tmp_path / "all" / name, [f"{split}/{p}/1.jpg" for split in ("query", "gallery") for p in ("anna", "bob")])
    result = run(tmp_path, reader="auto", root=tmp_path / "all")
    assert [(each.name, each.splits["query"].images) for each in result.datasets] == [("shop", 2), ("station", 2)]


def test_an_archive_around_one_folder_is_known_to_auto_as_to_folders(tmp_path):
    root = put(tmp_path / "in" / "shop", ["anna/1.jpg", "bob/1.jpg"])
    with zipfile.ZipFile(tmp_path / "download.zip", "w") as archive:
        for path in sorted(root.rglob("*.jpg")):
            archive.write(path, path.relative_to(tmp_path / "in"))
    for reader in ("auto", "folders"):
        (prepared,) = run(tmp_path, reader=reader, root=tmp_path / "download.zip", out=tmp_path / reader).datasets
        assert (prepared.name, prepared.reader, prepared.splits["train"].identities) == ("shop", "folders", 2)
