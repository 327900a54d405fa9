"""What commands return: the documents that `--json` prints."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Result(BaseModel):
    """A command's outcome; it checks itself when it is made."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
