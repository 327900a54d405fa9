"""What the commands do, as functions: arguments by keyword, progress by a callback, results as the commands' classes.

Settings are resolved as those of the commands are: arguments over SIL_* variables over `sil.toml` in the working folder
over the defaults. Anything that a user can mend is a `SilError`. `import sil_cli` hands these on by name.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sil_cli.files import access
from sil_cli.runtime import SilentReporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sil_cli.evaluation.results import EvaluateResult, TargetsResult
    from sil_cli.footage.crop import CropResult
    from sil_cli.gallery.results import IndexResult
    from sil_cli.models.styles import Style
    from sil_cli.people.find import FindResult
    from sil_cli.preparation.prepare import PrepareResult
    from sil_cli.runtime import Reporter, Task
    from sil_cli.search.query_results import QueryResult
    from sil_cli.settings import Settings
    from sil_cli.settings.fields import StyleName
    from sil_cli.training.train import TrainResult

    AnyPath = str | Path
    Progress = Callable[[str, int, int | None], None]
    """Hears of long work: what is being done, how much of it is done, and how much there is, None where unknown."""


def prepare(
    reader: str = "synthetic",
    root: AnyPath | None = None,
    *,
    out: AnyPath | None = None,
    protocol: str | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> PrepareResult:
    """Prepare data sets, as `sil prepare-data` does.

    Args:
        reader: The layout of the raw data: `auto`, `folders`, `csv`, `market1501`, …; or `synthetic` to draw people.
        root: The raw data's folder, archive or list file.
        out: Where the data set goes; by default into `data`, by its name.
        protocol: Prepare all that this protocol needs of the raw data sets below `root`, instead.
        settings: Any other setting by its key, `{"data.split": "half"}` (docs/settings.md).
        progress: Hears of the progress.

    Raises:
        SilError: The data can't be read, or a setting is wrong.
    """
    given = {"data.reader": reader, "data.root": root, "data.out": out, "data.protocol": protocol}
    if protocol is not None:
        del given["data.reader"]
        from sil_cli.preparation.prepare_protocol import prepare_protocol as prepare_data
    else:
        from sil_cli.preparation.prepare import prepare_data
    with _resolved(given, settings) as resolved:
        return prepare_data(resolved, _reporter(progress))


def train(
    sources: Sequence[AnyPath] = (),
    *,
    style: StyleName | None = None,
    recipe: str | None = None,
    run: AnyPath | None = None,
    seed: int | None = None,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """Train a model by style interleaved learning, as `sil train` does.

    Args:
        sources: Prepared data sets to learn from; by default those of the protocol in `data`.
        style: How new feature statistics are drawn: `dbs`, `ubs`, `none`, …; by default as the recipe says.
        recipe: `generated`, `paper`, `supervised`, or a .toml file; by default one that suits the sources.
        run: The run folder; by default the next number in `runs`.
        seed: Same seed, same run.
        resume: Go on with an unfinished run: `run`, or the newest one.
        settings: Any other setting by its key, `{"train.epochs": 5}` (docs/settings.md).
        progress: Hears of the progress.

    Raises:
        SilError: There is nothing to learn from, or a setting is wrong.
    """
    from sil_cli.settings import keys_in
    from sil_cli.training.train import train as run_training

    given = {
        "train.sources": tuple(map(str, sources)) or None,
        "train.recipe": recipe,
        "train.run": run,
        "train.seed": seed,
        "train.resume": resume or None,
        "style.name": style,
    }
    with _resolved(given, settings) as resolved:
        return run_training(resolved, _reporter(progress), named=keys_in(_nested(given, settings)))


def evaluate(
    model: AnyPath | None = None,
    target: AnyPath | None = None,
    *,
    embeddings: AnyPath | None = None,
    out: AnyPath | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> EvaluateResult | TargetsResult:
    """Score a model on a data set, as `sil evaluate` does; the files of the result are written.

    Args:
        model: A run folder; by default the latest finished run in `runs`.
        target: A prepared data set; by default those that were left out of training.
        embeddings: An .npz file of any project's embeddings, scored instead of a model.
        out: Where the results go; by default into the run.
        settings: Any other setting by its key, `{"evaluate.rerank": True}` (docs/settings.md).
        progress: Hears of the progress.

    Returns:
        The scores on one data set; for a target in several splits, or several targets, those of each and their means.

    Raises:
        SilError: There is no model or target, they can't be used, or a setting is wrong.
    """
    from sil_cli.evaluation.evaluate import run_evaluation

    given = {
        "evaluate.model": model,
        "evaluate.target": target,
        "evaluate.embeddings": embeddings,
        "evaluate.out": out,
    }
    with _resolved(given, settings) as resolved:
        return run_evaluation(resolved, _reporter(progress))


def index(
    images: AnyPath | Sequence[AnyPath] = (),
    *,
    gallery: AnyPath = "gallery",
    model: AnyPath | None = None,
    store: str | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> IndexResult:
    """Embed images and store them in a gallery, as `sil index-gallery` does; what is already there is skipped.

    Args:
        images: Images, folders of them, prepared data sets, .csv tables or lists of paths; by default the data set
            that was left out of training.
        gallery: The gallery's folder; made where it is missing.
        model: A run folder; by default the latest finished run in `runs`.
        store: A collection of Milvus, instead of the folder itself.
        settings: Any other setting by its key, `{"gallery.exif": True}` (docs/settings.md).
        progress: Hears of the progress.

    Raises:
        SilError: There are no images or no model, or the gallery belongs to another model or writer.
    """
    from sil_cli.gallery.index import index_gallery

    given = {
        "gallery.images": _paths(images),
        "gallery.folder": gallery,
        "gallery.model": model,
        "gallery.store": store,
    }
    with _resolved(given, settings) as resolved:
        return index_gallery(resolved, _reporter(progress))


def query(
    images: AnyPath | Sequence[AnyPath],
    *,
    gallery: AnyPath = "gallery",
    top: int | None = None,
    store: str | None = None,
    sheet: AnyPath | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> list[QueryResult]:
    """Find the people of some images in a gallery, as `sil query` does; the contact sheet is drawn, too.

    To search by embeddings, and without a sheet, use `open_gallery`.

    Args:
        images: Images, each of a person to find.
        gallery: The gallery's folder.
        top: How many matches of each to list.
        store: A collection of Milvus, instead of the folder itself.
        sheet: Where the contact sheet goes; by default `matches.jpg`.
        settings: Any other setting by its key, `{"query.filter.camera": ["c1"]}` (docs/settings.md).
        progress: Hears of the progress.

    Returns:
        The matches of each image, in the order of the images.

    Raises:
        SilError: The gallery or an image can't be used, or they belong to different models.
    """
    from sil_cli.search.search import search

    given = {
        "query.images": _paths(images),
        "query.top": top,
        "query.sheet": sheet,
        "gallery.folder": gallery,
        "gallery.store": store,
    }
    with _resolved(given, settings) as resolved:
        return search(resolved, _reporter(progress)).queries


def crop(
    videos: AnyPath | Sequence[AnyPath],
    *,
    out: AnyPath = "crops",
    detector: str | None = None,
    every: float | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> CropResult:
    """Cut people out of footage and follow them within each camera, as `sil crop` does.

    Args:
        videos: Videos, folders or lists of frames, addresses of streams.
        out: The folder of the crops and of `crops.csv`, which `index` takes.
        detector: `torchvision`, `hog`, an .onnx or .xml file, or a file of boxes.
        every: Seconds from one frame that is looked at to the next; 0: all frames.
        settings: Any other setting by its key, `{"crop.keep": 3}` (docs/settings.md).
        progress: Hears of the progress.

    Raises:
        SilError: There is no such footage, the detector or the model can't be used, or the folder can't be written.
    """
    from sil_cli.footage.crop import crop as crop_footage

    given = {"crop.videos": _paths(videos), "crop.out": out, "crop.detector": detector, "crop.every": every}
    with _resolved(given, settings) as resolved:
        return crop_footage(resolved, _reporter(progress))


def find_people(
    *,
    gallery: AnyPath = "gallery",
    store: str | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> FindResult:
    """Group the entries of a gallery into people without labels, as `sil people find` does.

    Args:
        gallery: The gallery's folder, beside whose entries people are kept.
        store: A collection of Milvus, instead of the folder itself.
        settings: Any other setting by its key, `{"people.threshold": 0.7}` (docs/settings.md).
        progress: Hears of the progress.

    Raises:
        SilError: The gallery or what is kept beside it can't be used.
    """
    from sil_cli.people.find import find_people as find

    with _resolved({"gallery.folder": gallery, "gallery.store": store}, settings) as resolved:
        return find(resolved, _reporter(progress))


def make_style(name: StyleName, **options: Any) -> Style:
    """A stylisation by its name, to put into a network of one's own.

    Args:
        name: `dbs`, `ubs`, `dir-mixstyle`, `batch-style`, `mixstyle`, `dsu`, `efdmix` or `none`.
        options: Its settings, those of `style` in docs/settings.md: `samples=2`, `concentration=0.1`, `mix=0.9`, …

    Raises:
        pydantic.ValidationError: There is no such style or setting.
    """
    from sil_cli.models.styles import make_style as make
    from sil_cli.settings.learning import StyleSettings

    return make(StyleSettings(name=name, **options))


class CallbackReporter(SilentReporter):
    """A `Reporter` that passes the progress of long work, notes and warnings to a function."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    @contextlib.contextmanager
    def task(self, label: str, total: int | None, unit: str = "") -> Iterator[Task]:
        """Report a piece of work whenever more of it is done."""
        del unit
        yield _CountedTask(self._progress, label, total)

    def note(self, text: str) -> None:
        """Pass a note on, with no counts."""
        self._progress(text, 0, 0)

    def warn(self, text: str) -> None:
        """Pass a warning on, with no counts."""
        self._progress(f"Warning: {text}", 0, 0)


class _CountedTask:
    def __init__(self, progress: Progress, label: str, total: int | None) -> None:
        self._progress, self._label, self._total, self._done = progress, label, total, 0

    def advance(self, count: int = 1, **facts: float | str) -> None:
        del facts
        self._done += count
        self._progress(self._label, self._done, self._total)


def _reporter(progress: Progress | None) -> Reporter:
    return SilentReporter() if progress is None else CallbackReporter(progress)


def _paths(given: AnyPath | Sequence[AnyPath]) -> tuple[str, ...] | None:
    return ((str(given),) if isinstance(given, str | Path) else tuple(map(str, given))) or None


@contextlib.contextmanager
def _resolved(given: Mapping[str, Any], settings: Mapping[str, Any] | None) -> Iterator[Settings]:
    """The settings of one call, which say who may read what it writes."""
    from sil_cli.settings import load_settings

    resolved = load_settings(flags=_nested(given, settings))
    with access(shared=resolved.shared):
        yield resolved


def _nested(given: Mapping[str, Any], settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """Values by their keys as nested tables; those that are None were not given."""
    nested: dict[str, Any] = {}
    for key, value in {**(settings or {}), **{key: value for key, value in given.items() if value is not None}}.items():
        *sections, name = key.split(".")
        table = nested
        for section in sections:
            table = table.setdefault(section, {})
        table[name] = value
    return nested
