from __future__ import annotations

import math

import pytest

from sil_cli.errors import UsageError
from sil_cli.synthetic.options import SyntheticOptions


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("domains", 0),
        ("domains", 101),
        ("domains", True),
        ("train_identities", 0),
        ("test_identities", 0),
        ("cameras", 1),
        ("images_per_camera", 1),
        ("images_per_camera", 2.5),
        ("height", 31),
        ("height", 5000),
        ("width", 8),
        ("seed", -1),
        ("seed", 2**32),
        ("style_gap", -0.1),
        ("style_gap", 3.0),
        ("style_gap", math.nan),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(UsageError) as caught:
        SyntheticOptions(**{name: value})  # type: ignore[arg-type]
    assert name in caught.value.what
    assert name in caught.value.fix


def test_people_stand_upright() -> None:
    with pytest.raises(UsageError, match="width = 65"):
        SyntheticOptions(height=64, width=65)


def test_the_defaults_are_valid_and_turn_into_json_values() -> None:
    values = SyntheticOptions().as_dict()
    assert SyntheticOptions(**values) == SyntheticOptions()
    assert all(isinstance(value, int | float) for value in values.values())
