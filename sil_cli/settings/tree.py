"""All settings of all commands, in one validated model."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

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
