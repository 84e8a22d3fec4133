"""Every workflow writes one run: begun before the work, ended whatever happens, results kept."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from ltg_core import logs
from ltg_core.data.records import Run
from ltg_core.data.workspace import Workspace
from ltg_core.errors import Cancelled, ShardMade, WorkspaceError

log = logging.getLogger(__name__)


@dataclasses.dataclass
class Recording:
    """A run while it is being written.

    Attributes:
        run: As it was started; replaced by the finished record at the end.
        result: What came out so far; saved with the run however it ends.
    """

    run: Run
    result: dict[str, Any] = dataclasses.field(default_factory=dict)


@contextlib.contextmanager
def recorded(
    ws: Workspace,
    kind: str,
    settings: Mapping[str, Any],
    *,
    seed: int | None = None,
    hashes: Mapping[str, Any] | None = None,
    parent: str | None = None,
    resume: str | None = None,
    alone: bool = False,
    id: str = "",
) -> Iterator[Recording]:
    """Record the work of a ``with`` block as a run.

    Args:
        ws: The workspace.
        kind: The workflow's name.
        settings: Everything needed to repeat it.
        seed: Of its random numbers.
        hashes: Of the models and data that it uses.
        parent: The run that it belongs to.
        resume: Id of a run that ended early and is taken up; the other arguments but ``alone`` are then not used.
        alone: Whether a run that another process works at is left to it; units may have several.
        id: Of a run that other processes may have begun, and that is then taken up; "" for a new one.
    """
    run = (
        ws.resume_run(resume, alone=alone)
        if resume
        else ws.start_run(kind, settings, seed, hashes, parent, id)
    )
    recording = Recording(run, dict(run.result))
    try:
        with logs.about(run=run.id):
            log.info("%s: %s", "taken up" if resume else "began", run.kind)
            yield recording
    except (Cancelled, KeyboardInterrupt) as stop:
        log.info("stopped on request: run %s", run.id)
        _end(ws, recording, "cancelled", str(stop) or "stopped on request; what was finished is kept")
        raise
    except ShardMade as made:
        log.info("made a shard: run %s", run.id)
        recording.run = ws.leave_run(run.id, str(made), recording.result)
        raise
    except BaseException as error:
        log.info("failed: run %s", run.id)
        _end(ws, recording, "failed", str(error) or type(error).__name__)
        raise
    recording.run = ws.finish_run(run.id, "done", result=recording.result)
    log.info("done: run %s", run.id)


def _end(ws: Workspace, recording: Recording, state: str, reason: str) -> None:
    """Write down a bad end; a full disk must not hide the error that brought it."""
    with contextlib.suppress(WorkspaceError):
        recording.run = ws.finish_run(recording.run.id, state, reason, recording.result)
