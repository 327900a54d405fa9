"""Which prepared data sets are learnt from, and which one is left out: `protocol.toml` beside them."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sil_cli.data.manifest import first_problem
from sil_cli.errors import DataError
from sil_cli.files import one_line, write_text

if TYPE_CHECKING:
    from pathlib import Path

PROTOCOL_FILE = "protocol.toml"


class Protocol(BaseModel):
    """Sources and target of an experiment, as folders beside the protocol's file.

    Attributes:
        sources: Data sets whose training splits are learnt from.
        target: The data set that is never learnt from, only tested on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sources: tuple[str, ...] = Field(min_length=1)
    target: str


def write_protocol(folder: Path, protocol: Protocol) -> None:
    """Write `protocol.toml` into `folder`."""
    write_text(folder / PROTOCOL_FILE, tomli_w.dumps(protocol.model_dump(mode="json")))


def read_protocol(folder: Path) -> Protocol | None:
    """The protocol in `folder`, or None where there is no file.

    Raises:
        DataError: The file can't be read or is not a protocol.
    """
    path = folder / PROTOCOL_FILE
    fix = 'It should hold sources = ["a", "b"] and target = "c"; correct it, or run `sil prepare-data` again.'
    try:
        return Protocol.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise DataError(f"{path} is not valid: {first_problem(error)}.", fix) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path} can't be read: {one_line(error)}.", fix) from error
