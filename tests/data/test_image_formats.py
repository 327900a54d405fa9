"""What is told of files that are no images, or of formats that are not read, by how they begin."""

from __future__ import annotations

import io
import struct
import sys

import numpy as np
import pytest
from PIL import Image, features

from sil_cli.data.image_formats import why_no_image
from sil_cli.data.images import ImageError, load_image
from sil_cli.installing import extra_command

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


def saved(kind: str, size: tuple[int, int] = (16, 32), **options: object) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (10, 200, 90)).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "reason", "fix"),
    [
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50), "a JPEG 2000 image, a format that is not read", "Convert it"),
        (b"\xff\x4f\xff\x51" + bytes(50), "a JPEG 2000 image, a format that is not read", "Convert it"),
        (b"\xff\x0a" + bytes(50), "a JPEG XL image, a format that is not read", "Convert it"),
        (b"II*\0\x10\0\0\0CR\2\0", "a camera's raw photo, a format that is not read", "Convert it"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "a camera's raw photo, a format that is not read", "Convert it"),
        (b"FUJIFILMCCD-RAW 0201", "a camera's raw photo, a format that is not read", "Convert it"),
        (b"8BPS\0\1" + bytes(50), "a Photoshop document, a format that is not read", "Convert it"),
        (
            b'<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg xmlns="x">',
            "a drawing (SVG), a format that is not read",
            "Con",
        ),
        (b"%PDF-1.7\n", "not an image but a document (PDF or PostScript)", "Extract its images"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isom", "not an image but a video", "Extract its frames"),
        (b"RIFF\0\0\0\0AVI LIST", "not an image but a video", "Extract its frames"),
        (b"\x1aE\xdf\xa3" + bytes(50), "not an image but a video", "Extract its frames"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
            "not an image but a Git LFS pointer to one",
            "Fe",
        ),
        (b"\n<!DOCTYPE html><html><body>404", "not an image but a web page", "Download it again"),
        (b"PK\3\4" + bytes(50), "not an image but an archive", "Unpack it first"),
        (b"\x93NUMPY\1\0v\0{", "not an image but a NumPy array", "Convert it"),
        (bytes(5000), "not an image but nothing but zeros", "Copy it again"),
        (b"hello\n", "not an image", "Replace the file"),
        (b"", "an empty file", "Replace the file"),
        (b"\1\2\3\4\0\0", "not an image", "Replace the file"),
        (b"<!" * 5000, "not an image", "Replace the file"),
    ],
)
def test_a_file_that_is_not_read_is_told_by_its_content(tmp_path, content, reason, fix) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(ImageError) as caught:
        load_image(tmp_path / "x.jpg")
    assert caught.value.reason.startswith(reason)
    assert caught.value.fix.startswith(fix)


@pytest.mark.parametrize("name", ["x.jfif", "x.jpe", "x", "IMG.0001", "x.heic"])
def test_images_are_read_under_any_name(tmp_path, name) -> None:
    (tmp_path / name).write_bytes(saved("JPEG"))
    assert why_no_image(str(tmp_path / name)) is None
    assert load_image(tmp_path / name).size == (16, 32)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.txt", saved("JPEG"), "not an image by its name"),  # is not opened
        ("x.jpg_original", saved("JPEG"), "not an image by its name"),
        ("x", b"a text", "not an image"),
        ("x.1", b"", "an empty file"),
        ("x.jp2", b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image, a format that is not read"),
        ("x.nef", saved("TIFF"), None),
    ],
)
def test_what_lies_among_images_is_opened_only_without_a_name_to_go_by(tmp_path, name, content, reason) -> None:
    (tmp_path / name).write_bytes(content)
    assert why_no_image(str(tmp_path / name)) == reason


def test_a_big_tiff_is_read(tmp_path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 16), dtype=np.uint8)
    tags = {256: 16, 257: 32, 258: 8, 259: 1, 262: 1, 273: 16 + 8 + 9 * 20 + 8, 277: 1, 278: 32, 279: 512}
    entries = b"".join(struct.pack("<HHQQ", tag, 4, 1, value) for tag, value in tags.items())
    content = struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, len(tags)) + entries + bytes(8) + pixels.tobytes()
    (tmp_path / "x.tif").write_bytes(content)
    np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "x.tif"))[:, :, 0], pixels)


def test_several_images_in_one_file_give_the_first(tmp_path) -> None:
    for kind in ("MPO", "TIFF", "PNG", "WEBP"):
        second = [Image.new("RGB", (16, 32), (200, 0, 0))]
        (tmp_path / "x").write_bytes(saved(kind, save_all=True, append_images=second))
        assert load_image(tmp_path / "x").getpixel((8, 16)) == pytest.approx((10, 200, 90), abs=6), kind


@pytest.mark.skipif("avif" not in features.get_supported(), reason="this Pillow has no AVIF")
def test_avif_is_read(tmp_path) -> None:
    (tmp_path / "x.avif").write_bytes(saved("AVIF"))
    assert load_image(tmp_path / "x.avif").getpixel((8, 16)) == pytest.approx((10, 200, 90), abs=6)


def test_avif_without_a_decoder_says_which_pillow_has_one(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.AvifImagePlugin", None)
    (tmp_path / "x.jpg").write_bytes(b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf")
    with pytest.raises(ImageError, match=r"AVIF image, which this Pillow can't read") as caught:
        load_image(tmp_path / "x.jpg")
    assert "pillow>=11.3" in caught.value.fix


def test_heic_is_read_by_the_extra(tmp_path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    image = pillow_heif.from_pillow(Image.new("RGB", (64, 96), (10, 200, 90)))
    image.save(tmp_path / "x.heic")
    loaded = load_image(tmp_path / "x.heic")
    assert loaded.size == (64, 96)
    assert loaded.getpixel((30, 50)) == pytest.approx((10, 200, 90), abs=6)
    assert "more than 100" in _reason(tmp_path / "x.heic", max_pixels=100)


def _reason(path, **options) -> str:
    with pytest.raises(ImageError) as caught:
        load_image(path, **options)
    return caught.value.reason


def test_heic_without_the_extra_says_how_to_install_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "x.heic").write_bytes(HEIC)
    with pytest.raises(ImageError, match="a HEIC image, which only pillow-heif can read") as caught:
        load_image(tmp_path / "x.heic")
    assert extra_command("heif") in caught.value.fix
