from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from sil_cli.errors import UsageError
from sil_cli.runtime import SilentReporter
from sil_cli.settings import SyntheticSettings
from sil_cli.synthetic import generate
from sil_cli.synthetic.generate import domain_names, generate_domains
from sil_cli.synthetic.identity import draw_person, season

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sil_cli.data.reading import Reading

SMALL = SyntheticSettings(
    domains=2, train_identities=3, test_identities=7, cameras=3, images_per_camera=2, height=64, width=32, seed=5
)


def draw(folder: Path, options: SyntheticSettings, workers: int = 1) -> list[Reading]:
    return generate_domains(folder, options, SilentReporter(), workers=workers)


def digests(readings: Sequence[Reading]) -> dict[str, str]:
    return {
        f"{reading.name}/{record.path}": hashlib.sha256((reading.root / record.path).read_bytes()).hexdigest()
        for reading in readings
        for record in reading.records
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[Reading]:
    return draw(tmp_path_factory.mktemp("small"), SMALL)


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_workers(small: list[Reading], tmp_path: Path) -> None:
    again = draw(tmp_path, SMALL, workers=2)
    assert digests(again) == digests(small)
    assert [list(reading.records) for reading in again] == [list(reading.records) for reading in small]


def test_who_is_drawn_and_when_is_pinned(small: list[Reading]) -> None:
    """A change of these means other images for the same seed: then raise `READER_VERSION`."""
    people = [repr(draw_person(5, 1, number, season(5, 1, 1.0))) for number in range(20)]
    records = [record.model_dump_json() for reading in small for record in reading.records]
    drawn = "\n".join([*people, *records])
    assert generate.READER_VERSION == 1
    assert (
        hashlib.sha256(drawn.encode()).hexdigest() == "6c15248036319ccad9ff91667b1c73e2f65b21aa4f37683e8ee4336ddda25d25"
    )


def test_people_stand_upright(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="width = 65 is more than height = 64"):
        draw(tmp_path, SMALL.model_copy(update={"width": 65}))
    assert not list(tmp_path.iterdir())


def test_another_seed_gives_other_pictures(small: list[Reading], tmp_path: Path) -> None:
    other = draw(tmp_path, SMALL.model_copy(update={"seed": 6, "domains": 1}))
    assert not set(digests(other).values()) & set(digests(small).values())


def test_never_two_images_alike(small: list[Reading]) -> None:
    assert set(Counter(digests(small).values()).values()) == {1}


def test_more_people_leave_the_first_ones_as_they_were(small: list[Reading], tmp_path: Path) -> None:
    more = draw(tmp_path, SMALL.model_copy(update={"train_identities": 4, "domains": 1}))
    first = {key: value for key, value in digests(small).items() if key.startswith(f"{small[0].name}/images/train/")}
    now = digests(more)
    assert first
    assert {key: now[key] for key in first} == first


def test_readings_hold_what_the_options_ask_for(small: list[Reading]) -> None:
    assert [reading.name for reading in small] == ["harbour", "orchard"]
    for reading in small:
        assert reading.reader == "synthetic"
        assert reading.generated
        assert reading.options == SMALL.model_dump(mode="json")
        people = defaultdict(set)
        for record in reading.records:
            people["distractor" if record.distractor else record.split].add(record.identity)
            assert record.domain == reading.name
            assert record.camera in {"c1", "c2", "c3"}
            assert not record.junk
            assert isinstance(record.time, datetime)
        assert len(people["train"]) == 3
        assert len(people["query"]) == 7
        assert people["gallery"] == people["query"]
        assert len(people["distractor"]) == 1
        assert not people["train"] & people["query"]
        assert not people["distractor"] & (people["train"] | people["query"])


def test_each_person_and_camera_has_its_images_and_one_of_them_is_the_query(small: list[Reading]) -> None:
    for reading in small:
        seen = defaultdict(list)
        for record in reading.records:
            seen[record.identity, record.camera].append(record)
        cameras = Counter(identity for identity, _ in seen)
        assert min(cameras.values()) >= 2
        for records in seen.values():
            assert len(records) == SMALL.images_per_camera
            splits = Counter(record.split for record in records)
            if records[0].distractor:
                assert splits == {"gallery": 2}
            elif "train" in splits:
                assert splits == {"train": 2}
            else:
                assert splits == {"query": 1, "gallery": 1}


def test_some_people_miss_some_cameras(tmp_path: Path) -> None:
    options = SyntheticSettings(
        domains=1, train_identities=20, test_identities=1, cameras=4, images_per_camera=2, height=32, width=16
    )
    cameras = defaultdict(set)
    for record in draw(tmp_path, options)[0].records:
        cameras[record.identity].add(record.camera)
    counts = Counter(len(found) for found in cameras.values())
    assert counts[4] > counts[3] > 0
    assert set(counts) <= {2, 3, 4}


def test_times_and_frames_run_forwards_together(small: list[Reading]) -> None:
    for reading in small:
        by_person = defaultdict(list)
        for record in reading.records:
            assert record.time is not None
            by_person[record.identity].append((record.frame, record.time, record.camera))
        for moments in by_person.values():
            moments.sort()
            assert [time for _, time, _ in moments] == sorted({time for _, time, _ in moments})
            changes = sum(a[2] != b[2] for a, b in pairwise(moments))
            assert changes == len({camera for _, _, camera in moments}) - 1


def test_images_are_rgb_jpegs_of_the_size_asked_for_and_lie_where_the_records_say(small: list[Reading]) -> None:
    for reading in small:
        paths = [record.path for record in reading.records]
        assert paths == sorted(paths)
        files = [path.relative_to(reading.root).as_posix() for path in reading.root.rglob("*.jpg")]
        assert sorted(files) == paths
        for path in paths:
            with Image.open(reading.root / path) as image:
                assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (32, 64))


def channel_means(readings: Sequence[Reading]) -> np.ndarray:
    """Mean and standard deviation of each channel of each network: (networks, 6)."""
    rows = []
    for reading in readings:
        pixels = np.stack([np.asarray(Image.open(reading.root / record.path)) for record in reading.records]) / 255
        rows.append(np.concatenate([pixels.mean((0, 1, 2)), pixels.std((1, 2)).mean(0)]))
    return np.stack(rows)


def test_the_style_gap_separates_the_networks(tmp_path: Path) -> None:
    spread = {}
    for gap in (0.0, 1.0):
        options = SyntheticSettings(
            domains=4, train_identities=1, test_identities=1, cameras=40, images_per_camera=2, height=32, width=16,
            style_gap=gap,
        )  # fmt: skip
        spread[gap] = np.ptp(channel_means(draw(tmp_path / str(gap), options)), axis=0)
    assert spread[0.0].max() < 0.1
    assert (spread[1.0][:3] > 1.5 * spread[0.0][:3]).all()
    assert spread[1.0].max() > 0.15


def test_names_never_run_out() -> None:
    names = domain_names(30)
    assert len(set(names)) == 30
    assert names[:4] == ["harbour", "orchard", "atrium", "viaduct"]
    assert names[12] == "harbour2"


class _Stopped(SilentReporter):
    """A reporter that is interrupted after the first images."""

    def advance(self, count: int = 1, **facts: float | str) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_passes_through_and_leaves_no_worker(tmp_path: Path, workers: int) -> None:
    import multiprocessing

    with pytest.raises(KeyboardInterrupt):
        generate_domains(tmp_path, SMALL, _Stopped(), workers=workers)
    assert not multiprocessing.active_children()


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(OSError, match="file"):
        draw(blocked, SMALL)


def test_drawing_needs_only_its_own_arguments(tmp_path: Path) -> None:
    """A sitting drawn alone, out of order, gives the bytes it gives within the whole."""
    _, sittings = generate._plan(tmp_path, SMALL, 1, "orchard")
    for split in ("train", "query", "gallery"):
        (tmp_path / "images" / split).mkdir(parents=True)
    alone = [generate.draw_sitting(sittings[4]), (tmp_path / sittings[4].images[0].path).read_bytes()]
    generate.draw_sitting(sittings[0])
    assert alone == [generate.draw_sitting(sittings[4]), (tmp_path / sittings[4].images[0].path).read_bytes()]
