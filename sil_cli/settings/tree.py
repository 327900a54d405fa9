"""All settings of all commands, in one validated model, and what a file that was merely found may decide of them.

People unpack folders that others made, and work inside them. What a `sil.toml` in the working folder says is taken, and
so is the recipe that it names, but it writes nowhere outside of the working folder, no credential goes where it says,
and nothing is fetched because it says so. What the user names (a flag, a variable, a file given by `--config`) is the
user's own, and goes anywhere.
"""

from __future__ import annotations

import shlex
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from sil_cli.errors import UsageError
from sil_cli.runtime import DeviceName
from sil_cli.settings.finding import (
    BenchmarkSettings,
    CalibrateSettings,
    CompareSettings,
    EvaluateSettings,
    ExportSettings,
    GallerySettings,
    InferenceSettings,
    PeopleSettings,
    QuerySettings,
    ReportSettings,
    RerankSettings,
    ServeSettings,
    ShowSettings,
)
from sil_cli.settings.footage import CropSettings, TracksSettings
from sil_cli.settings.learning import (
    DataSettings,
    DistributedSettings,
    ModelSettings,
    StyleSettings,
    SupervisedSettings,
    TrainSettings,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


class Settings(BaseModel):
    """All settings of all commands."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: DeviceName = Field("auto", description="where the network runs")
    shared: bool = Field(
        False, description="others may read and change what is written, as the umask lets them; default: only you"
    )
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    style: StyleSettings = StyleSettings()
    train: TrainSettings = TrainSettings()
    supervised: SupervisedSettings = SupervisedSettings()
    distributed: DistributedSettings = DistributedSettings()
    inference: InferenceSettings = InferenceSettings()
    export: ExportSettings = ExportSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    tracks: TracksSettings = TracksSettings()
    benchmark: BenchmarkSettings = BenchmarkSettings()
    compare: CompareSettings = CompareSettings()
    calibrate: CalibrateSettings = CalibrateSettings()
    rerank: RerankSettings = RerankSettings()
    crop: CropSettings = CropSettings()
    gallery: GallerySettings = GallerySettings()
    query: QuerySettings = QuerySettings()
    people: PeopleSettings = PeopleSettings()
    serve: ServeSettings = ServeSettings()
    show: ShowSettings = ShowSettings()
    report: ReportSettings = ReportSettings()

    _users_own: frozenset[str] = PrivateAttr(frozenset())

    @property
    def given(self) -> dict[str, Any]:
        """The nested values that some layer gave; without those that are defaults."""
        return self.model_dump(exclude_unset=True)

    @property
    def users_own(self) -> frozenset[str]:
        """The keys, in dotted form, of the settings that the user named; see `is_users_own`."""
        return self._users_own

    def is_users_own(self, key: str) -> bool:
        """Whether the user named this setting: by a flag, a variable or a file given by `--config`.

        Defaults are not, nor is what a recipe says, or a `sil.toml` that was found in the working folder: that may be
        a stranger's.
        """
        return key in self._users_own

    def with_users_own(self, keys: Iterable[str]) -> Self:
        """The same settings, of which the user named these too, or the program chose them itself."""
        changed = self.model_copy()
        changed._users_own = self._users_own.union(keys)
        return changed


OUTPUTS = (
    "data.out",
    "data.cache",
    "train.run",
    "train.runs",
    "export.out",
    "evaluate.out",
    "evaluate.save_embeddings",
    "benchmark.out",
    "calibrate.sheet",
    "crop.out",
    "crop.overlay",
    "crop.html",
    "query.out",
    "query.sheet",
    "query.html",
    "query.people",
    "show.sheet",
    "report.out",
)
"""Settings that only say where is written to; whenever settings are resolved, they are looked at."""


def refuse_outside(settings: Settings, *keys: str) -> None:
    """Refuse paths that a found file names outside of the working folder; call it before anything is written there.

    A default is left alone: a working folder whose `data` or `runs` is a link is ordinary.

    Args:
        settings: All settings.
        keys: Of the paths, `gallery.folder`; those that the user named are left alone too.

    Raises:
        UsageError: One is outside, or a link that a found file names leads there.
    """
    for key in keys:
        value = _value(settings, key)
        if value is None or settings.is_users_own(key) or value == _value(type(settings)(), key):
            continue
        for path in value if isinstance(value, tuple) else (value,):
            if _leads_out(Path(path)):
                raise UsageError(
                    f"{key} = {path} was set by a file found in the working folder, and points outside that folder.",
                    f"If you want that, use --set {shlex.quote(f'{key}={path}')}, or --config sil.toml where that file "
                    "is your own.",
                )


def refuse_fetching(settings: Settings, *keys: str) -> None:
    """Refuse to connect anywhere because a found file says so; call it before anything is fetched by these settings.

    Raises:
        UsageError: One of them has a value that a layer gave, which the user didn't name.
    """
    for key in keys:
        section, _, name = key.partition(".")
        if name in settings.given.get(section, {}) and not settings.is_users_own(key):
            value = _value(settings, key)
            shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
            raise UsageError(
                f"{key} = {shown} was set by a file found in the working folder, which may make nothing be fetched.",
                f"If you want that, use --set {shlex.quote(f'{key}={shown}')}, or --config sil.toml where that file is "
                "your own.",
            )


def _value(settings: Settings, key: str) -> Any:
    return reduce(getattr, key.split("."), settings)


def _leads_out(path: Path) -> bool:
    """Whether a path leads out of the working folder, or may do so by a link on the way."""
    here = Path.cwd()
    parts = (here / path).parts[len(here.parts) :]
    if not (here / path).is_relative_to(here) or ".." in parts:
        return True
    return any(here.joinpath(*parts[:length]).is_symlink() for length in range(1, len(parts) + 1))
