"""What happens behind the page's back when the server starts."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from app.settings import read_labels
from ltg_core.errors import LtgError, WorkerLost

if TYPE_CHECKING:
    from app.context import AppContext

log = logging.getLogger(__name__)


def warm_up(ctx: AppContext, *, opens: bool) -> None:
    """What the command line asked for, where it ``opens`` that, and what was queued when the last server ended."""
    try:
        import torch

        torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))
        if opens:
            _open(ctx)
        ctx.restore()  # after opening, in the same lane: nothing starts before its data is there
        known = ctx.workspace.get_state("classifier")
        ctx.machine.reader.worker.start()  # its imports take seconds, and a page waits for its answers
        if known:  # what the first views of a large workspace need
            ctx.workspace.columns.warm(known["hash"], ctx.workspace.score_names(known["hash"]))
    except Exception:  # the thread's last frame: the page goes on, and Setup can be used by hand
        log.exception("the warm-up failed")
    _find_device(ctx)


def _find_device(ctx: AppContext) -> None:
    """Where the networks run, for the page to say; the workers have tried it."""
    if ctx.machine.device is None:
        try:
            ctx.machine.device = ctx.lanes.device()
            log.info("networks run on %s (%s)", *ctx.machine.device)
        except WorkerLost:  # at the end of the server, or the next job meets it
            log.info("the worker ended before it said where networks run")
        except LtgError as error:  # every job says the same
            log.error("nothing can be computed: %s", error)
            ctx.machine.trouble = "networks cannot run where they were told to (--device)"


def _open(ctx: AppContext) -> None:
    given = ctx.settings
    for_all = {"owner": "", "kept": False}  # every start opens what it was told to open
    if given.wants_demo:
        folder = {"folder": str(given.demo.resolve())} if given.demo else {}
        ctx.run("open", "Opening the demo", "open_demo", folder, **for_all)
        return
    arguments: dict[str, Any] = {
        name: str(path.resolve())
        for name, path in (("model", given.model), ("generator", given.generator), ("data", given.data))
        if path is not None
    }
    arguments |= {"arch": given.arch, "labels": read_labels(given.labels) if given.labels else None}
    ctx.run("open", "Opening your data", "open_own", arguments, **for_all)
