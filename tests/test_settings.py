"""Where settings come from, and what is said of wrong ones."""

import math
import unicodedata
from pathlib import Path

import pytest
from pydantic import BaseModel

from sil_cli.errors import UsageError
from sil_cli.settings import (
    Section,
    Settings,
    check_name,
    known_keys,
    load_settings,
    merge,
    parse_assignment,
    read_recipe,
    recipe_names,
)


def test_flags_over_environment_over_file_over_recipe_over_defaults(empty, monkeypatch) -> None:
    recipe = {"train": {"epochs": 2, "iterations": 2, "seed": 2, "identities": 2}}
    (empty / "sil.toml").write_text("[train]\niterations = 3\nseed = 3\nidentities = 3\n")
    monkeypatch.setenv("SIL_TRAIN__SEED", "4")
    monkeypatch.setenv("SIL_TRAIN__IDENTITIES", "4")
    train = load_settings(flags={"train": {"identities": 5}}, recipe=recipe).train
    assert (train.instances, train.epochs, train.iterations, train.seed, train.identities) == (4, 2, 3, 4, 5)


def test_a_named_file_replaces_sil_toml(empty) -> None:
    (empty / "sil.toml").write_text("[train]\nseed = 3\n")
    (empty / "other.toml").write_text("[train]\nepochs = 9\n")
    train = load_settings(config=empty / "other.toml").train
    assert (train.seed, train.epochs) == (1, 9)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (
            {"train": {"epoks": 5}},
            r"'train.epoks' is not a setting \(on the command line\). Did you mean 'train.epochs'",
        ),
        ({"trian": {"epochs": 5}}, "Did you mean 'train'"),
        ({"train": {"epochs": 0}}, "train.epochs = 0 is not valid .*It must be at least 1"),
        (
            {"style": {"name": "usb"}},
            "style.name = 'usb' is not valid .*'none', 'mixstyle', .*'ubs'.* Did you mean 'ubs'?",
        ),
        ({"style": {"mix": 1.5}}, "style.mix = 1.5 is not valid .*It must be at most 1 or 'random'"),
        ({"style": {"after_stages": []}}, "style.after_stages = .* is not valid .*It must have at least 1 item[.]"),
        ({"style": {"after_stages": [1, 0]}}, "style.after_stages = 0 is not valid .*It must be at least 1"),
        ({"train": 5}, "train = 5 is not valid .*It must be a table of keys and values"),
        ({"train": {"epochs": "many"}}, "train.epochs = 'many' is not valid .*It must be a whole number[.]"),
        ({"train": {"learning_rate": "low"}}, "train.learning_rate = 'low' is not valid .*It must be a number[.]"),
        ({"query": {"fuse": "maybe"}}, "query.fuse = 'maybe' is not valid .*It must be true or false[.]"),
        ({"data": {"name": 5}}, "data.name = 5 is not valid .*It must be text[.]"),
        ({"gallery": {"folder": 5}}, "gallery.folder = 5 is not valid .*It must be a path[.]"),
        ({"train": {"learning_rate": math.inf}}, "train.learning_rate = inf is not valid .*finite"),
        ({"style": {"rho": math.nan}}, "style.rho = nan is not valid .*finite"),
        ({"supervised": {"margin": math.inf}}, "supervised.margin = inf is not valid .*finite"),
        ({"query": {"min_score": math.nan}}, "query.min_score = nan is not valid .*finite"),
        ({"train": {"epochs": True}}, "train.epochs = True is not valid .*Write a number, not true or false"),
        (
            {"train": {"milestones": [1, False]}},
            "train.milestones = .* is not valid .*Write a number, not true or false",
        ),
        ({"style": {"mix": True}}, "style.mix = True is not valid .*Write a number, not true or false"),
        (
            {"style": {"after_stages": True}},
            "style.after_stages = True is not valid .*Write a number, not true or false",
        ),
        ({"style": {"name": True}}, "style.name = True is not valid .*'none', 'mixstyle'"),
        ({"calibrate": {"match": 0.5}}, "calibrate.match = 0.5 is not valid .*'1e-2', '1e-3' or '1e-4'"),
        ({"train": {"seed": 10**20}}, "train.seed = .*less than 4294967296"),
        ({"train": {"epochs": 10**20}}, "train.epochs = .*less than 2147483648"),
        ({"distributed": {"timeout": 1e300}}, "distributed.timeout = .*at most"),
    ],
)
def test_wrong_flags_are_explained(empty, flags, told) -> None:
    with pytest.raises(UsageError, match=told):
        load_settings(flags=flags)


def test_an_unknown_key_in_a_file_is_refused_with_the_nearest(empty) -> None:
    (empty / "sil.toml").write_text("[model]\nbackbon = 'resnet18'\n")
    with pytest.raises(UsageError, match=r"'model.backbon' is not a setting \(in sil.toml\)") as caught:
        load_settings()
    assert caught.value.fix == "Did you mean 'model.backbone'?"
    assert caught.value.exit_code == 2


def test_broken_files_are_told(empty) -> None:
    (empty / "sil.toml").write_text("[model\n")
    with pytest.raises(UsageError, match=r"sil.toml can't be read"):
        load_settings()
    with pytest.raises(UsageError, match=r"no file nothing.toml"):
        load_settings(config=empty.relative_to(empty) / "nothing.toml")


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("SIL_TRAIN__EPOCS", "4", "'train.epocs' is not a setting .in SIL_TRAIN__EPOCS"),
        ("SIL_TRAN__EPOCHS", "4", "SIL_TRAN__EPOCHS is not a setting. Did you mean SIL_TRAIN__EPOCHS"),
        ("SIL_TRAIN__MILESTONES", "[4", "SIL_TRAIN__MILESTONES = .* can't be read as JSON"),
        ("SIL_TRAIN__SEED", "x", "train.seed = 'x' is not valid"),
    ],
)
def test_wrong_variables_are_explained(empty, monkeypatch, variable, value, told) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=told):
        load_settings()


def test_assignments_are_toml_or_text() -> None:
    assert parse_assignment("train.epochs=5") == {"train": {"epochs": 5}}
    assert parse_assignment("train.milestones=[1, 2]") == {"train": {"milestones": [1, 2]}}
    assert parse_assignment("model.weights=none") == {"model": {"weights": "none"}}
    assert parse_assignment("device=cpu") == {"device": "cpu"}
    for wrong in ("train.epochs", "=5", "train.=5"):
        with pytest.raises(UsageError, match="not KEY=VALUE"):
            parse_assignment(wrong)


@pytest.mark.parametrize("rate", ["1e-2", "1e-3", "1e-4", "'1e-4'", "0.01"])
def test_rates_are_numbers_or_text(empty, rate) -> None:
    settings = load_settings(flags=parse_assignment(f"calibrate.match={rate}"))
    assert float(settings.calibrate.match) == float(rate.strip("'"))


def test_an_assignment_is_of_one_key() -> None:
    with pytest.raises(UsageError, match=r"--set train\.epochs holds more than one value"):
        parse_assignment("train.epochs=2\ngarbage=1")
    assert parse_assignment("train.epochs=2  # two\n") == {"train": {"epochs": 2}}


def test_merging_goes_table_by_table() -> None:
    assert merge({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"c": 4}}) == {"a": {"b": 1, "c": 4}, "d": 3}


def test_every_whole_number_has_an_end() -> None:
    """Beyond 64 bits torch, NumPy and SQLite fail, and in the middle of the work."""
    unbounded = []
    for section in Settings.model_fields.values():
        for name, field in getattr(section.annotation, "model_fields", {}).items():
            kinds = ("int", "Annotated[int", "tuple[int, ...]", "int | None")
            written = str(field.annotation).replace("<class 'int'>", "int")
            if written in kinds and not any(type(each).__name__ in ("Lt", "Le") for each in field.metadata):
                unbounded.append(name)
    assert unbounded == ["ids"]  # of a gallery, which says that it has none of this number


def test_every_recipe_is_valid(empty) -> None:
    assert recipe_names() == ["adapt", "generated", "paper", "paper-v1", "small", "supervised"]
    for name in recipe_names():
        load_settings(recipe=read_recipe(name))
    with pytest.raises(UsageError, match=r"no recipe 'papr'. Did you mean 'paper'"):
        read_recipe("papr")


def test_the_papers_recipe_is_the_papers(empty) -> None:
    """Section "The recipe that the published results used" of the method's description, value by value."""
    settings = load_settings(recipe=read_recipe("paper"))
    model, train, style = settings.model, settings.train, settings.style
    assert (model.backbone, model.weights, model.last_stride, model.stem_relu) == ("resnet50", "imagenet", 1, False)
    assert (model.height, model.width) == (256, 128)
    assert (train.identities, train.instances, train.epochs, train.iterations) == (16, 4, 70, 200)
    assert (train.learning_rate, train.weight_decay) == (3.5e-4, 5e-4)
    assert (train.warmup_epochs, train.warmup_factor, train.milestones, train.decay) == (10, 0.1, (30, 50), 0.1)
    assert (train.temperature, train.momentum, train.flip, train.pad) == (0.05, 0.2, 0.5, 10)
    assert (style.name, style.rho, style.after_stages, style.clamp) == ("ubs", 3.0, (1,), False)
    assert (style.passes, style.probability) == ("second", 1.0)
    assert (train.method, train.prototypes, train.second_pass) == ("interleaved", "centroids", True)
    assert (train.second_pass_statistics, train.erasing, train.ema, train.select) == (True, 0.0, 0.0, "last")
    assert (style.samples, style.concentration, style.mix) == (2, 0.1, 0.9)
    # Where the published code does otherwise than this program by default.
    assert (model.interpolation, train.cameras, train.single_images, style.divisor) == (
        "bicubic",
        "others",
        "once",
        "B-1",
    )
    usual = load_settings()
    assert (usual.model.interpolation, usual.train.cameras) == ("bilinear", "spread")
    assert (usual.train.single_images, usual.style.divisor) == ("repeat", "B")


def test_the_first_versions_recipe_differs_in_its_style_alone(empty) -> None:
    first, final = (load_settings(recipe=read_recipe(name)) for name in ("paper-v1", "paper"))
    assert first.model == final.model
    assert first.train == final.train
    style = first.style
    assert (style.name, style.covariance, style.divisor) == ("dbs", "full", "B")
    assert (style.samples, style.concentration, style.mix, style.clamp) == (2, 0.1, 0.9, False)
    assert (style.passes, style.after_stages, style.probability) == ("second", (1,), 1.0)


def test_the_supervised_recipe_is_that_of_the_strong_baseline(empty) -> None:
    """Luo et al. 2019, section 3 and table 1."""
    settings = load_settings(recipe=read_recipe("supervised"))
    model, train, supervised = settings.model, settings.train, settings.supervised
    assert (train.method, settings.style.name) == ("supervised", "none")
    assert (model.backbone, model.weights, model.last_stride) == ("resnet50", "imagenet", 1)
    assert (model.height, model.width) == (256, 128)
    assert (train.identities, train.instances, train.epochs, train.milestones) == (16, 4, 120, (40, 70))
    assert (train.learning_rate, train.warmup_epochs, train.warmup_factor, train.decay) == (3.5e-4, 10, 0.1, 0.1)
    assert (train.flip, train.pad, train.erasing, train.weight_decay) == (0.5, 10, 0.5, 5e-4)
    assert (supervised.label_smoothing, supervised.margin) == (0.1, 0.3)


def test_one_stage_may_stand_for_a_list_of_it() -> None:
    assert load_settings(flags={"style": {"after_stages": 2}}).style.after_stages == (2,)
    assert load_settings(flags={"style": {"after_stages": [1, 2]}}).style.after_stages == (1, 2)


def test_every_setting_is_described_and_nothing_can_be_changed() -> None:
    def check(model: type[BaseModel]) -> None:
        for name, field in model.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, Section):
                check(kind)
            else:
                assert field.description, f"{model.__name__}.{name}"
        assert model.model_config["frozen"]
        assert model.model_config["extra"] == "forbid"

    check(Settings)
    assert "train.learning_rate" in known_keys()
    assert "data.synthetic.style_gap" in known_keys()


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("2024", "2024-01-01T00:00:00"),
        (2024, "2024-01-01T00:00:00"),  # as TOML and --set read it
        ("2024-05", "2024-05-01T00:00:00"),
        ("2024-05-07", "2024-05-07T00:00:00"),
        ("2024-05-07T08:30+02:00", "2024-05-07T08:30:00+02:00"),
    ],
)
def test_a_time_may_be_a_year_a_month_a_day_or_a_moment(said, meant):
    assert load_settings(flags={"query": {"filter": {"after": said}}}).query.filter.after.isoformat() == meant


@pytest.mark.parametrize("said", [2024.5, True, "2024-5", "0000", ""])
def test_what_is_no_time_is_told_how_times_are_written(said):
    with pytest.raises(UsageError, match="Write a time as 2024, 2024-05, 2024-05-01"):
        load_settings(flags={"query": {"filter": {"after": said}}})


NO_NAMES = [
    "../../x",
    "/tmp/x",
    "a/b",
    "a\\b",
    "C:x",
    ".",
    "..",
    ".hidden",
    "-rf",
    " x",
    "x ",
    "x.",
    "",
    " ",
    "a\nb",
    "a\0b",
]
NO_NAMES += ["a\x1b[2Jb", "a\u202eb", "con", "NUL.txt", "Com1", "LPT¹", "what?", "a|b", "x" * 151, "é" * 76]


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_becomes_a_folder_is_a_name_and_no_path(name):
    with pytest.raises(ValueError, match=r"^must (be|not) "):
        check_name(name)
    with pytest.raises(UsageError, match=r"data\.name"):
        load_settings(flags={"data": {"name": name}})


@pytest.mark.parametrize(
    "name", ["market1501", "Mine", "My Cameras (2)", "v1.0", "données", "名前", "console", "com10", "x" * 150]
)
def test_names_that_people_give_are_taken(name):
    assert load_settings(flags={"data": {"name": name}}).data.name == name


EPOCHS = "[train]\nepochs = 9\n"


@pytest.mark.parametrize(
    "content",
    [
        EPOCHS.encode("utf-8-sig"),
        EPOCHS.encode("utf-16"),
        b"\xfe\xff" + EPOCHS.encode("utf-16-be"),
        b"\xff\xfe\x00\x00" + EPOCHS.encode("utf-32-le"),
        EPOCHS.replace("\n", "\r\n").encode(),
        EPOCHS.replace("\n", "\r").encode(),
    ],
)
def test_a_file_may_be_as_editors_save_it(empty, content) -> None:
    (empty / "sil.toml").write_bytes(content)
    assert load_settings().train.epochs == 9


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[train]\nepochs = 5\0\n", "at line 2, column 11"),
        ("[data]\nname = 'Zoë'\n".encode("latin-1"), "it is not text in UTF-8: byte 17 is wrong"),
        (b"\xff\xfe[train]", "it is not text in UTF-16-LE: byte 6 is wrong"),
        (b"#" * 8_000_001, "more than 8,000,000 bytes"),
        (b"#" * 300_000, "more than 250,000 characters"),
        (b".".join([b"a"] * 100_000) + b" = 1", "a key in it is nested too deeply"),
        (b"[" + b" . ".join([b'"a"'] * 100) + b"]", "a key in it is nested too deeply"),
        (b"x = {" + b".".join([b"'a'"] * 100) + b" = 1}", "a key in it is nested too deeply"),
        (b"a = " + b"[" * 10_000 + b"]" * 10_000, "nested too deeply"),
        (b"[train]\nepochs = " + b"9" * 10_000, "10000 digits"),
        (b"[train]\nepochs = 0x" + b"f" * 10_000, r"train.epochs = … .*less than 2147483648"),
        (b"[train]\nepochs = 2024-01-01", "must be a whole number"),
    ],
)
def test_files_of_strangers_are_refused_in_two_lines(empty, content, told) -> None:
    (empty / "sil.toml").write_bytes(content)
    with pytest.raises(UsageError, match=told) as caught:
        load_settings()
    assert "sil.toml" in caught.value.what
    assert len(str(caught.value)) < 500


def test_a_key_that_is_no_text_is_told() -> None:
    with pytest.raises(UsageError, match="A key of the settings is not text"):
        load_settings(flags=parse_assignment("\udcff=5"))


def test_dots_in_values_are_no_keys(empty) -> None:
    paths = [f"a.b.c.d/{number}.jpg" for number in range(100)]
    (empty / "sil.toml").write_text(f"[gallery]\nimages = {paths}\n[style]\nrho = 1.5 # {'. ' * 100}\n")
    settings = load_settings()
    assert [str(path) for path in settings.gallery.images] == paths
    assert settings.style.rho == 1.5


@pytest.mark.parametrize(
    ("variable", "value", "example"),
    [
        ("SIL_TRAIN__MILESTONES", "3, 5", "SIL_TRAIN__MILESTONES='[3, 5]'"),
        ("SIL_QUERY__FILTER__CAMERA", "c1", """SIL_QUERY__FILTER__CAMERA='["c1"]'"""),
        ("SIL_GALLERY__IMAGES", "crops/a,b", """SIL_GALLERY__IMAGES='["crops/a", "b"]'"""),
        ("SIL_TRAIN__SOURCES", '["a"', "SIL_TRAIN__MILESTONES='[3, 5]'"),
        ("SIL_TRAIN", "epochs=5", "SIL_TRAIN__MILESTONES='[3, 5]'"),
        ("SIL_QUERY__IDS", "[" * 100_000, "SIL_TRAIN__MILESTONES='[3, 5]'"),
        ("SIL_QUERY__IDS", f"[{'9' * 5000}]", "SIL_TRAIN__MILESTONES='[3, 5]'"),
    ],
)
def test_a_list_that_is_no_json_is_told_by_its_variable(empty, monkeypatch, variable, value, example) -> None:
    monkeypatch.setenv("SIL_QUERY__TOP", "7")
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=f"^{variable} = .* can't be read as JSON") as caught:
        load_settings()
    assert caught.value.fix.endswith(f"for example {example}.")


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("SIL_TRAIN__MILESTONES", '["x"]', r"train.milestones = 'x' is not valid \(in SIL_TRAIN__MILESTONES\)"),
        ("SIL_TRAIN", '{"epochs": 0}', r"train.epochs = 0 is not valid \(in SIL_TRAIN\)"),
        ("SIL_TRAIN__NOPE", "1", r"'train.nope' is not a setting \(in SIL_TRAIN__NOPE\)"),
        ("SIL_DEVICE__X", "cpu", "SIL_DEVICE__X is not a setting. Did you mean SIL_DEVICE"),
        ("SIL_DEVISE", "cpu", "SIL_DEVISE is not a setting. Did you mean SIL_DEVICE"),
    ],
)
def test_a_wrong_value_is_told_by_its_variable(empty, monkeypatch, variable, value, told) -> None:
    monkeypatch.setenv("SIL_TRAIN__SEED", "7")
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=told):
        load_settings()


def test_variables_of_one_section_add_up(empty, monkeypatch) -> None:
    monkeypatch.setenv("SIL_TRAIN", '{"epochs": 5, "seed": 2}')
    monkeypatch.setenv("SIL_TRAIN__EPOCHS", "6")
    monkeypatch.setenv("SIL_TRAIN__MILESTONES", "[3]")
    settings = load_settings()
    assert (settings.train.epochs, settings.train.seed, settings.train.milestones) == (6, 2, (3,))
    assert settings.users_own >= {"train.epochs", "train.seed", "train.milestones"}


def test_paths_are_taken_as_the_disk_spells_them_and_other_text_composed(empty):
    nfc, nfd = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    (empty / nfd).mkdir()
    settings = load_settings(
        flags={
            "data": {"root": nfc, "out": f"new {nfd}", "name": nfd},
            "train": {"sources": [nfc, "plain"]},
            "query": {"filter": {"identity": [nfd], "camera": [nfc]}},
        }
    )
    assert settings.data.root == Path(nfd)
    assert (settings.data.out, settings.data.name) == (Path(f"new {nfd}"), nfc)
    assert settings.train.sources == (Path(nfd), Path("plain"))
    assert (settings.query.filter.identity, settings.query.filter.camera) == ((nfc,), (nfc,))
