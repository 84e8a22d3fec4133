"""Near copies of held-out samples among those that are to be exported; see ``ltg_core.data.near`` for what counts."""

from __future__ import annotations

from collections.abc import Sequence

from ltg_core.data.looks import known_looks, looks_of, remember
from ltg_core.data.near import COARSE, FINE, nearest
from ltg_core.data.workspace import Workspace
from ltg_core.jobs import CancelToken, ProgressFn

__all__ = ["COARSE", "FINE", "near_copies"]


def near_copies(
    ws: Workspace, ids: Sequence[str], against: Sequence[str], on_progress: ProgressFn, cancel: CancelToken
) -> dict[str, str]:
    """Those samples that are near copies of others.

    Args:
        ws: The workspace; it keeps how the others look, so that the next call is quick.
        ids: The samples.
        against: The others.
        on_progress: Told about every few hundred.
        cancel: Checked at every chunk.

    Returns:
        Sample id → id of the one among the others that is most like it.
    """
    if not ids or not against:
        return {}
    known = known_looks(ws)
    before = len(known)
    others, theirs = looks_of(ws, against, known, on_progress, cancel)
    if len(known) > before:
        remember(ws, known)
    some, ours = looks_of(ws, ids, dict(known), None, cancel)
    return {some[row]: others[place] for row, place in nearest(ours, theirs, cancel)}
