"""`sil query`: from pictures of a person to the gallery's best matches, a contact sheet and a page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from sil_cli.errors import GalleryError
from sil_cli.evaluation.calibration import Calibration
from sil_cli.gallery.filtering import make_filter, warn_if_nothing_passes
from sil_cli.gallery.ingest.times import find_zone
from sil_cli.gallery.interface import MODEL_FOLDER
from sil_cli.gallery.kept_model import load_for_gallery, require_named_model
from sil_cli.gallery.output_checks import (
    entry_file,
    refuse_harming_gallery,
    refuse_overwriting_entries,
)
from sil_cli.gallery.stores import gallery_store
from sil_cli.output_checks import refuse_overwriting
from sil_cli.report.canvas import require_sheet_format
from sil_cli.search.decisions import (
    decide,
    decide_on_best,
    find_calibration,
    threshold_of,
    thresholds,
    verdict,
)
from sil_cli.search.drawing import Found, draw
from sil_cli.search.queries import (
    KnownPerson,
    Query,
    embed_queries,
    ids_to_exclude,
    make_queries,
    require_ids,
    whom_it_shows,
)
from sil_cli.search.query_results import FoundGroup, QueryResult, QueryResults
from sil_cli.search.result_limits import Listed, Listing, Search, list_matches
from sil_cli.search.trajectory import CameraVisit, find_visits

if TYPE_CHECKING:
    from sil_cli.gallery.entry import Match
    from sil_cli.gallery.interface import Gallery
    from sil_cli.models.engines.engine import Engine
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings


@dataclass(frozen=True)
class Searching:
    """What every query of one command shares.

    Attributes:
        gallery: Open.
        search: Searches it.
        calibration: What scores mean; None where nothing says.
        listing: Which matches are listed.
    """

    gallery: Gallery
    search: Search
    calibration: Calibration | None
    listing: Listing


def search(settings: Settings, reporter: Reporter) -> QueryResults:
    """Find the people of some pictures in a gallery, and draw what was found.

    Raises:
        UsageError: No picture is named, the contact sheet's file type is unknown, or a picture would be overwritten.
        SilError: The gallery or a picture can't be used, or they belong to different models.
    """
    wanted = settings.query
    queries = make_queries(wanted)
    require_sheet_format(wanted.sheet)
    outputs = {"--sheet": wanted.sheet, "--html": wanted.html}
    for option, out in outputs.items():
        refuse_overwriting(out, wanted.images, option=option)
        refuse_harming_gallery(out, settings, option=option)
    find_zone(settings.gallery.timezone)
    if wanted.fuse and len(queries[0].pictures) + len(queries[0].ids) == 1:
        reporter.note("There is only one picture: nothing to fuse.")
    with gallery_store(settings).open() as gallery:
        for option, out in outputs.items():
            refuse_overwriting_entries(out, gallery, option=option)
        require_ids(queries, gallery)
        searching = prepare_search(settings, gallery, reporter)
        pictures = sum(len(query.pictures) for query in queries)
        engine = load_own_engine(settings, gallery, reporter, images=pictures) if pictures else None
        embeddings = embed_queries(queries, gallery, engine, settings.gallery.batch)
        exclude = [ids_to_exclude(query, gallery, exclude_self=wanted.exclude_self) for query in queries]
        listed = list_matches(searching.search, embeddings, searching.listing, exclude)
        people = [whom_it_shows(query, gallery) for query in queries]
        found = [_found(settings, searching, *each) for each in zip(queries, people, listed, strict=True)]
    folder = settings.gallery.folder
    shown = [entry_file(folder, entry) for one in found for entry in one.entries]
    shown += [entry_file(folder, match) for one in found for match in one.matches]
    for option, out in outputs.items():  # a tracklet's picture is none that its entry's content would tell
        refuse_overwriting(out, shown, option=option)
    draw(found, settings, reporter)
    results = [_result(settings, searching, one, each) for one, each in zip(found, listed, strict=True)]
    return QueryResults(queries=results)


def prepare_search(settings: Settings, gallery: Gallery, reporter: Reporter) -> Searching:
    """How an open gallery is searched, and which of its matches are listed; says so when no entry passes the filter.

    Raises:
        UsageError: All matches are asked for, and nothing says from which score on; or the filter makes no sense.
        SilError: The named model is another one, or the calibration can't be used.
    """
    wanted = settings.query
    if wanted.model is not None:
        require_named_model(wanted.model, gallery)  # or else another model's thresholds are blamed, which are all right
    folders = [folder for folder in (wanted.model, gallery.folder / MODEL_FOLDER) if folder is not None]
    calibration = find_calibration(folders, str(gallery.model["fingerprint"]))
    listing = Listing(
        top=None if wanted.all else wanted.top,
        at_least=threshold_of(calibration, wanted.min_score, everything=wanted.all),
        by_identity=wanted.group == "identity",
    )
    only = make_filter(settings)
    warn_if_nothing_passes(gallery, only, reporter)
    search: Search = partial(gallery.search, where=only)
    if wanted.rerank:
        from sil_cli.search.rerank_shortlist import RerankedSearch  # brings scipy, which other queries go without

        search = RerankedSearch(gallery, wanted.shortlist, settings.rerank, only)
    return Searching(gallery, search, calibration, listing)


def load_own_engine(settings: Settings, gallery: Gallery, reporter: Reporter, *, images: int | None) -> Engine:
    """The gallery's own model, or the one that is named, ready to embed.

    Raises:
        GalleryError: The model is gone, or another one than the gallery's.
    """
    folder = settings.query.model or gallery.folder / MODEL_FOLDER
    if settings.query.model is None and not folder.is_dir():
        raise GalleryError(
            f"{gallery.folder} has lost its model.", "Name it with --model RUN, or run `sil index-gallery` again."
        )
    return load_for_gallery(folder, settings, gallery, reporter, images=images)


def is_correct(match: Match, person: KnownPerson) -> bool | None:
    """Whether a match shows the person; None where that is unknown, as between two networks."""
    if person.identity is None or match.identity is None or match.domain != person.domain:
        return None
    return match.identity == person.identity


def _found(settings: Settings, searching: Searching, query: Query, person: KnownPerson, listed: Listed) -> Found:
    """Everything about one query's matches that tables, sheets and pages show."""
    calibration = searching.calibration
    matches = [
        replace(match, decision=decide(calibration, match.score), correct=is_correct(match, person))
        for match in listed.matches
    ]
    visits: list[CameraVisit] | None = None
    if settings.query.group == "camera":
        believed = [match for match in matches if match.decision != "no match"]
        visits = find_visits(believed, gap=settings.query.gap)
    entries = searching.gallery.entries(query.ids)
    return Found(
        query=query,
        entries=[entries[one] for one in query.ids],
        person=person,
        matches=matches,
        verdict=verdict(calibration, listed.matches, searching.listing.at_least),
        visits=visits,
    )


def _result(settings: Settings, searching: Searching, found: Found, listed: Listed) -> QueryResult:
    folder = settings.gallery.folder
    query = found.query
    first = query.pictures[0][0] if query.pictures else folder / found.entries[0].source / found.entries[0].path
    return QueryResult(
        image=first,
        query=query.label,
        fused=len(query.pictures) + len(query.ids),
        gallery=folder,
        identity=found.person.identity,
        camera=found.person.camera,
        decision=decide_on_best(searching.calibration, found.matches),
        verdict=found.verdict,
        thresholds=thresholds(searching.calibration),
        reranking=_reranking(settings) if settings.query.rerank else None,
        matches=found.matches,
        groups=_groups(found, listed) if searching.listing.by_identity else None,
        trail=found.visits,
        timezone=settings.gallery.timezone,
        sheet=settings.query.sheet,
        html=settings.query.html,
    )


def _reranking(settings: Settings) -> str:
    options = settings.rerank
    chosen = f"k1 = {options.k1}, k2 = {options.k2}, λ = {options.weight:g}"
    return f"k-reciprocal encoding of the query and its best {settings.query.shortlist} matches, {chosen}"


def _groups(found: Found, listed: Listed) -> list[FoundGroup]:
    return [
        FoundGroup(
            rank=match.rank,
            identity=match.identity,
            domain=match.domain,
            score=match.score,
            decision=match.decision,
            best=match.id,
            entries=entries,
            cameras=cameras,
        )
        for match, entries, cameras in zip(found.matches, listed.entries, listed.cameras, strict=True)
    ]
