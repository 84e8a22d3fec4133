"""Pictures small enough to travel inside a file; what a camera wrote into them stays behind."""

from __future__ import annotations

import base64
import io

from PIL import Image

LARGEST = 512
_QUALITY = 86


def data_url(image: Image.Image, largest: int = LARGEST) -> str:
    """An image as WebP inside a URL: at most so many pixels a side, without metadata."""
    small = image.convert("RGB")
    if max(small.size) > largest:
        small.thumbnail((largest, largest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    Image.frombytes("RGB", small.size, small.tobytes()).save(buffer, "WEBP", quality=_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
