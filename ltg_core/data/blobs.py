"""Files of a workspace: written whole or not at all, images found by the hash of their pixels."""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from ltg_core.data import leftovers
from ltg_core.data.database import explained
from ltg_core.data.images import (
    PixelData,
    content_hash,
    encode_png,
    is_small,
    read_image,
    read_stored,
    thumbnail,
    to_pil,
)
from ltg_core.data.processes import alive, host, owner
from ltg_core.data.records import StoredImage
from ltg_core.errors import InputError

_STALE_SECONDS = 24 * 3600
_OWNED = re.compile(r"(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<started>\d*)-[0-9a-f]{32}$")
_SAFE_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")


class Blobs:
    """The image, thumbnail and array files of one workspace folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._temporary = folder / "tmp"
        self._images, self._thumbs = f"{folder / 'images'}/", f"{folder / 'thumbs'}/"
        with explained(folder):
            for name in ("images", "thumbs", "arrays", "models", "runs", "exports", "tmp"):
                (folder / name).mkdir(parents=True, exist_ok=True)
        self._sweep()
        leftovers.sweep(folder / "exports")

    def image_path(self, hash: str, suffix: str) -> Path:
        """Where an image is kept."""
        return self.folder / "images" / hash[:2] / f"{hash}.{suffix}"

    def thumb_path(self, hash: str) -> Path:
        """Where its thumbnail is kept."""
        return self.folder / "thumbs" / hash[:2] / f"{hash}.webp"

    def array_path(self, key: str) -> Path:
        """Where an array is kept; a key that is no safe file name is replaced by its hash."""
        name = key if _SAFE_KEY.fullmatch(key) else content_hash(key.encode())
        return self.folder / "arrays" / f"{name}.npy"

    def store(self, image: PixelData | bytes) -> StoredImage:
        """Write an image, and its thumbnail where it is not small itself, unless they are there.

        Raises:
            InputError: The bytes are not an image.
            WorkspaceError: The disk is full or read-only.
        """
        if isinstance(image, bytes):
            picture, data, suffix = read_stored(image)
        else:
            picture = to_pil(image)
            data, suffix = None, "png"
        hash = content_hash(picture)
        # Plain strings: of a million images paths that are objects would cost a tenth of the time.
        target, small = f"{self._images}{hash[:2]}/{hash}.{suffix}", f"{self._thumbs}{hash[:2]}/{hash}.webp"
        # A file of no length is what a power cut leaves of a rename; it is written again.
        if not _present(target):
            data = encode_png(picture) if data is None else data
            self.write(target, data)
        if not _present(small) and not is_small(target if data is None else data):
            self.write(small, thumbnail(picture))
        return StoredImage(hash, suffix)

    def shown(self, hash: str, suffix: str) -> Path:
        """The file of an image's thumbnail, which is that of a small picture itself; made again if it was lost.

        Raises:
            InputError: The image is lost or damaged.
        """
        path, picture = self.thumb_path(hash), self.image_path(hash, suffix)
        if path.exists():
            return path
        if is_small(picture):
            return picture
        self.write_thumb(hash, read_image(picture))
        return path

    def write_thumb(self, hash: str, image: Image.Image) -> None:
        """Make the thumbnail of an image."""
        self.write(self.thumb_path(hash), thumbnail(image))

    def write(self, target: Path | str, content: bytes | Callable[[BinaryIO], None]) -> None:
        """Write a file beside its place, then rename it there.

        Args:
            target: Inside the workspace.
            content: The bytes, or a function that writes them to an open file.

        Raises:
            WorkspaceError: The disk is full or read-only; nothing is left behind.
        """
        temporary = f"{self._temporary}/{temporary_name()}"
        with explained(self.folder):
            try:
                with open(temporary, "wb") as file:
                    if isinstance(content, bytes):
                        file.write(content)
                    else:
                        content(file)
                try:
                    os.replace(temporary, target)
                except FileNotFoundError:
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                    os.replace(temporary, target)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
                raise

    def _sweep(self) -> None:
        """Remove what a process of this machine left half-written, once it is gone, and anything of long ago.

        What a living process writes stays, however old a clock that was set makes it look.
        """
        limit = time.time() - _STALE_SECONDS
        for leftover in self._temporary.iterdir():
            with contextlib.suppress(OSError):
                said = _OWNED.match(leftover.name)
                if said is not None and said["host"] == host():
                    lost = not alive(f"{said['pid']}:{said['started']}")
                else:  # of another machine, or of an earlier version
                    lost = leftover.stat().st_mtime < limit
                if lost:
                    leftovers.remove(leftover)


def temporary_name() -> str:
    """A new name in the workspace's ``tmp`` that says whose it is: host, process, chance."""
    pid, _, started = owner().partition(":")
    return f"{host()}-{pid}-{started}-{uuid.uuid4().hex}"


def safe_name(name: str) -> str:
    """A run id or file name that stays inside its folder.

    Raises:
        InputError: It does not.
    """
    if not _SAFE_KEY.fullmatch(name):
        raise InputError(f"{name!r} cannot be a name here: use letters, digits, dot, dash and underscore")
    return name


def _present(path: str) -> bool:
    try:
        return os.stat(path).st_size > 0
    except OSError:
        return False
