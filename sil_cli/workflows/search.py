"""`sil query`: from a picture of a person to the gallery's best matches and a contact sheet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.data.images import ImageError, load_image
from sil_cli.data.manifest import is_dataset, load_dataset
from sil_cli.errors import DataError, GalleryError, SilError, UsageError
from sil_cli.files import writing
from sil_cli.models.embedder import load_model, read_record
from sil_cli.reporting.contact_sheet import SheetRow, Tile, contact_sheet
from sil_cli.retrieval.gallery import Gallery, Match, open_gallery
from sil_cli.runtime import resolve_device
from sil_cli.workflows.embed import embed_files
from sil_cli.workflows.filtering import make_filter, warn_if_nothing_passes
from sil_cli.workflows.index import MODEL_FOLDER
from sil_cli.workflows.results import FoundMatch, QueryResult, QueryResults

if TYPE_CHECKING:
    import numpy as np

    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

SHEET_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
PARENTS_SEARCHED = 4
"""How far above an image a prepared data set is looked for that may know whom it shows."""


@dataclass(frozen=True)
class KnownPerson:
    """Whom a query shows, where a prepared data set knows it; all None where none does."""

    identity: str | None = None
    camera: str | None = None
    domain: str | None = None


def search(settings: Settings, reporter: Reporter) -> QueryResults:
    """Find the people of some pictures in a gallery, and draw what was found.

    Raises:
        UsageError: No picture is named, or the contact sheet's file type is unknown.
        SilError: The gallery or a picture can't be used, or they belong to different models.
    """
    images, sheet = settings.query.images, settings.query.sheet
    if not images:
        raise UsageError("No picture is named.", "Say `sil query IMAGE`.")
    if sheet.suffix.lower() not in SHEET_FORMATS:
        raise UsageError(f"A contact sheet can't be written as {sheet.name}.", "Name it .jpg, .png or .webp.")
    folder = settings.gallery.folder
    with open_gallery(folder) as gallery:
        only = make_filter(settings.query.filter)
        warn_if_nothing_passes(gallery, only, reporter)
        embeddings = _embed(settings, gallery)
        found = gallery.search(embeddings, settings.query.top, only=only)
    people = [whom_it_shows(image) for image in images]
    results = [
        QueryResult(
            image=image,
            gallery=folder,
            identity=person.identity,
            camera=person.camera,
            matches=[_described(match, person) for match in matches],
            sheet=sheet,
        )
        for image, person, matches in zip(images, people, found, strict=True)
    ]
    rows = [
        _sheet_row(image, person, matches, folder, reporter)
        for image, person, matches in zip(images, people, found, strict=True)
    ]
    with writing(sheet) as stream:
        contact_sheet(rows).save(stream, format=SHEET_FORMATS[sheet.suffix.lower()], quality=92)
    return QueryResults(queries=results)


def whom_it_shows(image: Path) -> KnownPerson:
    """The person in a picture that belongs to a prepared data set; unknown for any other picture."""
    whole = image.resolve()
    for folder in list(whole.parents)[:PARENTS_SEARCHED]:
        if not is_dataset(folder):
            continue
        try:
            dataset = load_dataset(folder)
        except SilError:
            return KnownPerson()
        for record in dataset.records:
            if dataset.image_path(record).resolve() == whole:
                return KnownPerson(identity=record.identity, camera=record.camera, domain=dataset.name)
    return KnownPerson()


def is_correct(match: Match, person: KnownPerson) -> bool | None:
    """Whether a match shows the person; None where that is unknown, as between two networks."""
    if person.identity is None or match.identity is None or match.domain != person.domain:
        return None
    return match.identity == person.identity


def _embed(settings: Settings, gallery: Gallery) -> np.ndarray:
    folder = settings.query.model or gallery.folder / MODEL_FOLDER
    if settings.query.model is not None:
        gallery.require_model(read_record(folder).fingerprint)
    elif not folder.is_dir():
        raise GalleryError(
            f"{gallery.folder} has lost its model.", "Name it with --model RUN, or run `sil index-gallery` again."
        )
    embedder, record = load_model(folder)
    gallery.require_model(record.fingerprint)
    device = resolve_device(settings.device)
    files = [(image, None) for image in settings.query.images]
    (part,) = embed_files(embedder.to(device), files, device=device, batch=len(files))
    if part.failed:
        path, reason = part.failed[0]
        raise DataError(f"{path} can't be used as a query: {reason}.", "Give a picture of one person.")
    return part.embeddings


def _described(match: Match, person: KnownPerson) -> FoundMatch:
    return FoundMatch(
        rank=match.rank,
        score=match.score,
        path=match.path,
        identity=match.identity,
        camera=match.camera,
        time=match.time.isoformat() if match.time else None,
        id=match.id,
        correct=is_correct(match, person),
    )


def _sheet_row(image: Path, person: KnownPerson, matches: list[Match], gallery: Path, reporter: Reporter) -> SheetRow:
    query = Tile(
        image=load_image(image),
        identity=person.identity,
        camera=person.camera,
        name=image.name,
        domain=person.domain,
    )
    return SheetRow(query=query, matches=[_tile(match, gallery, reporter) for match in matches])


def _tile(match: Match, gallery: Path, reporter: Reporter) -> Tile:
    path = gallery / match.source / match.path
    try:
        picture = load_image(path, box=match.box)
    except ImageError as error:
        reporter.warn(f"{path}: {error.reason}; it is missing from the contact sheet.")
        picture = None
    return Tile(
        image=picture,
        identity=match.identity,
        camera=match.camera,
        time=match.time,
        rank=match.rank,
        score=match.score,
        name=Path(match.path).name,
        domain=match.domain,
    )
