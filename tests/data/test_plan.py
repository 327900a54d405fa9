from __future__ import annotations

import pytest

from sil_cli.data.plan import protocol_names, read_plan
from sil_cli.errors import UsageError

NETWORKS = ["harbour", "orchard", "atrium"]

OWN = """
name = "ours"
source_splits = "train"
[datasets.a]
reader = "folders"
root = "first"
[datasets.b]
reader = "viper"
splits = 3
[cases.only]
sources = ["a"]
targets = ["b"]
"""


def own(tmp_path, text=OWN):
    path = tmp_path / "ours.toml"
    path.write_text(text)
    return str(path)


def test_the_fields_protocols_are_there():
    assert {"p1", "p2", "p3", "sil-4", "generated"} <= set(protocol_names())


@pytest.mark.parametrize("name", protocol_names())
def test_every_shipped_file_is_valid_and_pins_input_and_splits(name):
    plan, cases = read_plan(name, NETWORKS)
    assert cases == list(plan.all_cases)
    assert plan.about
    if not plan.generated:
        assert plan.settings["model"] == {"height": 256, "width": 128}


@pytest.mark.parametrize(
    ("name", "splits", "experiments"),
    [
        (
            "p1",
            "train+test",
            {("market1501", "cuhk02", "cuhk03", "cuhk-sysu"): ("prid2011", "grid", "viper", "ilids")},
        ),
        (
            "p2",
            "train",
            {
                ("msmt17", "cuhk-sysu", "cuhk03"): ("market1501",),
                ("market1501", "cuhk-sysu", "cuhk03"): ("msmt17",),
                ("market1501", "msmt17", "cuhk-sysu"): ("cuhk03",),
            },
        ),
        (
            "p3",
            "train+test",
            {
                ("msmt17", "cuhk-sysu", "cuhk03"): ("market1501",),
                ("market1501", "cuhk-sysu", "cuhk03"): ("msmt17",),
                ("market1501", "msmt17", "cuhk-sysu"): ("cuhk03",),
            },
        ),
        (
            "sil-4",
            "train+test",
            {
                ("dukemtmc", "msmt17", "cuhk03"): ("market1501",),
                ("market1501", "msmt17", "cuhk03"): ("dukemtmc",),
                ("market1501", "dukemtmc", "cuhk03"): ("msmt17",),
                ("market1501", "dukemtmc", "msmt17"): ("cuhk03",),
            },
        ),
    ],
)
def test_sources_and_targets_are_the_fields(name, splits, experiments):
    plan, _ = read_plan(name, NETWORKS)
    assert plan.source_splits == splits
    assert {case.sources: case.targets for case in plan.cases.values()} == experiments


def test_the_small_sets_are_tested_on_ten_splits_and_cuhk03_is_the_detectors():
    plan, _ = read_plan("p1", NETWORKS)
    assert {name: plan.datasets[name].splits for name in ("prid2011", "grid", "viper", "ilids")} == {
        "prid2011": 10,
        "grid": 10,
        "viper": 10,
        "ilids": 10,
    }
    assert plan.datasets["cuhk03"].labelled is False
    assert read_plan("sil-4", NETWORKS)[0].datasets["msmt17"].version == 1


@pytest.mark.parametrize(("name", "case"), [("p3-market1501", "market1501"), ("p3-market", "market1501")])
def test_a_case_is_named_after_the_protocol(name, case):
    plan, cases = read_plan(name, NETWORKS)
    assert cases == [case]
    assert plan.protocol(case).name == "P3 market1501"
    assert plan.protocol(case).targets == ("market1501",)


def test_generated_networks_are_left_out_one_by_one():
    plan, cases = read_plan("generated", NETWORKS)
    assert cases == NETWORKS
    assert plan.all_cases["orchard"].sources == ("harbour", "atrium")
    assert read_plan("generated-atrium", NETWORKS)[1] == ["atrium"]


def test_a_users_own_file(tmp_path):
    plan, cases = read_plan(own(tmp_path), NETWORKS)
    assert cases == ["only"]
    assert plan.protocol("only").name == "ours"
    assert plan.datasets["b"].splits == 3


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('targets = ["b"]', 'targets = ["c"]', "names c"),
        ('targets = ["b"]', 'targets = ["a"]', "learns from its target a"),
        ('root = "first"', 'root = "../first"', "below ROOT"),
        ('root = "first"', 'root = "/first"', "below ROOT"),
        ("[datasets.b]", '[datasets."x/b"]', "datasets.x/b: must be a name"),
        ("splits = 3", "splits = 0", "splits"),
        ("[cases.only]", "leave_one_out = true\n[cases.only]", "leave_one_out"),
        ('name = "ours"', "", "name"),
        ('name = "ours"', "name = ", "TOML"),
    ],
)
def test_a_file_that_makes_no_sense_says_why(tmp_path, old, new, says):
    with pytest.raises(UsageError) as raised:
        read_plan(own(tmp_path, OWN.replace(old, new)), NETWORKS)
    assert says in raised.value.what


@pytest.mark.parametrize(
    ("name", "fix"), [("p9", "p1"), ("p3-viper", "p3-"), ("sil-4-mark", None), ("no/such.toml", "Check the path")]
)
def test_an_unknown_name_gets_the_nearest(name, fix):
    if fix is None:
        assert read_plan(name, NETWORKS)[1] == ["market1501"]
        return
    with pytest.raises(UsageError) as raised:
        read_plan(name, NETWORKS)
    assert fix in raised.value.fix
