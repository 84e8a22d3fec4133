"""A model folder in a zip file, as users of a page bring one: unpacked for as long as it is read, known names only."""

from __future__ import annotations

import contextlib
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from ltg_core.data import leftovers
from ltg_core.data.blobs import temporary_name
from ltg_core.data.database import explained
from ltg_core.data.sources import checked_zip
from ltg_core.errors import DatasetError, ModelError
from ltg_core.models.folders import without_weights

ZIP = ".zip"
_WANTED = re.compile(
    r"config\.json|preprocessor_config\.json|[\w][\w.-]{0,150}\.safetensors(\.index\.json)?", re.ASCII
)
_RATIO, _FREE_OF_IT = 8, 64 * 2**20
"""Weights hardly shrink: what unpacks to more than this many times its packed size, and 64 MB, holds none."""


@contextlib.contextmanager
def unpacked(path: Path, room: Path) -> Iterator[Path]:
    """What ``load_classifier`` takes: the path itself, or for a zip file the model folder that it holds.

    Args:
        path: A weight file, a model folder, or a zip of a folder that ``save_pretrained`` wrote (transformers, timm),
            with that folder in it or only what it holds.
        room: An existing folder in which the zip may be unpacked; nothing is left there.

    Raises:
        ModelError: The zip is damaged or hostile, or holds no model folder.
        UnsafeFile: Its weights are pickled only.
        WorkspaceError: The disk is full.
    """
    if path.suffix.lower() != ZIP or path.is_dir():
        yield path
        return
    place = room / temporary_name()
    folder = place / (path.stem or "model")
    try:
        _unpack(path, folder)
        yield folder
    finally:
        leftovers.remove(place)


def _unpack(path: Path, folder: Path) -> None:
    try:
        opened = checked_zip(path)
    except DatasetError as error:
        raise ModelError(str(error)) from error
    with opened, explained(folder.parent.parent):
        entries = _chosen(path, opened.infolist())
        folder.mkdir(parents=True)
        for entry in entries:
            with open(folder / PurePosixPath(entry.filename).name, "xb") as target:
                _copy(path, opened, entry, target)


def _chosen(path: Path, entries: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """The files of the one model folder in it.

    Raises:
        ModelError: None or several, without weights, or larger than any weights of this packed size.
    """
    files = [entry for entry in entries if not entry.is_dir() and "__MACOSX" not in entry.filename]
    homes = {
        PurePosixPath(e.filename).parent for e in files if PurePosixPath(e.filename).name == "config.json"
    }
    homes = {home for home in homes if len(home.parts) == min(len(one.parts) for one in homes)}
    if len(homes) != 1:
        raise ModelError(
            f"'{path.name}' holds {'several model folders' if homes else 'no config.json'}; expected a zip of one "
            "folder that save_pretrained wrote (transformers or timm): config.json, preprocessor_config.json and "
            "*.safetensors. A single weight file is given as it is, not zipped"
        )
    home = homes.pop()
    here = [entry for entry in files if PurePosixPath(entry.filename).parent == home]
    wanted = [entry for entry in here if _WANTED.fullmatch(PurePosixPath(entry.filename).name)]
    if not any(entry.filename.endswith(".safetensors") for entry in wanted):
        raise without_weights(path.name, [PurePosixPath(entry.filename).name for entry in here])
    if len({entry.filename for entry in wanted}) != len(wanted):
        raise ModelError(f"'{path.name}' was refused: it holds two files of the same name")
    size, packed = sum(e.file_size for e in wanted), sum(e.compress_size for e in wanted)
    if size > _RATIO * packed + _FREE_OF_IT:
        raise ModelError(
            f"'{path.name}' was refused: it unpacks from {packed:,} to {size:,} bytes, as no weights do"
        )
    return wanted


def _copy(path: Path, opened: zipfile.ZipFile, entry: zipfile.ZipInfo, target: IO[bytes]) -> None:
    """One entry, block by block; zipfile gives no more than its header declares, and checks the sum."""
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(opened.open(entry))
            while block := source.read(2**20):
                target.write(block)
        except OSError:
            raise  # the disk
        except Exception as error:  # zipfile, zlib, lzma and bz2 each raise their own
            raise ModelError(f"'{path.name}' is damaged: {type(error).__name__}") from error
