"""Tar files: WebDataset shards, or class folders in a tar. Read as a stream; nothing is ever unpacked to a path."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ltg_core.data.images import IMAGE_SUFFIXES, MAX_FILE_BYTES
from ltg_core.data.sources import (
    MAX_ZIP_BYTES,
    MAX_ZIP_ENTRIES,
    MAX_ZIP_RATIO,
    Key,
    Row,
    Source,
    layout,
    split_of,
)
from ltg_core.data.tables import kept_value, key_of_record, roles_of
from ltg_core.errors import DatasetError

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_SMALL = 1_048_576  # bytes of a label or of metadata
_NEVER_BELOW = 100 * 1024**2


class Tars(Source):
    """One or several shards: files with the same name up to the first dot are one sample.

    An image (``.jpg``, ``.png`` …), its class (``.cls``: a number or a name), caption (``.txt``) and metadata
    (``.json``, whose ``label``, ``class_name``, ``split`` and ``caption`` count as in a table). Where a shard has no
    classes of this kind its folders are classes, as in an image folder.

    Raises:
        DatasetError: Damaged, without images, or with entries that no data set has: links, devices, absolute names.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._places: list[tuple[int, str]] = []
        self._found: list[tuple[Key, str, dict[str, Any]]] = []
        for number, path in enumerate(self._paths):
            self._index(number, path)
        if not self._places:
            raise DatasetError(f"'{self._paths[0].name}' holds no image")

    def keys(self) -> list[Key]:
        """From the small files beside the images; images are passed over."""
        return [key for key, _, _ in self._found]

    def rows(self, chosen: Collection[int] | None) -> Iterator[Row]:
        """One image at a time, in the order of the shards."""
        wanted = None if chosen is None else set(chosen)
        index = 0
        for number, path in enumerate(self._paths):
            expected = [name for place, name in self._places if place == number]
            at = 0
            for member, file in _members(path):
                if at >= len(expected) or member.name != expected[at]:
                    continue
                at += 1
                index += 1
                if wanted is not None and index - 1 not in wanted:
                    continue
                _, caption, meta = self._found[index - 1]
                if member.size > MAX_FILE_BYTES:
                    yield Row(
                        index - 1, member.name, None, f"is larger than {MAX_FILE_BYTES // 1_048_576} MB"
                    )
                    continue
                opened = file.extractfile(member)
                data = opened.read() if opened is not None else b""
                yield Row(index - 1, f"{path.name}/{member.name}", data, "", caption, meta)

    def columns(self) -> list[str]:
        """Names of the metadata columns."""
        return list(dict.fromkeys(name for _, _, meta in self._found for name in meta))

    def _index(self, number: int, path: Path) -> None:
        """One pass over a shard: names of its images, and what is said about them."""
        images: list[str] = []
        beside: dict[str, dict[str, bytes]] = {}
        for member, file in _members(path):
            key, suffix = _split_name(member.name)
            if f".{suffix.rpartition('.')[2]}" in IMAGE_SUFFIXES:
                images.append(member.name)
            elif suffix in ("cls", "txt", "json", "label", "caption") and member.size <= _SMALL:
                opened = file.extractfile(member)
                beside.setdefault(key, {})[suffix] = opened.read() if opened is not None else b""
        split = split_of(path.name)
        labelled = any("cls" in texts or "json" in texts for texts in beside.values())
        folders = [] if labelled else layout([PurePosixPath(name).parts for name in images])
        for place, name in enumerate(images):
            key, _ = _split_name(name)
            found = _said(beside.get(key, {}), split)
            if not labelled:
                found = (folders[place]._replace(split=folders[place].split or split), *found[1:])
            self._places.append((number, name))
            self._found.append(found)


def is_tar(path: Path) -> bool:
    """Whether a file is named like a tar that is read here."""
    return path.name.lower().endswith(TAR_SUFFIXES)


def _split_name(name: str) -> tuple[str, str]:
    """("a/0001", "seg.png") of "a/0001.seg.png"."""
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return folder + slash + stem, suffix.lower()


def _said(texts: Mapping[str, bytes], split: str) -> tuple[Key, str, dict[str, Any]]:
    """Key, caption and metadata of one sample."""
    record: dict[str, Any] = {}
    if "json" in texts:
        try:
            loaded = json.loads(texts["json"])
        except (ValueError, RecursionError):
            loaded = None
        record = loaded if isinstance(loaded, dict) else {}
    label = texts.get("cls", texts.get("label"))
    if label is not None:
        record["label"] = label.decode("utf-8", "replace").strip()
    roles = roles_of([*(k for k in record if isinstance(k, str)), "image"], "json")
    used = set(roles.values())
    meta = {k: v for k, v in record.items() if k not in used and kept_value(v)}
    caption = texts.get("txt", texts.get("caption", b"")).decode("utf-8", "replace").strip()
    return (
        key_of_record(record, roles, split),
        caption or str(record.get(roles.get("caption", ""), "") or ""),
        meta,
    )


def _members(path: Path) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    """Files of a tar in their order, everything else refused.

    Raises:
        DatasetError: Damaged, hostile, or larger than any data set.
    """
    total, most = 0, max(_NEVER_BELOW, MAX_ZIP_RATIO * path.stat().st_size)
    try:
        with tarfile.open(path, "r|*") as file:
            for count, member in enumerate(file):
                _check_member(path, member)
                total += member.size
                if count >= MAX_ZIP_ENTRIES:
                    raise DatasetError(
                        f"'{path.name}' has more than {MAX_ZIP_ENTRIES:,} entries; divide it into shards"
                    )
                if total > min(MAX_ZIP_BYTES, most):
                    raise DatasetError(
                        f"'{path.name}' was refused: it unpacks to more than {total:,} bytes, as no set of images does"
                    )
                if member.isfile():
                    yield member, file
                file.members = []  # type: ignore[attr-defined]  # a stream would keep a record of every entry
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"'{path.name}' cannot be read as a tar file: {error}") from error
    except Exception as error:  # zlib and lzma raise their own
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"'{path.name}' is damaged: {type(error).__name__}") from error


def _check_member(path: Path, member: tarfile.TarInfo) -> None:
    name = member.name.replace("\\", "/")
    if name.startswith("/") or ".." in name.split("/") or "\0" in name or name[1:2] == ":":
        raise DatasetError(
            f"'{path.name}' was refused: the entry {member.name!r:.120} points outside the tar file"
        )
    if not (member.isfile() or member.isdir()):
        raise DatasetError(
            f"'{path.name}' was refused: the entry {member.name!r:.120} is a link or device, not a file"
        )
