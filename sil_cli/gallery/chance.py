"""What a gallery's own entries say of chance: learnt when it is indexed, kept in it, and used by its queries."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.errors import GalleryError
from sil_cli.evaluation.calibration import Chance, read_chance, write_chance
from sil_cli.evaluation.chance import LEAST, SAMPLE, Reference, learn_chance
from sil_cli.gallery.entry import instant_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sil_cli.gallery.interface import Gallery
    from sil_cli.runtime import Reporter

RENEWED = 0.1
"""The part of a gallery that must have come or gone for chance to be learnt again."""


def sample_of(gallery: Gallery) -> tuple[Reference, NDArray[np.float64]]:
    """The entries against which scores are measured, and when each was taken (seconds; NaN where that is unknown)."""
    ids = gallery.sample(SAMPLE)
    entries = gallery.entries(ids)
    there = [one for one in ids if one in entries]  # not removed since they were drawn
    times = [entries[one].time for one in there]
    return (
        Reference(gallery.vectors(there), np.array([entries[one].camera or "" for one in there], dtype=np.str_)),
        np.array([np.nan if time is None else instant_of(time) for time in times]),
    )


def renew_chance(gallery: Gallery, reporter: Reporter, *, force: bool = False) -> Chance | None:
    """Learn what comes up by chance in a gallery, unless that is known and the gallery has hardly changed since.

    Args:
        gallery: Open.
        reporter: Is told what was learnt.
        force: Learn it again in any case.

    Returns:
        What is known now; None where the gallery is too small or its entries too much alike. What was known before
        is then forgotten.

    Raises:
        OSError: It can't be written.
    """
    count, model = len(gallery), str(gallery.model["fingerprint"])
    with suppress(GalleryError):  # a damaged one is replaced
        known = None if force else read_chance(gallery.folder)
        if known is not None and known.fingerprint == model and is_current(known, count):
            return known
    chance = None
    if count >= LEAST:
        with reporter.task("Learning what comes up by chance", min(count, SAMPLE), "entries") as task:
            reference, instants = sample_of(gallery)
            chance = learn_chance(reference, instants, fingerprint=model, entries=count)
            task.advance(len(instants))
    write_chance(gallery.folder, chance)
    return chance


def is_current(chance: Chance, count: int) -> bool:
    """Whether a gallery of so many entries has hardly changed since."""
    return abs(count - chance.entries) <= RENEWED * chance.entries
