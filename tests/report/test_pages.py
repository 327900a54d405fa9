from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from sil_cli.report.pages import PageFigure, ReportSection, render

HOSTILE = "<b>&\"'\x1b[2J\x9b\u202e\u200f\ud800"
SHOWN = r"&lt;b&gt;&amp;&#34;&#39;\x1b[2J\x9b\u202e\u200f\ud800"


def curves(caption: str, alternative: str = "x") -> str:
    section = ReportSection("curves", "", {"reranked": []}, [PageFigure("a", b"", alternative, caption)])
    return render("report/curves.html", section=section)


def test_every_string_is_escaped_and_obeys_nothing():
    page = curves(HOSTILE, HOSTILE)
    assert page.count(SHOWN) == 2
    assert not set("\x1b\x9b\u202e\u200f\ud800") & set(page)


def test_only_settings_keep_their_lines():
    run = {"label": "a", "settings": f"a = 1\n{HOSTILE}\n"}
    section = ReportSection("conditions", "", {"runs": [run], "facts": {"x\ny": ["1\n2"]}})
    page = render("report/conditions.html", section=section)
    assert f"<pre>a = 1\n{SHOWN}\n</pre>" in page
    assert r'<th scope="row">x\ny</th><td>1\n2</td>' in page


def test_a_value_that_is_missing_is_an_error():
    with pytest.raises(UndefinedError):
        render("report.html", title="x")


def test_vector_drawings_are_shown_where_there_are():
    assert PageFigure("a", b"1", "x", svg=b"2").source == "data:image/svg+xml;base64,Mg=="
    assert PageFigure("a", b"1", "x").source == "data:image/png;base64,MQ=="
