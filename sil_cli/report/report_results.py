"""What `sil report` returns."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from sil_cli.results import Result


class ReportResult(Result):
    """The outcome of `sil report`.

    Attributes:
        page: The HTML file.
        pictures: The PNG files beside it.
        runs: The runs it shows.
        target: The data set that they were evaluated on.
        page_bytes: Size of the HTML file.
        projection: How embeddings were laid out in two dimensions.
        missing_images: Images of rank lists that could not be opened; grey tiles stand for them.
        notes: What the report could not show, and why.
    """

    page: Path
    pictures: list[Path]
    runs: list[Path]
    target: str
    page_bytes: int = Field(ge=1)
    projection: str
    missing_images: int = Field(ge=0)
    notes: list[str]
