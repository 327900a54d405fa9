"""Any naming scheme that a regular expression can take apart."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sil_cli.data.manifest import Skipped
from sil_cli.data.readers.common import (
    Sighting,
    SplitMode,
    check_root,
    domain_name,
    split_names,
    split_of,
    to_records,
)
from sil_cli.data.reading import Reading
from sil_cli.data.walking import find_image_files
from sil_cli.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1
GROUPS = ("identity", "camera", "split", "frame")

_EXAMPLE = r"(?P<identity>\d+)_c(?P<camera>\d+)"


def read_regex(
    root: Path, *, pattern: str, name: str | None = None, split: SplitMode = "train", seed: int = 0
) -> Reading:
    r"""Read images by a regular expression that is searched in each path relative to ROOT.

    For example `(?P<identity>\d+)_c(?P<camera>\d+)` reads `0002_c1s1_000451_03.jpg`. Only the group `identity`
    is needed. The group `split` may match train, query, gallery, test or the names that Market-1501 gives
    them. Anchor the pattern with ^ and $ where it could match too much. Paths have forward slashes.

    Args:
        root: The folder to look through.
        pattern: The expression, with the named groups identity, camera, split, frame.
        name: The domain's name; from the folder's name when None.
        split: What to do with images of no known split (see `SplitMode`).
        seed: Draws the identities for `half`.

    Raises:
        UsageError: The pattern is not valid, or its groups are not those.
        DataError: `root` is missing or not a folder.
    """
    expression = _compile(pattern)
    check_root(root)
    found = find_image_files(root)
    sightings: list[Sighting] = []
    skipped = list(found.skipped)
    for path in found.paths:
        seen = _take_apart(path, expression)
        if isinstance(seen, str):
            skipped.append(Skipped(path=path, reason=seen))
        else:
            sightings.append(seen)
    domain = domain_name(root, name)
    records = to_records(sightings, domain=domain, split=split, seed=seed)
    options = {"pattern": pattern, "split": split, "seed": seed}
    return Reading(domain, "regex", VERSION, root, records, skipped, options)


def _take_apart(path: str, expression: re.Pattern[str]) -> Sighting | str:
    """What the path says, or why it says nothing."""
    match = expression.search(path)
    if match is None:
        return "the pattern doesn't match"
    groups = match.groupdict()
    identity, split, frame = groups["identity"], groups.get("split"), groups.get("frame")
    if not identity:
        return "the pattern finds no identity"
    if split and split_of(split) is None:
        return f"split '{split}' is none of {split_names()}"
    if frame and not frame.isdecimal():
        return f"frame '{frame}' is not a whole number"
    return Sighting(
        path,
        identity=identity,
        camera=groups.get("camera") or None,
        split=split_of(split) if split else None,
        frame=int(frame) if frame else None,
    )


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"The pattern {pattern!r} is not a regular expression: {error}.", f"For example: '{_EXAMPLE}'."
        ) from error
    for group in expression.groupindex:
        if group not in GROUPS:
            raise UsageError(f"The pattern has an unknown group '{group}'.", did_you_mean(group, GROUPS))
    if "identity" not in expression.groupindex:
        raise UsageError(
            "The pattern has no group (?P<identity>…).", f"Name the part that tells people apart: '{_EXAMPLE}'."
        )
    return expression
