"""From what the user says of entries to a `Filter`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.errors import UsageError
from sil_cli.retrieval.filters import Filter
from sil_cli.workflows.ingest.times import find_zone

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from sil_cli.retrieval.interface import GalleryReader
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

_NAMED = 12


def make_filter(settings: Settings, *, paths: tuple[str, ...] = (), ids: tuple[int, ...] = ()) -> Filter:
    """The filter that `query.filter` describes; times that don't say their zone are of `gallery.timezone`.

    Raises:
        UsageError: A part of `where` is not KEY=VALUE, the span of time is empty, or there is no such zone.
    """
    chosen = settings.query.filter
    zone = find_zone(settings.gallery.timezone)
    wanted = Filter(
        cameras=chosen.camera,
        excluded_cameras=chosen.exclude_camera,
        after=_in_zone(chosen.after, zone),
        before=_in_zone(chosen.before, zone),
        identities=chosen.identity,
        paths=paths,
        ids=ids,
        where=tuple(_pair(text) for text in chosen.where),
    )
    if wanted.after and wanted.before and wanted.after >= wanted.before:
        raise UsageError(
            f"No time lies after {wanted.after.isoformat()} and before {wanted.before.isoformat()}.",
            "Swap --after and --before."
            if wanted.after > wanted.before
            else "--after takes in its own moment and --before doesn't: for a day, name the next one as --before.",
        )
    return wanted


def warn_if_nothing_passes(gallery: GalleryReader, wanted: Filter, reporter: Reporter) -> None:
    """Say so when no entry passes a filter, and what entries there are."""
    if not wanted or gallery.count_passing(wanted):
        return
    asked = {"camera": wanted.cameras, "identity": wanted.identities}
    asked |= {key: (value,) for key, value in wanted.where}
    for key, values in asked.items():
        known = gallery.known_values(key)
        if values and not set(values) & set(known):
            more = ", …" if len(known) > _NAMED else ""
            there = ", ".join(known[:_NAMED]) + more if known else "none"
            reporter.warn(f"No entry has {key} {' or '.join(values)}; there are: {there}.")
            return
    reporter.warn(f"No entry of the gallery passes the filter ({wanted}).")


def _in_zone(moment: datetime | None, zone: tzinfo | None) -> datetime | None:
    """A moment that says its zone; `zone` None is that of this machine."""
    if moment is None or moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=zone) if zone is not None else moment.astimezone()


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--where {text} is not KEY=VALUE.", "For example: --where weather=rain")
    return key.strip(), value
