"""HTML that is escaped unless it says that it is HTML."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

VOID = {"img", "meta", "br", "hr", "col"}


class Html(str):
    """Markup; any other string is text and gets escaped when it is put into an element."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: str | int | bool | None) -> Html:
    """An element with its children.

    Args:
        name: The tag.
        children: `Html` goes in as it is, other strings are escaped.
        attributes: A trailing underscore is dropped (`class_`), others become hyphens; None and False are left out,
            True stands alone.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def join(parts: Iterable[str]) -> Html:
    """Markup and text one after another."""
    return Html("".join(part if isinstance(part, Html) else html.escape(readable(part)) for part in parts))


def readable(text: str) -> str:
    """The text without characters that HTML does not allow (control characters, halves of surrogate pairs)."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def data_uri(content: bytes, kind: str) -> str:
    """Bytes as an address that holds them, `data:image/png;base64,...`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def table(head: list[str], rows: list[list[str]], *, class_: str = "", caption: str | None = None) -> Html:
    """A table whose first column names its rows; `Html` cells go in as they are, td elements too."""
    top = element("tr", *[element("th", each, scope="col") for each in head])
    lines = [element("tr", element("th", row[0], scope="row"), *[_cell(cell) for cell in row[1:]]) for row in rows]
    body = element("thead", top) + element("tbody", *lines)
    label = element("caption", caption) if caption else ""
    return element("div", element("table", Html(label + body), class_=class_ or None), class_="wide")


def _cell(cell: str) -> Html:
    return cell if isinstance(cell, Html) and cell.startswith("<td") else element("td", cell)


def _attribute(key: str, value: str | int | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(readable(str(value)))}"'
