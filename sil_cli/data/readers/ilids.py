"""QMUL-iLIDS (Zheng et al., BMVC 2009): 119 people in an airport's arrival hall."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sil_cli.data.manifest import ImageRecord, Split
from sil_cli.data.readers.common import NamedFile, check_partition, draw, left_out, named_files
from sil_cli.data.readers.layout import Layout, Sign, check_layout, image_named
from sil_cli.data.reading import Reading

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1

_FOLDER = "Persons"
_NAME = re.compile(r"(?P<identity>\d{4})(?P<number>\d{3})\..+")
_SIDES: tuple[Split, Split] = ("query", "gallery")


def _signs(folder: Path) -> Sign | None:
    name = image_named(folder / _FOLDER, _NAME)
    return Sign(f"Persons, with names such as {name}") if name else None


LAYOUT = Layout("QMUL-iLIDS", _FOLDER, _signs, (f"{_FOLDER}/",))


def read_ilids(root: Path, *, name: str | None = None, partition: int = 1, seed: int = 0) -> Reading:
    """Read QMUL-iLIDS.

    A name such as `0001001.jpg` holds the identity (four digits) and the number of the image (three digits).
    59 people are drawn for training and the other 60 are the test: of each, one random image is the query, a
    second one is the gallery's, and the rest is left out, as the field does it. The cameras are not told.

    Args:
        root: The folder that holds Persons.
        name: The domain's name; `ilids` when None.
        partition: Which random half, from 1; the field reports the mean of ten.
        seed: Draws the halves and the images.

    Raises:
        DataError: The folder is missing.
        UsageError: The partition is below 1.
    """
    check_layout(root, LAYOUT)
    check_partition(partition)
    domain = name or "ilids"
    files, skipped = named_files(root, [_FOLDER], _NAME, "0001001.jpg")
    people: dict[str, list[NamedFile]] = {}
    for file in files:
        people.setdefault(file.match["identity"], []).append(file)
    trained = frozenset(draw(people, len(people) // 2, partition=partition, seed=seed))
    wanted: dict[str, Split] = {}
    for identity, images in sorted(people.items()):
        if identity in trained:
            wanted |= {file.path: "train" for file in images}
        elif len(images) > 1:
            paths = draw((file.path for file in images), len(_SIDES), partition=partition, seed=seed)
            wanted |= dict(zip(paths, _SIDES, strict=True))
    records = [
        ImageRecord(path=file.path, identity=file.match["identity"], split=wanted[file.path], domain=domain)
        for file in files
        if file.path in wanted
    ]
    skipped += left_out(f"{_FOLDER}/*", len(files) - len(records), "of people tested, but not drawn")
    options = {"partition": partition, "seed": seed}
    return Reading(domain, "ilids", VERSION, root, records, skipped, options)
