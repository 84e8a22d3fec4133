"""Reading pictures of every kind."""

from __future__ import annotations

import io
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ltg_core.data import images
from ltg_core.errors import InputError


def _bytes(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_exif_rotation_is_applied(make):
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = Image.fromarray(make(0, 8)).resize((8, 4))
    assert images.read_image(_bytes(wide, "JPEG", exif=exif)).size == (4, 8)


def test_transparency_is_laid_on_grey_for_rgba_and_for_palettes():
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert images.read_image(_bytes(clear)).getpixel((0, 0)) == (128, 128, 128)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([255, 0, 0] * 256)
    assert images.read_image(_bytes(palette, transparency=0)).getpixel((0, 0)) == (128, 128, 128)
    assert images.read_image(_bytes(palette)).getpixel((0, 0)) == (255, 0, 0)


def test_sixteen_bit_grey_keeps_its_upper_eight_bits():
    deep = Image.fromarray(np.full((4, 4), 257 * 100, dtype=np.uint16))
    assert images.read_image(_bytes(deep)).getpixel((0, 0)) == (100, 100, 100)


@pytest.mark.parametrize("mode", ["CMYK", "L", "1"])
def test_other_colour_modes_become_rgb(mode):
    data = _bytes(Image.new("RGB", (4, 4), "white").convert(mode), "TIFF")
    assert images.read_image(data).getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_every_known_format_is_read(encode, kind):
    image, data, suffix = images.read_stored(encode(1, kind))
    assert image.mode == "RGB" and image.size == (8, 8)
    assert suffix in ("png", "jpg", "webp")
    assert images.content_hash(images.read_image(data)) == images.content_hash(image)


def test_a_damaged_or_foreign_file_is_an_input_error(encode, tmp_path: Path):
    whole = encode(1, "JPEG", side=64)
    for bad in (b"", b"hello", whole[: len(whole) // 2], b"%!PS-Adobe-3.0 EPSF-3.0\n"):
        with pytest.raises(InputError):
            images.read_image(bad)
    with pytest.raises(InputError, match="nothing"):
        images.read_image(tmp_path / "nothing.png")


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded():
    huge = _bytes(Image.new("1", (8001, 8000)))
    assert len(huge) < 50_000
    with pytest.raises(InputError, match="pixels"):
        images.read_image(huge)


def test_tensor_and_picture_convert_without_loss(make):
    image = Image.fromarray(make(3))
    tensor = images.to_tensor(image)
    assert tensor.shape == (3, 8, 8) and tensor.dtype == torch.float32
    assert float(tensor.min()) >= 0 and float(tensor.max()) <= 1
    assert images.to_pil(tensor).tobytes() == image.tobytes()


def test_a_tensor_with_nan_is_refused():
    with pytest.raises(InputError, match="finite"):
        images.to_pil(torch.full((3, 4, 4), float("nan")))


def test_the_hash_depends_on_the_pixels_alone(make):
    image = Image.fromarray(make(4))
    webp = images.read_image(_bytes(image, "WEBP", lossless=True))
    assert images.content_hash(webp) == images.content_hash(image)
    assert images.content_hash(image) != images.content_hash(Image.fromarray(make(5)))


def test_thumbnails_shrink_large_pictures_and_keep_small_ones_exact(make):
    large = Image.open(io.BytesIO(images.thumbnail(Image.fromarray(make(1, 300)))))
    assert large.size == (128, 128)
    small = Image.fromarray(make(1, 32))
    kept = Image.open(io.BytesIO(images.thumbnail(small)))
    assert kept.size == (32, 32) and kept.convert("RGB").tobytes() == small.tobytes()


def test_a_small_picture_is_its_own_thumbnail_unless_it_would_look_otherwise(make, tmp_path):
    small = Image.fromarray(make(1, 32))
    assert images.is_small(_bytes(small, "PNG")) and images.is_small(_bytes(small.convert("L"), "JPEG"))
    (tmp_path / "a.png").write_bytes(_bytes(small, "PNG"))
    assert images.is_small(tmp_path / "a.png") and not images.is_small(tmp_path / "lost.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    see_through = small.convert("RGBA")
    other = {
        "more pixels": _bytes(Image.new("RGB", (129, 8)), "PNG"),
        "more bytes": _bytes(Image.fromarray(make(1, 100)), "PNG"),
        "turned by its EXIF": _bytes(small, "JPEG", exif=turned),
        "turned in a PNG": _bytes(small, "PNG", exif=turned),
        "see-through": _bytes(see_through, "PNG"),
        "see-through colour": _bytes(small, "PNG", transparency=(1, 2, 3)),
        "palette": _bytes(small.quantize(), "PNG"),
        "16 bits": _bytes(Image.new("I;16", (8, 8), 40_000), "PNG"),
        "moving": _bytes(small, "WEBP", save_all=True, append_images=[small.rotate(90)]),
        "damaged": _bytes(small, "PNG")[:20],
    }
    assert [why for why, data in other.items() if images.is_small(data)] == []


def test_threads_that_read_at_once_leave_the_warnings_as_they_were(make):
    data = _bytes(Image.fromarray(make(1, 32)), "PNG")
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            list(pool.map(images.read_image, [data] * 20))
    assert warnings.filters == before


def test_png_text_survives(make):
    png = Image.open(io.BytesIO(images.encode_png(make(1), {"longtail:prompt": "Straße <b>"})))
    assert png.text["longtail:prompt"] == "Straße <b>"
