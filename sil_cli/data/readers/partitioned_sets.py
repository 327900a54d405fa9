"""The small data sets, tested on several partitions each: PRID2011, GRID, VIPeR and QMUL-iLIDS."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sil_cli.data.manifest import Split
from sil_cli.data.readers.layout import FolderLayout, check_layout
from sil_cli.data.readers.matlab import load_v5
from sil_cli.data.readers.named_files import NamedFile, check_partition, draw, left_out, named_files
from sil_cli.data.reading import Reading
from sil_cli.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

_PRID_SHARED, _PRID_TRAIN = 200, 100
_PRID_NAME = re.compile(r"person_(?P<identity>\d+)\..+")
_PRID_FOLDERS: dict[str, Split] = {"single_shot/cam_a": "query", "single_shot/cam_b": "gallery"}
PRID2011 = FolderLayout(
    "PRID2011",
    "single_shot/cam_a and single_shot/cam_b",
    tuple(f"{folder}/" for folder in _PRID_FOLDERS),
    _PRID_NAME,
)

_VIPER_FOLDERS: dict[str, Split] = {"cam_a": "query", "cam_b": "gallery"}
_VIPER_NAME = re.compile(r"(?P<identity>\d+)_\d+\..+")
VIPER = FolderLayout("VIPeR", "cam_a and cam_b", ("cam_a/", "cam_b/"), _VIPER_NAME)

_ILIDS_FOLDER = "Persons"
_ILIDS_NAME = re.compile(r"(?P<identity>\d{4})(?P<number>\d{3})\..+")
ILIDS = FolderLayout("QMUL-iLIDS", _ILIDS_FOLDER, (f"{_ILIDS_FOLDER}/",), _ILIDS_NAME)

GRID_PARTITIONS = 10
_GRID_PARTITION_FILE = "features_and_partitions.mat"
_GRID_FOLDERS: dict[str, Split] = {"probe": "query", "gallery": "gallery"}
_GRID_NAME = re.compile(r"(?P<identity>\d{4})_(?P<camera>\d+)_.+")
_GRID_DISTRACTOR, _GRID_PEOPLE = 0, 250
_GRID_TRAINED_FIELD = 2  # of the struct that a partition is: the field that holds the people trained on
GRID = FolderLayout(
    "GRID",
    f"probe, gallery and {_GRID_PARTITION_FILE}",
    ("probe/", "gallery/", _GRID_PARTITION_FILE),
    _GRID_NAME,
)


def read_prid2011(root: Path, *, name: str | None = None, partition: int = 1, seed: int = 0) -> Reading:
    """Read the single-shot half of PRID2011 (Hirzer et al., SCIA 2011).

    Persons 1 to 200 are the same in both cameras. 100 of them are drawn for training; the other 100 are the
    test: camera A's images are the queries, and camera B's images of the same people together with those of its
    549 others the gallery (649). Persons above 200 are different people in A and in B: B's are distractors, and
    A's 185 have no part in the protocol.

    Args:
        root: The folder that holds single_shot.
        name: The domain's name; `prid2011` when None.
        partition: Which random half, from 1; the field reports the mean of ten.
        seed: Draws the halves.

    Raises:
        DataError: A folder is missing.
        UsageError: The partition is below 1.
    """
    check_layout(root, PRID2011)
    check_partition(partition)
    domain = name or "prid2011"
    shared = [f"{number:04d}" for number in range(1, _PRID_SHARED + 1)]
    trained = frozenset(draw(shared, _PRID_TRAIN, partition=partition, seed=seed))
    files, skipped = named_files(root, _PRID_FOLDERS, _PRID_NAME, "person_0001.png")
    records = []
    for file in files:
        identity, distractor = f"{int(file.match['identity']):04d}", int(file.match["identity"]) > _PRID_SHARED
        camera = file.folder[-1]
        if distractor and camera == "a":
            continue
        split = "train" if identity in trained else _PRID_FOLDERS[file.folder]
        records.append(file.record(domain, split, identity=identity, camera=camera, distractor=distractor))
    reason = "people whom only camera A saw: not in the protocol"
    skipped += left_out("single_shot/cam_a/*", len(files) - len(records), reason)
    return Reading(domain, "prid2011", root, records, skipped, {"partition": partition, "seed": seed})


def read_viper(root: Path, *, name: str | None = None, partition: int = 1, seed: int = 0) -> Reading:
    """Read VIPeR (Gray et al., PETS 2007): 632 people, each seen once by two cameras.

    A name such as `000_45.bmp` begins with the identity; the angle of view follows. Half of the people (316) are
    drawn for training; of the others, camera A's images are the queries and camera B's the gallery.

    Args:
        root: The folder that holds cam_a and cam_b.
        name: The domain's name; `viper` when None.
        partition: Which random half, from 1; the field reports the mean of ten.
        seed: Draws the halves.

    Raises:
        DataError: A folder is missing.
        UsageError: The partition is below 1.
    """
    check_layout(root, VIPER)
    check_partition(partition)
    domain = name or "viper"
    files, skipped = named_files(root, _VIPER_FOLDERS, _VIPER_NAME, "000_45.bmp")
    people = {file.match["identity"] for file in files}
    trained = frozenset(draw(people, len(people) // 2, partition=partition, seed=seed))
    records = []
    for file in files:
        split = "train" if file.match["identity"] in trained else _VIPER_FOLDERS[file.folder]
        records.append(file.record(domain, split, camera=file.folder[-1]))
    return Reading(domain, "viper", root, records, skipped, {"partition": partition, "seed": seed})


def read_ilids(root: Path, *, name: str | None = None, partition: int = 1, seed: int = 0) -> Reading:
    """Read QMUL-iLIDS (Zheng et al., BMVC 2009): 119 people in an airport's arrival hall.

    A name such as `0001001.jpg` holds the identity (four digits) and the number of the image (three digits).
    59 people are drawn for training and the other 60 are the test: of each, one random image is the query, a
    second one is the gallery's, and the rest is left out, as the field does it. The cameras are not known.

    Args:
        root: The folder that holds Persons.
        name: The domain's name; `ilids` when None.
        partition: Which random half, from 1; the field reports the mean of ten.
        seed: Draws the halves and the images.

    Raises:
        DataError: The folder is missing.
        UsageError: The partition is below 1.
    """
    check_layout(root, ILIDS)
    check_partition(partition)
    domain = name or "ilids"
    files, skipped = named_files(root, [_ILIDS_FOLDER], _ILIDS_NAME, "0001001.jpg")
    people: dict[str, list[NamedFile]] = {}
    for file in files:
        people.setdefault(file.match["identity"], []).append(file)
    trained = frozenset(draw(people, len(people) // 2, partition=partition, seed=seed))
    wanted: dict[str, Split] = {}
    for identity, images in people.items():
        if identity in trained:
            wanted |= {file.path: "train" for file in images}
        elif len(images) > 1:
            query, answer = draw((file.path for file in images), 2, partition=partition, seed=seed)
            wanted |= {query: "query", answer: "gallery"}
    records = [file.record(domain, wanted[file.path]) for file in files if file.path in wanted]
    skipped += left_out(f"{_ILIDS_FOLDER}/*", len(files) - len(records), "of people tested, but not drawn")
    return Reading(domain, "ilids", root, records, skipped, {"partition": partition, "seed": seed})


def read_grid(root: Path, *, name: str | None = None, partition: int = 1) -> Reading:
    """Read GRID, QMUL underground re-identification (Loy et al., CVPR 2009), by one of its own ten partitions.

    A name such as `0001_1_25004_107_32_106_221.jpeg` begins with the identity and the camera. A partition trains
    on 125 people; the others are the test: their 125 probes against their 125 gallery images and 775 of identity
    0, which are distractors.

    Args:
        root: The folder that holds probe, gallery and features_and_partitions.mat.
        name: The domain's name; `grid` when None.
        partition: Which of the authors' partitions, 1 to 10; the field reports the mean of all.

    Raises:
        DataError: A folder or the partitions are missing or damaged.
        UsageError: There is no such partition.
    """
    check_layout(root, GRID)
    check_partition(partition, GRID_PARTITIONS)
    domain = name or "grid"
    trained = _trained_in_grid(root / _GRID_PARTITION_FILE, partition)
    files, skipped = named_files(root, _GRID_FOLDERS, _GRID_NAME, "0001_1_25004_107_32_106_221.jpeg")
    records = []
    for file in files:
        identity = int(file.match["identity"])
        split = "train" if identity in trained else _GRID_FOLDERS[file.folder]
        records.append(file.record(domain, split, distractor=identity == _GRID_DISTRACTOR))
    return Reading(domain, "grid", root, records, skipped, {"partition": partition})


def _trained_in_grid(path: Path, partition: int) -> frozenset[int]:
    """The people that a partition trains on: third field of the struct in this cell of `trainIdxAll`."""
    cells = load_v5(path, "trainIdxAll")["trainIdxAll"].ravel()
    try:
        struct = cells[partition - 1].ravel()[0]
        trained = frozenset(int(number) for number in struct[_GRID_TRAINED_FIELD].ravel())
    except (IndexError, AttributeError, TypeError, ValueError):
        trained = frozenset()
    if not trained or min(trained) < 1 or max(trained) > _GRID_PEOPLE:
        raise DataError(f"{path} does not hold GRID's partition {partition}.", "Unpack underground_reid.zip again.")
    return trained
