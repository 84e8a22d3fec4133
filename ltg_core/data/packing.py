"""A tar file that is written together with the list of the hashes of what went into it."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from ltg_core.errors import WorkspaceError
from ltg_core.jobs import CancelToken, Progress, ProgressFn

MANIFEST = "MANIFEST.sha256"
_EVERY = 500  # files between two words of progress


def every_few(told: ProgressFn) -> Callable[[int, int], None]:
    """Tells of numbers of files and bytes, but not of each."""

    def tell(files: int, size: int) -> None:
        if files % _EVERY == 0:
            told(Progress(files, 0, f"{files:,} files, {size / 2**20:,.0f} MB"))

    return tell


class Packing:
    """A tar file and the list of the hashes of what went into it."""

    def __init__(
        self, file: IO[bytes], listed: IO[bytes], shared: bool, told: ProgressFn, cancel: CancelToken
    ) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self._listed, self._told, self._cancel = listed, every_few(told), cancel
        self._shared = shared  # workspaces of a server have images in common
        self._known: dict[tuple[int, int], tuple[str, str]] = {}
        self.files = self.bytes = self.samples = 0
        self.missing: list[str] = []

    def say(self, name: str, text: str) -> None:
        """A file of these words."""
        data = text.encode()
        self._add(member(name, len(data)), io.BytesIO(data))
        self._note(name, hashlib.sha256(data).hexdigest(), len(data))

    def add(self, name: str, path: Path) -> None:
        """A file under this name; one that came before under another name becomes a link to it."""
        self._cancel.check()
        with open(path, "rb") as file:
            about = os.fstat(file.fileno())
            key = (about.st_dev, about.st_ino)
            if self._shared and key in self._known:
                first, digest = self._known[key]
                link = member(name, 0)
                link.type, link.linkname = tarfile.LNKTYPE, first
                self._add(link)
                self._note(name, digest, about.st_size)
                return
            hashed = _Hashed(file)
            try:
                self._add(member(name, about.st_size), hashed)
            except OSError as error:
                if error.errno is not None:
                    raise
                raise WorkspaceError(
                    f"'{path}' became shorter while it was read; repeat the backup"
                ) from error
            if self._shared and about.st_nlink > 1:
                self._known[key] = (name, hashed.hexdigest())
            self._note(name, hashed.hexdigest(), about.st_size)

    def end(self) -> None:
        """The list, and the end of the tar file."""
        size = self._listed.tell()
        self._listed.seek(0)
        self._add(member(MANIFEST, size), self._listed)
        self._tar.close()

    def _add(self, member: tarfile.TarInfo, content: Any = None) -> None:
        self._tar.addfile(member, content)
        self._tar.members.clear()  # type: ignore[attr-defined]  # tarfile would remember every one of millions

    def _note(self, name: str, digest: str, size: int) -> None:
        self._listed.write(f"{digest}  {name}\n".encode())
        self.files += 1
        self.bytes += size
        self._told(self.files, self.bytes)


class _Hashed:
    """A file whose bytes are hashed as they are read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._sum = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._sum.update(data)
        return data

    def hexdigest(self) -> str:
        return self._sum.hexdigest()


def member(name: str, size: int) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size, made.mode = size, 0o600
    return made
