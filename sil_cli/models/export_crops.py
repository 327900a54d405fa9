"""The crops that an export is compared and calibrated on: some that the user names, or generated ones."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.data.images import Box, ImageError, load_image, quiet_decoders, resize_to
from sil_cli.data.manifest import is_dataset, load_dataset
from sil_cli.data.parallel import map_in_order
from sil_cli.data.walking import find_image_files
from sil_cli.errors import DataError, UsageError
from sil_cli.runtime import SilentReporter, cpu_count
from sil_cli.synthetic.generate import generate_domains
from sil_cli.synthetic.options import SyntheticOptions

if TYPE_CHECKING:
    from sil_cli.runtime import Reporter

COMPARED = 64
CALIBRATED = 128
DRAWN = SyntheticOptions(domains=2, train_identities=1, test_identities=3, cameras=2, images_per_camera=2, seed=2207)
"""Two networks with a few people each: enough that styles, places and clothes differ."""


@dataclass(frozen=True)
class Crops:
    """Decoded crops of the model's input size.

    Attributes:
        calibration: uint8 (N, height, width, 3), to calibrate on.
        pixels: The first of them, to compare embeddings on.
        described: Where they come from, without paths.
    """

    calibration: np.ndarray
    described: str

    @property
    def pixels(self) -> np.ndarray:
        """Those to compare embeddings on."""
        return self.calibration[:COMPARED]


def given_crops(images: Path, height: int, width: int, reporter: Reporter) -> Crops:
    """A sample, always the same, of a prepared data set's gallery or of a folder of crops.

    Raises:
        UsageError: There is no such folder.
        DataError: No image in it can be read.
    """
    if not images.is_dir():
        raise UsageError(f"There is no folder {images}.", "Name a folder of crops or a prepared data set.")
    if is_dataset(images):
        dataset = load_dataset(images)
        records = dataset.of_split("gallery") or dataset.records
        files = [(dataset.image_path(record), record.box) for record in records if not record.junk]
    else:
        files = [(images / path, None) for path in find_image_files(images).paths]
    return crops_of(files, height, width, reporter, called=images.resolve().name)


def crops_of(
    files: Sequence[tuple[Path, Box | None]], height: int, width: int, reporter: Reporter, *, called: str
) -> Crops:
    """A sample, always the same, of image files; unreadable ones are passed over.

    Raises:
        DataError: None of them can be read.
    """
    order = np.random.default_rng(0).permutation(len(files))[: 2 * CALIBRATED]
    chosen = [files[index] for index in order]
    good: list[np.ndarray] = []

    def decode(file: tuple[Path, Box | None]) -> np.ndarray | None:
        try:
            return resize_to(load_image(file[0], box=file[1]), height, width)
        except ImageError:
            return None

    with (
        reporter.task("Decoding crops to compare on", min(CALIBRATED, len(chosen)), "images") as task,
        quiet_decoders(),
        closing(map_in_order(decode, chosen, workers=cpu_count())) as chunks,
    ):
        for chunk in chunks:
            good += [pixels for pixels in chunk if pixels is not None]
            task.advance(len(chunk))
            if len(good) >= CALIBRATED:
                break
    if not good:
        raise DataError(f"No image of {called} can be read.", "Name crops that `sil index-gallery` would take.")
    return Crops(calibration=np.stack(good[:CALIBRATED]), described=f"{called}, a sample")


def drawn_crops(height: int, width: int, reporter: Reporter) -> Crops:
    """Generated people, for want of others."""
    with tempfile.TemporaryDirectory(prefix="sil-crops-") as folder:
        generate_domains(Path(folder), DRAWN, SilentReporter(), workers=1)
        files = [(path, None) for path in sorted(Path(folder).rglob("*.jpg"))]
        return crops_of(files, height, width, reporter, called="generated people")
