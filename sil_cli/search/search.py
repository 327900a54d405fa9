"""`sil query`: from images of a person to the gallery's best matches, a contact sheet and a page."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.data.images import pixels_in
from sil_cli.errors import GalleryError, UsageError
from sil_cli.files import sha256_of_file
from sil_cli.gallery.interface import MODEL_FOLDER, has_policy
from sil_cli.gallery.kept_model import load_for_gallery
from sil_cli.gallery.stores import address_file, gallery_store
from sil_cli.output_checks import refuse_overwriting, state_of
from sil_cli.report.canvas import require_sheet_format
from sil_cli.search.drawing import draw
from sil_cli.search.matching import Matcher, make_matcher
from sil_cli.search.queries import Query, complete_queries, embed_queries, ids_to_exclude, make_queries
from sil_cli.search.query_results import DecisionByChance, DecisionThresholds, IdentityGroup, QueryResult, QueryResults
from sil_cli.search.trajectory import find_visits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sil_cli.gallery.interface import Gallery
    from sil_cli.models.engines.engine import Engine
    from sil_cli.runtime import Reporter
    from sil_cli.search.matching import Group
    from sil_cli.search.people_in_frame import Ask
    from sil_cli.settings import Settings


def search(settings: Settings, reporter: Reporter, ask: Ask | None = None) -> QueryResults:
    """Find the people of some images in a gallery, and draw what was found.

    Args:
        settings: All of them.
        reporter: Shows the progress.
        ask: Asks whom of several people is meant, where a detector is named; None where nobody can be asked.

    Raises:
        UsageError: No image is named, the contact sheet's file type is unknown, or an image would be overwritten; or
            several people are in an image, and none of them is named.
        SilError: The gallery or an image can't be used, or they belong to different models.
    """
    if settings.query.detector is not None:
        from sil_cli.search.people_in_frame import with_boxes

        settings = with_boxes(settings, reporter, ask)
    elif settings.query.person is not None:
        raise UsageError("--person needs a detector.", "Name it with --detector, or the person's place with --box.")
    wanted = settings.query
    queries = make_queries(wanted)
    governed = has_policy(settings, settings.gallery.folder)
    if governed:
        from sil_cli.gallery.accountability.policy import require_reason

        require_reason(settings, settings.gallery.folder)
    require_sheet_format(wanted.sheet)
    outputs = {"--sheet": wanted.sheet, "--html": wanted.html}
    for option, out in outputs.items():
        refuse_overwriting(out, wanted.images, option=option)
        refuse_harming_gallery(out, settings, option=option)
    if wanted.fuse and len(queries[0].images) + len(queries[0].ids) == 1:
        reporter.note("There is only one image: nothing to fuse.")
    with gallery_store(settings).open() as gallery:
        for option, out in outputs.items():
            refuse_overwriting_entries(out, gallery, option=option)
        queries = complete_queries(queries, gallery, reporter, max_pixels=pixels_in(settings.data.max_megapixels))
        matcher = make_matcher(settings, gallery, reporter)
        images = sum(len(query.images) for query in queries)
        engine = load_own_engine(settings, gallery, reporter, images=images) if images else None
        embeddings = embed_queries(queries, gallery, engine, settings.gallery.batch)
        exclude = [ids_to_exclude(query, gallery, exclude_self=wanted.exclude_self) for query in queries]
        found = matcher.find(queries, embeddings, exclude)
    results = [make_result(settings, matcher, *each) for each in zip(queries, found, strict=True)]
    entries = [entry for query in queries for entry in query.entries]
    entries += [match for result in results for match in result.matches]
    for option, out in outputs.items():  # a tracklet's image is none that its entry's content would tell
        refuse_overwriting(out, (entry.file(settings.gallery.folder) for entry in entries), option=option)
    if governed:
        from sil_cli.search.answerable import log_drawings, log_search

        log_search(settings, queries, [result.matches for result in results])
    sheet, page = draw(queries, results, settings, reporter)
    if governed:
        log_drawings(settings, [one for one in (sheet, page) if one is not None], results)
    return QueryResults(queries=[each.model_copy(update={"sheet": sheet, "html": page}) for each in results])


def load_own_engine(settings: Settings, gallery: Gallery, reporter: Reporter, *, images: int | None) -> Engine:
    """The gallery's own model, or the one that is named, ready to embed.

    Raises:
        GalleryError: The model is missing, or another one than the gallery's.
    """
    folder = settings.query.model or gallery.folder / MODEL_FOLDER
    if settings.query.model is None and not folder.is_dir():
        raise GalleryError(
            f"{gallery.folder} has lost its model.", "Name it with --model RUN, or run `sil index-gallery` again."
        )
    return load_for_gallery(folder, settings, gallery, reporter, images=images)


def refuse_harming_gallery(out: Path | None, settings: Settings, *, option: str) -> None:
    """Refuse an output among the files that a gallery is made of: its folder, its model, its file of Milvus Lite.

    Links are followed, as they are when the output is written. It need not be one of the files that are there: the next
    command that writes might take a stranger's file for one of the gallery's own.

    Args:
        out: Where is to be written, if anywhere.
        settings: They name the gallery.
        option: The one that names `out`.

    Raises:
        UsageError: It lies there.
    """
    if out is None:
        return
    wanted = settings.gallery
    store = address_file(wanted.store) if wanted.store is not None else None
    kept = {"the gallery": wanted.folder, "the gallery's store": store, "the model": settings.query.model}
    whole = Path(os.path.realpath(out))
    for what, place in kept.items():
        if place is not None and whole.is_relative_to(os.path.realpath(place)):
            raise UsageError(
                f"{option} {out} would be written into {what}, {place}.", f"Name another file with {option} FILE."
            )


def refuse_overwriting_entries(out: Path | None, gallery: Gallery, *, option: str) -> None:
    """Refuse an output that is an image of the gallery, whether or not a query finds it.

    Raises:
        UsageError: It is one.
    """
    written = state_of(out) if out is not None else None
    if out is None or written is None or not stat.S_ISREG(written.st_mode):
        return
    same = gallery.entries(sorted(gallery.ids_of_content(sha256_of_file(out))))
    refuse_overwriting(out, (entry.file(gallery.folder) for entry in same.values()), option=option)


def make_result(settings: Settings, matcher: Matcher, query: Query, groups: Sequence[Group]) -> QueryResult:
    """What was found for a query, as it is shown."""
    wanted, folder, by_chance = settings.query, settings.gallery.folder, matcher.by_chance
    calibration = matcher.calibration if by_chance is None else None
    matches = [group[0] for group in groups]
    believed = [match for match in matches if match.decision != "no match"]
    return QueryResult(
        image=query.images[0][0] if query.images else query.entries[0].file(folder),
        query=query.label,
        fused=len(query.images) + len(query.ids),
        gallery=folder,
        identity=query.person.identity,
        camera=query.person.camera,
        decision=matcher.decide(matches),
        verdict=matcher.verdict(matches),
        thresholds=None
        if calibration is None
        else DecisionThresholds(match=calibration.match, possible=calibration.possible, made_on=calibration.made_on),
        chance=None
        if by_chance is None
        else DecisionByChance(
            searched=by_chance.searched,
            match=by_chance.match,
            possible=by_chance.possible,
            learnt_from=by_chance.chance.entries,
            factor=by_chance.chance.factor,
        ),
        reranking=_reranking(settings) if wanted.rerank else None,
        matches=matches,
        groups=[_identity_group(group) for group in groups] if matcher.limits.in_groups else None,
        trail=find_visits(believed, gap=wanted.gap) if wanted.group == "camera" else None,
        timezone=settings.gallery.timezone,
    )


def _reranking(settings: Settings) -> str:
    options = settings.rerank
    chosen = f"k1 = {options.k1}, k2 = {options.k2}, λ = {options.weight:g}"
    return f"k-reciprocal encoding of the query and its best {settings.query.shortlist} matches, {chosen}"


def _identity_group(group: Group) -> IdentityGroup:
    best = group[0]
    return IdentityGroup(
        rank=best.rank,
        identity=best.identity,
        person=best.person,
        name=best.person_name,
        domain=best.domain,
        score=best.score,
        decision=best.decision,
        expected_false_matches=best.expected_false_matches,
        best=best.id,
        entries=len(group),
        cameras=sorted({match.camera for match in group if match.camera is not None}),
    )
