from __future__ import annotations

from sil_cli.report.html import Html, data_uri, element, join, table


def test_text_is_escaped_and_markup_is_not():
    assert element("p", "<b>&\"'", element("b", "x")) == "<p>&lt;b&gt;&amp;&quot;&#x27;<b>x</b></p>"
    assert join(["a<", Html("<br>")]) == "a&lt;<br>"


def test_attributes_are_escaped_renamed_or_left_out():
    built = element("img", alt='"><script>', class_="a", http_equiv="b", hidden=True, title=None, lang=False)
    assert built == '<img alt="&quot;&gt;&lt;script&gt;" class="a" http-equiv="b" hidden>'


def test_what_html_can_not_hold_is_replaced():
    assert element("p", "a\0b\x1b\ud800c") == "<p>a\ufffdb\ufffd\ufffdc</p>"
    assert element("p", "a\0").encode("utf-8")


def test_tables_name_their_rows():
    built = table(["", "a"], [["<x>", element("td", "1", class_="best")], ["y", "2"]], caption="c")
    assert '<th scope="row">&lt;x&gt;</th><td class="best">1</td>' in built
    assert "<td>2</td>" in built


def test_data_uris_hold_the_bytes():
    assert data_uri(b"\0\1", "image/png") == "data:image/png;base64,AAE="
