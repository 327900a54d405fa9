"""All settings of all commands, in one validated model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from sil_cli.runtime import DeviceName
from sil_cli.settings.finding import (
    BenchmarkSettings,
    CalibrateSettings,
    CompareSettings,
    EvaluateSettings,
    ExportSettings,
    GallerySettings,
    InferenceSettings,
    QuerySettings,
    ReportSettings,
    RerankSettings,
    ShowSettings,
)
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
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    style: StyleSettings = StyleSettings()
    train: TrainSettings = TrainSettings()
    supervised: SupervisedSettings = SupervisedSettings()
    distributed: DistributedSettings = DistributedSettings()
    inference: InferenceSettings = InferenceSettings()
    export: ExportSettings = ExportSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    benchmark: BenchmarkSettings = BenchmarkSettings()
    compare: CompareSettings = CompareSettings()
    calibrate: CalibrateSettings = CalibrateSettings()
    rerank: RerankSettings = RerankSettings()
    gallery: GallerySettings = GallerySettings()
    query: QuerySettings = QuerySettings()
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
