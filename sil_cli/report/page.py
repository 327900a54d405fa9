"""The frame of a report: one HTML file that needs nothing else, neither files nor scripts nor a network."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from sil_cli.report.html import Html, data_uri, element, join

if TYPE_CHECKING:
    from collections.abc import Sequence

# Even a mistake in escaping could then neither run a script nor load anything.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        anchor: Its place in the page's address, unique.
        title: Its heading.
        content: What stands below.
    """

    anchor: str
    title: str
    content: Html


@dataclass(frozen=True)
class Picture:
    """A chart or a drawing.

    Attributes:
        name: Of its PNG file, without the ending.
        png: The file beside the page.
        shown: What the page itself holds, and its media type; a drawing of lines is sharper as SVG.
        alternative: What it shows, in words, for those who can't see it.
        caption: The line below.
    """

    name: str
    png: bytes
    shown: tuple[bytes, str]
    alternative: str
    caption: str


def page(title: str, lead: str, top: Html, sections: Sequence[Section], made_by: str) -> str:
    """The whole document.

    Args:
        title: Its name.
        lead: The line below it.
        top: What comes before the first section.
        sections: Its parts, in order.
        made_by: The last line.
    """
    style = (resources.files("sil_cli.report") / "page.css").read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Html(style)),
    )
    links = [element("li", element("a", section.title, href=f"#{section.anchor}")) for section in sections]
    body = element(
        "body",
        element("header", element("h1", title), element("p", lead, class_="lead"), top, class_="top"),
        element("main", element("nav", element("ul", *links), aria_label="Contents"), *map(_section, sections)),
        element("footer", element("p", made_by)),
    )
    return "<!DOCTYPE html>\n" + element("html", head, "\n", body, lang="en") + "\n"


def figure(picture: Picture) -> Html:
    """A picture with its caption."""
    content, kind = picture.shown
    return element(
        "figure",
        element("img", src=data_uri(content, kind), alt=picture.alternative),
        element("figcaption", picture.caption),
    )


def figures(pictures: Sequence[Picture]) -> Html:
    """Pictures side by side where there is room."""
    return element("div", *[figure(picture) for picture in pictures], class_="figures")


def beside(large: Html, small: Html) -> Html:
    """Something to look at with its explanation to the right, or below where the page is narrow."""
    return element("div", large, element("div", small), class_="beside")


def tiles(values: Sequence[tuple[str, str, str]]) -> Html:
    """The headline numbers: (name, number, unit)."""
    each = [
        element("div", element("dt", name), element("dd", number, element("small", unit) if unit else ""))
        for name, number, unit in values
    ]
    return element("dl", *each, class_="tiles")


def paragraph(*parts: str, kind: str | None = None) -> Html:
    """A paragraph, a `note` or a `warning`."""
    return element("p", join(list(parts)), class_=kind)


def _section(section: Section) -> Html:
    return element("section", element("h2", section.title), section.content, id=section.anchor)
