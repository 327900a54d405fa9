"""What sections of settings are made of: the kinds of values that several of them take."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

StyleName = Literal["none", "mixstyle", "dsu", "efdmix", "dir-mixstyle", "batch-style", "dbs", "ubs"]
Precision = Literal["auto", "float32", "bfloat16"]
TrainPrecision = Literal["auto", "float32", "bfloat16", "float16"]
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
    """Read ISO 8601, of which a year or a month alone is its first moment; pydantic takes numbers for seconds."""
    if isinstance(value, bool | float):
        raise ValueError(_TIMES)
    if not isinstance(value, str | int):
        return value
    text = str(value)
    if re.fullmatch(r"[0-9]{4}(-[0-9]{2})?", text):
        text = f"{text}-01-01"[:10]
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(_TIMES) from None


Moment = Annotated[datetime, BeforeValidator(_iso_time)]


class Section(BaseModel):
    """A group of settings: unknown keys are refused, values can't be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)
