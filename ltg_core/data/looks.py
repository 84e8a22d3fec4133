"""How the samples of a workspace look, kept there so that it is read from the pictures once."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ltg_core.data import reading
from ltg_core.data.images import read_image
from ltg_core.data.near import SIDE, Array, keep_looks, kept_looks, look_of, stacked
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.jobs import CancelToken, Progress, ProgressFn

log = logging.getLogger(__name__)

_KEY = f"export-looks-{SIDE}"
_CHUNK = 512


def known_looks(ws: Workspace) -> dict[bytes, Array]:
    """Those that were read before, by image hash."""
    return kept_looks(ws.array(_KEY))


def remember(ws: Workspace, known: dict[bytes, Array]) -> None:
    """Keep them for the next time."""
    ws.put_array(_KEY, keep_looks(known))


def looks_of(
    ws: Workspace,
    ids: Sequence[str],
    known: dict[bytes, Array],
    on_progress: ProgressFn | None,
    cancel: CancelToken,
) -> tuple[list[str], Array]:
    """Ids of those that can be read, and their 16 × 16 RGB pixels, (N, 768) uint8; ``known`` grows."""
    read: list[str] = []
    rows: list[Array] = []
    unread = 0
    for start in range(0, len(ids), _CHUNK):
        cancel.check()
        if on_progress is not None:
            on_progress(Progress(start, len(ids), "looking for near copies"))
        chunk = ids[start : start + _CHUNK]
        for id, (hash, suffix) in zip(chunk, reading.image_files(ws.database, chunk), strict=True):
            key = hash.encode()
            try:
                if key not in known:
                    known[key] = look_of(read_image(ws.blobs.shown(hash, suffix)))
            except (InputError, OSError):
                unread += 1
                continue
            read.append(id)
            rows.append(known[key])
    if unread:
        log.warning("%d pictures cannot be read and were not compared", unread)
    return read, stacked(rows)
