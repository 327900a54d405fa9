"""How well every way to compute an exported model agrees with torch in float32, measured on crops.

The crops are some that the user names, images that are being indexed, or generated people.
"""

from __future__ import annotations

import contextlib
import tempfile
from bisect import bisect_left
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.data.images import MAX_PIXELS, ImageError, load_image, quiet_decoders, resize_to
from sil_cli.data.manifest import is_dataset, load_dataset
from sil_cli.data.walking import find_image_files
from sil_cli.errors import DataError, ModelError, UsageError
from sil_cli.files import require_reachable
from sil_cli.models.engines.engine import SAME_MODEL, Engine
from sil_cli.models.record import FAILED, OPENVINO_BFLOAT16, Agreement, ExportRecord, Float32Prefix
from sil_cli.runtime import SilentReporter, is_installed
from sil_cli.settings import SyntheticSettings
from sil_cli.synthetic.generate import generate_domains

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sil_cli.models.embed import ImageFile
    from sil_cli.models.embedder import Embedder
    from sil_cli.runtime import Reporter

BATCH = 32
COMPARED = 64
CALIBRATED = 128
DRAWN = SyntheticSettings(domains=2, train_identities=1, test_identities=3, cameras=2, images_per_camera=2, seed=2207)
"""Two networks with a few people each: enough that styles, places and clothes differ."""

LONGEST_PREFIX = 0.5
"""Of a network's multiply-adds, the most that is left in float32 to make bfloat16 agree. With half of a ResNet-50 in
float32 OpenVINO is still quicker than ONNX Runtime in float32 (docs/benchmarks.md)."""


def with_agreement(
    record: ExportRecord, embedder: Embedder, graph: bytes, pixels: np.ndarray, reporter: Reporter
) -> ExportRecord:
    """The record of an export with what was measured: how well every engine agrees, and what makes bfloat16 agree.

    Args:
        record: Of the export.
        embedder: The model, on the CPU in eval mode.
        graph: The ONNX file's content.
        pixels: Crops (N, height, width, 3).
        reporter: Is warned of an engine that fails.

    Raises:
        ModelError: ONNX Runtime fails, which is what every other machine can have.
    """
    import torch

    from sil_cli.models.engines.torch_engine import TorchEngine

    truth = _embedded(TorchEngine(embedder, record.model.fingerprint, device=torch.device("cpu")), pixels)
    agreement = {}
    prefix = None
    with reporter.task("Comparing with torch", None) as task:
        for how, make in _engines(embedder, record, graph):
            try:
                agreement[how] = _compared(how, _embedded(make(), pixels), truth)
                if how == OPENVINO_BFLOAT16 and agreement[how].min < SAME_MODEL:
                    prefix, agreement[how] = _shortest_prefix(record, graph, pixels, truth) or (None, agreement[how])
            except ModelError as error:
                if how.startswith("onnxruntime"):
                    raise
                reporter.warn(f"{error.what} It is not used for this model.")
                agreement[how] = FAILED
            task.advance()
    return record.model_copy(update={"agreement": agreement, "float32_front": prefix})


def _engines(embedder: Embedder, record: ExportRecord, graph: bytes) -> Iterator[tuple[str, Callable[[], Engine]]]:
    """Every way to compute this model here, besides torch in float32: the key of its agreement, and what makes it."""
    import torch

    from sil_cli.models.engines.exported_engine import (
        OnnxRuntimeEngine,
        OpenVinoEngine,
        openvino_multiplies_bfloat16,
    )
    from sil_cli.models.engines.torch_engine import TorchEngine
    from sil_cli.models.precision import wants_bfloat16

    cpu = torch.device("cpu")
    yield f"onnxruntime {record.precision}", partial(OnnxRuntimeEngine, record, graph)
    if is_installed("openvino"):
        yield f"openvino {record.precision}", partial(OpenVinoEngine, record, graph)
        if record.precision == "float32" and openvino_multiplies_bfloat16():
            yield OPENVINO_BFLOAT16, partial(OpenVinoEngine, record, graph, bfloat16=True)
    if record.precision == "float32" and wants_bfloat16("auto", cpu):
        yield (
            "torch bfloat16",
            partial(TorchEngine, embedder, record.model.fingerprint, device=cpu, bfloat16=True),
        )


def _shortest_prefix(
    record: ExportRecord, graph: bytes, pixels: np.ndarray, truth: np.ndarray
) -> tuple[Float32Prefix, Agreement] | None:
    """The least of the network's beginning that has to stay in float32 for the rest to agree in bfloat16.

    What the first layers round off, all that follow pass on: of a ResNet-50 the first stage makes up more than half of
    the error with a sixth of the multiply-adds. More in float32 agrees better, so the search halves.

    Returns:
        The prefix, and the agreement with it; None where the longest is not enough.
    """
    from sil_cli.models.engines.exported_engine import OpenVinoEngine
    from sil_cli.models.engines.onnx_file import OnnxFile
    from sil_cli.models.engines.onnx_graph import find_prefixes

    file = OnnxFile(graph, record.file)
    prefixes = [each for each in find_prefixes(file) if 0 < each.share <= LONGEST_PREFIX]

    @cache
    def measured(number: int) -> Agreement:
        engine = OpenVinoEngine(record.model_copy(update={"float32_front": prefixes[number]}), graph, bfloat16=True)
        return _compared(OPENVINO_BFLOAT16, _embedded(engine, pixels), truth)

    longest = len(prefixes) - 1
    if not prefixes or measured(longest).min < SAME_MODEL:
        return None
    number = bisect_left(range(longest), SAME_MODEL, key=lambda number: measured(number).min)
    return prefixes[number], measured(number)


def _compared(how: str, embeddings: np.ndarray, truth: np.ndarray) -> Agreement:
    cosines = (truth.astype(np.float64) * embeddings).sum(axis=1)
    if not np.isfinite(cosines).all():
        raise ModelError(f"{how} gives NaN or infinite embeddings.", "Only torch can run this model.")
    return Agreement(min=float(cosines.min()), mean=float(cosines.mean()))


def _embedded(engine: Engine, pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([engine.embed(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)])


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


def given_crops(images: Path, height: int, width: int, reporter: Reporter, *, max_pixels: int = MAX_PIXELS) -> Crops:
    """A sample, always the same, of a prepared data set's gallery or of a folder of crops.

    Raises:
        UsageError: There is no such folder.
        DataError: No image in it can be read.
    """
    require_reachable(images)
    if not images.is_dir():
        raise UsageError(f"There is no folder {images}.", "Name a folder of crops or a prepared data set.")
    if is_dataset(images):
        dataset = load_dataset(images)
        records = dataset.of_split("gallery") or dataset.records
        files = [(dataset.image_path(record), record.box) for record in records if not record.junk]
    else:
        files = [(images / path, None) for path in find_image_files(images).paths]
    return crops_of(files, height, width, reporter, called=images.resolve().name, max_pixels=max_pixels)


def crops_of(
    files: Sequence[ImageFile],
    height: int,
    width: int,
    reporter: Reporter,
    *,
    called: str,
    max_pixels: int = MAX_PIXELS,
) -> Crops:
    """A sample, always the same, of image files; unreadable ones are passed over.

    Raises:
        DataError: None of them can be read.
    """
    order = np.random.default_rng(0).permutation(len(files))[: 2 * CALIBRATED]
    good: list[np.ndarray] = []
    with (
        reporter.task("Decoding crops to compare on", min(CALIBRATED, len(order)), "images") as task,
        quiet_decoders(),
    ):
        for path, box in (files[index] for index in order):
            with contextlib.suppress(ImageError):
                good.append(resize_to(load_image(path, max_pixels=max_pixels, box=box), height, width))
                task.advance()
            if len(good) == CALIBRATED:
                break
    if not good:
        raise DataError(f"None of the images of {called} can be read.", "Name crops that `sil index-gallery` accepts.")
    return Crops(calibration=np.stack(good), described=f"{called}, a sample")


def drawn_crops(height: int, width: int, reporter: Reporter) -> Crops:
    """Generated people, for want of others."""
    with tempfile.TemporaryDirectory(prefix="sil-crops-") as folder:
        generate_domains(Path(folder), DRAWN, SilentReporter(), workers=1)
        files = [(path, None) for path in sorted(Path(folder).rglob("*.jpg"))]
        return crops_of(files, height, width, reporter, called="generated people")
