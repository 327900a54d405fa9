"""A page of search results: one HTML file that needs nothing else, neither network nor scripts.

Everything that comes from file names and tables is escaped, and the page forbids itself to load or run anything.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from PIL import Image

from sil_cli.report.contact_sheet import DECISION_INKS, FRAMES, LEGEND, verdict
from sil_cli.report.trajectory import draw_trail, duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sil_cli.report.contact_sheet import Tile
    from sil_cli.report.trajectory import Stop

THUMBNAIL = (160, 320)  # pixels at most

_SIGNS = {"match": "●", "possible": "◐", "no match": "○"}
_MARKS = {"right": "✓", "wrong": "✗", "unknown": ""}
_STYLE = f"""
:root {{ color-scheme: light; }}
body {{ margin: 0; padding: 2rem; background: #f3f4f6; color: #111827; font: 16px/1.5 system-ui, sans-serif; }}
main {{ max-width: 80rem; margin: 0 auto; }}
h1 {{ font-size: 1.5rem; margin: 0 0 1rem; }} h2 {{ font-size: 1.15rem; overflow-wrap: anywhere; margin: 0; }}
h3 {{ font-size: 1rem; margin: 1.5rem 0 .5rem; }}
section {{ background: #fff; border-radius: .75rem; padding: 1.5rem; margin-bottom: 1.5rem; }}
.verdict {{ margin: .25rem 0 1rem; }} .faint {{ color: #6b7280; }}
.cards {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .75rem; padding: 0;
  margin: 0; list-style: none; }}
.card {{ border: 3px solid #9ca3af; border-radius: .5rem; padding: .5rem; font-size: .85rem; overflow-wrap: anywhere; }}
.card img, .none {{ display: block; width: 100%; height: 14rem; object-fit: contain; background: #e5e7eb; }}
.none {{ line-height: 14rem; text-align: center; color: #6b7280; }}
.card b {{ font-size: 1rem; }} .query {{ border-color: #1f2937; }}
.right {{ border-color: {FRAMES["right"]}; }} .wrong {{ border-color: {FRAMES["wrong"]}; }}
.match {{ color: {DECISION_INKS["match"]}; }} .possible {{ color: {DECISION_INKS["possible"]}; }}
.no-match {{ color: {DECISION_INKS["no match"]}; }}
.trail {{ overflow-x: auto; }} table {{ border-collapse: collapse; font-size: .9rem; }}
th, td {{ text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #e5e7eb; }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
"""


@dataclass(frozen=True)
class PageQuery:
    """One query on the page.

    Attributes:
        label: It in words.
        pictures: What was searched for; several where they were fused.
        verdict: The decision as a sentence.
        matches: In rank order.
        left_out: Matches that are not on the page.
        stops: The path through cameras and time; None where it was not asked for.
    """

    label: str
    pictures: Sequence[Tile]
    verdict: str
    matches: Sequence[Tile]
    left_out: int = 0
    stops: Sequence[Stop] | None = None


def query_page(queries: Sequence[PageQuery], *, gallery: str) -> str:
    """The whole page.

    Args:
        queries: In order.
        gallery: Where was searched.
    """
    sections = "\n".join(_section(query) for query in queries)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Matches in {escape(gallery)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>Matches in {escape(gallery)}</h1>
{sections}
</main>
</body>
</html>
"""


def _section(query: PageQuery) -> str:
    first = query.pictures[0]
    pictures = "\n".join(_card(tile, "query", "") for tile in query.pictures)
    matches = "\n".join(_match_card(first, tile) for tile in query.matches)
    more = f'<p class="faint">{query.left_out:,} more matches are not shown.</p>' if query.left_out else ""
    shown = f'<ol class="cards">\n{matches}\n</ol>' if query.matches else '<p class="faint">Nothing was found.</p>'
    return f"""<section>
<h2>{escape(query.label)}</h2>
<p class="verdict">{escape(query.verdict)}</p>
<ul class="cards">
{pictures}
</ul>
{_trail(query.stops)}
<h3>Matches</h3>
{shown}
{more}
</section>"""


def _match_card(query: Tile, match: Tile) -> str:
    kind = verdict(query, match)
    mark = f' <span title="{LEGEND[kind]}">{_MARKS[kind]}</span>' if kind != "unknown" else ""
    head = f'<b>{match.rank}</b> <span class="faint">{match.score:.3f}</span>{mark}'
    if match.decision is not None:
        name = match.decision.replace(" ", "-")
        head += f'<br><span class="{name}">{_SIGNS[match.decision]} {match.decision}</span>'
    return _card(match, kind, head)


def _card(tile: Tile, kind: str, head: str) -> str:
    lines = [] if tile.identity is None else [f"<b>{escape(tile.identity)}</b>"]
    if tile.camera is not None:
        lines.append(f"camera {escape(tile.camera)}")
    if tile.time is not None:
        lines.append(f"{tile.time:%Y-%m-%d %H:%M:%S}")
    if tile.images > 1:
        lines.append(f"tracklet of {tile.images} images")
    if tile.id is not None:
        lines.append(f'<span class="faint">entry {tile.id}</span>')
    lines.append(f'<span class="faint">{escape(tile.name or "")}</span>')
    picture = '<span class="none">no image</span>'
    if tile.image is not None:
        about = f"{'query' if tile.rank is None else f'match {tile.rank}'}: {tile.identity or tile.name or 'a person'}"
        picture = f'<img alt="{escape(about)}" src="{_thumbnail(tile.image)}">'
    return f'<li class="card {kind}">{head}{picture}{"<br>".join(lines)}</li>'


def _trail(stops: Sequence[Stop] | None) -> str:
    if stops is None:
        return ""
    if not stops:
        return '<h3>Path</h3><p class="faint">No match is good enough to be part of a path.</p>'
    rows = "\n".join(_row(number, stop) for number, stop in enumerate(stops, start=1))
    drawing = _data_address(draw_trail(stops), "PNG")
    return f"""<h3>Path</h3>
<div class="trail"><img alt="The path as a drawing; the table below says the same." src="{drawing}"></div>
<table>
<tr><th></th><th>camera</th><th>from</th><th>to</th><th>after</th><th>images</th><th>best score</th><th></th></tr>
{rows}
</table>"""


def _row(number: int, stop: Stop) -> str:
    start = f"{stop.start:%Y-%m-%d %H:%M:%S}" if stop.start else "unknown"
    end = f"{stop.end:%H:%M:%S}" if stop.end else ""
    after = duration(stop.after.total_seconds()) if stop.after is not None else ""
    notes = [stop.decision or "", "elsewhere at once" if stop.at_once else ""]
    return (
        f'<tr><td class="number">{number}</td><td>{escape(stop.camera)}</td><td>{start}</td><td>{end}</td>'
        f'<td>{after}</td><td class="number">{stop.images}</td><td class="number">{stop.score:.3f}</td>'
        f"<td>{', '.join(note for note in notes if note)}</td></tr>"
    )


def _thumbnail(image: Image.Image) -> str:
    small = image.convert("RGB")
    small.thumbnail(THUMBNAIL, Image.Resampling.LANCZOS)
    return _data_address(small, "JPEG")


def _data_address(image: Image.Image, kind: str) -> str:
    content = io.BytesIO()
    image.save(content, format=kind, quality=85, optimize=True)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content.getvalue()).decode('ascii')}"
