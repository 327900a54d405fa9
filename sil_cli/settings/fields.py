"""What sections of settings are made of: the kinds of values that several of them take."""

from __future__ import annotations

import os
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from sil_cli.errors import UsageError, visible
from sil_cli.files import as_on_disk, composed
from sil_cli.times import AmbiguousTimeError, TimeReader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo

StyleName = Literal["none", "mixstyle", "dsu", "efdmix", "dir-mixstyle", "batch-style", "dbs", "ubs"]
Precision = Literal["auto", "float32", "bfloat16"]
TrainPrecision = Literal["auto", "float32", "bfloat16", "float16"]
NetworkKind = Literal["wardrobes", "cameras"]
PublishedBy = Literal[
    "torchvision", "torchreid", "bag-of-tricks", "transreid-resnet", "transreid-vit", "transreid-deit"
]
EngineName = Literal["auto", "torch", "onnxruntime", "openvino"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Deviation = Annotated[float, Field(gt=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1, lt=2**31)]  # what torch, NumPy and SQLite count with has an end
Count = Annotated[int, Field(ge=0, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Stages = Annotated[
    tuple[Positive, ...],
    Field(min_length=1),
    BeforeValidator(lambda value: [value] if isinstance(value, int) else value),
]


_TIMES = "write a time as 2024, 2024-05, 2024-05-01, 2024-05-01T08:30 or 2024-05-01T08:30+02:00"


def _iso_time(value: object) -> object:
    """Read a time as indexing does; a year or a month alone is its first moment. Pydantic takes numbers for seconds."""
    if isinstance(value, bool | float):
        raise ValueError(_TIMES)
    text = value.isoformat() if isinstance(value, date) else str(value)  # TOML has times of its own
    if re.fullmatch(r"[0-9]{4}(-[0-9]{2})?", text):
        text = f"{text}-01-01"[:10]
    try:
        return TimeReader().parse(text)
    except AmbiguousTimeError as error:
        raise ValueError(f"it may be {error}: {_TIMES}") from None
    except ValueError:
        raise ValueError(_TIMES) from None


_NO_NAME = re.compile(r'[/\\:*?"<>|]')
_WINDOWS_OWN = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE)
_LONGEST_NAME = 150  # bytes; names of files allow 255, of which endings and our own additions need some


def check_name(name: str) -> str:
    """The name itself, where it can be that of a folder on any system, and lies where it is put.

    Raises:
        ValueError: It is a path, is hidden or looks like an option, or some system can't keep it.
    """
    if not name.strip() or _NO_NAME.search(name) or visible(name) != name:
        raise ValueError('must be a name: not empty, and without / \\ : * ? " < > | and control characters')
    if name[0] in ".- " or name[-1] in ". ":
        raise ValueError("must not begin with a dot, a dash or a space, nor end with a dot or a space")
    if _WINDOWS_OWN.fullmatch(name):
        raise ValueError(f"must be another name: Windows keeps {name} for itself")
    if len(name.encode()) > _LONGEST_NAME:
        raise ValueError(f"must be shorter: it takes {len(name.encode())} bytes, and {_LONGEST_NAME} are possible")
    return name


Name = Annotated[str, AfterValidator(check_name)]
"""A name that becomes a folder's: of a data set, a case of a protocol, a method that is compared."""

Moment = Annotated[datetime, BeforeValidator(_iso_time)]


def _rate_as_text(value: object) -> object:
    """The text of a rate that was written as a number: TOML knows no other way to read 1e-3."""
    return {0.01: "1e-2", 0.001: "1e-3", 0.0001: "1e-4"}.get(value, value) if isinstance(value, float) else value


FalseAcceptRate = Annotated[Literal["1e-2", "1e-3", "1e-4"], BeforeValidator(_rate_as_text)]


_ZONE = re.compile(r"[\w+-]{1,100}(/[\w+-]{1,100}){0,3}", re.ASCII)


def find_zone(name: str) -> tzinfo | None:
    """The time zone of a name such as Europe/Berlin; None for `local`, the machine's own.

    Raises:
        UsageError: There is no such name.
    """
    if name == "local":
        return None
    if name.upper() == "UTC":
        return UTC
    fix = "Use a name such as Europe/Berlin, UTC, or local."
    if not _ZONE.fullmatch(name):  # zoneinfo takes any other for the name of a package to import from, dots and all
        raise UsageError(f"'{name}' is not a time zone.", fix)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(f"'{name}' is not a time zone.", fix) from error


class Section(BaseModel):
    """A group of settings: unknown keys are refused, values can't be changed afterwards.

    Numbers are finite, and no number is written as true or false, which pydantic takes for 1 and 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _one_spelling(cls, value: object, info: ValidationInfo) -> object:
        """Take paths as the disk spells them, and all other text in composed letters, as all labels are."""
        is_path = Path in set(_plain_kinds(cls.model_fields[info.field_name or ""].annotation))
        if isinstance(value, list | tuple):
            return [_spelt(each, is_path=is_path) for each in value]
        return _spelt(value, is_path=is_path)

    @field_validator("*", mode="before")
    @classmethod
    def _no_booleans_for_numbers(cls, value: object, info: ValidationInfo) -> object:
        given = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(each, bool) for each in given):
            kinds = set(_plain_kinds(cls.model_fields[info.field_name or ""].annotation))
            if bool not in kinds and kinds & {int, float}:
                raise ValueError("write a number, not true or false")
        return value


def _spelt(value: object, *, is_path: bool) -> object:
    if not isinstance(value, str | Path) or str(value).isascii():
        return value
    if is_path:
        return as_on_disk(Path(value))
    return value if os.path.isfile(value) else composed(str(value))  # noqa: PTH113 -- text that may name a file


def _plain_kinds(annotation: Any) -> Iterator[Any]:
    """The types that an annotation is made of."""
    inner = get_args(annotation)
    if not inner:
        yield annotation
    for each in inner:
        yield from _plain_kinds(each)
