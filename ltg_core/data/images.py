"""Images from files and bytes to RGB and back: one way of reading for every part of the package."""

from __future__ import annotations

import hashlib
import io
import os
import re
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, PngImagePlugin, UnidentifiedImageError, features

from ltg_core.errors import InputError

MAX_PIXELS = 64_000_000
"""Largest accepted image, in pixels: a larger header is refused before anything is decoded."""
MAX_FILE_BYTES = 256 * 1024 * 1024
"""Largest accepted image file."""
THUMB_SIDE = 128
"""Longer side of a thumbnail, in pixels."""
_SMALL_BYTES = 16_384
_AVIF = features.check("avif")
IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}
    | ({".avif"} if _AVIF else set())
)
_KEPT = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}  # what every browser shows; the rest is stored as PNG
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", *(("AVIF",) if _AVIF else ()))
_SVG = re.compile(rb"(\xef\xbb\xbf)?\s*(<\?xml.*?)?(<!.*?)*<svg", re.DOTALL | re.IGNORECASE)
_ALPHA_GREY = (128, 128, 128)


class _Quiet:
    """Nothing is announced of damaged EXIF and odd palettes, which are handled, while any thread reads a picture.

    ``warnings.catch_warnings`` alone is not for threads: the last to leave would put back what another had set.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._caught.__exit__(None, None, None)


_quiet = _Quiet()
PixelData: TypeAlias = "Image.Image | np.ndarray[tuple[int, ...], np.dtype[np.uint8]]"
"""A PIL image, or (H, W, 3) uint8."""


def read_image(source: str | Path | bytes) -> Image.Image:
    """Read one image as upright 8-bit RGB.

    Args:
        source: A file, or the bytes of one. EXIF rotation is applied, transparency is laid on mid grey (white
            or black would hide what is drawn in that colour), 16-bit samples keep their upper 8 bits.

    Raises:
        InputError: Not an image of a known format, damaged, or larger than ``MAX_PIXELS``.
    """
    return _read(source)[0]


def read_stored(source: str | Path | bytes) -> tuple[Image.Image, bytes, str]:
    """As ``read_image``, with the bytes to keep on disk and their file ending.

    PNG, JPEG and WebP are kept as they came; other formats become PNG.
    """
    image, data, kind = _read(source)
    if kind in _KEPT:
        return image, data, _KEPT[kind]
    return image, encode_png(image), "png"


def to_pil(image: torch.Tensor | PixelData) -> Image.Image:
    """A PIL image from (3, H, W) float in [0, 1], (H, W, 3) uint8 or PIL.

    Raises:
        InputError: Another shape or type, or values that are not finite.
    """
    if isinstance(image, Image.Image):
        return image if image.mode == "RGB" else _to_rgb(image)
    if isinstance(image, torch.Tensor):
        if image.ndim != 3 or image.shape[0] != 3:
            raise InputError(f"expected one image of shape (3, H, W), got {tuple(image.shape)}")
        values = image.detach().float().cpu()
        if not bool(torch.isfinite(values).all()):
            raise InputError("the image holds values that are not finite (NaN or infinite)")
        array = (values.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        return Image.fromarray(array)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"expected uint8 of shape (H, W, 3), got {image.dtype} of shape {image.shape}")
    return Image.fromarray(np.ascontiguousarray(image))


def to_tensor(image: Image.Image) -> torch.Tensor:
    """(3, H, W) float in [0, 1]."""
    array = np.array(to_pil(image), dtype=np.uint8)
    return torch.from_numpy(array).permute(2, 0, 1).contiguous().float().div_(255)


def encode_png(image: PixelData, text: Mapping[str, str] | None = None) -> bytes:
    """PNG bytes, with text chunks (UTF-8) where given."""
    info = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        info.add_itxt(key, value)
    buffer = io.BytesIO()
    to_pil(image).save(buffer, format="PNG", pnginfo=info, compress_level=4)
    return buffer.getvalue()


def thumbnail(image: Image.Image, side: int = THUMB_SIDE) -> bytes:
    """WebP bytes with the longer side at most ``side``; smaller images keep their size and every pixel."""
    buffer = io.BytesIO()
    if max(image.size) <= side:
        image.save(buffer, format="WEBP", lossless=True, quality=0, method=0)
    else:
        small = image.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        small.save(buffer, format="WEBP", quality=85, method=2)
    return buffer.getvalue()


def is_small(source: str | Path | bytes) -> bool:
    """Whether a stored picture is shown as its own thumbnail: opaque, upright, not moving, few pixels and bytes."""
    try:
        if not isinstance(source, bytes):
            if os.stat(source).st_size > _SMALL_BYTES:
                return False
            source = Path(source).read_bytes()
        # To ask a PNG for its EXIF is to decode it.
        if len(source) > _SMALL_BYTES or b"eXIf" in source:
            return False
        with _quiet, Image.open(io.BytesIO(source), formats=_FORMATS) as opened:
            return (
                max(opened.size) <= THUMB_SIDE
                and opened.mode in ("RGB", "L")
                and "transparency" not in opened.info
                and not getattr(opened, "is_animated", False)
                and (opened.format == "PNG" or opened.getexif().get(ExifTags.Base.Orientation, 1) == 1)
            )
    except Exception:  # noqa: BLE001  # lost or damaged: reading it says so
        return False


def content_hash(content: bytes | PixelData) -> str:
    """32 hex digits of SHA-256: of the bytes, or of an image's size and pixels.

    The pixels decide, not the file: the same picture stored as PNG and as WebP has one hash, so that a copy
    of a test image is found whatever its format.
    """
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()[:32]
    image = to_pil(content)
    digest = hashlib.sha256(f"rgb8 {image.width}x{image.height}\n".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()[:32]


def _read(source: str | Path | bytes) -> tuple[Image.Image, bytes, str]:
    name = "the image" if isinstance(source, bytes) else f"{Path(source).name!r}"
    data = source if isinstance(source, bytes) else _file_bytes(Path(source), name)
    try:
        with _quiet, Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise InputError(
                    f"{name} has {opened.width} x {opened.height} pixels; "
                    f"the limit is {MAX_PIXELS // 1_000_000} million"
                )
            kind = opened.format or ""
            return _to_rgb(_upright(opened)), data, kind
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(
            f"{name} has more pixels than the limit of {MAX_PIXELS // 1_000_000} million"
        ) from None
    except UnidentifiedImageError:
        if _SVG.match(data[:512]):
            raise InputError(
                f"{name} is an SVG drawing, a document that can hold programs and links; save it as PNG"
            ) from None
        raise InputError(f"{name} is not an image of a known format ({', '.join(_FORMATS)})") from None
    except Exception as error:  # decoders of damaged files raise anything: struct, zlib, Index, ...
        raise InputError(f"{name} is damaged: {type(error).__name__}: {error}") from error


def _file_bytes(path: Path, name: str) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{name} is larger than {MAX_FILE_BYTES // 1_048_576} MB")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}") from error


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001  # a damaged EXIF block must not cost the picture
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _wide_to_rgb(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        flat = Image.new("RGB", image.size, _ALPHA_GREY)
        flat.paste(rgba, mask=rgba.getchannel("A"))
        return flat
    return image.convert("RGB")


def _wide_to_rgb(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and float grey to 8 bits: PIL's own conversion clips at 255 and shows white."""
    values = np.asarray(image, dtype=np.float64)
    if image.mode == "F":
        values = values * 255 if values.size and float(np.nanmax(values)) <= 1 else values
    elif image.mode.startswith("I;16") or (values.size and float(values.max()) > 255):
        values = values / 257
    grey = np.clip(np.rint(np.nan_to_num(values)), 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")
