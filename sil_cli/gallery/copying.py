"""`sil gallery copy`: from one store to another, as often as it takes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.errors import GalleryError, InterruptedWorkError, SilError, UsageError
from sil_cli.files import copy_file, staging_folder
from sil_cli.gallery.accountability.log import append, has_log, log_event, os_user
from sil_cli.gallery.accountability.policy import read_policy, write_policy
from sil_cli.gallery.ingest.run import COMMIT_IMAGES
from sil_cli.gallery.interface import MODEL_FOLDER, POLICY_FILE, has_policy
from sil_cli.gallery.people import has_people, open_people
from sil_cli.gallery.results import CopyResult
from sil_cli.gallery.stores import is_address, open_store
from sil_cli.models.record import fingerprint_at

if TYPE_CHECKING:
    from sil_cli.gallery.entry import GalleryEntry, Member
    from sil_cli.gallery.interface import Gallery, GalleryStore, GalleryWriter
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

SAMPLE = 256
SAME = 1e-6
"""Of the values of a unit vector: scaling it to length 1 once more may change its last bit."""


def copy_gallery(settings: Settings, origin: str, target: str, reporter: Reporter) -> CopyResult:
    """Copy what the target lacks, then compare counts and a sample; what the target has besides stays.

    Args:
        settings: `gallery.folder` stands beside a store that is no folder.
        origin: A folder, or the address of a store.
        target: Likewise.
        reporter: Receives progress and notes.

    Raises:
        UsageError: Both are the same.
        GalleryError: The target belongs to another model, or differs after all.
        InterruptedWorkError: Ctrl-C; the same command goes on where it stopped.
    """
    source, to = _store(settings, origin), _store(settings, target)
    if source.name == to.name or (source.size() is not None and _same_folder(source, to)):
        raise UsageError(f"{source.name} would be copied onto itself.", "Name another target.")
    _refuse_other_model(source.folder, to.folder)  # before a collection is made
    with source.open() as reader, to.writer(reader.model) as writer:
        _copy_model(source.folder, to.folder, reporter)
        moved = _Moved(source.folder, to.folder)
        if has_policy(settings, source.folder):
            log_event(settings, source.folder, "export", {"to": Path(to.name).name, "count": len(reader)})
            _copy_policy(source.folder, to.folder)
        copying = _Copying(reader, writer, moved)
        try:
            with reporter.task("Copying", len(reader), "entries") as task:
                for ids in _portions(reader.ids()):
                    copying.copy(ids)
                    task.advance(len(ids))
            writer.finish()
            copying.check()
        except KeyboardInterrupt:
            raise InterruptedWorkError(
                f"Stopped with {copying.copied + copying.there:,} of {len(reader):,} entries in {to.name}.",
                "Run the same command again to do the rest.",
            ) from None
        total = len(writer)
        if total == len(reader):
            writer.adopt_removals(reader.removals())
        else:
            reporter.note(f"{to.name} holds {total - len(reader):,} entries that {source.name} doesn't; they stay.")
        writer.refresh_index(reporter)
        verdicts = _copy_people(source.folder, to.folder, writer, moved)
        model = str(reader.model["fingerprint"])
    return CopyResult(
        origin=source.name,
        target=to.name,
        copied=copying.copied,
        there=copying.there,
        entries=total,
        checked=copying.checked,
        verdicts=verdicts,
        model=model,
        option=to.option(),
    )


def _store(settings: Settings, name: str) -> GalleryStore:
    patience = settings.gallery.patience
    if is_address(name):
        return open_store(settings.gallery.folder, name, patience=patience)
    return open_store(Path(name), None, patience=patience)


def _same_folder(one: GalleryStore, other: GalleryStore) -> bool:
    return Path(one.name).resolve() == Path(other.name).resolve()


def _portions(ids: np.ndarray) -> list[list[int]]:
    return [ids[start : start + COMMIT_IMAGES].tolist() for start in range(0, len(ids), COMMIT_IMAGES)]


def _copy_model(origin: Path, target: Path, reporter: Reporter) -> None:
    """Put the model beside the target, where it isn't."""
    kept, wanted = target / MODEL_FOLDER, origin / MODEL_FOLDER
    if not wanted.is_dir():
        reporter.warn(f"{origin} has no model to copy: name it in queries with --model RUN.")
        return
    if kept.is_dir():
        return
    with staging_folder(target) as staging:
        for file in wanted.iterdir():
            if file.is_file():
                copy_file(file, staging / file.name)
        staging.rename(kept)


def _copy_people(origin: Path, target: Path, writer: GalleryWriter, moved: _Moved) -> int:
    """Put what people said of entries that the target holds beside what they said there; returns the new verdicts."""
    if not has_people(origin) or origin.resolve() == target.resolve():
        return 0
    with open_people(origin) as said, open_people(target, write=True) as kept:
        names = {key: moved.member(key) for key in said.keys().values()}
        there = writer.existing(list(names.values()))
        return kept.adopt(said, {key: name for key, name in names.items() if name in there})


def _copy_policy(origin: Path, target: Path) -> None:
    """Have what holds for a gallery hold for its copy, unless that says something already. The log stays."""
    if os.path.lexists(target / POLICY_FILE) or not os.path.lexists(origin / POLICY_FILE):
        return
    policy = read_policy(origin)
    if policy.log and not has_log(target):
        append(target, "policy", os_user(), policy.model_dump())
    write_policy(target, policy)


def _refuse_other_model(origin: Path, target: Path) -> None:
    kept, wanted = target / MODEL_FOLDER, origin / MODEL_FOLDER
    if kept.is_dir() and wanted.is_dir() and kept.resolve() != wanted.resolve() and not _same_model(kept, wanted):
        raise GalleryError(
            f"{target} keeps another model.", "Name another target, or for a collection another --gallery DIR."
        )


def _same_model(one: Path, other: Path) -> bool:
    try:
        return fingerprint_at(one) == fingerprint_at(other)
    except SilError:
        return False


class _Moved:
    """Entries as another folder names them: sources are relative to the gallery's own."""

    def __init__(self, origin: Path, target: Path) -> None:
        self._origin, self._target = origin.resolve(), target.resolve()

    def source(self, source: str) -> str:
        if self._origin == self._target or Path(source).is_absolute():
            return source
        return Path(os.path.relpath(self._origin / source, self._target)).as_posix()

    def entry(self, entry: GalleryEntry) -> GalleryEntry:
        return replace(entry, source=self.source(entry.source))

    def member(self, member: Member) -> Member:
        source, path, box = member
        return self.source(source), path, box


class _Copying:
    """One run of copying.

    Attributes:
        copied: Entries that came into the target.
        there: Those that were there already.
        checked: Those whose vector and description were compared afterwards.
    """

    def __init__(self, reader: Gallery, writer: GalleryWriter, moved: _Moved) -> None:
        self.copied = self.there = self.checked = 0
        self._reader, self._writer, self._moved = reader, writer, moved

    def copy(self, ids: list[int]) -> None:
        """Copy those of some entries that the target lacks or knows otherwise."""
        entries = {one: self._moved.entry(entry) for one, entry in self._reader.entries(ids).items()}
        existing = self._writer.existing([entry.key for entry in entries.values()])
        missing = [one for one, entry in entries.items() if existing.get(entry.key, (0, None))[1] != entry]
        self.there += len(entries) - len(missing)
        if not missing:
            return
        members = self._reader.members(missing)
        self._writer.add(
            [entries[one] for one in missing],
            self._reader.vectors(missing),
            members=[[self._moved.member(member) for member in members.get(one, [])] for one in missing],
        )
        self.copied += len(missing)

    def check(self) -> None:
        """Compare a sample of entries with what the target holds.

        Raises:
            GalleryError: They differ, or the target has fewer.
        """
        if len(self._writer) < len(self._reader):
            raise GalleryError(
                f"The target holds {len(self._writer):,} entries of {len(self._reader):,}.",
                "Run the same command again.",
            )
        sample = self._reader.sample(SAMPLE)
        entries = {one: self._moved.entry(entry) for one, entry in self._reader.entries(sample).items()}
        existing = self._writer.existing([entry.key for entry in entries.values()])
        alike = [one for one, entry in entries.items() if entry.key in existing and existing[entry.key][1] == entry]
        wrong = len(entries) - len(alike)
        if alike:
            copies = self._writer.vectors([existing[entries[one].key][0] for one in alike])
            apart = np.abs(copies - self._reader.vectors(alike)).max(axis=1)
            wrong += int(np.count_nonzero(~(apart <= SAME)))
        if wrong:
            raise GalleryError(
                f"{wrong:,} of {len(entries):,} sampled entries differ in the target.",
                "Something is writing to one of the two: run the same command again when it is done.",
            )
        self.checked = len(entries)
