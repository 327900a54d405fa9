"""Working in a folder that somebody else made: nothing outside of it is written, whatever lies in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from commands import sil

from sil_cli.errors import UsageError
from sil_cli.settings import Settings, load_settings
from sil_cli.settings.tree import OUTPUTS, refuse_outside
from sil_cli.training.run_settings import settings_to_go_on

pytestmark = pytest.mark.thorough

READ_FIRST = {
    "data.folder",
    "data.root",
    "data.images",
    "train.sources",
    "train.prototypes",
    "export.model",
    "export.calibrate_on",
    "evaluate.model",
    "evaluate.target",
    "evaluate.embeddings",
    "evaluate.fused",
    "calibrate.model",
    "calibrate.on",
    "calibrate.answers",
    "crop.model",
    "tracks.found",
    "tracks.truth",
    "tracks.groups",
    "serve.tokens",
    "serve.certificate",
    "serve.key",
    "gallery.folder",
    "gallery.images",
    "gallery.root",
    "gallery.model",
    "query.images",
    "query.batch",
    "query.model",
    "show.datasets",
    "report.runs",
}
"""Paths that are read; what is written beside them is looked at by whoever writes it."""


def paths(model=Settings, prefix: str = ""):
    for name, field in model.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        if inner is not None:
            yield from paths(field.annotation, f"{prefix}{name}.")
        elif "Path" in str(field.annotation):
            yield prefix + name


def test_every_path_is_known_for_an_output_or_an_input() -> None:
    assert set(paths()) - READ_FIRST == set(OUTPUTS)


@pytest.fixture
def work(tmp_path, monkeypatch):
    (tmp_path / "work/inside").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "work/away").symlink_to(tmp_path / "outside")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def nested(key: str, value: object) -> dict[str, dict[str, object]]:
    section, _, name = key.partition(".")
    return {section: {name: value}}


@pytest.mark.parametrize("key", OUTPUTS)
@pytest.mark.parametrize("path", ["/tmp/x.jpg", "../x.jpg", "inside/../../x.jpg", "away/x.jpg", "away"])
def test_a_found_file_names_no_output_elsewhere(work, key, path) -> None:
    section, _, name = key.partition(".")
    (work / "sil.toml").write_text(f"[{section}]\n{name} = '{path}'\n")
    with pytest.raises(UsageError, match="set by a file found in the working folder") as caught:
        load_settings()
    assert f"--set {key}={path}" in caught.value.fix
    assert "--config sil.toml" in caught.value.fix
    assert load_settings(config=Path("sil.toml")).is_users_own(key)
    assert load_settings(flags=nested(key, "../mine.jpg")).is_users_own(key)


def test_a_variable_is_the_users_own(work, monkeypatch) -> None:
    (work / "sil.toml").write_text("[query]\nsheet = '../x.jpg'\n")
    monkeypatch.setenv("SIL_QUERY__SHEET", "../mine.jpg")
    assert load_settings().is_users_own("query.sheet")


def test_outputs_inside_are_fine_and_not_the_users_own(work) -> None:
    (work / "sil.toml").write_text(f"[query]\nsheet = 'inside/x.jpg'\nhtml = '{work}/inside/new/x.html'\n")
    settings = load_settings()
    assert settings.query.sheet == Path("inside/x.jpg")
    assert not settings.is_users_own("query.sheet")


def test_a_recipe_names_no_output_elsewhere(work) -> None:
    with pytest.raises(UsageError, match=r"query.html = ../x.html"):
        load_settings(recipe={"query": {"html": "../x.html"}})


def test_default_folders_may_be_links(work) -> None:
    for name in ("data", "runs", "gallery"):
        (work / name).symlink_to("../outside")
    refuse_outside(load_settings(), "data.folder", "gallery.folder", *OUTPUTS)


@pytest.mark.parametrize(
    ("key", "command"),
    [
        ("data.folder", ("prepare-data",)),
        ("gallery.folder", ("gallery", "compact")),
        ("gallery.folder", ("gallery", "remove", "--id", "1")),
        ("evaluate.model", ("evaluate", "--target", "data/viaduct")),
        ("evaluate.embeddings", ("evaluate",)),
        ("calibrate.model", ("calibrate",)),
    ],
)
def test_what_is_written_beside_a_path_that_is_read(work, key, command) -> None:
    section, _, name = key.partition(".")
    (work / "sil.toml").write_text(f"[{section}]\n{name} = '../outside/x'\n")
    outcome = sil(*command)
    assert (outcome.code, outcome.out) == (2, "")
    assert f"{key} = ../outside/x was set by a file found in the working folder" in outcome.error
    assert not list((work.parent / "outside").iterdir())


@pytest.fixture
def diary(world, tmp_path, monkeypatch):
    """A file of the user's, outside of the working folder, which is a copy of the world."""
    shutil.copytree(world, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    path = tmp_path / "diary"
    path.write_text("dear diary")
    return path


def plant(name: str, diary: Path) -> None:
    Path(name).unlink(missing_ok=True)
    Path(name).symlink_to(diary)


def picture() -> Path:
    return sorted(Path().glob("data/*/images/query/*.jpg"))[0]


def test_a_default_sheet_replaces_a_link_itself(diary) -> None:
    plant("matches.jpg", diary)
    assert sil("query", picture()).code == 0
    assert diary.read_text() == "dear diary"
    assert not Path("matches.jpg").is_symlink()


def test_a_link_that_a_found_file_names_is_refused(diary) -> None:
    Path("sil.toml").write_text("[query]\nhtml = 'page.html'\n")
    plant("page.html", diary)
    assert sil("query", picture()).code == 2
    assert diary.read_text() == "dear diary"


def test_a_sheet_that_the_user_names_is_written_through_his_link(diary) -> None:
    plant("mine.jpg", diary)
    assert sil("query", picture(), "--sheet", "mine.jpg").code == 0
    assert Path("mine.jpg").is_symlink()
    assert diary.read_bytes().startswith(b"\xff\xd8")


def test_sheets_of_show_replace_links_themselves(diary) -> None:
    for name in ("show.jpg", "show-style.png"):
        plant(name, diary)
    assert sil("show").code == 0
    assert diary.read_text() == "dear diary"
    assert not Path("show.jpg").is_symlink()
    assert not Path("show-style.png").is_symlink()


@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_results_and_reports_are_not_written_through_a_link(diary, command) -> None:
    assert sil("evaluate").code == 0
    (run,) = Path("runs").iterdir()
    folder = run / {"evaluate": "evaluation", "report": "report"}[command]
    shutil.rmtree(folder, ignore_errors=True)
    elsewhere = diary.with_name("elsewhere")
    elsewhere.mkdir()
    folder.symlink_to(elsewhere)
    outcome = sil(command)
    assert outcome.code == 1
    assert f"{folder} is a link: what is written there would land elsewhere" in outcome.error
    assert not list(elsewhere.iterdir())


def test_the_page_of_a_report_replaces_a_link_itself(diary) -> None:
    assert sil("evaluate").code == 0
    (run,) = Path("runs").iterdir()
    (run / "report").mkdir(exist_ok=True)
    plant(str(run / "report/report.html"), diary)
    assert sil("report").code == 0
    assert diary.read_text() == "dear diary"


def test_what_a_stranger_wrote_into_a_runs_settings_names_no_output(diary) -> None:
    (run,) = Path("runs").iterdir()
    with (run / "settings.toml").open("a") as stream:
        stream.write("[data]\ncache = '../elsewhere'\n")
    with pytest.raises(UsageError, match=r"data.cache = ../elsewhere"):
        settings_to_go_on(run, Settings(), ())
