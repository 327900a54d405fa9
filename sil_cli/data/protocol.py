"""Which prepared data sets are learnt from, and which are only tested on: `protocol.toml` beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import tomli_w
from pydantic import Field, ValidationError, model_validator

from sil_cli.data.manifest import StrictModel, first_problem
from sil_cli.errors import DataError, one_line
from sil_cli.files import parse_toml, read_text, write_text
from sil_cli.settings import Name

if TYPE_CHECKING:
    from pathlib import Path

PROTOCOL_FILE = "protocol.toml"

SourceSplits = Literal["train", "train+test"]
"""What of a source is learnt from: its training split, or its queries and gallery too."""


class Protocol(StrictModel):
    """An experiment: sources and targets as folders beside the protocol's file, and what it pins.

    Attributes:
        name: What the field calls it, with its case ("P3 market1501"); None where it has no name.
        sources: Data sets that are learnt from.
        source_splits: What of the sources.
        targets: Data sets that are never learnt from, only tested on. One that has several random splits is a folder
            of them. `target = "a"` in the file is short for `targets = ["a"]`.
        settings: Values that it pins, by section, above the recipe's: the input size, for example.
    """

    name: str | None = None
    sources: tuple[Name, ...] = Field(min_length=1)
    source_splits: SourceSplits = "train"
    targets: tuple[Name, ...] = Field(min_length=1)
    settings: dict[str, Any] = Field({})

    @model_validator(mode="before")
    @classmethod
    def _one_target(cls, values: Any) -> Any:
        if isinstance(values, dict) and "target" in values and "targets" not in values:
            values = {key: value for key, value in values.items() if key != "target"} | {"targets": [values["target"]]}
        return values

    @property
    def layer(self) -> dict[str, Any]:
        """What it pins, as nested settings values."""
        train = self.settings.get("train", {})
        return self.settings | {"train": {"source_splits": self.source_splits, "protocol": self.name} | train}


def write_protocol(folder: Path, protocol: Protocol) -> None:
    """Write `protocol.toml` into `folder`; a single target in the short form."""
    values = protocol.model_dump(mode="json", exclude_none=True)
    if len(protocol.targets) == 1:
        values = {"target" if key == "targets" else key: value for key, value in values.items()}
        values["target"] = protocol.targets[0]
    write_text(folder / PROTOCOL_FILE, tomli_w.dumps({key: value for key, value in values.items() if value != {}}))


def read_protocol(folder: Path) -> Protocol | None:
    """The protocol in `folder`, or None where there is no file.

    Raises:
        DataError: The file can't be read or is not a protocol.
    """
    path = folder / PROTOCOL_FILE
    fix = 'It should hold sources = ["a", "b"] and targets = ["c"]; correct it, or run `sil prepare-data` again.'
    try:
        return Protocol.model_validate(parse_toml(read_text(path)))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise DataError(f"{path} is not valid: {first_problem(error)}.", fix) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read: {one_line(error)}.", fix) from error
