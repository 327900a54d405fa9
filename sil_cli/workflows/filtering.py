"""From what the user says of entries to a `Filter`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.errors import UsageError
from sil_cli.retrieval.filters import Filter

if TYPE_CHECKING:
    from sil_cli.retrieval.gallery import Gallery
    from sil_cli.runtime import Reporter
    from sil_cli.settings import FilterSettings

_NAMED = 12


def make_filter(settings: FilterSettings, *, paths: tuple[str, ...] = (), ids: tuple[int, ...] = ()) -> Filter:
    """The filter that settings describe.

    Raises:
        UsageError: A part of `where` is not KEY=VALUE, or the span of time is empty.
    """
    wanted = Filter(
        cameras=settings.camera,
        excluded_cameras=settings.exclude_camera,
        after=settings.after,
        before=settings.before,
        identities=settings.identity,
        paths=paths,
        ids=ids,
        where=tuple(_pair(text) for text in settings.where),
    )
    if wanted.after and wanted.before and wanted.after.isoformat() >= wanted.before.isoformat():
        raise UsageError(
            f"No time lies after {wanted.after.isoformat()} and before {wanted.before.isoformat()}.",
            "Swap --after and --before.",
        )
    return wanted


def warn_if_nothing_passes(gallery: Gallery, wanted: Filter, reporter: Reporter) -> None:
    """Say so when no entry passes a filter, and what entries there are."""
    if not wanted or len(gallery.ids_passing(wanted)):
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


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--where {text} is not KEY=VALUE.", "For example: --where weather=rain")
    return key.strip(), value
