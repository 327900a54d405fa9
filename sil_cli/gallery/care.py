"""`sil gallery info`, `verify`, `repair`, `compact`, `remove` and `tune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.errors import GalleryError, SilError, UsageError, quoted
from sil_cli.gallery.accountability.commands import delete_drawings
from sil_cli.gallery.accountability.log import log_event
from sil_cli.gallery.accountability.policy import policy_of
from sil_cli.gallery.filters import (
    WILD,
    Filter,
    as_stored,
    make_filter,
    unknown_values,
    why_nothing_passes,
    with_disk_paths,
)
from sil_cli.gallery.interface import MODEL_FOLDER, PEOPLE_FILE, has_policy
from sil_cli.gallery.kept_model import load_for_gallery, wrong_with_model
from sil_cli.gallery.local.set_aside import files_aside
from sil_cli.gallery.people import check_people, count_about, forget_gone, has_people, repair_people
from sil_cli.gallery.rebuild import embed_again, find_again
from sil_cli.gallery.results import (
    Check,
    CompactResult,
    GalleryInfo,
    Policy,
    RemoveResult,
    RepairResult,
    TuneResult,
    VerifyResult,
)
from sil_cli.gallery.stores import gallery_store, gallery_store_to_write
from sil_cli.models.record import ModelCard

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sil_cli.gallery.interface import Gallery, GalleryStore, GalleryWriter
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

SAMPLE = 16
SAMPLE_CHECK = "sample embedded again"
SAME = 0.999
"""Cosine above which two embeddings of one image are the same; batches and threads change less."""


def gallery_info(settings: Settings) -> GalleryInfo:
    """What a gallery is.

    Raises:
        GalleryError: No gallery is there, or it is damaged.
    """
    store = gallery_store(settings)
    with store.open() as gallery:
        card = gallery.model.get("card")
        known = None if card is None else ModelCard.model_validate(card)
        policy = policy_of(settings, store.folder) if has_policy(settings, store.folder) else Policy()
        return gallery.info().model_copy(update={"bytes": store.size(), "card": known, "policy": policy})


def verify_gallery(settings: Settings, reporter: Reporter) -> VerifyResult:
    """Check everything that the gallery says of itself, and embed a sample of its images again.

    Raises:
        GalleryError: There is no gallery, or its database can't be read at all.
    """
    store = gallery_store(settings)
    with reporter.task("Checking the store", None):
        checks = store.check()
    advice: list[str] = []
    if all(check.ok for check in checks):
        with store.open() as gallery:
            found = wrong_with_model(store.folder / MODEL_FOLDER, gallery.model)
            checks.append(Check("model", found is None, found or "its files are those recorded"))
            checks.append(
                _sample_check(gallery, settings, reporter) if found is None else _not_done("its model is not right")
            )
        if not all(check.ok for check in checks):
            advice.append(
                f"put the right files back into {store.folder / MODEL_FOLDER}, "
                f"or embed the images again with `sil gallery rebuild {quoted(store.folder)} --model RUN`"
            )
    else:
        checks.append(_not_done("the store is not right, as said above"))
        advice.append(
            f"`sil gallery repair {quoted(store.folder)}` keeps the rest"
            if settings.gallery.store is None
            else f"remove the wrong ones with `sil gallery remove --id N{store.option()}`, and index their images again"
        )
    if has_people(store.folder):
        said = check_people(store.folder)
        checks.append(said)
        if not said.ok:
            advice.append(f"`sil gallery repair {quoted(store.folder)}` keeps what can be read of {PEOPLE_FILE}")
    return VerifyResult(gallery=store.folder, ok=all(check.ok for check in checks), checks=checks, advice=advice)


def repair_gallery(settings: Settings, reporter: Reporter, *, trust: bool) -> RepairResult:
    """Drop what is broken, keep all else, and say exactly what is lost; files of vectors are set aside, not deleted.

    Raises:
        GalleryError: There is no gallery, its database can't be repaired, or most likely is another gallery's.
    """
    store = gallery_store_to_write(settings)
    with store.existing_writer() as writer:
        aside = repair_people(store.folder, reporter)
        result = writer.repair(reporter, trust=trust)
        return result.model_copy(update={"set_aside": [*aside, *result.set_aside]})


def compact_gallery(settings: Settings, reporter: Reporter) -> CompactResult:
    """Merge files, and delete every trace of removed entries.

    Raises:
        GalleryError: There is no gallery, or it is damaged.
    """
    store = gallery_store_to_write(settings)
    with store.existing_writer() as writer:
        before, aside = store.size(), len(files_aside(store.folder))
        complete = writer.compact()
        forgotten = forget_gone(store.folder, writer.existing)
        drawings = delete_drawings(writer)
        if len(writer):
            writer.refresh_index(reporter)
        entries = len(writer)
    complete = complete and forgotten.complete
    if not complete:
        reporter.warn(
            "Something is still reading an older state of the gallery: run `sil gallery compact` again later."
        )
    return CompactResult(
        gallery=store.folder,
        entries=entries,
        bytes_before=before,
        bytes_after=store.size(),
        set_aside_deleted=aside,
        verdicts_deleted=forgotten.verdicts,
        complete=complete,
        drawings_deleted=drawings,
    )


def remove_entries(
    settings: Settings,
    reporter: Reporter,
    *,
    paths: tuple[str, ...],
    ids: tuple[int, ...],
    everything: bool,
    glob: bool = False,
    confirm: Callable[[int, int], bool],
) -> RemoveResult:
    """Remove the entries that pass a filter.

    Args:
        settings: With the filter and the gallery.
        reporter: Warned of what was named and not found, where something else was.
        paths: Paths below their sources, or on the disk, besides the filter's own fields.
        ids: Ids, likewise.
        everything: No filter is meant.
        glob: The paths are patterns.
        confirm: Asked with the number to remove and the number of all.

    Raises:
        UsageError: Nothing says what to remove, or a filter is given together with `everything`.
        GalleryError: There is no gallery, it is damaged, or nothing in it is what was named.
        SilError: `confirm` says no.
    """
    wanted = make_filter(settings, paths=paths, ids=ids, glob=glob)
    if bool(wanted) == everything:
        raise UsageError(
            "Nothing was named to remove." if not everything else "--all was given together with a filter.",
            "Use --id, --identity, --path, --camera, --after, --before or --where, or --all for everything.",
        )
    if glob and not paths:
        raise UsageError("--glob only works with --path.", "Add --path PATTERN.")
    store = gallery_store_to_write(settings)
    with store.existing_writer() as writer:
        writer.warn_of_set_aside(reporter)
        wanted = as_stored(lambda asked: len(_ids_meant(writer, asked, store.folder)), wanted)
        chosen = _ids_meant(writer, wanted, store.folder)
        missing = _not_found(writer, wanted, store.folder)
        if wanted and not chosen:
            raise _nothing_removed(store, wanted, missing, is_pattern=not glob and any(map(WILD.search, paths)))
        not_found = [f"{key} {value}" for key, values in missing.items() for value in values]
        if not_found:
            reporter.warn(f"Not found in the gallery: {', '.join(not_found)}.")
        removed = verdicts = 0
        if chosen:
            if not confirm(len(chosen), len(writer)):
                raise SilError(
                    "Nothing was removed: the answer was not yes.", "Run it again and answer y, or use --yes."
                )
            criterion = ", ".join(wanted.kinds) or "everything"
            if has_policy(settings, store.folder):
                log_event(settings, store.folder, "removal", {"why": criterion, "entries": chosen})
            verdicts = count_about(store.folder, [one.key for one in writer.entries(chosen).values()])
            removed = writer.remove(chosen, criterion)
        return RemoveResult(
            gallery=store.folder, removed=removed, not_found=not_found, entries=len(writer), verdicts=verdicts
        )


def _nothing_removed(
    store: GalleryStore, wanted: Filter, missing: Mapping[str, Sequence[str]], *, is_pattern: bool
) -> GalleryError:
    """Why no entry passes a filter."""
    with store.open() as gallery:
        why = why_nothing_passes(gallery, wanted, missing)
    return GalleryError(
        f"Nothing was removed: {why}.",
        f"{'Add --glob if it is a pattern, or check' if is_pattern else 'Check'} the spelling; "
        f"`sil gallery export list.csv{store.option()}` lists all entries.",
    )


def tune_gallery(settings: Settings, reporter: Reporter, *, recall: float, factories: tuple[str, ...]) -> TuneResult:
    """Measure ways of searching, and keep the quickest with the recall that is needed.

    Raises:
        GalleryError: There is no gallery, it is empty, or FAISS can't make one of the indexes.
    """
    store = gallery_store_to_write(settings)
    with store.existing_writer() as writer:
        writer.warn_of_set_aside(reporter)
        measured, chosen = writer.tune(reporter, recall=recall, factories=factories)
    return TuneResult(gallery=store.folder, wished_recall=recall, measured=measured, chosen=chosen)


def _ids_meant(writer: GalleryWriter, wanted: Filter, folder: Path) -> list[int]:
    """The ids of all entries that pass a filter, whose paths may be those of files on the disk; ascending."""
    meant = with_disk_paths(wanted, folder, writer.sources())
    return sorted({one for each in meant for one in writer.ids_passing(each).tolist()})


def _not_found(writer: GalleryWriter, wanted: Filter, folder: Path) -> dict[str, list[str]]:
    """The values that a filter asks for and no entry has, by what they would be.

    An erasure that misses one of several people by a slip of the pen must not look as if it were done.
    """

    def count(asked: Filter) -> int:
        return len(_ids_meant(writer, asked, folder))

    existing = writer.entries(wanted.ids)
    missing = unknown_values(count, wanted)
    missing["id"] = [str(one) for one in wanted.ids if one not in existing]
    missing["path"] = missing.get("path", []) + [
        one for one in wanted.paths if not count(Filter(paths=(one,), glob=wanted.glob))
    ]
    return {key: values for key, values in missing.items() if values}


def _sample_check(gallery: Gallery, settings: Settings, reporter: Reporter) -> Check:
    """Embed some images again and compare; what isn't there or has changed since is left out and counted."""
    name = SAMPLE_CHECK
    chosen = gallery.sample(SAMPLE)
    if not chosen:
        return _not_done("the gallery is empty")
    recorded = gallery.entries(chosen)
    found = find_again(gallery, chosen).candidates
    usable = {one: each for one, each in found.items() if each.entry.content_hash == recorded[one].content_hash}
    if not usable:
        return _not_done("none of the sampled images is there unchanged")
    images = sum(len(candidate.members) or 1 for candidate in usable.values())
    try:
        engine = load_for_gallery(gallery.folder / MODEL_FOLDER, settings, gallery, reporter, images=images)
    except UsageError as error:  # of what is installed here, or was asked for: nothing is wrong with the gallery
        return _not_done(error.what)
    except SilError as error:
        return Check(name, False, f"its model can't be used: {error.what}")
    with reporter.task("Embedding a sample again", None):
        again = embed_again(engine, usable, gallery.folder, batch=settings.gallery.batch)
    ids = list(again.candidates)
    cosines = (again.embeddings * gallery.vectors(ids)).sum(axis=1)
    left_out = len(chosen) - len(ids)
    where = f"; {left_out} of {len(chosen)} are missing or changed" if left_out else ""
    if len(ids) and not cosines.min() >= SAME:
        worst = ids[int(cosines.argmin())]
        return Check(name, False, f"entry {worst} has cosine {cosines.min():.4f} with its image")
    if not len(ids):
        return _not_done("none of the sampled images can be read")
    return Check(name, True, f"{len(ids)} entries, least cosine {cosines.min():.6f}{where}")


def _not_done(why: str) -> Check:
    """The sample was not embedded."""
    return Check(SAMPLE_CHECK, True, f"not done: {why}", done=False)
