"""The sections of a report that show people: rank lists, where images agree, maps of embeddings."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from sil_cli.errors import SilError
from sil_cli.evaluation.report_files import read_details
from sil_cli.report.charts import map_chart
from sil_cli.report.contact_sheet import contact_sheet
from sil_cli.report.figures import as_png
from sil_cli.report.html import Html, element, join
from sil_cli.report.overlay import overlay
from sil_cli.report.page import Picture, Section, figures, paragraph
from sil_cli.report.projection import project
from sil_cli.report.rank_lists import KINDS, choose, image_html, rank_list_html, sheet_row
from sil_cli.report.report_inputs import EVALUATION_FOLDER, evaluations
from sil_cli.report.report_sections import Part, numbered, run_heading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from sil_cli.models.embedder import Embedder
    from sil_cli.report.projection import Projection
    from sil_cli.report.report_inputs import RunInputs
    from sil_cli.report.report_model import Agreement

IDENTITIES_SHOWN, CAMERAS_SHOWN, DOMAINS_SHOWN = 14, 16, 16
OF_A_DOMAIN = 300
FEW_PLACES = 32
MAP_SIZE = (144, 288)
RANK_LISTS_TEXT = (
    "Each line is a query with its first matches by cosine similarity: ✓ and a full frame for the same person, ✗ and a "
    "dashed frame for another. Images of the query's person by the query's own camera don't count and are left out. "
    "Queries are chosen by average precision, of each person at most one a group; typical ones lie nearest the median."
)
AGREEMENT_TEXT = (
    "The cosine similarity of two images is a sum over the places of the feature map of either, so each place has an "
    "exact share in it. Left the query, right the match: the shares in either picture add up to the similarity below. "
    "Colours are relative to the largest share of the pair."
)
_TITLES = {"best": "Best queries", "typical": "Typical queries", "worst": "Worst queries"}


def rank_lists_part(runs: Sequence[RunInputs], count: int) -> Part:
    """The best, typical and worst queries with their first matches."""
    pictures, content, notes = [], [], []
    for number, run in enumerate(runs, start=1):
        content.append(run_heading(run, runs))
        chosen = choose(run.details, count)
        lists = {kind: [rank_list_html(one, run.images.open) for one in chosen[kind]] for kind in KINDS}
        notes += [run.images.why] if run.images.why else []
        missing = f"{len(run.images.missing):,} images can't be opened; grey tiles stand for them."
        notes += [missing] if run.images.missing and run.images.dataset is not None else []
        content += [paragraph(note, kind="warning") for note in notes[-2:] if note in (run.images.why, missing)]
        for kind in KINDS:
            content += [element("h4", _TITLES[kind]), *lists[kind]]
            rows = [sheet_row(one, run.images.open) for one in chosen[kind]]
            if rows:
                png = _png(contact_sheet(rows))
                pictures.append(_file_only(numbered(f"rank-lists-{kind}", number, runs), png, _TITLES[kind]))
    return Part(Section("rank-lists", "Rank lists", join([paragraph(RANK_LISTS_TEXT), *content])), pictures, notes)


def agreement_part(runs: Sequence[RunInputs], models: Mapping[str, Embedder], device: torch.device) -> Part:
    """Where a query and its first matches agree, for a best, a typical and a worst query."""
    from sil_cli.report.report_model import agreements

    pictures, content, notes = [], [], []
    for number, run in enumerate(runs, start=1):
        content.append(run_heading(run, runs))
        dataset, rows, places = run.images.dataset, [], (0, 0)
        for kind, lists in choose(run.details, 1).items():
            if dataset is None or run.label not in models:
                continue
            try:
                found = [each for one in lists for each in agreements(models[run.label], one, dataset, device)]
            except SilError as error:
                notes.append(error.what)
                break
            if found:
                places = found[0].maps[0].shape
                pairs = [(each, *_overlays(each)) for each in found]
                content += [element("h4", _TITLES[kind][:-3] + "y"), element("div", *map(_pair, pairs), class_="pairs")]
                rows.append([half for _, left, right in pairs for half in (left, right)])
        if rows:
            content.append(paragraph(_about_places(places), kind="note"))
            name = numbered("similarity-maps", number, runs)
            pictures.append(_file_only(name, _png(_montage(rows)), "Similarity maps"))
        else:
            missing = f"Similarity maps need the model of {run.label} and the images of {run.scores.target}."
            content.append(paragraph(missing, kind="note"))
    scale = paragraph("speaks against", element("span", class_="scale"), "agrees", kind="note")
    return Part(
        Section("agreement", "Where images agree", join([paragraph(AGREEMENT_TEXT), scale, *content])), pictures, notes
    )


def _about_places(places: tuple[int, ...]) -> str:
    text = f"The feature map of this model has {places[0]}×{places[1]} places."
    if places[0] * places[1] < FEW_PLACES:
        text += " So few show little: a larger input, or a last stage of stride 1, has more."
    return text


def map_part(runs: Sequence[RunInputs], how: Projection, sources: Mapping[str, Mapping[str, np.ndarray]]) -> Part:
    """Embeddings in two dimensions, coloured by identity, by camera and by domain.

    Args:
        runs: The runs.
        how: How they are laid out.
        sources: For the label of a run, embeddings of its sources by their names.
    """
    pictures, content = [], []
    for number, run in enumerate(runs, start=1):
        content.append(run_heading(run, runs))
        shown = [*_target_maps(run, how), *_domain_map(run, how, sources.get(run.label, {}))]
        named = [
            Picture(numbered(each.name, number, runs), each.png, each.shown, each.alternative, each.caption)
            for each in shown
        ]
        pictures += named
        content.append(figures(named))
        if len(named) < 3:
            note = (
                "For a map by domain, evaluate the model on another data set too, or keep the sources where they were."
            )
            content.append(paragraph(note, kind="note"))
    method = "t-SNE of the first 50 principal components" if how == "tsne" else "the first two principal components"
    text = (
        f"A sample of the embeddings, laid out by {method}. Images of one person should lie together; cameras and "
        f"domains should mix. Distances between far clusters mean little."
    )
    return Part(Section("map", "Map of embeddings", join([paragraph(text), *content])), pictures)


def _target_maps(run: RunInputs, how: Projection) -> list[Picture]:
    arrays, images = run.details.arrays, run.details.record.images
    records = [images[row] for row in arrays.sample_image.tolist()]
    points = project(arrays.sample_embedding, how)
    people = [None if record.distractor else record.identity for record in records]
    cameras = [record.camera for record in records]
    each = f"{len(records):,} images of {run.scores.target}"
    maps = [_map("map-identity", points, people, IDENTITIES_SHOWN, "identities", f"By identity: {each}.")]
    if any(camera is not None for camera in cameras):
        maps.append(_map("map-camera", points, cameras, CAMERAS_SHOWN, "cameras", f"By camera: {each}."))
    return maps


def _domain_map(run: RunInputs, how: Projection, sources: Mapping[str, np.ndarray]) -> list[Picture]:
    domains = {run.scores.target: run.details.arrays.sample_embedding} | _other_evaluations(run) | dict(sources)
    if len(domains) < 2:
        return []
    rng = np.random.default_rng(0)
    drawn = {
        name: rows[np.sort(rng.choice(len(rows), min(OF_A_DOMAIN, len(rows)), replace=False))]
        for name, rows in domains.items()
    }
    points = project(np.concatenate([rows.astype(np.float32) for rows in drawn.values()]), how)
    names: list[str | None] = [name for name, rows in drawn.items() for _ in rows]
    caption = f"By domain: the target {run.scores.target} beside {', '.join(list(drawn)[1:])}."
    return [_map("map-domain", points, names, DOMAINS_SHOWN, "domains", caption)]


def _other_evaluations(run: RunInputs) -> dict[str, np.ndarray]:
    """Samples of the other targets that the same model was evaluated on."""
    others: dict[str, np.ndarray] = {}
    for target in evaluations(run.folder):
        try:
            details = read_details(run.folder / EVALUATION_FOLDER / target)
        except SilError:
            continue
        if target != run.scores.target and details.record.fingerprint == run.scores.fingerprint:
            others[target] = details.arrays.sample_embedding
    return others


def _map(name: str, points: np.ndarray, groups: Sequence[str | None], most: int, what: str, caption: str) -> Picture:
    png = as_png(map_chart(points, groups, most=most, what=what))
    return Picture(name, png, (png, "image/png"), f"Map of embeddings, {what} in colours", caption)


def _overlays(each: Agreement) -> tuple[Image.Image, Image.Image]:
    scale = max(float(np.abs(contributions).max()) for contributions in each.maps) or 1.0
    sized = [picture.convert("RGB").resize(MAP_SIZE, Image.Resampling.BICUBIC) for picture in each.pictures]
    return overlay(sized[0], each.maps[0], scale=scale), overlay(sized[1], each.maps[1], scale=scale)


def _pair(pair: tuple[Agreement, Image.Image, Image.Image]) -> Html:
    each, left, right = pair
    verdict = "right" if each.found.right else "wrong"
    mark = element("span", f"{'✓' if each.found.right else '✗'} {each.rank}", class_=verdict)
    halves = element("div", image_html(left, "query"), image_html(right, f"match {each.rank}"))
    return element("div", halves, mark, f" · similarity {each.similarity:.3f}", class_=f"pair {verdict}")


def _montage(rows: Sequence[Sequence[Image.Image]], gap: int = 8) -> Image.Image:
    width, height = MAP_SIZE
    columns = max(len(row) for row in rows)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, len(rows) * (height + gap) + gap), "white")
    for line, row in enumerate(rows):
        for column, image in enumerate(row):
            sheet.paste(image, (gap + column * (width + gap), gap + line * (height + gap)))
    return sheet


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


def _file_only(name: str, png: bytes, alternative: str) -> Picture:
    return Picture(name, png, (b"", ""), alternative, "")
