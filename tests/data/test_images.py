from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import warnings
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from sil_cli.data.images import MAX_PIXELS, ImageError, Shot, load_image, parse_box, read_shot, resize_to

if TYPE_CHECKING:
    from pathlib import Path

GRADIENT = np.linspace(0, 255, 16 * 32).astype(np.uint8).reshape(32, 16)


def reason_of(path: Path, **options) -> str:
    with pytest.raises(ImageError) as caught:
        load_image(path, **options)
    assert "\n" not in str(caught.value)
    assert str(path) in caught.value.what
    assert len(caught.value.reason) < 120
    return caught.value.reason


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm"])
def test_lossless_formats_come_out_as_they_went_in(tmp_path, suffix):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 16, 3), dtype=np.uint8)
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(pixels).save(path)
    image = load_image(path)
    assert type(image) is Image.Image
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize("suffix", ["jpg", "webp", "gif"])
def test_lossy_formats_come_out_nearly_so(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(GRADIENT).convert("RGB").save(path)
    np.testing.assert_allclose(np.asarray(load_image(path)).mean(2), GRADIENT, atol=24)


def test_the_content_decides_and_not_the_name(tmp_path, make_image):
    path = make_image(tmp_path / "x.png")
    path.rename(tmp_path / "x.jpg")
    assert load_image(tmp_path / "x.jpg").size == (16, 32)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"this is a text\n" * 20, "not an image"),
        (b"", "an empty file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n", "not an image"),
        (b"\xff\xd8\xff\xe0nothing", "cut short"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "not an image but a sound file"),
        (b"P6\n16", "cut short"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path, content, reason):
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    assert reason_of(path).startswith(reason)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tiff", "ppm", "webp", "gif"])
def test_a_file_cut_short_is_refused(tmp_path, make_image, suffix):
    path = make_image(tmp_path / f"x.{suffix}", size=(64, 128))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert reason_of(path).startswith(("cut short", "damaged"))


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tiff", "ppm", "webp", "gif"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_damaged_bytes_never_do_worse_than_an_image_error(tmp_path_factory, suffix, data):
    path = tmp_path_factory.mktemp("damaged") / f"x.{suffix}"
    Image.fromarray(GRADIENT).save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(ImageError):  # and nothing else
        assert load_image(path).mode == "RGB"


OPTIONS = {
    "jpg": {"progressive": True, "exif": b"Exif\0\0II*\0" + struct.pack("<IHHHII", 8, 1, 274, 3, 1, 6) + bytes(4)},
    "tiff": {"compression": "tiff_lzw"},
    "tif": {"compression": "jpeg"},
    "png": {"save_all": True, "append_images": [Image.fromarray(GRADIENT).convert("RGB")]},
    "gif": {"save_all": True, "append_images": [Image.fromarray(GRADIENT)]},
    "webp": {"lossless": True, "exif": b"II*\0" + struct.pack("<IHHHII", 8, 1, 274, 3, 1, 6) + bytes(4)},
    "avif": {},
}


@pytest.mark.thorough
@pytest.mark.parametrize("suffix", OPTIONS)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_bytes_of_further_kinds_never_do_worse_either(tmp_path_factory, suffix, data):
    if suffix == "avif" and "avif" not in features.get_supported():
        pytest.skip("this Pillow has no AVIF")
    path = tmp_path_factory.mktemp("damaged") / f"x.{suffix}"
    Image.fromarray(GRADIENT).convert("RGB").save(path, **OPTIONS[suffix])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.sampled_from([0, 1, 16, 127, 254, 255]))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    for read in (load_image, read_shot):
        with contextlib.suppress(ImageError):  # and nothing else
            read(path)


def test_a_bomb_is_refused_by_its_header_and_without_a_warning(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_that_claims(30_000, 30_000))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert reason_of(path) == f"30000×30000 pixels, more than {MAX_PIXELS:,} in all"
    assert not caught


def jpeg_of_scans(side: int, count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated until there are so many."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side), (120, 90, 60)).save(stream, "JPEG", progressive=True)
    content = stream.getvalue()
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * (count - content.count(b"\xff\xda")) + content[-2:]


def test_scans_are_counted_before_anything_is_decoded(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(jpeg_of_scans(64, 100))
    assert load_image(path).size == (64, 64)
    path.write_bytes(jpeg_of_scans(64, 101))
    assert reason_of(path) == "JPEGs of more than 100 scans are not supported"
    path.write_bytes(jpeg_of_scans(64, 60))
    assert reason_of(path, max_pixels=64 * 64 * 2) == "60 scans of 64×64 pixels are not supported"


def test_scans_of_a_preview_or_behind_the_end_do_not_count(tmp_path):
    many = jpeg_of_scans(64, 300)
    segments = b"".join(
        b"\xff\xe2" + struct.pack(">H", 2 + len(part)) + part for part in (many[:60_000], many[60_000:])
    )
    path = tmp_path / "x.jpg"
    plain = jpeg_of_scans(64, 10)
    path.write_bytes(plain[:2] + segments + plain[2:] + many)
    assert load_image(path).size == (64, 64)


def tags_that_share_their_bytes(count: int) -> bytes:
    """EXIF of so many tags, each of which is nearly the whole of it."""
    size = 12 * count
    entries = b"".join(struct.pack("<HHII", 40_000 + number, 7, size, 8) for number in range(count))
    return b"II*\0" + struct.pack("<IH", 8, count) + entries + bytes(4)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_tags_that_claim_gigabytes_are_not_read(tmp_path, make_image, suffix):
    path, tags = tmp_path / f"x.{suffix}", tags_that_share_their_bytes(5000)
    if suffix == "tif":
        path.write_bytes(tags)
        assert "its tags claim more than the file has" in reason_of(path)
        return
    make_image(path)
    with Image.open(path) as image:
        image.save(tmp_path / f"y.{suffix}", exif=b"Exif\0\0" + tags)
    if suffix == "jpg":  # whose decoder reads them at once
        assert "its tags claim more than the file has" in reason_of(tmp_path / "y.jpg")
    else:
        assert load_image(tmp_path / f"y.{suffix}").size == (16, 32)
        assert read_shot(tmp_path / f"y.{suffix}") == Shot()


def tiff(tags: dict[int, int | tuple[int, int]], behind: bytes = b"") -> bytes:
    """A grey TIFF of 64×64 pixels with further tags: a number, or a count and a place."""
    known = {256: 64, 257: 64, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 64, 279: 4096} | tags
    entries = b"".join(
        struct.pack("<HHII", tag, 4, *(value if isinstance(value, tuple) else (1, value)))
        for tag, value in sorted(known.items())
    )
    return b"II*\0" + struct.pack("<IH", 8, len(known)) + entries + bytes(4) + behind


@pytest.mark.parametrize(
    ("tags", "behind", "reason"),
    [
        ({273: (1_000_000, 200)}, bytes(5_000_000), "images in more than 200,000 strips or tiles are not supported"),
        ({322: 60_000, 323: 60_000, 259: 5}, bytes(5000), "tiles larger than an image are not supported"),
        ({50706: 0x0104}, bytes(5000), "raw photos are not supported: develop it to PNG or JPEG"),
        ({254: 1, 330: 8}, bytes(5000), "raw photos are not supported: develop it to PNG or JPEG"),
        ({259: 7}, jpeg_of_scans(64, 10), "progressive JPEG in TIFF is not supported"),
    ],
    ids=["strips", "tile", "dng", "nef", "jpeg"],
)
def test_a_tiff_that_libtiff_would_not_end_with_is_refused(tmp_path, tags, behind, reason):
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(tags, behind))
    assert reason_of(path) == reason


def test_directories_that_lead_back_to_themselves_end(tmp_path):
    path = tmp_path / "x.tif"
    path.write_bytes(tiff({34665: 8}, bytes(5000)))
    assert load_image(path).size == (64, 64)


def test_a_canvas_larger_than_the_limit_is_refused_before_it_is_made(tmp_path):
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "WEBP", exif=b"Exif\0\0II*\0" + bytes(8))
    content = bytearray(stream.getvalue())
    content[24:30] = b"\xff\x3f\0" * 2
    (tmp_path / "x.webp").write_bytes(content)
    assert reason_of(tmp_path / "x.webp").startswith("16384×16384 pixels")


@pytest.mark.parametrize("size", [(4000, 1000), (2000, 2000)])
@pytest.mark.thorough
def test_decoding_ends_when_it_has_had_its_time(tmp_path, size):
    path = tmp_path / "x.pgm"
    path.write_bytes(b"P5\n%d %d\n100\n" % size + bytes(size[0] * size[1]))  # decoded by a loop in Python
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sil_cli.data.images._SECONDS", 0.2)
        patched.setattr("sil_cli.data.images._SECONDS_A_MEGAPIXEL", 0.01)
        assert reason_of(path) == "it takes more than 0 s of processor time to decode"


def test_a_file_larger_than_any_image_of_so_many_pixels_is_not_read(tmp_path, make_image):
    path = make_image(tmp_path / "x.png")
    os.truncate(path, 10**9)  # a hole
    assert reason_of(path) == "1,000 MB, too many for an image of 50,000,000 pixels"


def test_the_error_says_which_limit_would_do(tmp_path):
    (tmp_path / "x.png").write_bytes(png_that_claims(8000, 8001))
    with pytest.raises(ImageError) as caught:
        load_image(tmp_path / "x.png")
    assert "--set data.max_megapixels=65," in caught.value.fix
    assert pickle.loads(pickle.dumps(caught.value)).fix == caught.value.fix


@pytest.mark.parametrize("mode", ["RGBA", "LA", "I;16", "P"])
def test_band_by_band_is_as_at_once(tmp_path, mode, monkeypatch):
    values = np.random.default_rng(0).integers(0, 256, (40, 16, 4), dtype=np.uint8)
    image = Image.fromarray(values)
    if mode == "I;16":
        image = Image.fromarray(values.view(np.uint16)[:, :, 0].copy())
    elif mode == "P":
        image = image.convert("RGB").quantize(20)
        image.info["transparency"] = 3
    else:
        image = image.convert(mode)
    image.save(tmp_path / "x.png")
    whole = np.asarray(load_image(tmp_path / "x.png"))
    monkeypatch.setattr("sil_cli.data.images._BAND_PIXELS", 16 * 7)
    np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "x.png")), whole)


def test_the_limit_of_pixels_is_the_callers(tmp_path, make_image):
    path = make_image(tmp_path / "x.png", size=(20, 20))
    assert load_image(path, max_pixels=400).size == (20, 20)
    assert "more than 399" in reason_of(path, max_pixels=399)


@pytest.mark.parametrize("size", [(1, 1), (7, 64), (64, 7)])
def test_a_tiny_picture_is_refused(tmp_path, make_image, size):
    assert "too small" in reason_of(make_image(tmp_path / "x.png", size=size))


def test_what_is_not_a_file_is_refused(tmp_path):
    assert reason_of(tmp_path / "missing.jpg") == "No such file or directory"
    assert reason_of(tmp_path) == "not a file"
    os.mkfifo(tmp_path / "pipe.jpg")
    assert reason_of(tmp_path / "pipe.jpg") == "not a file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path, make_image):
    path = make_image(tmp_path / "x.jpg")
    path.chmod(0)
    assert reason_of(path) == "Permission denied"


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (8, np.rot90),
    ],
)
def test_the_orientation_tag_is_applied_once(tmp_path, suffix, orientation, turn):
    path = tmp_path / f"x.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = GRADIENT.copy()
    stored[:8, :8] = 255
    Image.fromarray(stored).convert("RGB").save(path, exif=exif)
    expected = turn(stored).astype(float)
    got = np.asarray(load_image(path)).mean(2)
    assert got.shape == expected.shape
    assert np.abs(got - expected).mean() < 8


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_tags_do_not_cost_the_picture(tmp_path, make_image):
    path = make_image(tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert load_image(path).size == (16, 32)


def test_cmyk_is_converted(tmp_path):
    path = tmp_path / "x.jpg"
    Image.new("RGB", (16, 32), (200, 40, 90)).convert("CMYK").save(path, quality=95)
    np.testing.assert_allclose(np.asarray(load_image(path)).mean((0, 1)), (200, 40, 90), atol=6)


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    grey = np.linspace(0, 65535, 16 * 32).round().astype(np.uint16).reshape(32, 16)
    Image.fromarray(grey).save(path)
    expected = np.round(grey / 257)
    for channel in range(3):
        np.testing.assert_array_equal(np.asarray(load_image(path))[..., channel], expected)


def test_32_bit_samples_are_refused(tmp_path):
    for name, samples in {"i": np.full((16, 16), 1 << 20, np.int32), "f": np.ones((16, 16), np.float32)}.items():
        Image.fromarray(samples).save(tmp_path / f"{name}.tiff")
        assert reason_of(tmp_path / f"{name}.tiff") == "32-bit samples are not supported"


def test_1_bit_and_grey_become_rgb(tmp_path):
    for mode in ("1", "L"):
        Image.new(mode, (16, 16), 255).save(tmp_path / "x.png")
        np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "x.png")), 255)


def test_transparent_parts_lie_over_grey_in_every_mode(tmp_path):
    half = np.zeros((16, 16, 4), np.uint8)
    half[:, :, 0] = 255
    half[:8, :, 3] = 255
    rgba = Image.fromarray(half)
    palette = Image.new("P", (16, 16), 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.paste(1, (0, 8, 16, 16))
    red = Image.new("RGB", (16, 16), (255, 0, 0))
    red.paste((1, 2, 3), (0, 8, 16, 16))
    for name, image, options in (
        ("rgba.png", rgba, {}),
        ("palette.png", palette, {"transparency": 1}),
        ("palette.gif", palette, {"transparency": 1}),
        ("bytes.png", palette, {"transparency": b"\xff\x00"}),
        ("key.png", red, {"transparency": (1, 2, 3)}),
    ):
        image.save(tmp_path / name, **options)
        pixels = np.asarray(load_image(tmp_path / name))
        assert (pixels[:8] == (255, 0, 0)).all(), name
        assert (pixels[8:] == 128).all(), name


def test_grey_with_alpha_lies_over_grey(tmp_path):
    Image.fromarray(np.dstack([np.full((16, 16), 250, np.uint8), np.zeros((16, 16), np.uint8)])).save(
        tmp_path / "x.png"
    )
    assert (np.asarray(load_image(tmp_path / "x.png")) == 128).all()


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert np.asarray(load_image(tmp_path / "x.gif"))[0, 0].tolist() == [255, 0, 0]


def test_a_box_is_cut_from_the_upright_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(GRADIENT).save(tmp_path / "x.png", exif=exif)
    upright = np.rot90(GRADIENT, -1)
    got = np.asarray(load_image(tmp_path / "x.png", box=(4, 2, 20, 10)))[..., 0]
    np.testing.assert_array_equal(got, upright[2:12, 4:24])


def test_a_box_over_the_edge_is_trimmed_and_one_outside_refused(tmp_path, make_image):
    path = make_image(tmp_path / "x.png", size=(20, 20))
    assert load_image(path, box=(-5, 10, 100, 100)).size == (20, 10)
    for box in ((20, 0, 10, 10), (0, 0, 0, 0), (5, 5, -2, 10), (15, 0, 20, 20)):
        assert "leaves less than 8 pixels" in reason_of(path, box=box)


def test_resize_is_the_antialiased_filter_of_torchvision():
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    pixels = np.random.default_rng(0).integers(0, 256, (200, 90, 3), dtype=np.uint8)
    ours = resize_to(Image.fromarray(pixels), 64, 32)
    theirs = functional.resize(torch.from_numpy(pixels).permute(2, 0, 1), [64, 32], antialias=True)
    assert ours.shape == (64, 32, 3)
    assert ours.dtype == np.uint8
    assert ours.flags.writeable
    np.testing.assert_allclose(ours, theirs.permute(1, 2, 0).numpy(), atol=1)


def test_an_image_error_survives_the_way_between_processes(tmp_path):
    error = pickle.loads(pickle.dumps(ImageError(tmp_path / "x.jpg", "cut short")))
    assert (error.reason, error.path) == ("cut short", tmp_path / "x.jpg")
    assert error.what.endswith("x.jpg: cut short.")


@pytest.mark.parametrize("text", ["10,20,30,40", "10;20;30;40", "10 20 30 40", " 10, 20, 30, 40 ", "10.2,19.8,30,40"])
def test_boxes_are_read(text):
    assert parse_box(text) == (10, 20, 30, 40)


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1,2,0,4", "1,2,3,-4", "nan,1,2,3", "1e999,0,1,1", "0,0,9e9,1"]
)
def test_what_is_no_box_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        parse_box(text)
