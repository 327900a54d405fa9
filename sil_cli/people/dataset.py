"""`sil gallery export --dataset`: the people of a gallery as a prepared data set, to train on."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.data.images import ImageError, load_image, pixels_in, quiet_decoders
from sil_cli.data.manifest import ImageRecord, Skipped, is_dataset, load_dataset
from sil_cli.data.reading import Reading
from sil_cli.errors import DataError, GalleryError, SilError, UsageError, one_line, visible
from sil_cli.files import staging_folder
from sil_cli.gallery.accountability.log import log_event
from sil_cli.gallery.people import open_people
from sil_cli.gallery.stores import gallery_store
from sil_cli.people.deciding import decide, join
from sil_cli.people.register import read_register
from sil_cli.people.telling import find_keys, in_words
from sil_cli.preparation.check_images import prepare
from sil_cli.results import Result
from sil_cli.runtime import cpu_count
from sil_cli.settings import check_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

    from sil_cli.data.images import Box
    from sil_cli.gallery.entry import EntryKey, GalleryEntry
    from sil_cli.gallery.interface import Gallery
    from sil_cli.gallery.people import Pair, People
    from sil_cli.people.deciding import Decided
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

READER = "gallery"
"""What stands in `dataset.json` for the reader."""
QUALITY = 95
"""Of the JPEG files that images are written as."""
FEWEST_PEOPLE = 2
"""A network learns from people whom it tells apart."""


class DatasetResult(Result):
    """The outcome of `sil gallery export --dataset`.

    Attributes:
        dataset: The folder, a prepared data set.
        people: How many people it has.
        images: Of them.
        cameras: That saw them.
        contradictions: Why people were left out in whom verdicts contradict each other, one line each.
        skipped: Images that could not be used, and why.
    """

    gallery: Path
    dataset: Path
    people: int
    images: int
    cameras: int
    contradictions: list[str]
    skipped: list[Skipped]


@dataclass(frozen=True)
class _ConfirmedPerson:
    """One person of the data set: a name, and their entries by id."""

    name: str
    entries: Mapping[int, GalleryEntry]


def export_dataset(settings: Settings, out: Path, reporter: Reporter, *, found: bool = False) -> DatasetResult:
    """Write the people of a gallery who are confirmed as a prepared data set, all of it to train on.

    A person is what `same` verdicts and confirmed members join, two entries at least. People in whom verdicts
    contradict each other are left out. Each image is cut by its entry's box and written anew; of a tracklet, all of its
    images.

    Args:
        settings: Name the gallery.
        out: The data set's folder: new, empty, or one that this wrote before.
        found: Also all that `find_people` put together, and nobody has confirmed.
        reporter: Receives progress and notes.

    Raises:
        UsageError: `out` holds something else.
        GalleryError: There is no gallery, it is damaged, or nobody in it is confirmed.
    """
    _refuse_other(out)
    store = gallery_store(settings)
    with store.open() as gallery, open_people(store.folder) as people:
        decided = decide(people.standing())
        chosen = _people_of(gallery, people, decided, found=found)
        if len(chosen) < FEWEST_PEOPLE:
            raise GalleryError(
                f"Verdicts confirm {len(chosen)} people of {store.name}: a network can't learn to tell people apart.",
                "Say who is the same with `sil people verdict`, and run this again.",
            )
        out.parent.mkdir(parents=True, exist_ok=True)
        with staging_folder(out.parent) as staging:
            count = sum(len(each.entries) for each in chosen)
            log_event(settings, store.folder, "export", {"to": out.name, "of": "images", "count": count})
            reading = _write_images(gallery, chosen, staging, out.name, settings, reporter)
            made = prepare(reading, staging, reporter=reporter, workers=cpu_count())
            counts = made.info.splits["train"]
            if out.exists():
                shutil.rmtree(out)
            staging.rename(out)
    return DatasetResult(
        gallery=store.folder,
        dataset=out,
        people=counts.identities,
        images=counts.images,
        cameras=counts.cameras,
        contradictions=[in_words(one) for one in decided.contradictions],
        skipped=made.info.skipped,
    )


def _refuse_other(out: Path) -> None:
    try:
        check_name(out.name)
    except ValueError as error:
        raise UsageError(f"A data set can't be called '{visible(out.name)}': it {error}.", "Choose another.") from error
    if not out.exists() or (out.is_dir() and not out.is_symlink() and not any(out.iterdir())):
        return
    if out.is_symlink() or not is_dataset(out) or load_dataset(out).info.reader != READER:
        raise UsageError(f"{out} is in the way: it holds something else.", "Choose another folder.")


def _people_of(gallery: Gallery, people: People, decided: Decided, *, found: bool) -> list[_ConfirmedPerson]:
    """People with at least two entries in the gallery, by their first entry; a number and, if they have one, a name."""
    register = read_register(people)
    members = [
        [key for key, one in members.items() if found or one.state == "confirmed"]
        for members in register.members.values()
    ]
    torn = {key for group in decided.torn for key in group}
    joined = join([*decided.people, *([key for key in group if key not in torn] for group in members)])
    whole = [group for group in joined if not _holds_pair(set(group), decided.apart)]
    there = find_keys(gallery, {key for group in whole for key in group})
    several = sorted(ids for ids in (sorted(there[key] for key in group if key in there) for group in whole) if ids[1:])
    person_of = register.person_of()
    width = len(str(len(several)))
    chosen = []
    for number, ids in enumerate(several, start=1):
        entries = gallery.entries(ids)
        named = (register.names[person_of[one.key]] for one in entries.values() if one.key in person_of)
        chosen.append(_ConfirmedPerson(f"{number:0{width}} {next(filter(None, named), '')}".strip(), entries))
    return chosen


def _holds_pair(group: Set[EntryKey], pairs: Iterable[Pair]) -> bool:
    return any(first in group and second in group for first, second in pairs)


def _write_images(
    gallery: Gallery,
    people: Sequence[_ConfirmedPerson],
    folder: Path,
    name: str,
    settings: Settings,
    reporter: Reporter,
) -> Reading:
    """Write all images below a folder; returns the records of those that could be read."""
    root = folder / "images"
    root.mkdir()
    records: list[ImageRecord] = []
    skipped: list[Skipped] = []
    most = pixels_in(settings.data.max_megapixels)
    total = sum(len(person.entries) for person in people)
    with reporter.task("Writing images", total, "entries") as task, quiet_decoders():
        for number, person in enumerate(people, 1):
            for position, (entry, source, path, box) in enumerate(_images_of(gallery, person), 1):
                file = f"{number:05d}/{position:05d}.jpg"
                try:
                    image = load_image(gallery.folder.joinpath(source, path), max_pixels=most, box=box)
                except (ImageError, OSError) as error:
                    reason = error.reason if isinstance(error, ImageError) else one_line(error)
                    skipped.append(Skipped(path=path, reason=reason))
                    continue
                (root / file).parent.mkdir(exist_ok=True)
                image.save(root / file, quality=QUALITY, subsampling=0)
                records.append(
                    ImageRecord(
                        path=file,
                        identity=person.name,
                        camera=entry.camera,
                        split="train",
                        domain=name,
                        time=entry.time,
                    )
                )
            task.advance(len(person.entries))
    if not records:
        first = skipped[0]
        raise DataError(
            f"None of {len(skipped):,} images can be read, such as {visible(first.path)} ({first.reason}).",
            "Put them back where they were indexed.",
        )
    options = {"gallery": gallery.folder.name, "model": gallery.model["fingerprint"]}
    return Reading(name, READER, root, records, skipped, options, generated=_are_generated(gallery, people))


def _images_of(gallery: Gallery, person: _ConfirmedPerson) -> Iterator[tuple[GalleryEntry, str, str, Box | None]]:
    """Every image of a person, with its entry: the entry's own, or those of its tracklet."""
    members = gallery.members(list(person.entries))
    for number, entry in person.entries.items():
        for source, path, box in members.get(number) or [entry.key]:
            yield entry, source, path, box


def _are_generated(gallery: Gallery, people: Sequence[_ConfirmedPerson]) -> bool:
    """Whether all images are of generated data sets."""
    sources = {entry.source for person in people for entry in person.entries.values()}
    try:
        return all(load_dataset(gallery.folder / source).info.generated for source in sources)
    except SilError:
        return False
