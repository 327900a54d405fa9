"""Pages: one HTML file each that needs nothing else, neither files nor scripts nor a network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sil_cli.data.images import DRAWN
from sil_cli.errors import visible
from sil_cli.report.canvas import DECISION_INKS, data_uri, thumbnail_uri
from sil_cli.report.contact_sheet import FRAMES, QUERY_FRAME
from sil_cli.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

# Even a mistake in escaping could then neither run a script nor load anything.
POLICY = Markup("default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'")
_COLOURS = {
    "right": FRAMES[True],
    "wrong": FRAMES[False],
    "unknown": FRAMES[None],
    "query": QUERY_FRAME,
    **{name.replace(" ", "-"): ink for name, ink in DECISION_INKS.items()},
}


@dataclass(frozen=True)
class PageFigure:
    """A chart or a drawing on a page, and a file beside it.

    Attributes:
        name: Of its PNG file, without the ending.
        png: The file beside the page.
        svg: What the page itself holds of a drawing of lines, which is sharper so; None: the PNG.
        alternative: What it shows, in words, for those who can't see it.
        caption: The line below.
    """

    name: str
    png: bytes
    alternative: str
    caption: str = ""
    svg: bytes | None = None

    @property
    def source(self) -> str:
        """The picture as an address that holds it."""
        return data_uri(self.png, "image/png") if self.svg is None else data_uri(self.svg, "image/svg+xml")


@dataclass(frozen=True)
class ReportSection:
    """A section of a report, drawn by the template of its name.

    Attributes:
        name: Of its template in `templates/report/`, and its place in the page's address.
        title: Its heading.
        values: What its template shows.
        figures: The figures in it, which also become files.
        notes: What could not be shown, and why.
    """

    name: str
    title: str
    values: Mapping[str, object]
    figures: list[PageFigure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def render(template: str, **values: object) -> str:
    """A page, or a part of one.

    Strings are made harmless and escaped wherever a template shows them.

    Args:
        template: Its path below `sil_cli/report/templates/`.
        values: What it shows, by the names that it uses.
    """
    environment = Environment(
        loader=PackageLoader("sil_cli.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_harmless,
    )
    environment.filters.update(thumbnail=thumbnail_uri, lines=_lines)
    environment.globals.update(drawn=DRAWN, policy=POLICY, colours=_COLOURS, version=VERSION)
    return environment.get_template(template).render(values)


def _harmless(value: object) -> object:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _lines(text: str) -> Markup:
    """Text of which the line ends stay."""
    return Markup.escape(visible(text, lines=True))
