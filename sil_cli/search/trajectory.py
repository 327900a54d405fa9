"""A person's path through a camera network: matches gathered into camera visits, in the order of time."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sil_cli.evaluation.calibration import Decision
from sil_cli.gallery.entry import TRACKLET_END, Time, in_utc, stored_time
from sil_cli.results import Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sil_cli.gallery.entry import Match

UNKNOWN_CAMERA = "unknown camera"


class CameraVisit(Result):
    """Matches of one camera without a longer pause: one station of a person's path.

    Attributes:
        camera: Its name; with its network's where matches are of several; `unknown camera` where nobody knows.
        start: ISO 8601, in UTC; None where times are unknown.
        end: Of the last image.
        seconds_after: Since the visit before ended; negative where they overlap.
        images: How many images it is made of, those within tracklets counted.
        score: The best match's.
        decision: What that means.
        ids: The matches, in the order of time.
        at_once: Another camera saw the person in the same span of time: views that overlap, or a wrong match.
    """

    camera: str
    start: Time | None
    end: Time | None
    seconds_after: float | None = None
    images: int
    score: float
    decision: Decision | None
    ids: list[int]
    at_once: bool = False


def find_visits(matches: Sequence[Match], *, gap: float) -> list[CameraVisit]:
    """Gather matches into camera visits.

    Args:
        matches: Those believed to show the person.
        gap: Seconds; after a longer pause the same camera's next match begins a new visit.

    Returns:
        In the order of time, then those without a time, one a camera, by the camera's name.
    """
    several = len({match.domain for match in matches}) > 1
    of_camera: defaultdict[str, list[Match]] = defaultdict(list)
    for match in matches:
        of_camera[_camera_name(match, several)].append(match)
    dated: list[CameraVisit] = []
    undated: list[CameraVisit] = []
    for camera, seen in sorted(of_camera.items()):
        dated += _by_pauses(camera, seen, timedelta(seconds=gap))
        unknown = [match for match in seen if match.time is None]
        undated += [_visit(camera, unknown)] if unknown else []
    return [*_in_order(dated), *undated]


def _end(match: Match, start: datetime) -> datetime:
    """When the last image of a match was taken, which began at `start`."""
    end = match.metadata.get(TRACKLET_END)
    try:
        return start if end is None else in_utc(stored_time(end))
    except ValueError:
        return start


def _visit(
    camera: str, matches: Sequence[Match], start: datetime | None = None, end: datetime | None = None
) -> CameraVisit:
    best = min(matches, key=lambda match: match.rank)
    return CameraVisit(
        camera=camera,
        start=start,
        end=end,
        images=sum(match.images for match in matches),
        score=best.score,
        decision=best.decision,
        ids=[match.id for match in matches],
    )


def _by_pauses(camera: str, matches: Sequence[Match], gap: timedelta) -> list[CameraVisit]:
    starts = [(in_utc(match.time), match) for match in matches if match.time is not None]
    groups: list[tuple[list[Match], datetime, datetime]] = []
    for start, match in sorted(starts, key=lambda pair: (pair[0], pair[1].rank)):
        end = _end(match, start)
        if groups and start - groups[-1][2] <= gap:
            earlier, first, last = groups[-1]
            groups[-1] = ([*earlier, match], first, max(last, end))
        else:
            groups.append(([match], start, end))
    return [_visit(camera, *group) for group in groups]


def _in_order(visits: Sequence[CameraVisit]) -> list[CameraVisit]:
    """Dated visits by their start, each with how long after the one before it began and whether others overlap it."""
    ordered = sorted(visits, key=lambda one: (one.start or datetime.max.replace(tzinfo=UTC), one.camera))
    timed: list[CameraVisit] = []
    for before, one in zip([None, *ordered], ordered, strict=False):
        after = one.start - before.end if before is not None and one.start and before.end else None
        at_once = any(_overlap(one, other) for other in ordered if other.camera != one.camera)
        seconds = None if after is None else after.total_seconds()
        timed.append(one.model_copy(update={"seconds_after": seconds, "at_once": at_once}))
    return timed


def _overlap(one: CameraVisit, other: CameraVisit) -> bool:
    if one.start is None or one.end is None or other.start is None or other.end is None:
        return False
    return one.start <= other.end and other.start <= one.end


def _camera_name(match: Match, several: bool) -> str:
    camera = match.camera or UNKNOWN_CAMERA
    return f"{match.domain}/{camera}" if several and match.domain is not None else camera
