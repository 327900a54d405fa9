"""What scores mean: thresholds measured on labelled people, and what comes up by chance in one gallery.

`calibration.json` lies beside a model, `chance.json` in a gallery.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from sil_cli.data.manifest import first_problem
from sil_cli.errors import GalleryError, ModelError, one_line
from sil_cli.evaluation.metrics import Share
from sil_cli.files import read_bytes, write_json
from sil_cli.results import Result

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from sil_cli.evaluation.open_set import PairScores

CALIBRATION_FILE, CHANCE_FILE = "calibration.json", "chance.json"
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
        named: The user named the labelled people; otherwise they are of the sources that the model was trained on.
    """

    format: Literal["sil-calibration"] = "sil-calibration"
    version: Literal[1] = 1
    fingerprint: str
    manifests: tuple[str, ...] = ()
    named: bool = False

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


class ChanceTail(Result):
    """How often entries of other people lie above z: exp(a + b·z + c·z²) from `start` on.

    Attributes:
        start: The z from which on the parabola holds; below, the chance is interpolated to 0.5 at z = 0.
        coefficients: a, b < 0 and c ≤ 0 of the logarithm, of z − `start`.
    """

    start: float = Field(gt=0.0, lt=1e6)
    coefficients: tuple[
        Annotated[float, Field(gt=-50.0, lt=math.log(0.5))],
        Annotated[float, Field(gt=-1e6, lt=0.0)],
        Annotated[float, Field(gt=-1e6, le=0.0)],
    ]

    def above(self, z: NDArray[np.floating]) -> NDArray[np.float64]:
        """The chance that an entry of somebody else lies above each z; NaN stays NaN."""
        a, b, c = self.coefficients
        beyond = np.maximum(z - self.start, 0.0)
        common = np.interp(z, [-1.0, 0.0, self.start], [0.0, math.log(0.5), a])
        chances: NDArray[np.float64] = np.exp(np.where(z >= self.start, a + b * beyond + c * beyond**2, common))
        return chances

    def z_of(self, chance: float) -> float:
        """The z above which entries of somebody else lie with this chance, 0..1; `start` for all that are higher."""
        a, b, c = self.coefficients
        left = a - math.log(max(chance, 1e-300))
        if left <= 0:
            return self.start
        return self.start + (-left / b if c == 0 else (-b - math.sqrt(b * b - 4 * c * left)) / (2 * c))


class Chance(Result):
    """What `chance.json` says beside a gallery's model.

    Attributes:
        fingerprint: The model whose embeddings it was learnt from.
        entries: How many the gallery had.
        pairs: How many pairs of its entries were counted.
        pairs_from: What told that two entries are of different visits: `cameras`, `times` (ten minutes apart), or `all`
            where neither is known: every pair of two entries.
        mates: How many entries of one person were counted for each among them, as far as they stand out, and left out.
        tail: What was learnt.
        factor: By what factor the number expected may be off where it comes to 1, by chance alone: 90 % of bootstrap
            samples of the queries lie between the two.
    """

    format: Literal["sil-chance"] = "sil-chance"
    version: Literal[1] = 1
    fingerprint: str
    entries: int = Field(ge=1)
    pairs: int = Field(ge=1)
    pairs_from: Literal["cameras", "times", "all"]
    mates: float = Field(ge=0.0)
    tail: ChanceTail
    factor: tuple[float, float]


def write_chance(folder: Path, chance: Chance | None) -> None:
    """Write `chance.json` into a gallery's folder, or delete it there for None."""
    if chance is None:
        (folder / CHANCE_FILE).unlink(missing_ok=True)
    else:
        write_json(folder / CHANCE_FILE, chance.model_dump(mode="json"))


def read_chance(folder: Path) -> Chance | None:
    """What was learnt of the gallery in this folder; None where nothing was.

    Raises:
        GalleryError: The file is damaged.
    """
    path = folder / CHANCE_FILE
    try:
        return Chance.model_validate_json(read_bytes(path))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        why = first_problem(error) if isinstance(error, ValidationError) else one_line(error)
        raise GalleryError(f"{path} can't be read: {why}.", "Delete it; `sil index-gallery` makes it again.") from error
