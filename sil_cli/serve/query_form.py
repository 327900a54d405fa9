"""What is sent to `/api/query`: a form with images and what is searched for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from pydantic import BaseModel, Field

from sil_cli.data.images import parse_box
from sil_cli.errors import UsageError, visible
from sil_cli.settings import QuerySettings

if TYPE_CHECKING:
    from starlette.datastructures import FormData, UploadFile

    from sil_cli.data.images import Box

MOST_IMAGES = 16
MOST_FIELD = 100_000
"""Bytes of a field that is no image."""

_UPLOAD = "an upload"


@dataclass(frozen=True)
class Asked:
    """A search that somebody asks for.

    Attributes:
        wanted: The filter, the purpose and what is listed.
        images: What was uploaded, each with the box that shows the person; None for all of it.
        name: What the answer calls what was searched for: never where it lay.
    """

    wanted: QuerySettings
    images: tuple[tuple[BinaryIO, Box | None], ...]
    name: str


class QueryForm(BaseModel):
    """The fields of a search beside its images."""

    box: list[str] = Field([], description="LEFT,TOP,WIDTH,HEIGHT in each image")
    id: list[int] = Field([], description="Entries to find more like")
    camera: list[str] = []
    exclude_camera: list[str] = []
    after: str | None = None
    before: str | None = None
    identity: list[str] = []
    where: list[str] = Field([], description="KEY=VALUE")
    top: int = Field(10, ge=1, le=1000)
    min_score: float | None = None
    group: str = Field("none", description="none, identity or camera")
    rerank: bool = False
    exclude_self: bool = False
    purpose: str | None = Field(None, description="What the search is for")

    def settings(self, base: QuerySettings) -> QuerySettings:
        """What is searched for, as settings.

        Args:
            base: The server's own, which hold for what a form doesn't say.

        Raises:
            ValidationError: They make no sense.
        """
        given = self.model_dump(include={"top", "min_score", "group", "rerank", "exclude_self"})
        filter_ = self.model_dump(include={"camera", "exclude_camera", "identity", "where"})
        filter_ |= {name: value for name, value in (("after", self.after), ("before", self.before)) if value}
        given |= {"ids": self.id, "purpose": self.purpose or None, "filter": filter_}
        return QuerySettings.model_validate({**base.model_dump(), **given})


def request_body() -> dict[str, Any]:
    """How OpenAPI describes what is sent."""
    schema = QueryForm.model_json_schema()
    image = {"type": "array", "items": {"type": "string", "format": "binary"}}
    schema["properties"]["image"] = {**image, "description": "Images of the person; several are fused"}
    return {"requestBody": {"content": {"multipart/form-data": {"schema": schema}}}}


def read_form(sent: FormData, base: QuerySettings) -> Asked:
    """The search that a form asks for.

    Args:
        sent: The form.
        base: The server's own settings, which hold for what the form doesn't say.

    Raises:
        ValidationError: A field can't be that.
        UsageError: Nothing is searched for, too much is, or a box is none.
    """
    values: dict[str, Any] = {}
    files: list[UploadFile] = []
    for name, value in sent.multi_items():
        if name == "image" and not isinstance(value, str):
            files.append(value)
        elif name in _LISTS:
            values.setdefault(name, []).append(value)
        else:
            values[name] = value
    form = QueryForm.model_validate(values)
    if not files and not form.id:
        raise UsageError("No image was sent, and no entry named.", "Send `image` or `id`.")
    if len(files) + len(form.id) > MOST_IMAGES:
        raise UsageError(f"More than {MOST_IMAGES} images were sent.", "Send fewer.")
    boxes = [_box(text) for text in form.box] or [None] * len(files)
    if len(boxes) != len(files):
        raise UsageError(f"{len(boxes)} boxes don't pair with {len(files)} images.", "Give one box for each image.")
    images = tuple((each.file, box) for each, box in zip(files, boxes, strict=True))
    return Asked(form.settings(base), images, _name_of(files[0].filename) if files else f"entry {form.id[0]}")


_LISTS = frozenset(name for name, field in QueryForm.model_fields.items() if field.default == [])


def _box(text: str) -> Box | None:
    """A box as it was sent; None for an empty text, which means the whole image."""
    try:
        return parse_box(text) if text else None
    except (ValueError, OverflowError):
        raise UsageError(
            f"'{visible(text[:100])}' is not LEFT,TOP,WIDTH,HEIGHT in pixels.", "For example: 120,40,64,128."
        ) from None


def _name_of(filename: str | None) -> str:
    """What an upload is called where it came from, without its folder there."""
    return visible((filename or "").replace("\\", "/").rpartition("/")[2])[:200] or _UPLOAD
