"""Every setting of every command, in one validated model.

Where a value comes from, strongest first: the command's flags (also `--set KEY=VALUE`), environment variables
(`SIL_TRAIN__EPOCHS=5`), `sil.toml` in the working folder or `--config FILE`, the recipe, the defaults of the sections.
The defaults are the paper's (arXiv 2207.03132) wherever it gives a value.
"""

from sil_cli.settings.fields import Name, Section, check_name, find_zone
from sil_cli.settings.finding import EvaluateSettings, GallerySettings, QuerySettings, RerankSettings, ShowSettings
from sil_cli.settings.footage import CropSettings, TrackSettings
from sil_cli.settings.learning import (
    DataSettings,
    FootageSettings,
    ModelSettings,
    StyleSettings,
    SupervisedSettings,
    SyntheticSettings,
    TrainSettings,
)
from sil_cli.settings.loading import (
    keys_in,
    known_keys,
    load_settings,
    merge,
    parse_assignment,
    read_recipe,
    read_toml,
    recipe_names,
    resolve,
    setting,
)
from sil_cli.settings.tree import Settings, refuse_fetching, refuse_outside

__all__ = [
    "CropSettings",
    "DataSettings",
    "EvaluateSettings",
    "FootageSettings",
    "GallerySettings",
    "ModelSettings",
    "Name",
    "QuerySettings",
    "RerankSettings",
    "Section",
    "Settings",
    "ShowSettings",
    "StyleSettings",
    "SupervisedSettings",
    "SyntheticSettings",
    "TrackSettings",
    "TrainSettings",
    "check_name",
    "find_zone",
    "keys_in",
    "known_keys",
    "load_settings",
    "merge",
    "parse_assignment",
    "read_recipe",
    "read_toml",
    "recipe_names",
    "refuse_fetching",
    "refuse_outside",
    "resolve",
    "setting",
]
