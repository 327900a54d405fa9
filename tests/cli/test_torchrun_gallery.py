"""`torchrun -m sil_cli index-gallery`: killed, hung, stopped, too many; what comes of it is what one process makes."""

import json
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import settings_flags, sil
from odd_process import COMMIT
from PIL import Image
from torchrun import end, errors_in, only_error_in, start_torchrun, wait_for

from sil_cli.gallery.stores import open_store

pytestmark = pytest.mark.thorough

IMAGES = 45
BATCH = 4
FLAGS = ["--set", f"gallery.batch={BATCH}", "--set", "gallery.export=false", "--json"]


def odd(rank: int, what: str) -> list[object]:
    return [sys.executable, Path(__file__).parents[1] / "odd_process.py", str(rank), what]


NOBODY = odd(0, "same")


def contents(folder: Path, store: str | None = None) -> dict[str, tuple[str, np.ndarray]]:
    """What a gallery holds, by path; a path that comes twice fails."""
    with open_store(folder, store, patience=60).open() as gallery:
        ids = gallery.ids().tolist()
        entries, vectors = gallery.entries(ids), gallery.vectors(ids)
    held = {entries[one].path: (entries[one].content_hash, vector) for one, vector in zip(ids, vectors, strict=True)}
    assert len(held) == len(ids) == len(gallery)
    return held


def require_same(found, expected, *, atol: float) -> None:
    assert found.keys() == expected.keys()
    for path, (content, vector) in expected.items():
        assert found[path][0] == content
        np.testing.assert_allclose(found[path][1], vector, rtol=0, atol=atol)


@pytest.fixture(scope="module")
def crops(tmp_path_factory) -> Path:
    """Pictures, a broken one among them, and every picture another."""
    folder = tmp_path_factory.mktemp("spread") / "crops"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for number in range(IMAGES):
        Image.fromarray(rng.integers(0, 256, (48, 24, 3), dtype=np.uint8)).save(folder / f"{number:02d}.png")
    (folder / "20a.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def model(world) -> Path:
    return world / "runs/001-dbs"


@pytest.fixture(scope="module")
def alone(crops, model) -> dict[str, tuple[str, np.ndarray]]:
    """What one process makes of them."""
    folder = crops.parent / "alone"
    outcome = sil("index-gallery", crops, "--model", model, *FLAGS, "--gallery", folder)
    assert outcome.code == 0, outcome.err
    assert outcome.document["added"] == IMAGES
    return contents(folder)


def test_one_of_two_is_killed_and_another_run_embeds_the_rest(crops, model, alone, tmp_path) -> None:
    arguments = ["index-gallery", crops, "--model", model, *FLAGS, "--gallery", tmp_path / "g"]
    process = start_torchrun(2, *arguments, cwd=tmp_path, command=odd(1, "kill:2"))
    _, err = end(process)
    assert process.returncode == 1
    told = only_error_in(err)
    assert "Process 1 of 2 has ended or stopped responding" in told
    assert "run the same command again" in err
    document = sil(*arguments).document
    assert document["unchanged"] == 2 * COMMIT
    assert document["embedded"] == document["added"] == IMAGES - 2 * COMMIT
    require_same(contents(tmp_path / "g"), alone, atol=1e-6)


@pytest.mark.slow
def test_one_of_two_is_killed_and_torchrun_starts_both_anew(crops, model, alone, tmp_path) -> None:
    arguments = ["index-gallery", crops, "--model", model, *FLAGS, "--gallery", tmp_path / "g"]
    command, options = odd(1, "kill:2"), ["--max-restarts=1"]
    process = start_torchrun(2, *arguments, cwd=tmp_path, command=command, options=options)
    out, err = end(process)
    assert process.returncode == 0, err
    document = json.loads(out)  # one document, of the second attempt
    assert document["unchanged"] == 2 * COMMIT
    assert document["embedded"] == document["added"] == IMAGES - 2 * COMMIT
    assert [failed["path"] for failed in document["failed"]] == ["20a.png"]
    told = only_error_in(err)
    assert "Process 1 of 2 has ended or stopped responding" in told
    require_same(contents(tmp_path / "g"), alone, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("store", [None, "crops.db"], ids=["folder", "lite"])
@pytest.mark.parametrize(("count", "victim", "then"), [(2, 0, 3), (3, 1, 1), (5, 4, 2)])
def test_what_a_kill_left_is_taken_up_by_any_number(
    crops, model, alone, tmp_path, monkeypatch, count, victim, then, store
) -> None:
    if store is not None:
        pytest.importorskip("pymilvus")
    monkeypatch.chdir(tmp_path)
    where = ["--gallery", tmp_path / "g", *(["--store", store] if store else [])]
    arguments = ["index-gallery", crops, "--model", model, *FLAGS, *where]
    process = start_torchrun(count, *arguments, cwd=tmp_path, command=odd(victim, "kill:2"))
    _, err = end(process)
    assert process.returncode == 1
    told = only_error_in(err)
    assert f"Process {victim} of {count} has ended or stopped responding" in told
    before = contents(tmp_path / "g", store)
    assert COMMIT <= len(before) < IMAGES
    if then == 1:
        document = sil(*arguments).document
    else:
        process = start_torchrun(then, *arguments, cwd=tmp_path, command=NOBODY)
        out, err = end(process)
        assert process.returncode == 0, err
        document = json.loads(out)
    assert document["unchanged"] == len(before)
    assert document["embedded"] == document["added"] == IMAGES - len(before)
    require_same(contents(tmp_path / "g", store), alone, atol=1e-6)


@pytest.mark.slow
def test_a_milvus_server_that_is_killed_under_several_processes(crops, model, alone, tmp_path, own_server) -> None:
    """One of three dies; while the others' successors embed the rest, the server dies too."""
    store = f"{own_server.url}/spread_{tmp_path.name.replace('-', '_')}"
    arguments = ["index-gallery", crops, "--model", model, *FLAGS, "--gallery", tmp_path / "g", "--store", store]
    process = start_torchrun(3, *arguments, cwd=tmp_path, command=odd(1, "kill:2"))
    _, err = end(process)
    assert process.returncode == 1
    assert "Process 1 of 3 has ended or stopped responding" in err
    own_server.kill()
    process = start_torchrun(2, *arguments, cwd=tmp_path, command=NOBODY)
    own_server.start()
    out, err = end(process)
    own_server.wait()
    assert process.returncode == 0, err
    document = json.loads(out)
    assert document["unchanged"] + document["embedded"] == IMAGES
    assert 0 < document["embedded"] < IMAGES
    require_same(contents(tmp_path / "g", store), alone, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("images", [IMAGES, 3])
def test_any_number_of_processes_makes_the_same_bytes(crops, model, tmp_path, count, images) -> None:
    """Also more processes than there are images, or than there are batches."""
    some = tmp_path / "crops"
    some.mkdir()
    for picture in sorted(crops.iterdir())[-images:]:
        shutil.copyfile(picture, some / picture.name)
    arguments = ["index-gallery", some, "--model", model, *FLAGS]
    expected = sil(*arguments, "--gallery", tmp_path / "alone").document
    process = start_torchrun(count, *arguments, "--gallery", tmp_path / "spread", cwd=tmp_path)
    out, err = end(process)
    assert process.returncode == 0, err
    assert json.loads(out) | {"gallery": "", "option": ""} == expected | {"gallery": "", "option": ""}
    assert expected["added"] == images - len(expected["failed"])
    segments = sorted((tmp_path / "alone/vectors").iterdir())
    assert segments
    for segment in segments:
        assert segment.read_bytes() == (tmp_path / "spread/vectors" / segment.name).read_bytes()
    process = start_torchrun(2, *arguments, "--gallery", tmp_path / "spread", cwd=tmp_path)
    again = json.loads(end(process)[0])
    assert (again["added"], again["embedded"], again["unchanged"]) == (0, 0, expected["added"])


@pytest.mark.slow
def test_a_hung_process_is_named_and_the_rest_can_follow(crops, model, alone, tmp_path) -> None:
    arguments = ["index-gallery", crops, "--model", model, *FLAGS, "--gallery", tmp_path / "g"]
    impatient = [*arguments, *settings_flags({"distributed.timeout": 6})]
    process = start_torchrun(2, *impatient, cwd=tmp_path, command=odd(1, "stop:2"))
    _, err = end(process)
    assert process.returncode == 1
    assert errors_in(err) == ["Error: Process 1 of 2 has ended or stopped responding, so the others stop too."]
    assert "run the same command again" in err
    assert sil(*arguments).document["unchanged"] == 2 * COMMIT
    require_same(contents(tmp_path / "g"), alone, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_stopping_all_keeps_what_was_embedded(crops, model, alone, tmp_path, how) -> None:
    arguments = ["index-gallery", crops, "--model", model, *FLAGS, "--gallery", tmp_path / "g"]
    process = start_torchrun(2, *arguments, cwd=tmp_path, command=odd(1, "stop:2"))  # so that there is time to stop
    wait_for(lambda: len(list((tmp_path / "g/vectors").glob("*"))) >= 2, process)
    process.send_signal(how)
    _, err = end(process)
    assert process.returncode == 1
    assert len(errors_in(err)) <= 1, err
    assert "Traceback" not in err.partition("torch/distributed")[0]
    assert sil(*arguments).document["unchanged"] >= COMMIT
    require_same(contents(tmp_path / "g"), alone, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["index-gallery", "train"])
def test_other_packages_on_one_machine_are_named(world, crops, model, tmp_path, command) -> None:
    arguments = {
        "index-gallery": [crops, "--model", model, "--gallery", tmp_path / "g"],
        "train": ["--run", tmp_path / "run", "--set", "data.folder=" + str(world / "data")],
    }[command]
    process = start_torchrun(2, command, *arguments, cwd=tmp_path, command=odd(1, "package"))
    _, err = end(process)
    assert process.returncode == 1
    told = only_error_in(err)
    assert "Process 1 does not agree with process 0: the version of numpy = 2.0.9 (there " in told
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "g/vectors").exists()


@pytest.mark.slow
def test_a_second_launch_into_the_same_gallery_is_refused(crops, model, alone, tmp_path) -> None:
    arguments = ["index-gallery", crops, "--model", model, *FLAGS, "--gallery", tmp_path / "g"]
    first = start_torchrun(2, *arguments, cwd=tmp_path, command=odd(1, "stop:2"), options=["--standalone"])
    try:
        wait_for(lambda: len(list((tmp_path / "g/vectors").glob("*"))) >= 2, first)
        second = start_torchrun(2, *arguments, cwd=tmp_path, options=["--standalone"])
        _, err = end(second)
        assert second.returncode == 1
        told = only_error_in(err)
        assert "is being written by process" in told
    finally:
        first.terminate()
        end(first)
    assert sil(*arguments).document["total"] == IMAGES
