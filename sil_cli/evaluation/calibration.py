"""The scores from which on two pictures are said to show one person, kept beside the model: `calibration.json`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sil_cli.data.manifest import first_problem
from sil_cli.errors import ModelError
from sil_cli.files import one_line, read_bytes, write_json

if TYPE_CHECKING:
    from pathlib import Path

CALIBRATION_FILE = "calibration.json"
Cosine = Annotated[float, Field(ge=-1.001, le=1.001)]
Decision = Literal["match", "possible", "no match"]


class Calibration(BaseModel):
    """Thresholds on the cosine similarity of one model's embeddings.

    Attributes:
        fingerprint: The model that they hold for.
        made_on: The labelled images they were measured on, in words.
        same_pairs: Pairs of pictures of one person, from different cameras where there are, that were compared.
        different_pairs: Pairs of pictures of different people.
        thresholds: By false accept rate ("1e-2", "1e-3", "1e-4"), the score that this share of different pairs reaches.
            Rates that fewer than ten of the different pairs make up are absent.
        match: A score from here on is a match.
        possible: A score from here on, below `match`, is a possible match.
        manifests: Checksums of the manifests of the data sets it was made on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["sil-calibration"] = "sil-calibration"
    version: Literal[1] = 1
    fingerprint: str
    made_on: str
    same_pairs: int = Field(ge=1)
    different_pairs: int = Field(ge=1)
    thresholds: dict[str, Cosine]
    match: Cosine
    possible: Cosine
    manifests: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.possible > self.match:
            raise ValueError("`possible` lies above `match`")
        return self

    def decide(self, score: float) -> Decision:
        """What a cosine similarity means; no number is no match."""
        if math.isnan(score) or score < self.possible:
            return "no match"
        return "match" if score >= self.match else "possible"


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Write `calibration.json` into a model's folder."""
    write_json(folder / CALIBRATION_FILE, calibration.model_dump(mode="json"))


def read_calibration(folder: Path) -> Calibration | None:
    """The calibration beside a model, or None where there is none.

    Args:
        folder: The model's folder, or a file of the model in it.

    Raises:
        ModelError: The file is no calibration.
    """
    path = (folder.parent if folder.is_file() else folder) / CALIBRATION_FILE
    try:
        return Calibration.model_validate_json(read_bytes(path))
    except (FileNotFoundError, NotADirectoryError):  # an export may be named by its file
        return None
    except (OSError, ValidationError) as error:
        why = first_problem(error) if isinstance(error, ValidationError) else one_line(error)
        raise ModelError(f"{path} can't be read: {why}.", "Delete it, and run `sil calibrate` again.") from error
