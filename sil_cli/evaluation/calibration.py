"""The scores above which two images are said to show one person, kept beside the model: `calibration.json`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from sil_cli.data.manifest import first_problem
from sil_cli.errors import ModelError
from sil_cli.evaluation.metrics import Share
from sil_cli.files import one_line, read_bytes, write_json
from sil_cli.results import Result

if TYPE_CHECKING:
    from pathlib import Path

    from sil_cli.evaluation.open_set import PairScores

CALIBRATION_FILE = "calibration.json"
Cosine = Annotated[float, Field(ge=-1.001, le=1.001)]
Decision = Literal["match", "possible", "no match"]


class MeasuredThresholds(Result):
    """Thresholds on the cosine similarity of one model's embeddings, and what they were measured on.

    Attributes:
        made_on: The labelled images, in words.
        same_pairs: Pairs of images of one person, from different cameras where there are, that were compared.
        different_pairs: Pairs of images of different people.
        thresholds: By false accept rate ("1e-2", "1e-3", "1e-4"), the score that so few pairs of different people
            reach. Rates that fewer than ten of the different pairs make up are absent.
        match: A score from here on is a match.
        possible: A score from here on, below `match`, is a possible match.
    """

    made_on: str
    same_pairs: int = Field(ge=1)
    different_pairs: int = Field(ge=1)
    thresholds: dict[str, Cosine]
    match: Cosine
    possible: Cosine

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.possible > self.match:
            raise ValueError("`possible` lies above `match`")
        return self


class Calibration(MeasuredThresholds):
    """What `calibration.json` says.

    Attributes:
        fingerprint: The model that the thresholds hold for.
        manifests: Checksums of the manifests of the data sets they were measured on.
    """

    format: Literal["sil-calibration"] = "sil-calibration"
    version: Literal[1] = 1
    fingerprint: str
    manifests: tuple[str, ...] = ()

    def decide(self, score: float) -> Decision:
        """What a cosine similarity means; NaN is no match."""
        if math.isnan(score) or score < self.possible:
            return "no match"
        return "match" if score >= self.match else "possible"

    def check(self, pairs: PairScores, *, manifest: str | None) -> CalibrationCheck:
        """What the rates of the thresholds come to on a test of the data set with this manifest."""

        def observe(threshold: float) -> ObservedRates:
            false, true = pairs.accepted(threshold)
            return ObservedRates(threshold=threshold, false_accept_rate=false, true_accept_rate=true)

        return CalibrationCheck(
            made_on=self.made_on,
            made_on_target=manifest in self.manifests,
            match=observe(self.match),
            possible=observe(self.possible),
        )


class ObservedRates(Result):
    """What a calibrated threshold comes to on the target."""

    threshold: float
    false_accept_rate: Share
    true_accept_rate: Share


class CalibrationCheck(Result):
    """How the model's calibration holds on the target.

    Attributes:
        made_on: The labelled images that thresholds were measured on.
        made_on_target: The target is among them, so this is no test.
    """

    made_on: str
    made_on_target: bool
    match: ObservedRates
    possible: ObservedRates


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
