"""A person's path through a camera network: matches gathered into sightings, in the order of time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sil_cli.gallery.entry import TRACKLET_END, TRACKLET_IMAGES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sil_cli.gallery.entry import Match

UNKNOWN_CAMERA = "unknown camera"


@dataclass(frozen=True)
class Sighting:
    """Matches of one camera without a longer pause.

    Attributes:
        camera: Its name; with its network's where matches are of several; `unknown camera` where nobody knows.
        matches: In the order of time.
        start: Of the first, in UTC; None where times are unknown.
        end: Of the last.
        after: Since the sighting before, None for the first; negative where they overlap.
        at_once: Another camera saw the person in the same span of time: views that overlap, or a wrong match.
    """

    camera: str
    matches: tuple[Match, ...]
    start: datetime | None
    end: datetime | None
    after: timedelta | None = None
    at_once: bool = False

    @property
    def best(self) -> Match:
        """The match of the highest score."""
        return min(self.matches, key=lambda match: match.rank)

    @property
    def images(self) -> int:
        """Of how many images it is made, those within tracklets counted."""
        return sum(images_of(match) for match in self.matches)


def find_sightings(matches: Sequence[Match], *, gap: float) -> list[Sighting]:
    """Gather matches into sightings.

    Args:
        matches: Those believed to show the person.
        gap: Seconds; after a longer pause the same camera's next match begins a new sighting.

    Returns:
        In the order of time, then those without a time, one a camera, by the camera's name.
    """
    several = len({match.domain for match in matches}) > 1
    of_camera: defaultdict[str, list[Match]] = defaultdict(list)
    for match in matches:
        of_camera[_camera_name(match, several)].append(match)
    dated: list[Sighting] = []
    undated: list[Sighting] = []
    for camera, seen in sorted(of_camera.items()):
        dated += _by_pauses(camera, [match for match in seen if match.time is not None], timedelta(seconds=gap))
        unknown = tuple(match for match in seen if match.time is None)
        if unknown:
            undated.append(Sighting(camera, unknown, None, None))
    return [*_in_order(dated), *undated]


def images_of(match: Match) -> int:
    """The number of images that a gallery entry is made of."""
    told = match.metadata.get(TRACKLET_IMAGES, "1")
    return int(told) if told.isdecimal() else 1


def moment(time: datetime) -> datetime:
    """A time in UTC; one without a zone, as older galleries have them, counts as UTC."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _end(match: Match, start: datetime) -> datetime:
    """When the last image of a match was taken, which began at `start`."""
    told = match.metadata.get(TRACKLET_END)
    try:
        return start if told is None else moment(datetime.fromisoformat(told))
    except ValueError:
        return start


def _by_pauses(camera: str, matches: Sequence[Match], gap: timedelta) -> list[Sighting]:
    starts = [(moment(match.time), match) for match in matches if match.time is not None]
    found: list[Sighting] = []
    for start, match in sorted(starts, key=lambda pair: (pair[0], pair[1].rank)):
        end = _end(match, start)
        last = found[-1] if found else None
        if last is not None and last.end is not None and start - last.end <= gap:
            found[-1] = Sighting(camera, (*last.matches, match), last.start, max(last.end, end))
        else:
            found.append(Sighting(camera, (match,), start, end))
    return found


def _in_order(sightings: Sequence[Sighting]) -> list[Sighting]:
    ordered = sorted(sightings, key=lambda one: (one.start or datetime.max.replace(tzinfo=UTC), one.camera))
    told: list[Sighting] = []
    for number, one in enumerate(ordered):
        before = ordered[number - 1] if number else None
        after = one.start - before.end if before is not None and one.start and before.end else None
        at_once = any(_overlap(one, other) for other in ordered if other.camera != one.camera)
        told.append(Sighting(one.camera, one.matches, one.start, one.end, after, at_once))
    return told


def _overlap(one: Sighting, other: Sighting) -> bool:
    if one.start is None or one.end is None or other.start is None or other.end is None:
        return False
    return one.start <= other.end and other.start <= one.end


def _camera_name(match: Match, several: bool) -> str:
    camera = match.camera or UNKNOWN_CAMERA
    return f"{match.domain}/{camera}" if several and match.domain is not None else camera
