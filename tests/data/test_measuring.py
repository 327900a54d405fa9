from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageStat
from scipy.linalg import sqrtm

from sil_cli.data.manifest import ImageRecord, write_dataset
from sil_cli.data.measuring import (
    clothes_colours,
    explained_share,
    look_at,
    measure,
    style_distance,
    style_distances,
    told_apart,
)
from sil_cli.runtime import SilentReporter


@pytest.fixture
def dataset(tmp_path, make_image):
    records = []
    for number in range(40):
        name = f"{number}.png"
        make_image(tmp_path / "raw" / name, size=(20 + number, 60))
        camera = ("a", "b", None)[number % 3]
        records.append(ImageRecord(path=name, identity=str(number % 5), camera=camera, split="train", domain="x"))
    return write_dataset(
        tmp_path / "out", records, name="x", reader="csv", reader_version=1, root=tmp_path / "raw", options={}
    )


def look(path, **box):
    return look_at(Image.open(path).convert("RGB").crop(box["crop"]) if box else Image.open(path).convert("RGB"))


def digest(seen):
    return seen.digest.tobytes()


def test_a_look_is_what_pil_says_of_the_resized_picture(make_image, tmp_path):
    image = Image.open(make_image(tmp_path / "a.png", size=(50, 90)))
    seen = image.resize((64, 128), Image.Resampling.BILINEAR)
    found = look_at(image)
    assert found.size == (50, 90)
    np.testing.assert_allclose(found.style, [*ImageStat.Stat(seen).mean, *ImageStat.Stat(seen).stddev], rtol=1e-4)
    grey = np.asarray(seen, dtype=float) @ [0.299, 0.587, 0.114]
    assert found.brightness == pytest.approx(grey.mean(), rel=1e-5)
    assert found.contrast == pytest.approx(grey.std(), rel=5e-3)  # luma is rounded to a level
    for channel, counts in enumerate(found.histogram):
        expected, _ = np.histogram(np.asarray(seen)[..., channel], bins=32, range=(0, 256))
        np.testing.assert_array_equal(counts, expected)
    boxes = np.asarray(seen, dtype=float).reshape(64, 2, 32, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(found.small, boxes, atol=0.51)
    coarse = np.asarray(seen, dtype=float).reshape(16, 8, 8, 8, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(found.thumbnail, coarse, atol=0.51)


def test_the_hash_of_brightness_steps_has_a_bit_for_each_step(tmp_path):
    brighter = Image.fromarray(np.tile(np.arange(0, 252, 4, dtype=np.uint8)[None, :, None], (128, 1, 3)))
    assert look_at(brighter).dhash == 2**64 - 1
    assert look_at(brighter.transpose(Image.Transpose.FLIP_LEFT_RIGHT)).dhash == 0
    assert look_at(Image.new("RGB", (64, 128), "red")).dhash == 0


def test_equal_pixels_have_equal_digests_however_they_are_stored(make_image, tmp_path):
    image = Image.open(make_image(tmp_path / "a.png"))
    image.save(tmp_path / "a.bmp")
    assert digest(look(tmp_path / "a.png")) == digest(look(tmp_path / "a.bmp"))
    image.putpixel((3, 3), (0, 0, 0))
    assert digest(look_at(image)) != digest(look(tmp_path / "a.bmp"))
    flat = Image.new("RGB", (8, 32))
    assert digest(look_at(flat)) != digest(look_at(flat.resize((16, 16))))


def test_all_are_measured_in_order_whatever_the_workers(dataset):
    one = measure(dataset, dataset.records, reporter=SilentReporter(), workers=1)
    four = measure(dataset, dataset.records, reporter=SilentReporter(), workers=4)
    assert one.records == four.records == list(dataset.records)
    for name in ("sizes", "styles", "brightness", "contrast", "digests", "dhashes", "thumbnails"):
        np.testing.assert_array_equal(getattr(one, name), getattr(four, name))
    expected = look(dataset.image_path(dataset.records[17]))
    np.testing.assert_array_equal(one.styles[17], expected.style)
    assert one.digests[17].tobytes() == digest(expected)
    assert int(one.dhashes[17]) == expected.dhash


def test_a_camera_has_the_mean_of_its_pictures(dataset):
    measures = measure(dataset, dataset.records, reporter=SilentReporter(), workers=2)
    assert {camera: one.images for camera, one in measures.cameras.items()} == {"a": 14, "b": 13, None: 13}
    mine = [look(dataset.image_path(record)) for record in dataset.records if record.camera is None]
    np.testing.assert_allclose(measures.cameras[None].mean_image, np.mean([one.small for one in mine], axis=0))
    np.testing.assert_allclose(measures.cameras[None].histogram.sum(axis=1), 1.0)


def test_what_cannot_be_opened_is_named_and_boxes_are_cut(dataset):
    dataset.image_path(dataset.records[4]).write_bytes(b"\x89PNG\r\n\x1a\n")
    boxed = dataset.records[5].model_copy(update={"box": (2, 3, 12, 24)})
    measures = measure(dataset, [*dataset.records[:5], boxed], reporter=SilentReporter(), workers=2)
    assert [skip.path for skip in measures.unreadable] == ["4.png"]
    assert len(measures.records) == 5
    assert measures.sizes[4].tolist() == [12, 24]
    expected = look(dataset.image_path(boxed), crop=(2, 3, 14, 27))
    assert measures.digests[4].tobytes() == digest(expected)


def test_nothing_readable_gives_empty_arrays(dataset):
    dataset.image_path(dataset.records[0]).unlink()
    measures = measure(dataset, dataset.records[:1], reporter=SilentReporter(), workers=1)
    assert measures.styles.shape == (0, 6)
    assert measures.thumbnails.shape == (0, 16, 8, 3)
    assert measures.cameras == {}


def styles(seed: int, count: int = 50, spread: float = 3.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, 6)) @ rng.standard_normal((6, 6)) * spread + rng.uniform(0, 100, 6)


def test_distance_is_the_root_of_frechets():
    one, other = styles(0), styles(1, count=70)
    first, second = np.cov(one.T, bias=True), np.cov(other.T, bias=True)
    shift = ((one.mean(axis=0) - other.mean(axis=0)) ** 2).sum()
    expected = np.sqrt(shift + np.trace(first + second - 2 * sqrtm(first @ second).real))
    assert style_distance(one, other) == pytest.approx(expected, rel=1e-6)
    assert style_distance(other, one) == pytest.approx(expected, rel=1e-6)


def test_moving_all_pictures_by_ten_levels_is_a_distance_of_ten():
    one = styles(2)
    assert style_distance(one, one + np.array([10.0, 0, 0, 0, 0, 0])) == pytest.approx(10.0)
    assert style_distance(one, one) == pytest.approx(0.0, abs=1e-4)
    assert style_distance(one[:1], one[1:2]) == pytest.approx(float(np.linalg.norm(one[0] - one[1])))
    assert style_distance(np.zeros((4, 6), np.float32), np.zeros((4, 6), np.float32)) == 0.0


def test_in_one_dimension_it_is_the_means_and_deviations():
    one, other = np.array([[0.0], [2.0]]), np.array([[10.0], [16.0]])  # means 1, 13; deviations 1, 3
    assert style_distance(one, other) == pytest.approx(np.hypot(12, 2))


def test_the_matrix_is_symmetric_with_an_empty_diagonal():
    groups = [styles(seed) for seed in range(4)]
    matrix = style_distances(groups)
    np.testing.assert_array_equal(matrix, matrix.T)
    assert matrix[2, 1] == pytest.approx(style_distance(groups[1], groups[2]))
    assert not np.diag(matrix).any()


def test_share_explained_is_the_variance_of_the_group_means():
    groups = [styles(seed, count=20 + 5 * seed) for seed in range(3)]
    everyone = np.concatenate(groups)
    means = np.concatenate([np.repeat(group.mean(axis=0)[None], len(group), axis=0) for group in groups])
    expected = ((means - everyone.mean(axis=0)) ** 2).sum() / ((everyone - everyone.mean(axis=0)) ** 2).sum()
    assert explained_share(groups) == pytest.approx(expected)
    assert explained_share([np.zeros((3, 6)), np.ones((3, 6))]) == 1.0
    assert explained_share([groups[0]] * 2) == pytest.approx(0.0, abs=1e-12)


def test_share_is_unknown_where_there_is_nothing_to_explain():
    assert explained_share([styles(0)]) is None
    assert explained_share([np.ones((3, 6)), np.ones((2, 6))]) is None


def test_clothes_are_torso_and_legs_relative_to_the_data_sets_own_people(tmp_path):
    rng = np.random.default_rng(0)
    worn = rng.integers(0, 256, (12, 2, 3), dtype=np.uint8)  # of each person: torso, legs
    records = []
    (tmp_path / "raw").mkdir()
    for person, (torso, legs) in enumerate(worn):
        for number in range(2):
            image = rng.integers(0, 256, (128, 64, 3), dtype=np.uint8)  # head, feet and background say nothing
            image[32:64, 24:40], image[72:104, 24:40] = torso, legs
            Image.fromarray(image).save(tmp_path / "raw" / f"{person:02}-{number}.png")
            name = f"{person:02}-{number}.png"
            records.append(ImageRecord(path=name, identity=name[:2], split="train", domain="x"))
    records[-1] = records[-1].model_copy(update={"junk": True})
    made = write_dataset(
        tmp_path / "out", records, name="x", reader="csv", reader_version=1, root=tmp_path / "raw", options={}
    )
    found = clothes_colours(measure(made, made.records, reporter=SilentReporter(), workers=1))
    expected = worn.reshape(12, 6).astype(float)
    np.testing.assert_allclose(found, (expected - expected.mean(axis=0)) / expected.std(axis=0), atol=0.05)
    alike = clothes_colours(measure(made, made.records[:2], reporter=SilentReporter(), workers=1))
    np.testing.assert_allclose(alike, np.zeros((1, 6)), atol=1e-9)


def slowly_told_apart(groups):
    """Of groups of one size: each point, its five nearest others, how many are of its own group."""
    everyone = [(point, number) for number, group in enumerate(groups) for point in group]
    own = 0
    for place, (point, number) in enumerate(everyone):
        others = [(np.linalg.norm(point - each), of) for at, (each, of) in enumerate(everyone) if at != place]
        own += sum(of == number for _, of in sorted(others)[:5])
    chance = (len(groups[0]) - 1) / (len(everyone) - 1)
    return (own / 5 / len(everyone) - chance) / (1 - chance)


def test_told_apart_counts_neighbours_of_ones_own_group():
    rng = np.random.default_rng(0)
    groups = [rng.standard_normal((20, 3)) + shift for shift in (0.0, 0.7, 1.5)]
    assert told_apart(groups) == pytest.approx(slowly_told_apart(groups))
    assert told_apart([group + 100 * number for number, group in enumerate(groups)]) == pytest.approx(1.0)


def test_chance_is_zero_whatever_the_sizes():
    rng = np.random.default_rng(0)
    assert told_apart([rng.standard_normal((size, 4)) for size in (1000, 150, 300)]) == pytest.approx(0.0, abs=0.05)


def test_too_few_tell_nothing():
    rng = np.random.default_rng(0)
    assert told_apart([rng.standard_normal((50, 4))]) is None
    assert told_apart([rng.standard_normal((50, 4)), rng.standard_normal((10, 4))]) is None
